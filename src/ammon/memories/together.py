"""Together: many memories of one kind and size recalled as one batch, each from its own cues.

The trials of an experiment are such memories. Where ±1 units are updated one by one, all networks are swept at once.
"""

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.dynamics.sweep import sweep
from ammon.energies.flips import PatternFlips
from ammon.energies.pairwise_flips import PairwiseFlips
from ammon.memories.base import Memory
from ammon.memories.binary import BinaryMemory
from ammon.memories.checks import check_cue
from ammon.memories.pairwise import PairwiseMemory
from ammon.parts.lagrangians import Lagrangian
from ammon.shapes import States, check_bipolar

Flips = PatternFlips | PairwiseFlips


def recall_together(memories: Sequence[Memory], cues: Sequence[States], **settling: Unpack[Settling]) -> list[Recall]:
    """The same as `[memory.recall(cue, **settling) for memory, cue in zip(memories, cues)]`, up to rounding.

    Sign units updated one by one, in turn, are swept together if the memories are of one kind and size; others recall one after the other.
    With a generator all networks of a sweep share one order. Without `clamp`. ValueError if memories and cues do not go together.
    """
    if len(memories) != len(cues):
        raise ValueError(f"recall_together: {len(memories)} memories came with {len(cues)} batches of cues; give one to each.")
    if settling.get("clamp") is not None:
        raise ValueError("recall_together: clamp holds the entries of one batch; recall memories with clamped entries one by one.")
    flips = _flips(memories, cues)
    if flips is None:
        return [memory.recall(cue, **settling) for memory, cue in zip(memories, cues)]
    for memory, cue in zip(memories, cues):
        held = memory.keys.rows if isinstance(memory, BinaryMemory) else memory.matrix
        check_cue(memory, "recall", cue, held)  # type: ignore[arg-type]
        check_bipolar(f"{type(memory).__name__}.recall", "cue", cue)
    generator, dim = settling.get("generator"), memories[0].dim
    steps: Any = memories[0].steps

    def in_turn(state: Tensor, rows: Tensor) -> Tensor:
        order = None if generator is None else torch.randperm(dim, generator=generator, device=generator.device).to(state.device)
        return sweep(flips.of(rows), state, order)

    found = settle(in_turn, torch.cat(list(cues)), **{"steps": steps, **settling})
    ends = torch.tensor([len(cue) for cue in cues]).cumsum(0).tolist()
    return [_some(found, end - len(cue), end) for cue, end in zip(cues, ends)]


def _flips(memories: Sequence[Memory], cues: Sequence[States]) -> Flips | None:
    """The fields of all networks as one; None if they are not of one kind and size."""
    if len(memories) < 2 or not all(len(memory) for memory in memories):
        return None
    owner = torch.cat([torch.full((len(cue),), place, device=cue.device) for place, cue in enumerate(cues)])
    first = memories[0]
    if isinstance(first, BinaryMemory) and first.update == "asynchronous":
        keys = [memory.keys.rows for memory in memories if isinstance(memory, BinaryMemory) and _alike(memory, first)]
        if len(keys) == len(memories) and len({(rows.shape, rows.dtype, rows.device) for rows in keys}) == 1:
            return PatternFlips(torch.stack(keys), first.separation, owner)
    if isinstance(first, PairwiseMemory) and first.update == "asynchronous":
        ours = [memory for memory in memories if isinstance(memory, PairwiseMemory) and memory.update == "asynchronous"]
        kinds = {(m.matrix.shape, m.matrix.dtype, m.matrix.device, m.steps, m.bias is None) for m in ours}
        if len(ours) == len(memories) and len(kinds) == 1 and not any(int(memory.written[1]) for memory in ours):
            biases = [memory.bias for memory in ours if memory.bias is not None]
            return PairwiseFlips(torch.stack([memory.matrix for memory in ours]), torch.stack(biases) if biases else None, owner)
    return None


def _alike(memory: BinaryMemory, first: BinaryMemory) -> bool:
    """Whether they differ in nothing but their patterns."""
    same = (memory.update, memory.steps) == (first.update, first.steps) and _same(memory.separation, first.separation)
    return same and not len(memory.values)


def _same(one: Lagrangian, other: Lagrangian) -> bool:
    """Whether two separations are the same function, as far as their attributes say."""
    if one is other:
        return True
    plain = [{name: value for name, value in vars(part).items() if isinstance(value, (bool, int, float, str))} for part in (one, other)]
    held = [dict(part.named_parameters()) | dict(part.named_buffers()) for part in (one, other)]
    return (
        type(one) is type(other)
        and plain[0] == plain[1]
        and held[0].keys() == held[1].keys()
        and all(torch.equal(tensor, held[1][name]) for name, tensor in held[0].items())
    )


def _some(found: Recall, start: int, end: int) -> Recall:
    part = slice(start, end)
    kept = None if found.trajectory is None else found.trajectory[:, part]
    return Recall(found.state[part], found.steps[part], found.converged[part], found.cycled[part], kept)
