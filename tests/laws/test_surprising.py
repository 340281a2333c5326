"""Laws of a bank that is written by surprise: what is written, how strongly, what stays, and how a neural memory says what surprises it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ammon.learning.fast_weights import Functional, Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention
from ammon.nn.blocks import Parallel, Series, SharedBank
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.evicting import Lowest
from ammon.nn.hybrid import Hybrid
from ammon.nn.neural import NeuralMemory
from ammon.nn.packing import packing
from ammon.nn.segments import PerToken, Segments
from ammon.nn.surprising import Surprising

DIM, HEADS, BATCH, TIME, ROOM = 8, 2, 3, 19, 4


def make(slots: int | None = ROOM, **settings: Any) -> EpisodicMemory:
    torch.manual_seed(0)
    settings = {"strength": Surprising(middle=0.5, slope=2.0), "sharpness": 3.0} | settings
    return EpisodicMemory(DIM, HEADS, slots, **settings).double()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def levels(seed: int = 5) -> Tensor:
    found = draw(BATCH, TIME, seed=seed).square()
    # some do not surprise at all
    return found * (found > 0.1)


def plain(memory: EpisodicMemory, x: Tensor, level: Tensor, every: int) -> tuple[Tensor, list[list[int]]]:
    """Token after token with lists; segments of `every` tokens by their mean. What is read, and the times of the items in the end."""
    policy, out, times = memory.strength, torch.zeros_like(x), []
    assert isinstance(policy, Surprising)
    slope, middle = policy.slope.exp(), policy.middle.exp()
    for row in range(len(x)):
        bank: list[tuple[int, Tensor, Tensor]] = []

        def write(t: int, row: int = row, bank: list[tuple[int, Tensor, Tensor]] = bank) -> None:
            of = slice(t + 1 - every, t + 1)
            u, item = level[row, of].mean(), x[row, of].mean(0)
            if (t + 1) % every or u <= policy.least:
                return
            if memory.slots is not None and len(bank) == memory.slots:
                worth = [float(s.detach()) for _, s, _ in bank] if memory.evict is not None else [0.0]
                bank.pop(worth.index(min(worth)))
            bank.append((t + 1, u**slope / (u**slope + middle**slope), item))

        for t in range(x.shape[1]):
            # a token may read itself; a segment is read once it has ended
            if every == 1:
                write(t)
            if bank:
                items = torch.stack([item for _, _, item in bank])
                keys, values = memory.store(items).unflatten(-1, (2, HEADS, -1)).permute(1, 2, 0, 3)
                query = normalize(memory.read.query(x[row, t]).unflatten(-1, (HEADS, -1)), dim=-1)
                scores = memory.read.sharpness.exp()[:, None] * (normalize(keys, dim=-1) @ query[..., None]).squeeze(-1)
                weights = (scores + torch.stack([s for _, s, _ in bank]).log()).softmax(-1)
                out[row, t] = memory.read.out((weights[:, None] @ values).flatten())
            if every > 1:
                write(t)
        times.append([time for time, _, _ in bank])
    return out, times


@pytest.mark.parametrize(
    ("settings", "every"),
    [
        ({"evict": Lowest("strength")}, 1),
        ({}, 1),
        ({"slots": None}, 1),
        ({"slots": 50, "strength": Surprising(2.0, 0.5, least=1.0)}, 1),
        ({"slots": 2, "evict": Lowest("strength"), "write": Segments(2, "mean")}, 2),
        ({"slots": 3, "write": Segments(3, "mean"), "strength": Surprising(least=0.8)}, 3),
    ],
    ids=str,
)
def test_the_layer_is_the_plain_loop_in_values_and_gradients(settings: dict[str, Any], every: int) -> None:
    memory, x, level = make(**settings), draw(BATCH, TIME, DIM), levels()
    y, state = memory(x, surprise=level)
    truth, times = plain(memory, x, level, every)
    torch.testing.assert_close(y, truth)
    parameters = list(memory.parameters())
    ours, theirs = (torch.autograd.grad(found.square().sum(), parameters) for found in (y, truth))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    assert [state.slots.times[row, state.slots.there[row]].tolist() for row in range(BATCH)] == times


def test_a_small_bank_holds_the_most_surprising_and_the_newest() -> None:
    memory, level = make(evict=Lowest("strength")), draw(BATCH, TIME).square()
    _, state = memory(draw(BATCH, TIME, DIM), surprise=level)
    top = level[:, :-1].topk(ROOM - 1).indices.sort(-1).values + 1
    assert torch.equal(state.slots.times, torch.cat([top, torch.full((BATCH, 1), TIME)], 1))


def test_a_bool_says_which_tokens_are_written_as_if_the_others_had_been_asked_and_not_told() -> None:
    memory, x = make(), draw(BATCH, TIME, DIM)
    chosen = levels() > 0
    chosen[:, 0] = True
    y, state = memory(x, surprise=chosen)
    for row in range(BATCH):
        # a ring of the chosen ones, all alike in strength
        told = EpisodicMemory(DIM, HEADS, ROOM, PerToken(), sharpness=3.0).double()
        told.load_state_dict({name: tensor for name, tensor in memory.state_dict().items() if not name.startswith("strength")})
        _, alone = told(x[row : row + 1, chosen[row]])
        torch.testing.assert_close(alone.slots.keys[0], state.slots.keys[row])
        for t in range(TIME):
            _, before = told(x[row : row + 1, : t + 1], mask=chosen[row : row + 1, : t + 1])
            torch.testing.assert_close(told(x[row : row + 1, t : t + 1], before, mode="read-only")[0][0, 0], y[row, t])


@pytest.mark.parametrize(
    "settings",
    [
        {"evict": Lowest("strength", 0.05)},
        {"write": PerToken(own=False), "context": 3, "strength": Surprising(least=0.5)},
        {"write": Segments(3, "each"), "strength": Surprising(least=0.5)},
        {"write": Segments(3, "mean"), "context": 3, "evict": Lowest("strength")},
        {"write": Segments(2, "last")},
        {"write": Segments(4, "attention"), "evict": Lowest("strength"), "slots": 2},
        {"evict": Lowest("use")},
        {"slots": None},
    ],
    ids=str,
)
def test_a_given_surprise_streams_and_is_nothing_where_the_mask_is(settings: dict[str, Any]) -> None:
    memory, x, level = make(**settings), draw(BATCH, TIME, DIM), levels()
    mask = torch.rand(BATCH, TIME, generator=torch.Generator().manual_seed(4)) < 0.7
    whole, after = memory(x, mask=mask, surprise=level.masked_fill(~mask, torch.nan))
    assert whole[mask].any()
    for split in ([1] * TIME, [4, 0, 11, 4]):
        state, parts = None, []
        for some_x, some_mask, some_level in zip(x.split(split, 1), mask.split(split, 1), level.split(split, 1), strict=True):
            y, state = memory(some_x, state, mask=some_mask, surprise=some_level)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert state is not None
        for name in ("times", "strengths", "keys", "contexts"):
            torch.testing.assert_close(
                getattr(state.slots, name)[state.slots.there], getattr(after.slots, name)[after.slots.there], rtol=1e-9, atol=1e-11
            )
        torch.testing.assert_close(state.pooled, after.pooled)
    for row in range(BATCH):
        alone, _ = memory(x[row : row + 1, mask[row]], surprise=level[row : row + 1, mask[row]])
        torch.testing.assert_close(whole[row, mask[row]], alone[0])


NETWORKS: dict[str, Any] = {
    "linear": lambda: NeuralMemory(DIM, HEADS, Mlp(1), Surprise(1)),
    "linear, chunks of 5": lambda: NeuralMemory(DIM, HEADS, Mlp(1), Surprise(5, limit=0.5)),
    "2 layers": lambda: NeuralMemory(DIM, HEADS, Mlp(2, 2), Surprise(4)),
    "with a norm": lambda: NeuralMemory(DIM, HEADS, Mlp(2, 2, residual=True), Surprise(3)),
    "scan": lambda: NeuralMemory(DIM, HEADS, Mlp(2, 2), Surprise(4, form="scan")),
    "of the user": lambda: NeuralMemory(DIM, HEADS, Functional(nn.Linear(4, 4)), Surprise(4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_surprise_of_a_neural_memory_is_the_norm_of_its_gradient_by_autograd(name: str) -> None:
    torch.manual_seed(0)
    memory, x = NETWORKS[name]().double(), draw(BATCH, TIME, DIM)
    mask = torch.rand(BATCH, TIME, generator=torch.Generator().manual_seed(4)) < 0.7
    found = memory.surprise(x.masked_fill(~mask[..., None], torch.nan), mask=mask)
    truth = torch.zeros(BATCH, TIME).double()
    for row in range(BATCH):
        state = memory.init_state(1)
        for t in mask[row].nonzero().flatten().tolist():
            token = x[row : row + 1, t : t + 1]
            if not int(state.filled):
                start = [w.detach()[0] for w in state.weights]
            _, keys, values, _ = memory._rows(token, state.tail, packing(None))
            for head in range(HEADS):
                weights = [w[head].clone().requires_grad_() for w in start]
                loss = (memory.network(tuple(weights), keys[0, head, 0]) - values[0, head, 0]).square().sum()
                truth[row, t] += sum(float(g.square().sum()) for g in torch.autograd.grad(loss, weights))
            _, state = memory(token, state)
    torch.testing.assert_close(found, truth.sqrt())
    assert not found.requires_grad
    state, parts = None, []
    for some, some_mask in zip(x.split([1, 0, 7, 11], 1), mask.split([1, 0, 7, 11], 1), strict=True):
        parts.append(memory.surprise(some, state, mask=some_mask))
        _, state = memory(some, state, mask=some_mask)
    torch.testing.assert_close(torch.cat(parts, 1), truth.sqrt())


def beside(**more: nn.Module) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"episodic": make(evict=Lowest("strength")), "neural": NeuralMemory(DIM, HEADS, Mlp(1), Surprise(4)), **more}


@pytest.mark.parametrize("block", [Hybrid, Parallel])
def test_in_a_block_the_neural_memory_says_what_surprises_unless_the_caller_does(block: Any) -> None:
    layer, x = block(beside(attention=Attention(DIM, HEADS))).double(), draw(BATCH, TIME, DIM)
    normed = layer.norm(x)
    episodic, neural = layer.memories.layers["episodic"], layer.memories.layers["neural"]
    truth = episodic(normed, surprise=neural.surprise(normed))[1]
    y, state = layer(x)
    assert torch.equal(state.parts[0].slots.times, truth.slots.times)
    assert torch.equal(state.parts[0].slots.strengths, truth.slots.strengths)
    given, other = layer(x, surprise=levels())
    assert not torch.equal(other.parts[0].slots.times, truth.slots.times)
    assert not torch.allclose(given, y)
    # what the memories before a call hold goes on
    parts, begun = [], None
    for some in x.split([5, 14], 1):
        some_y, begun = layer(some, begun)
        parts.append(some_y)
    torch.testing.assert_close(torch.cat(parts, 1), y)


def test_series_and_shared_banks_take_the_surprise_of_the_caller() -> None:
    x = draw(BATCH, TIME, DIM)
    for layer in (
        Series({"attention": Attention(DIM, HEADS), "episodic": make(evict=Lowest("strength"))}).double(),
        SharedBank(make(evict=Lowest("strength")), {"attention": Attention(DIM, HEADS)}).double(),
    ):
        _, state = layer(x, surprise=levels())
        (bank,) = (part for part in state.parts if hasattr(part, "slots"))
        assert torch.equal(bank.slots.times, make(evict=Lowest("strength"))(x, surprise=levels())[1].slots.times)
        with pytest.raises(ValueError, match="writes by surprise, and none is given"):
            layer(x)


def test_reading_only_asks_for_no_surprise() -> None:
    memory, x = make(), draw(BATCH, TIME, DIM)
    _, state = memory(x, surprise=levels())
    assert memory(x, state, mode="read-only")[0].any()
    assert torch.equal(memory(x, state, mode="read-only")[1].slots.times, state.slots.times)


def test_what_is_no_surprise_and_blocks_that_have_none_are_refused() -> None:
    x = draw(BATCH, TIME, DIM)
    for given, message in (
        (None, "writes by surprise, and none is given; give surprise="),
        (torch.zeros(BATCH, TIME - 1), r"must be floating or bool \[batch, time\] = \[3, 19\], how much.*got torch\.float32 \[3, 18\]"),
        (torch.zeros(BATCH, TIME, dtype=torch.int64), r"got torch\.int64 \[3, 19\]"),
        ([1.0], "got list"),
    ):
        with pytest.raises(ValueError, match=message):
            make()(x, surprise=given)
    with pytest.raises(ValueError, match=r"make the memory with strength=Surprising\(\)"):
        EpisodicMemory(DIM, HEADS).double()(x, surprise=levels())
    with pytest.raises(ValueError, match="one neural memory beside it, got none"):
        Hybrid({"attention": Attention(DIM), "episodic": make()}).double()(x)
    with pytest.raises(ValueError, match="one neural memory beside it, got neural, other"):
        Hybrid(beside(other=NeuralMemory(DIM))).double()(x)
    for settings, message in (
        ({"middle": 0.0}, "middle must be positive"),
        ({"slope": -1.0}, "slope must be positive"),
        ({"least": -0.1}, "least must be at least 0 and finite, got -0.1"),
    ):
        with pytest.raises(ValueError, match=message):
            Surprising(**settings)
    with pytest.raises(ValueError, match=r"NeuralMemory.surprise: x must be"):
        NeuralMemory(DIM).surprise(torch.zeros(2, 3, DIM + 1))
