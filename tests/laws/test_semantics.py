"""Laws of semantic bias: associations from before add exactly themselves to the scores of an episodic read, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.nn.attention import Attention
from ammon.nn.blocks import SharedBank
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.evicting import Lowest
from ammon.nn.hybrid import Hybrid
from ammon.nn.segments import Segments
from ammon.nn.semantics import Semantics
from ammon.parts.separations import Entmax
from ammon.parts.top_k import TopK

DIM, HEADS, BATCH, TIME, ITEMS = 8, 2, 3, 17, 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def named(seed: int = 2) -> Tensor:
    """Which item each token is; some are none."""
    return torch.randint(-1, ITEMS, (BATCH, TIME), generator=torch.Generator().manual_seed(seed))


def make(semantics: Semantics | None, **settings: Any) -> EpisodicMemory:
    torch.manual_seed(0)
    settings = {"slots": 9, "sharpness": 3.0} | settings
    return EpisodicMemory(DIM, HEADS, semantics=semantics, **settings).double()


SETTINGS: list[dict[str, Any]] = [
    {},
    {"slots": None, "recency": 0.1, "strength": True},
    {"separation": TopK(3)},
    {"separation": Entmax(1.5)},
    {"context": 3, "hops": 2},
    {"write": Segments(4, "each")},
    {"write": Segments(3, "mean"), "context": 3},
    {"evict": Lowest("redundancy")},
    {"evict": Lowest("use")},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_with_a_weight_of_zero_nothing_changes(settings: dict[str, Any]) -> None:
    x, items = draw(BATCH, TIME, DIM), named()
    biased, plain = make(Semantics(draw(ITEMS, ITEMS), weight=0.0), **settings), make(None, **settings)
    plain.load_state_dict({name: tensor for name, tensor in biased.state_dict().items() if "semantic" not in name})
    y, state = biased(x, items=items)
    truth, other = plain(x)
    torch.testing.assert_close(y, truth)
    assert torch.equal(state.slots.times, other.slots.times)
    # and the weight has a gradient there, so that it can be learned
    assert biased.read.semantic is not None
    (gradient,) = torch.autograd.grad(y.square().sum(), [biased.read.semantic])
    assert gradient.all()


@pytest.mark.parametrize("settings", [{}, {"context": 3}, {"recency": 0.1, "strength": True}], ids=str)
def test_with_a_matrix_the_scores_differ_by_exactly_its_entries(settings: dict[str, Any]) -> None:
    association, x, items = draw(ITEMS, ITEMS, seed=3), draw(BATCH, TIME, DIM), named()
    biased, plain = make(Semantics(association, weight=0.7), **settings), make(None, **settings)
    plain.load_state_dict({name: tensor for name, tensor in biased.state_dict().items() if "semantic" not in name})
    with torch.no_grad():
        assert biased.read.semantic is not None
        biased.read.semantic.copy_(torch.tensor([0.7, -1.3]))
    held, bare = biased(x, items=items)[1], plain(x)[1]
    cue, asked = draw(BATCH, 5, DIM, seed=4), torch.tensor([[0, 1, 2, -1, 5]]).expand(BATCH, -1)
    # log of softmax: the scores up to what all slots of a read share
    with_bias = biased.weights(cue, held, items=asked).log()
    without = plain.weights(cue, bare).log()
    stored = items.gather(1, held.slots.times - 1)
    known = (asked[:, :, None] >= 0) & (stored[:, None] >= 0)
    bias = torch.where(known, association[asked[:, :, None], stored[:, None]], 0.0)[:, None] * torch.tensor([0.7, -1.3])[:, None, None]
    gap = with_bias - without - bias
    torch.testing.assert_close(gap, gap[..., :1].expand_as(gap))


def test_vectors_are_the_matrix_of_their_cosines_and_take_less_room() -> None:
    vectors, x, items = draw(ITEMS, 3, seed=5), draw(BATCH, TIME, DIM), named()
    vectors[2] = 0
    unit = normalize(vectors, dim=-1)
    by_matrix, by_vectors = make(Semantics(unit @ unit.T, 2.0)), make(Semantics.of(vectors, 2.0))
    y, state = by_vectors(x, items=items)
    truth, other = by_matrix(x, items=items)
    torch.testing.assert_close(y, truth)
    assert state.slots.meanings.shape[-1] == 3
    assert other.slots.meanings.shape[-1] == ITEMS


def test_a_segment_is_associated_as_the_mean_of_its_items() -> None:
    association = draw(ITEMS, ITEMS, seed=3)
    memory = make(Semantics(association), write=Segments(3, "mean"), slots=None)
    items = named()
    _, state = memory(draw(BATCH, TIME, DIM), items=items)
    asks, _ = memory.semantics(torch.arange(ITEMS)[None])  # type: ignore[misc]
    rows = torch.cat([association, torch.zeros(ITEMS, 1).double()], 1)
    truth = rows[:, items[:, :15].reshape(BATCH, 5, 3)].mean(-1).movedim(0, 1)
    torch.testing.assert_close(asks @ state.slots.meanings[:, :5].mT, truth)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_associations_stream_and_are_nothing_where_the_mask_is(settings: dict[str, Any]) -> None:
    memory, x, items = make(Semantics(draw(ITEMS, ITEMS), 1.5), **settings), draw(BATCH, TIME, DIM), named()
    mask = torch.rand(BATCH, TIME, generator=torch.Generator().manual_seed(4)) < 0.7
    whole, after = memory(x, mask=mask, items=items)
    for split in ([1] * TIME, [4, 0, 11, 2]):
        state, parts = None, []
        for some_x, some_mask, some_items in zip(x.split(split, 1), mask.split(split, 1), items.split(split, 1), strict=True):
            y, state = memory(some_x, state, mask=some_mask, items=some_items)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        assert state is not None
        torch.testing.assert_close(state.slots.meanings[state.slots.there], after.slots.meanings[after.slots.there])
    for row in range(BATCH):
        alone, _ = memory(x[row : row + 1, mask[row]], items=items[row : row + 1, mask[row]])
        torch.testing.assert_close(whole[row, mask[row]], alone[0])


def test_blocks_tell_their_memories_which_items_they_read() -> None:
    x, items = draw(BATCH, TIME, DIM), named()
    for block in (
        Hybrid({"episodic": make(Semantics(draw(ITEMS, ITEMS))), "attention": Attention(DIM, HEADS)}).double(),
        SharedBank(make(Semantics(draw(ITEMS, ITEMS))), {"first": Attention(DIM, HEADS), "second": Attention(DIM, HEADS)}).double(),
    ):
        y, _ = block(x, items=items)
        assert not torch.allclose(block(x, items=items.flip(1))[0], y)
        with pytest.raises(ValueError, match="made with semantics, and no items are given"):
            block(x)


def test_what_makes_no_semantics_and_items_that_are_none_are_refused() -> None:
    for rows, message in (
        (torch.eye(3, dtype=torch.int64), r"must be floating \[item, item\], got torch\.int64 \[3, 3\]"),
        (torch.zeros(3, 4), r"must be \[item, item\], got \[3, 4\]; for vectors use Semantics\.of"),
        (torch.full((2, 2), torch.nan), "must be finite"),
        ([[1.0]], "got list"),
    ):
        with pytest.raises(ValueError, match=message):
            Semantics(rows)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the vectors must be floating \[item, feature\], got torch\.float32 \[3\]"):
        Semantics.of(torch.zeros(3))
    memory, x = make(Semantics(draw(ITEMS, ITEMS))), draw(BATCH, TIME, DIM)
    with pytest.raises(ValueError, match="items must be from 0 to 5, or -1 for none, got 6"):
        memory(x, items=torch.full((BATCH, TIME), 6))
    with pytest.raises(ValueError, match=r"items must be whole numbers \[batch, time\] = \[3, 17\].*got torch\.float64 \[3, 17\]"):
        memory(x, items=draw(BATCH, TIME))
    with pytest.raises(ValueError, match=r"make the memory with semantics=Semantics"):
        make(None)(x, items=named())
