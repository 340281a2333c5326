"""Laws of what a bank keeps: which item gives way, what fading, pruning and flushing leave, and where a surprise begins an event."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.memories.retention import Capacity, Old, Redundant, Weak
from ammon.nn.episodic import EpisodicMemory, EpisodicState
from ammon.nn.events import Events, surprise
from ammon.nn.evicting import Lowest
from ammon.nn.forgetting import faded, flushed, pruned
from ammon.nn.segments import PerToken, Segments

DIM, HEADS, BATCH, TIME, ROOM = 8, 2, 3, 19, 4


def make(**settings: Any) -> EpisodicMemory:
    torch.manual_seed(0)
    return EpisodicMemory(DIM, HEADS, ROOM, **settings).double()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def kept(memory: EpisodicMemory, x: Tensor) -> tuple[list[list[int]], Tensor]:
    """The times of the items that a plain loop keeps, row after row, and what each token reads."""
    policy, out, times = memory.evict, torch.zeros_like(x), []
    keys, values = memory.store(x).unflatten(-1, (2, HEADS, -1)).unbind(2)
    keys, queries = normalize(keys, dim=-1), normalize(memory.read.query(x).unflatten(-1, (HEADS, -1)), dim=-1)
    strengths = torch.ones(x.shape[:2]).double() if memory.strength is None else torch.sigmoid(memory.strength(x)).squeeze(-1)
    for row in range(len(x)):
        bank: list[int] = []
        uses: dict[int, float] = {}
        for t in range(x.shape[1]):
            if len(bank) == ROOM:
                assert policy is not None
                if policy.by == "strength":
                    worth = [float(strengths[row, j]) * torch.exp(torch.tensor(-policy.rate * (t - j))).item() for j in bank]
                elif policy.by == "use":
                    worth = [uses[j] / (t - j) for j in bank]
                else:
                    flat = normalize(keys[row].flatten(1), dim=-1)
                    worth = [-max(float(flat[j] @ flat[k]) for k in [*bank, t] if k > j) for j in bank]
                bank.pop(worth.index(min(worth)))
            bank.append(t)
            uses[t] = 0.0
            scores = memory.read.sharpness.exp()[:, None] * (keys[row, bank] * queries[row, t]).sum(-1).T
            if memory.strength is not None:
                scores = scores + strengths[row, bank].log()
            weights = scores.softmax(-1)
            for weight, j in zip(weights.mean(0), bank, strict=True):
                uses[j] += float(weight)
            out[row, t] = memory.read.out((weights[..., None] * values[row, bank].transpose(0, 1)).sum(1).flatten())
        times.append([j + 1 for j in bank])
    return times, out


@pytest.mark.parametrize("policy", [Lowest("strength"), Lowest("strength", 0.02), Lowest("use"), Lowest("redundancy")], ids=str)
def test_the_item_of_the_lowest_value_gives_way_as_in_a_plain_loop(policy: Lowest) -> None:
    memory, x = make(evict=policy, strength=policy.by == "strength", sharpness=3.0), draw(BATCH, TIME, DIM)
    y, state = memory(x)
    times, truth = kept(memory, x)
    assert state.slots.times.tolist() == times
    assert any(row != list(range(TIME - ROOM + 1, TIME + 1)) for row in times)
    torch.testing.assert_close(y, truth)


def test_to_evict_the_oldest_is_a_ring() -> None:
    x = draw(BATCH, TIME, DIM)
    assert torch.equal(make(evict=Lowest("age"))(x)[0], make()(x)[0])
    # equal strengths: the oldest of equals
    torch.testing.assert_close(make(evict=Lowest("strength"))(x)[0], make()(x)[0])


def state_of(**settings: Any) -> tuple[EpisodicMemory, EpisodicState]:
    memory = make(strength=True, **settings)
    return memory, memory(draw(BATCH, TIME, DIM))[1]


def test_fading_multiplies_strengths_by_what_their_age_leaves() -> None:
    memory, state = state_of()
    after = faded(state, 5.0)
    age = torch.tensor([3.0, 2.0, 1.0, 0.0]).double()
    torch.testing.assert_close(after.slots.strengths, state.slots.strengths * torch.exp(-age / 5))
    # as the read with a rate of recency of 1/5
    torch.manual_seed(0)
    recent = EpisodicMemory(DIM, HEADS, ROOM, strength=True, recency=0.2).double()
    recent.load_state_dict(memory.state_dict(), strict=False)
    cue = draw(BATCH, 3, DIM, seed=4)
    torch.testing.assert_close(memory.weights(cue, after), recent.weights(cue, state), rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="tau must be positive"):
        faded(state, 0.0)


@torch.no_grad()
def test_pruned_items_are_read_no_more_and_the_others_as_before() -> None:
    memory, state = state_of()
    cue = draw(BATCH, 2, DIM, seed=4)
    after = pruned(state, Old(1.5))
    assert after.slots.there.tolist() == [[False, False, True, True]] * BATCH
    weights = memory.weights(cue, state)[..., 2:]
    torch.testing.assert_close(memory.weights(cue, after)[..., 2:], weights / weights.sum(-1, keepdim=True))
    assert not after.slots.keys[:, :2].any()
    weakest = state.slots.strengths.amin(1)
    weak = pruned(state, Weak(below=float(weakest.min()) + 1e-9, after=-1))
    assert int((~weak.slots.there).sum()) == 1
    assert int(pruned(state, Capacity(2)).slots.there.sum()) == 2 * BATCH
    # a bank that holds one thing twice keeps the older
    _, twice = make()(draw(1, 1, DIM).expand(1, 3, DIM))
    assert pruned(twice, Redundant()).slots.times.tolist() == [[0, 1, 0, 0]]
    # and goes on writing as ever
    _, again = memory(draw(BATCH, 3, DIM), after)
    assert again.slots.times[0].tolist() == [TIME, TIME + 1, TIME + 2, TIME + 3]


def test_flushed_rows_hold_nothing_and_go_on() -> None:
    memory = make(write=Segments(3), context=2)
    _, state = memory(draw(BATCH, TIME, DIM))
    rows = torch.tensor([True, False, True])
    after = flushed(state, rows)
    y, _ = memory(draw(BATCH, 2, DIM), after, mode="read-only")
    assert not y[rows].any()
    assert y[~rows].any()
    assert not after.slots.values[rows].any()
    assert not after.pooled[rows].any()
    assert torch.equal(after.context, state.context)
    assert torch.equal(after.seen, state.seen)
    with pytest.raises(ValueError, match="rows must be bool"):
        flushed(state, torch.tensor([0, 1, 2]))


def test_an_event_begins_where_surprise_is_above_mean_and_deviations_of_the_window_before() -> None:
    values = torch.rand(BATCH, 60, generator=torch.Generator().manual_seed(0))
    values[:, 40] = 3.0
    begins, _ = Events(window=8, gamma=1.5)(values)
    truth = torch.zeros_like(begins)
    for row in range(BATCH):
        for t in range(60):
            before = values[row, max(0, t - 8) : t]
            if len(before) >= 2:
                truth[row, t] = values[row, t] > before.mean() + 1.5 * before.std(correction=0)
    assert torch.equal(begins, truth)
    assert begins[:, 40].all()


def test_events_of_a_stream_are_those_of_the_whole_and_masked_tokens_are_none() -> None:
    events = Events(window=5, gamma=0.5)
    values = torch.rand(BATCH, 40, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(BATCH, 40, generator=torch.Generator().manual_seed(1)) < 0.7
    whole, after = events(values.masked_fill(~mask, torch.nan), mask=mask)
    state, parts = None, []
    for some, some_mask in zip(values.split([1, 0, 17, 22], 1), mask.split([1, 0, 17, 22], 1), strict=True):
        begins, state = events(some, state, mask=some_mask)
        parts.append(begins)
    assert torch.equal(torch.cat(parts, 1), whole)
    assert state is not None
    assert torch.equal(state.values[state.there], after.values[after.there])
    assert not whole[~mask].any()
    for row in range(BATCH):
        assert torch.equal(events(values[row : row + 1, mask[row]])[0][0], whole[row, mask[row]])
    anew = events.reset(after, torch.tensor([True, False, False]))
    assert torch.equal(events(values, anew)[0][0], events(values)[0][0])
    logits, tokens = draw(2, 5, 7), torch.randint(7, (2, 5), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(surprise(logits, tokens), -logits.log_softmax(-1).gather(2, tokens[..., None]).squeeze(-1).float())


def test_what_makes_no_policy_and_no_surprise_is_refused() -> None:
    with pytest.raises(ValueError, match="by must be one of age, strength, use, redundancy, got 'size'"):
        Lowest("size")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rate must be at least 0"):
        Lowest("strength", -1.0)
    with pytest.raises(ValueError, match="this one holds all; give slots"):
        EpisodicMemory(DIM, HEADS, None, evict=Lowest("use"))
    with pytest.raises(ValueError, match="least must be at most the window, got 5 and 4"):
        Events(4, least=5)
    with pytest.raises(ValueError, match=r"surprise must be floating \[batch, time\].*got \[3\]"):
        Events()(torch.zeros(3))
    with pytest.raises(ValueError, match=r"mask must be bool \[1, 3\]"):
        Events()(torch.zeros(1, 3), mask=torch.zeros(1, 2).bool())
    with pytest.raises(ValueError, match="of 2 rows, the input of 1"):
        Events()(torch.zeros(1, 3), Events().init_state(2))
    assert PerToken().own
