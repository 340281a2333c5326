"""Storage: how much of what it was given a memory gives back from cues, and how many patterns it may be given.

One measure for two questions. Targets that were written: storage. Targets of which only distorted instances were written: prototypes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Unpack

import torch

from ammon.analysis.bisection import bracket
from ammon.analysis.information import channel_information, information_per_weight
from ammon.dynamics.settle import Settling
from ammon.memories.base import Memory
from ammon.parts.corruption import Corruption
from ammon.shapes import Rows


@dataclass(frozen=True)
class Storage:
    """What came back from the cues, over all of them."""

    exact: float  # share of answers that equal their target in every entry
    units: float  # share of entries that do
    bits: float  # per target, of `channel_information`
    bits_per_weight: float  # of all targets, less those that the cues had already; 0 where no number of weights was given


@torch.no_grad()
def storage(memory: Memory, targets: Rows, cues: Rows, *, modules: int = 1, num_weights: int = 0, **settling: Unpack[Settling]) -> Storage:
    """What `memory` recalls of the targets [pattern, dim] of 0 and 1, each from its own cue, all in one batch.

    modules: of the patterns. num_weights: `free_weights` of the network, for the bits per weight.
    """
    if targets.shape != cues.shape or not len(targets):
        raise ValueError(f"storage: at least one target, each with its own cue, is needed, got {len(targets)} and {len(cues)}.")
    answer = memory.recall(cues, **settling).state
    right = answer == targets
    return Storage(
        exact=float(right.all(-1).double().mean()),
        units=float(right.double().mean()),
        bits=channel_information(targets, answer, modules),
        bits_per_weight=information_per_weight(targets, answer, num_weights, cue=cues, modules=modules) if num_weights else 0.0,
    )


def storage_capacity(
    make: Callable[[], Memory],
    draw: Callable[[int], Rows],
    corruption: Corruption,
    *,
    generator: torch.Generator,
    criterion: float = 0.9,
    start: int = 16,
    precision: float = 0.02,
    limit: int = 2**20,
) -> int:
    """The largest number of patterns of which a share of at least `criterion` comes back whole from corrupted cues.

    make: an empty memory. draw: so many new patterns. The number is doubled or halved from `start` until it fails or holds, then
    bisected to a relative `precision`, with new patterns each time; one call is one sample, so repeat it for a spread. 0 if not even
    one pattern comes back, `limit` if that many do.
    """
    if not 0 < criterion <= 1 or not 0 < precision < 1 or not 1 <= start <= limit:
        raise ValueError(
            f"storage_capacity: criterion in (0, 1], precision in (0, 1) and 1 <= start <= limit are needed, got {criterion}, {precision}, "
            f"{start} and {limit}."
        )

    def holds(number: int) -> bool:
        memory, patterns = make(), draw(number)
        memory.write(patterns)
        return storage(memory, patterns, corruption(patterns, generator=generator)).exact >= criterion

    return bracket(holds, start, limit, resolution=precision)[0]
