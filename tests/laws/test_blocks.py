"""Laws of the blocks without a gate: their equations, and that a shared bank is written once."""

import pytest
import torch
from torch import Tensor, nn

from ammon.nn.attention import Attention
from ammon.nn.blocks import Parallel, Series, SharedBank, stacked_cmr
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.evicting import Lowest
from ammon.nn.segments import Segments

DIM, BATCH, TIME = 8, 2, 13


def memories() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"attention": Attention(DIM, 2, 4), "episodic": EpisodicMemory(DIM, 2, 16, context=3)}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_parallel_puts_together_what_all_give_for_the_same_input() -> None:
    block, x = Parallel(memories()).double(), draw(BATCH, TIME, DIM)
    given = [layer(block.norm(x))[0] for layer in block.memories.layers.values()]
    torch.testing.assert_close(block(x)[0], x + block.join(torch.cat(given, -1)))


def test_series_goes_through_one_after_the_other_in_the_order_given() -> None:
    for order in (memories(), dict(reversed(memories().items()))):
        block, x = Series(order).double(), draw(BATCH, TIME, DIM)
        h = x
        for norm, layer in zip(block.norms, order.values(), strict=True):
            h = h + layer(norm(h))[0]
        torch.testing.assert_close(block(x)[0], h)
    stack = stacked_cmr(DIM, 2, 9, layers=3)
    assert list(stack.memories.layers) == ["cmr_1", "cmr_2", "cmr_3"]


def test_a_shared_bank_is_read_by_every_layer_and_written_once() -> None:
    torch.manual_seed(0)
    bank = EpisodicMemory(DIM, 2, 5, Segments(3, "each"), sharpness=2.0)
    block = SharedBank(bank, {"first": Attention(DIM, 2, 4), "second": Attention(DIM, 2, 4)}).double()
    x = draw(BATCH, TIME, DIM)
    y, state = block(x)
    _, written = bank(block.norm(x))
    for name, tensor in written.named().items():
        assert torch.equal(state.parts[0].named()[name], tensor)
    # by hand: what each token may read is what the bank alone would show it
    h = x
    keys, values = bank.store(block.norm(x)).unflatten(-1, (2, 2, -1)).unbind(2)
    for number, layer in enumerate(list(block.memories.layers.values())[1:]):
        h = h + layer(block.norms[2 * number](h))[0]
        read = [bank.read, *block.reads][number]
        queries = torch.nn.functional.normalize(read.query(block.norms[2 * number + 1](h)).unflatten(-1, (2, -1)), dim=-1)
        found = torch.zeros_like(h)
        for t in range(TIME):
            items = range(max(0, t - 5), 3 * (t // 3))
            if items:
                some = torch.nn.functional.normalize(keys[:, items], dim=-1)
                weights = (read.sharpness.exp()[:, None] * (some * queries[:, t : t + 1]).sum(-1).mT).softmax(-1)
                found[:, t] = read.out((weights[..., None] * values[:, items].transpose(1, 2)).sum(2).flatten(1))
        h = h + found
    torch.testing.assert_close(y, h)
    assert sum(p.numel() for p in block.reads[0].parameters()) == 2 * DIM * DIM + 2


def test_a_bank_that_evicts_by_use_is_not_shared() -> None:
    with pytest.raises(ValueError, match="read token after token"):
        SharedBank(EpisodicMemory(DIM, 2, 5, evict=Lowest("use")), {"first": Attention(DIM, 2)})
    with pytest.raises(ValueError, match="at least 2 named memories"):
        SharedBank(EpisodicMemory(DIM, 2, 5), {})
