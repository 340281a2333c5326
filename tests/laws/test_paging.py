"""Laws of reads by pages: a plain loop with lists, the exact read where all pages are read, and what forgetting leaves of pages."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from ammon.dynamics.drift import direction, drift
from ammon.memories.retention import Old
from ammon.nn import reading
from ammon.nn.drifting import Drift
from ammon.nn.episodic import EpisodicMemory, EpisodicState
from ammon.nn.evicting import Lowest
from ammon.nn.forgetting import faded, flushed, pruned
from ammon.nn.paging import Paging
from ammon.nn.segments import PerToken, Segments
from ammon.nn.semantics import Semantics
from ammon.nn.surprising import Surprising
from ammon.parts.separations import Entmax
from ammon.parts.top_k import TopK
from ammon.saving import load_state, save_state

DIM, HEADS, BATCH, TIME = 8, 2, 2, 25


def make(**settings: Any) -> EpisodicMemory:
    torch.manual_seed(0)
    return EpisodicMemory(DIM, HEADS, **settings).double()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plain(memory: EpisodicMemory, x: Tensor, items: Tensor | None) -> Tensor:
    """Token after token, row after row and head after head."""
    assert memory.paging is not None
    assert isinstance(memory.write, PerToken)
    read, size = memory.read, memory.paging.size
    keys, values = memory.store(x).unflatten(-1, (2, HEADS, -1)).unbind(2)
    keys, queries = normalize(keys, dim=-1), normalize(read.query(x).unflatten(-1, (HEADS, -1)), dim=-1)
    inputs = contexts = None
    if memory.context is not None:
        inputs, contexts = memory.context(x, memory.context.begin(BATCH, x.dtype))
        contexts = memory.context.used(contexts)[:, 1:]
    rows = []
    for row in range(BATCH):
        for t in range(TIME):
            stop = t + 1 if memory.write.own else t
            first = max(0, stop - memory.slots) if memory.slots is not None else 0
            mixed = []
            for head in range(HEADS):
                bias = torch.zeros(TIME).double()
                if read.recency is not None:
                    bias = bias + read.recency[head].exp() * torch.arange(TIME)
                if memory.semantics is not None and items is not None and read.semantic is not None:
                    bias = bias + read.semantic[head] * (memory.semantics.asks[items[row, t]] @ memory.semantics.holds[items[row]].T)
                content = read.sharpness[head].exp() * (keys[row, :, head] @ queries[row, t, head]) + bias
                context = None if contexts is None else contexts[row, t, head]
                for hop in range(read.hops + 1):
                    scores = content
                    if contexts is not None and context is not None and read.match is not None:
                        scores = scores + read.match[head].exp() * (contexts[row, :, head] @ context)
                    whole = [p for p in range(TIME) if p * size >= first and (p + 1) * size <= stop]
                    whole.sort(key=lambda p, scores=scores: -float(scores[p * size : (p + 1) * size].detach().mean()))  # type: ignore[misc]
                    seen = [j for p in whole[: memory.paging.probes] for j in range(p * size, (p + 1) * size)]
                    seen += range(stop // size * size, stop)
                    if not seen:
                        mixed.append(torch.zeros_like(values[row, 0, head]))
                        break
                    weights = read.separation.weights(scores[seen])
                    if hop == read.hops:
                        mixed.append(weights @ values[row, seen, head])
                    else:
                        assert contexts is not None
                        assert inputs is not None
                        assert context is not None
                        assert read.reinstated is not None
                        assert read.drift is not None
                        share = torch.sigmoid(read.reinstated[head])
                        brought = direction((1 - share) * inputs[row, t, head] + share * (weights @ contexts[row, seen, head]))
                        context = drift(context, brought, torch.sigmoid(read.drift[head]))
            rows.append(read.out(torch.cat(mixed)))
    return torch.stack(rows).reshape(x.shape)


SETTINGS: list[dict[str, Any]] = [
    {"slots": None, "paging": Paging(4, 2)},
    {"slots": 11, "paging": Paging(3, 2), "recency": 0.3},
    {"slots": 11, "paging": Paging(1, 4)},
    {"slots": 8, "paging": Paging(8, 1), "write": PerToken(own=False)},
    {"slots": None, "paging": Paging(4, 1), "separation": TopK(3), "write": PerToken(own=False), "recency": 0.2},
    {"slots": 12, "paging": Paging(2, 3), "separation": Entmax(1.5), "sharpness": 3.0},
    {"slots": 12, "paging": Paging(2, 3), "context": 3, "match": 2.0, "recency": 0.1},
    {"slots": None, "paging": Paging(3, 2), "context": Drift(DIM, HEADS, 3, 0.7, "fading"), "hops": 2},
    {"slots": None, "paging": Paging(3, 2), "semantics": Semantics.of(draw(5, 3, seed=9), 4.0), "context": 2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda value: str(value).replace("\n", ""))
@pytest.mark.parametrize("brought", [reading.BROUGHT, 500], ids=["at once", "in blocks"])
def test_a_read_by_pages_is_the_plain_loop_in_values_and_gradients(
    settings: dict[str, Any], brought: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BROUGHT", brought)
    memory, x = make(**settings), draw(BATCH, TIME, DIM).requires_grad_()
    with torch.no_grad():
        for name in ("reinstated", "drift"):
            if getattr(memory.read, name) is not None:
                getattr(memory.read, name).copy_(draw(HEADS, seed=3))
    items = torch.randint(5, (BATCH, TIME), generator=torch.Generator().manual_seed(3)) if memory.semantics is not None else None
    y, truth = memory(x, items=items)[0], plain(memory, x, items)
    torch.testing.assert_close(y, truth, rtol=1e-9, atol=1e-11)
    inputs, towards = [x, *memory.parameters()], draw(BATCH, TIME, DIM, seed=6)
    found = [torch.autograd.grad((out * towards).sum(), inputs, allow_unused=True) for out in (y, truth)]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("separation", [None, TopK(3)], ids=["softmax", "top 3"])
@pytest.mark.parametrize("slots", [None, 32])
@pytest.mark.parametrize("split", [[TIME], [1] * TIME, [9, 0, 16]], ids=["parallel", "token by token", "ragged"])
def test_with_all_pages_read_it_is_the_exact_read(separation: Any, slots: int | None, split: list[int]) -> None:
    settings: dict[str, Any] = {"slots": slots, "separation": separation, "recency": 0.05}
    whole, by_pages = make(**settings), make(**settings, paging=Paging(4, 8))
    mask = torch.rand(BATCH, TIME, generator=torch.Generator().manual_seed(4)) < 0.8
    x, gradients = draw(BATCH, TIME, DIM), []
    for memory in (whole, by_pages):
        cue, state, parts = x.clone().requires_grad_(), None, []
        for some, some_mask in zip(cue.split(split, 1), mask.split(split, 1), strict=True):
            y, state = memory(some, state, mask=some_mask)
            parts.append(y)
        read = memory(cue, state, mode="read-only")[0]
        gradients.append((torch.cat([*parts, read], 1), *torch.autograd.grad((torch.cat(parts, 1).square().sum() + read.sum()), cue)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-10, atol=1e-12)


def test_representatives_are_the_means_of_whole_pages_and_are_held_as_they_come() -> None:
    memory, x = make(slots=11, paging=Paging(4, 2), context=3), draw(BATCH, TIME, DIM)
    mask = torch.ones(BATCH, TIME, dtype=torch.bool)
    mask[1, 3:9] = False
    _, state = memory(x, mask=mask)
    (pages,) = state.pages
    # row 0 holds items 14 to 24, row 1 items 8 to 18: the newest whole pages begin at 16 and 20, and at 8 and 12
    assert pages.starts.tolist() == [[16, 20], [8, 12]]
    for row, start in ((0, 16), (0, 20), (1, 8), (1, 12)):
        place = start - int(state.seen[row]) + 11
        mean = state.slots.keys[row, place : place + 4].mean(0)
        torch.testing.assert_close(pages.keys[row, pages.starts[row].tolist().index(start)], mean)
    fresh = memory.init_state(BATCH)
    assert not fresh.pages[0].there.any()
    assert {name: part.shape for name, part in fresh.named().items()} == {name: part.shape for name, part in state.named().items()}


def test_weights_are_those_that_mix_and_are_none_outside_the_pages_that_are_read() -> None:
    memory, x = make(slots=16, paging=Paging(4, 2), recency=0.1), draw(BATCH, TIME, DIM)
    _, state = memory(x)
    cue = draw(BATCH, 3, DIM, seed=5)
    weights = memory.weights(cue, state)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    mixed = (weights @ state.slots.values.transpose(1, 2)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(memory.read.out(mixed), memory(cue, state, mode="read-only")[0])
    # items 9 to 24: three whole pages from 12 on, of which two are read, and item 24 of the page under way
    assert not weights[..., :3].any()
    assert ((weights > 0).sum(-1) == 9).all()


def test_what_is_pruned_and_flushed_is_read_no_more_and_its_pages_count_no_more() -> None:
    exact, memory = make(slots=None), make(slots=None, paging=Paging(4, 6))
    x, cue = draw(BATCH, TIME, DIM), draw(BATCH, 7, DIM, seed=4)
    states = [one(x)[1] for one in (exact, memory)]
    for old in (9.5, 3.5):
        after = [pruned(state, Old(old)) for state in states]
        torch.testing.assert_close(memory(cue, after[1])[0], exact(cue, after[0])[0])
    # 25 - 9.5: items from 15 on are left, which are in the pages from 12 on
    assert pruned(states[1], Old(9.5)).pages[0].there.tolist() == [[False] * 3 + [True] * 3] * BATCH
    rows = torch.tensor([True, False])
    empty = flushed(states[1], rows)
    assert empty.pages[0].there.any(1).tolist() == [False, True]
    y, _ = memory(cue, empty, mode="read-only")
    assert not y[0].any()
    # and what is left streams as one pass
    whole, after = memory(cue, empty)
    state, parts = empty, []
    for token in cue.split(1, 1):
        y, state = memory(token, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(state.pages[0].keys, after.pages[0].keys)
    torch.testing.assert_close(memory(cue, faded(states[1], 3.0))[0], memory(cue, states[1])[0])


def test_a_state_saved_before_there_were_pages_is_read_and_of_another_paging_refused(tmp_path: Path) -> None:
    memory, x = make(slots=8), draw(BATCH, TIME, DIM)
    _, state = memory(x)
    save_state(state, tmp_path / "new")
    with safe_open(tmp_path / "new", framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
    outline = json.loads(metadata["state"])
    assert outline["fields"].pop("pages") == []
    save_file(tensors, tmp_path / "old", metadata={**metadata, "state": json.dumps(outline)})
    old = load_state(tmp_path / "old")
    assert isinstance(old, EpisodicState)
    torch.testing.assert_close(memory(x, old)[0], memory(x, state)[0])
    by_pages = make(slots=8, paging=Paging(2, 2))
    with pytest.raises(ValueError, match="it is of another module"):
        by_pages(x, old)
    _, state = by_pages(x)
    save_state(state, tmp_path / "pages")
    torch.testing.assert_close(by_pages(x, load_state(tmp_path / "pages"))[0], by_pages(x, state)[0])
    with pytest.raises(ValueError, match=r"pages.0.keys has shape \[2, 4, 2, 4\], this layer needs \[2, 2, 2, 4\]"):
        make(slots=8, paging=Paging(4, 2))(x, state)
    with pytest.raises(ValueError, match="it is of another module"):
        memory(x, state)


def test_banks_that_pages_cannot_follow_are_refused() -> None:
    for settings, message in (
        ({"write": Segments(4)}, "pages are of tokens in their order, and it writes Segments"),
        ({"evict": Lowest("strength")}, "pages are of items in their order, and Lowest"),
        ({"strength": True}, "strengths fade"),
        ({"strength": Surprising()}, "strengths fade"),
        ({"slots": 20, "paging": Paging(16, 2)}, "2 pages of 16, and 20 slots are 1 of them; give more slots or fewer probes"),
        ({"separation": TopK(33), "paging": Paging(16, 2)}, "top 33 of 2 pages of 16"),
    ):
        with pytest.raises(ValueError, match=message):
            EpisodicMemory(DIM, HEADS, **{"slots": 64, "paging": Paging(4, 2), **settings})
    with pytest.raises(ValueError, match="size must be a whole number of at least 1"):
        Paging(0)
    with pytest.raises(ValueError, match="probes must be a whole number of at least 1"):
        Paging(4, 0)
