"""Laws of the episodic layer: what it reads, when it writes, and what it keeps, against plain loops and attention, in float64."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from ammon.dynamics.drift import direction, drift
from ammon.nn.drifting import Drift
from ammon.nn.episodic import EpisodicMemory, EpisodicState
from ammon.nn.segments import PerToken, Segments
from ammon.parts.separations import Entmax, Maximum, Power, Softmax
from ammon.parts.top_k import TopK

DIM, HEADS, BATCH, TIME = 8, 2, 2, 21


def make(**settings: Any) -> EpisodicMemory:
    torch.manual_seed(0)
    return EpisodicMemory(DIM, HEADS, **settings).double()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def heads(memory: EpisodicMemory, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [batch, head, time, entry]."""
    keys, values = memory.store(x).unflatten(-1, (2, HEADS, -1)).permute(2, 0, 3, 1, 4)
    queries = memory.read.query(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    return normalize(queries, dim=-1), normalize(keys, dim=-1), values


def recalled(memory: EpisodicMemory, mixed: Tensor) -> Tensor:
    return memory.read.out(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("slots", [None, 64])
def test_with_room_for_all_and_no_context_it_is_attention_over_the_past(slots: int | None) -> None:
    memory, x = make(slots=slots), draw(BATCH, TIME, DIM)
    x.requires_grad_()
    q, k, v = heads(memory, x)
    scale = memory.read.sharpness.exp()[:, None, None]
    truth = recalled(memory, scaled_dot_product_attention(scale * q, k, v, is_causal=True, scale=1.0))
    y, _ = memory(x)
    torch.testing.assert_close(y, truth)
    parameters = [x, *memory.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(y.square().sum(), parameters), torch.autograd.grad(truth.square().sum(), parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_rate_and_the_match_at_first_are_those_that_were_given() -> None:
    read = make(context=3, match=2.5, recency=0.02, sharpness=9.0).read
    assert read.match is not None
    assert read.recency is not None
    for parameter, value in ((read.sharpness, 9.0), (read.match, 2.5), (read.recency, 0.02)):
        torch.testing.assert_close(parameter.exp(), torch.full((HEADS,), value, dtype=torch.float64), rtol=1e-6, atol=0)


def plain(memory: EpisodicMemory, x: Tensor, boundary: Tensor | None = None) -> Tensor:
    """Token after token and row after row, as the pages of the documentation say it, with lists."""
    out = torch.zeros_like(x)
    for row in range(len(x)):
        items: list[dict[str, Tensor]] = []
        segment: list[dict[str, Tensor]] = []
        context = direction(memory.context.start) if memory.context is not None else None
        for t, token in enumerate(x[row]):
            inputs = before = None
            if memory.context is not None and context is not None:
                inputs = direction(memory.context.project(token).unflatten(-1, (HEADS, -1)))
                before, beta = context, torch.sigmoid(memory.context.share)
                if memory.context.form == "exact":
                    context = drift(context, inputs, beta)
                else:
                    context = (1 - beta**2).sqrt()[:, None] * context + beta[:, None] * inputs
            used = None if context is None else direction(context)
            stored = used
            if memory.context is not None and memory.context.association == "previous" and before is not None:
                stored = direction(before)
            new = {"x": token, "time": torch.tensor(t + 1)} | ({} if stored is None else {"context": stored})
            if isinstance(memory.write, PerToken):
                shown = [*items, new] if memory.write.own else items
                out[row, t] = ask(memory, token, shown[-(memory.slots or TIME) :], inputs, used, t)
                items.append(new)
                continue
            if boundary is not None and boundary[row, t]:
                items += close(memory, segment)
                segment = []
            kept = items + (segment if memory.write.summary == "each" else [])
            first = max(0, len(kept) - (memory.slots or TIME))
            out[row, t] = ask(memory, token, kept[first : len(items)], inputs, used, t)
            segment.append(new)
            if len(segment) == memory.write.every:
                items += close(memory, segment)
                segment = []
    return out


def close(memory: EpisodicMemory, segment: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    assert isinstance(memory.write, Segments)
    if not segment or memory.write.summary == "each":
        return segment
    if memory.write.summary == "last":
        return segment[-1:]
    weights = torch.ones(len(segment), dtype=torch.float64)
    if memory.write.summary == "attention":
        assert memory.pool is not None
        assert memory.pool.score is not None
        weights = torch.exp(10 * torch.tanh(torch.stack([memory.pool.score(item["x"]) for item in segment]).squeeze(-1) / 10))
    mean = {"time": segment[-1]["time"]}
    for name in segment[0].keys() - {"time"}:
        rows = torch.stack([item[name] for item in segment])
        mean[name] = (weights.reshape(-1, *[1] * (rows.ndim - 1)) * rows).sum(0) / weights.sum()
    if "context" in mean:
        mean["context"] = direction(mean["context"])
    return [mean]


def ask(memory: EpisodicMemory, token: Tensor, items: list[dict[str, Tensor]], inputs: Any, context: Any, t: int) -> Tensor:
    read = memory.read
    if not items:
        return torch.zeros_like(token)
    q, _, _ = heads(memory, token[None, None])
    x = torch.stack([item["x"] for item in items])
    _, k, v = heads(memory, x[None])
    scores = read.sharpness.exp()[:, None] * (k[0] @ q[0].mT).squeeze(-1)
    if read.recency is not None:
        age = t + 1 - torch.stack([item["time"] for item in items])
        scores = scores - read.recency.exp()[:, None] * age
    if memory.strength is not None:
        scores = scores + torch.sigmoid(memory.strength(x)).log().squeeze(-1)
    weights = read.separation.weights(scores)
    if context is not None:
        assert read.match is not None
        stored = torch.stack([item["context"] for item in items], 1)
        for hop in range(read.hops + 1):
            weights = read.separation.weights(scores + read.match.exp()[:, None] * (stored @ context[..., None]).squeeze(-1))
            if hop < read.hops:
                assert read.reinstated is not None
                assert read.drift is not None
                share = torch.sigmoid(read.reinstated)[:, None]
                brought = direction((1 - share) * inputs + share * (weights[:, None] @ stored).squeeze(1))
                context = drift(context, brought, torch.sigmoid(read.drift))
    return read.out((weights[:, None] @ v[0]).flatten())


PER_TOKEN: list[dict[str, Any]] = [
    {"slots": 5},
    {"slots": 5, "write": PerToken(own=False), "recency": 0.2},
    {"slots": None, "recency": 0.3, "strength": True},
    {"slots": 9, "separation": TopK(3), "strength": True},
    {"slots": 9, "separation": Entmax(1.5), "sharpness": 3.0},
    {"slots": 9, "separation": Maximum()},
    {"slots": 9, "context": 3, "match": 2.0},
    {"slots": 9, "context": 3, "match": 2.0, "hops": 2, "recency": 0.1},
    {"slots": 9, "context": Drift(DIM, HEADS, 3, 0.7, association="previous"), "hops": 1, "separation": TopK(4)},
    {"slots": 9, "context": Drift(DIM, HEADS, 3, 0.7, "fading"), "hops": 1},
]
IN_SEGMENTS: list[dict[str, Any]] = [
    {"slots": 5, "write": Segments(4, "each")},
    {"slots": None, "write": Segments(4, "each"), "context": 3},
    {"slots": 3, "write": Segments(3, "last"), "context": 3},
    {"slots": None, "write": Segments(3, "mean"), "context": Drift(DIM, HEADS, 3, 0.6, "fading", "previous"), "recency": 0.1},
    {"slots": 2, "write": Segments(5, "attention"), "strength": True},
]


@pytest.mark.parametrize(
    ("settings", "bounded"),
    [(settings, False) for settings in PER_TOKEN + IN_SEGMENTS] + [(settings, True) for settings in IN_SEGMENTS],
    ids=lambda value: str(value).replace("\n", ""),
)
def test_the_layer_is_the_plain_loop(settings: dict[str, Any], bounded: bool) -> None:
    memory, x = make(**settings), draw(BATCH, TIME, DIM)
    with torch.no_grad():
        for name in ("reinstated", "drift"):
            if getattr(memory.read, name) is not None:
                getattr(memory.read, name).copy_(draw(HEADS, seed=3))
    boundary = None
    if bounded:
        boundary = torch.rand(BATCH, TIME, generator=torch.Generator().manual_seed(3)) < 0.25
    y, _ = memory(x, boundary=boundary)
    torch.testing.assert_close(y, plain(memory, x, boundary), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("summary", ["each", "last", "mean", "attention"])
@pytest.mark.parametrize("every", [None, 4])
def test_segments_of_the_caller_stream_too_and_a_masked_boundary_is_none(summary: Any, every: int | None) -> None:
    memory, x = make(slots=4, write=Segments(every, summary), context=3, sharpness=2.0), draw(BATCH, TIME, DIM)
    boundary = torch.rand(BATCH, TIME, generator=torch.Generator().manual_seed(3)) < 0.3
    mask = torch.rand(BATCH, TIME, generator=torch.Generator().manual_seed(4)) < 0.7
    whole, after = memory(x, mask=mask, boundary=boundary)
    torch.testing.assert_close(memory(x, mask=mask, boundary=boundary & mask)[0], whole)
    assert whole.any()
    for split in ([1] * TIME, [4, 0, 11, 6]):
        state, parts = None, []
        for some_x, some_mask, some_boundary in zip(x.split(split, 1), mask.split(split, 1), boundary.split(split, 1), strict=True):
            y, state = memory(some_x, state, mask=some_mask, boundary=some_boundary)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert state is not None
        for name, tensor in after.named().items():
            torch.testing.assert_close(state.named()[name], tensor, msg=lambda text, name=name: f"{name}: {text}")


def test_a_ring_that_overflows_holds_the_newest() -> None:
    memory, x = make(slots=4), draw(BATCH, TIME, DIM)
    for split in ([TIME], [3, 1, 17], [1] * TIME):
        state: EpisodicState | None = None
        for some in x.split(split, 1):
            _, state = memory(some, state)
        assert state is not None
        assert state.slots.times.tolist() == [[TIME - 3, TIME - 2, TIME - 1, TIME]] * BATCH
        torch.testing.assert_close(state.slots.values, memory.store(x[:, -4:]).unflatten(-1, (2, HEADS, -1))[:, :, 1])
        assert state.slots.number == 4


def test_rows_of_different_length_fill_their_slots_each_for_itself() -> None:
    memory, x = make(slots=4), draw(BATCH, TIME, DIM)
    mask = torch.zeros(BATCH, TIME, dtype=torch.bool)
    mask[0, [2, 9]] = True
    mask[1, 5:] = True
    _, state = memory(x, mask=mask)
    assert state.slots.there.tolist() == [[False, False, True, True], [True] * 4]
    assert state.slots.times.tolist() == [[0, 0, 1, 2], [13, 14, 15, 16]]
    assert not state.slots.keys[0, :2].any()


def test_without_a_limit_the_state_grows_with_the_text_and_with_one_it_does_not() -> None:
    x = draw(BATCH, TIME, DIM)
    assert [make(slots=None)(x[:, :n])[1].slots.number for n in (1, 7, TIME)] == [1, 7, TIME]
    assert len({make(slots=6)(x[:, :n])[1].nbytes for n in (1, 7, TIME)}) == 1


@pytest.mark.parametrize(
    "settings",
    [{"slots": 9}, {"slots": 9, "write": Segments(4, "each")}, {"slots": 9, "write": Segments(4, "mean"), "context": 3}],
    ids=str,
)
def test_reading_only_writes_nothing_and_writing_only_says_nothing(settings: dict[str, Any]) -> None:
    memory, x = make(**settings), draw(BATCH, TIME, DIM)
    mask = torch.rand(BATCH, TIME, generator=torch.Generator().manual_seed(4)) < 0.7
    _, state = memory(x)
    y, read = memory(x, state, mask=mask, mode="read-only")
    assert y[mask].any()
    assert not y[~mask].any()
    for name, tensor in state.slots.named().items():
        assert torch.equal(read.slots.named()[name], tensor)
    assert torch.equal(read.pooled, state.pooled)
    assert torch.equal(read.open, state.open)
    # what is read is what stood there, whatever else the call holds
    alone = memory(x[:, :1], state, mode="read-only")[0]
    torch.testing.assert_close(memory(x, state, mode="read-only")[0][:, :1], alone)
    y, written = memory(x, state, mask=mask, mode="write-only")
    assert not y.any()
    for name, tensor in memory(x, state, mask=mask)[1].named().items():
        assert torch.equal(written.named()[name], tensor)
    parts, moving = [], state
    for some, some_mask in zip(x.split([4, 1, 16], 1), mask.split([4, 1, 16], 1), strict=True):
        y, moving = memory(some, moving, mask=some_mask, mode="read-only")
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), memory(x, state, mask=mask, mode="read-only")[0])


def test_the_weights_of_a_read_are_those_that_mix_the_values() -> None:
    for separation in (Softmax(), TopK(2), Entmax(1.5)):
        memory, x = make(slots=7, separation=separation, sharpness=3.0, context=3, hops=1, recency=0.1), draw(BATCH, TIME, DIM)
        _, state = memory(x)
        cue = draw(BATCH, 3, DIM, seed=5)
        weights = memory.weights(cue, state)
        assert weights.shape == (BATCH, HEADS, 3, 7)
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        mixed = weights @ state.slots.values.transpose(1, 2)
        torch.testing.assert_close(recalled(memory, mixed), memory(cue, state, mode="read-only")[0])
        if isinstance(separation, TopK):
            assert ((weights > 0).sum(-1) == 2).all()


def test_an_exact_context_has_length_1_and_a_fading_one_is_the_same_for_orthogonal_inputs() -> None:
    exact, fading = Drift(6, 2, 6, 0.6).double(), Drift(6, 2, 6, 0.6, "fading").double()
    with torch.no_grad():
        exact.project.weight.copy_(torch.eye(6, dtype=torch.float64).repeat(2, 1))
        exact.start.copy_(torch.eye(6, dtype=torch.float64)[:1].expand(2, -1))
    fading.load_state_dict(exact.state_dict())
    x = draw(BATCH, 200, 6)
    for form in (exact, fading):
        torch.testing.assert_close(form.used(form(x, form.begin(BATCH, torch.float64))[1]).norm(dim=-1), torch.ones(BATCH, 201, 2).double())
    orthogonal = torch.eye(6, dtype=torch.float64)[None, 1:]
    found = [form(orthogonal, form.begin(1, torch.float64))[1] for form in (exact, fading)]
    torch.testing.assert_close(found[1], found[0])
    # and over more tokens than one block
    truth = [fading.begin(BATCH, torch.float64)]
    inputs, along = fading(x, truth[0])
    beta = math.log(0.6 / 0.4)
    beta = 1 / (1 + math.exp(-beta))
    for token in inputs.unbind(1):
        truth.append(math.sqrt(1 - beta**2) * truth[-1] + beta * token)
    torch.testing.assert_close(along, torch.stack(truth, 1), rtol=1e-6, atol=1e-6)


def test_an_old_fact_gives_way_to_the_newer_one_if_recency_counts() -> None:
    # one key, two values in turn; the query is the key
    for recency, newer in ((None, 0.5), (2.0, 1 / (1 + math.exp(-2.0)))):
        memory = make(slots=8, recency=recency)
        _, state = memory(draw(1, 1, DIM).expand(1, 2, DIM))
        weights = memory.weights(draw(1, 1, DIM), state)[0, :, 0, -2:]
        torch.testing.assert_close(weights[:, 1], torch.full((HEADS,), newer, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_arguments_that_make_no_episodic_memory_are_refused() -> None:
    for settings, message in (
        ({"slots": 0}, "slots must be a whole number of at least 1, got 0"),
        ({"slots": 4, "separation": TopK(5)}, "top 5 of 4 slots"),
        ({"hops": 1}, "there is none; give the bank a context"),
        ({"hops": -1}, "hops must be a whole number"),
        ({"sharpness": 0.0}, "sharpness must be positive"),
        ({"recency": -1.0}, "recency must be positive"),
        ({"separation": Power(3)}, "Power gives weights that need not sum to 1"),
        ({"context": 0}, "size must be a whole number of at least 1"),
        ({"context": Drift(DIM, 1, 3)}, "the context has 1 heads, the memory 2"),
    ):
        with pytest.raises(ValueError, match=message):
            EpisodicMemory(DIM, HEADS, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="multiple of heads, got 8 and 3"):
        EpisodicMemory(8, 3)
    with pytest.raises(ValueError, match="every must be a whole number"):
        Segments(0)
    with pytest.raises(ValueError, match="summary must be one of each, last, mean, attention, got 'first'"):
        Segments(4, "first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"beta must be in \(0, 1\)"):
        Drift(8, 2, 3, 1.0)
    with pytest.raises(ValueError, match="form must be"):
        Drift(8, 2, 3, form="scan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="association must be"):
        Drift(8, 2, 3, association="old")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k must be a whole number"):
        TopK(0)


def test_a_boundary_that_is_none_and_a_state_of_another_memory_are_refused() -> None:
    x = draw(BATCH, TIME, DIM)
    with pytest.raises(ValueError, match=r"make the memory with write=Segments\(\)"):
        make()(x, boundary=torch.zeros(BATCH, TIME, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"bool \[batch, time\] = \[2, 21\].*got torch\.bool \[2, 20\]"):
        make(write=Segments())(x, boundary=torch.zeros(BATCH, TIME - 1, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"got torch\.float32 \[2, 21\]"):
        make(write=Segments())(x, boundary=torch.zeros(BATCH, TIME))
    _, state = make(slots=5)(x)
    with pytest.raises(ValueError, match=r"slots.keys has shape \[2, 5, 2, 4\], this layer needs \[2, 6, 2, 4\]; it is of another module"):
        make(slots=6)(x, state)
    with pytest.raises(ValueError, match=r"contexts has shape \[2, 5, 2, 0\]"):
        make(slots=5, context=3)(x, state)
