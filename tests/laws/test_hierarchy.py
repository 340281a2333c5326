"""Laws of the read from coarse to fine, in float64: against a plain loop, and what is left where all segments count alike."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.nn.episodic import EpisodicMemory
from ammon.nn.hierarchy import Hierarchy
from ammon.nn.hybrid import Hybrid, record_gates
from ammon.nn.segments import Segments

DIM, HEADS, BATCH, TIME = 8, 2, 3, 25


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make(**settings: Any) -> Hierarchy:
    torch.manual_seed(0)
    settings = {"segments": 4, "every": 3, "top": 2, "sharpness": 3.0} | settings
    return Hierarchy(DIM, HEADS, **settings).double()


def projected(bank: EpisodicMemory, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Keys of length 1 and values [head, row, entry]."""
    keys, values = bank.store(rows).unflatten(-1, (2, HEADS, -1)).permute(1, 2, 0, 3)
    return normalize(keys, dim=-1), values


def scores(bank: EpisodicMemory, token: Tensor, keys: Tensor) -> Tensor:
    query = normalize(bank.read.query(token).unflatten(-1, (HEADS, -1)), dim=-1)
    return bank.read.sharpness.exp()[:, None] * (keys @ query[..., None]).squeeze(-1)


def plain(memory: Hierarchy, x: Tensor, segments: int, top: int) -> Tensor:
    coarse, fine = memory.levels
    every, out = memory.every, torch.zeros_like(x)
    for row in range(len(x)):
        for t in range(x.shape[1]):
            ended = [range(start, start + every) for start in range(0, x.shape[1], every) if start + every <= t][-segments:]
            if not ended:
                read = [x.new_zeros(DIM)] * 2
            else:
                means = torch.stack([x[row, list(of)].mean(0) for of in ended])
                keys, values = projected(coarse, means)
                found = scores(coarse, x[row, t], keys)
                weights = torch.zeros_like(found)
                best = found.topk(min(top, len(ended)), -1)
                weights = weights.scatter(-1, best.indices, best.values.softmax(-1))
                recalled = [coarse.read.out((weights[:, None] @ values).flatten())]
                tokens = [token for of in ended for token in of]
                keys, values = projected(fine, x[row, tokens])
                inside = scores(fine, x[row, t], keys) + weights.log().repeat_interleave(every, -1)
                recalled.append(fine.read.out((inside.softmax(-1)[:, None] @ values).flatten()))
                read = recalled
            sources = torch.stack([norm(y) for norm, y in zip(memory.norms, read, strict=True)])
            gates = memory.gate.weigh(torch.cat([x[row, t], *sources])).softmax(-1)
            out[row, t] = gates @ sources
    return out


@pytest.mark.parametrize(("segments", "top"), [(4, 2), (4, 1), (20, 3), (3, 3)])
def test_the_layer_is_the_plain_loop_in_values_and_gradients(segments: int, top: int) -> None:
    memory, x = make(segments=segments, top=top), draw(BATCH, TIME, DIM)
    y, _ = memory(x)
    truth = plain(memory, x, segments, top)
    torch.testing.assert_close(y, truth)
    parameters = list(memory.parameters())
    # where one segment is chosen it has weight 1, whatever its score, and the query gets no gradient
    ours, theirs = (
        torch.autograd.grad(found.square().sum(), parameters, allow_unused=True, materialize_grads=True) for found in (y, truth)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_where_all_segments_count_alike_it_reads_tokens_as_one_flat_bank() -> None:
    memory, x = make(segments=20, top=None), draw(BATCH, TIME, DIM)
    coarse, fine = memory.levels
    with torch.no_grad():
        # no query tells one segment from another
        coarse.read.query.weight.zero_()
    flat = EpisodicMemory(DIM, HEADS, 62, Segments(3, "each"), sharpness=3.0).double()
    flat.load_state_dict(fine.state_dict())
    read: list[Tensor] = []
    hook = fine.read.register_forward_hook(lambda module, inputs, found: read.append(found))
    memory(x)
    hook.remove()
    torch.testing.assert_close(read[0], flat(x)[0])


def test_it_holds_the_newest_segments_with_all_of_their_tokens() -> None:
    memory, x = make(segments=4, every=3), draw(BATCH, TIME, DIM)
    _, state = memory(x)
    coarse, fine = (part.slots for part in state.parts)  # type: ignore[attr-defined]
    assert coarse.times.tolist() == [[15, 18, 21, 24]] * BATCH
    assert fine.times.tolist() == [list(range(12, 26))] * BATCH


def test_levels_are_a_layer_of_any_block_and_their_gate_is_recorded() -> None:
    x = draw(BATCH, TIME, DIM)
    block = Hybrid({"levels": make(), "episodic": EpisodicMemory(DIM, HEADS, 9)}).double()
    with record_gates(block) as traces:
        block(x)
    assert traces["memories.layers.levels"].names == ("segments", "tokens")
    shares = traces["memories.layers.levels"].gates
    torch.testing.assert_close(shares.sum(-1), torch.ones_like(shares[..., 0]))


def test_arguments_that_make_no_hierarchy_and_states_of_others_are_refused() -> None:
    for settings, message in (
        ({"top": 5}, "top 5 of 4 segments"),
        ({"every": 0}, "every must be a whole number of at least 1"),
        ({"summary": "each"}, "is no summary"),
        ({"summary": "first"}, "summary must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**settings)
    x = draw(BATCH, TIME, DIM)
    _, state = make(segments=5)(x)
    with pytest.raises(ValueError, match="of another module"):
        make()(x, state)
