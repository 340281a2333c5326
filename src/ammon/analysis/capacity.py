"""Capacity per synapse: how many patterns a memory holds at a stated corruption and criterion, and what each learned number carries.

A recall without corruption is no measure of capacity, and patterns alone are none either: ten patterns of ten units are not ten of a
thousand. So bits are counted, what an observer of the recalled states learns of the patterns, per number that was learned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ammon.analysis.bisection import bracket
from ammon.analysis.synapses import synapses
from ammon.memories.base import Memory
from ammon.parts.corruption import Flip
from ammon.parts.patterns import random_patterns
from ammon.shapes import Rows, check_count

Make = Callable[[], Memory]
# patterns [pattern, dim] for a count, and a corrupted copy of rows
Draw = Callable[[int, torch.Generator], Tensor]
Corrupt = Callable[[Rows, torch.Generator], Rows]


@dataclass(frozen=True)
class Held:
    """What a memory holds: the largest number of patterns within the criterion, and what follows from it."""

    patterns: int
    error: float  # mean fraction of wrong units there, after recall
    synapses: int  # numbers learned at that load
    bits: float  # learned of the patterns from the recalled states
    capped: bool = False  # no load that was tried failed, so it holds at least so many

    @property
    def bits_per_synapse(self) -> float:
        return self.bits / self.synapses if self.synapses else 0.0

    @property
    def synapses_per_pattern(self) -> float:
        return self.synapses / self.patterns if self.patterns else math.inf


def bits_of_units(num_patterns: int, dim: int, error: float) -> float:
    """Bits in patterns of independent ±1 units read through a fraction `error` of wrong ones: N D (1 - H₂(error))."""
    return num_patterns * dim * (1 - _entropy(error))


def bits_of_sparse(num_patterns: int, dim: int, active: int, error: float) -> float:
    """Bits in patterns of 0 and 1 with `active` ones each, read back with a fraction `error` of all units wrong.

    Recalled states have as many ones, so half of what is wrong is missing and half is too much: N D times the information between a
    unit with mean active/D and its reading, but never more than N log₂ of the number of such patterns.
    """
    mean = active / dim
    missed = min(1.0, error / (2 * mean))
    added = min(1.0, error / (2 * (1 - mean)))
    read = mean * (1 - missed) + (1 - mean) * added
    information = _entropy(read) - mean * _entropy(missed) - (1 - mean) * _entropy(added)
    most = (math.lgamma(dim + 1) - math.lgamma(active + 1) - math.lgamma(dim - active + 1)) / math.log(2)
    return num_patterns * max(0.0, min(most, dim * information))


def mean_error(
    make: Make, draw: Draw, corrupt: Corrupt, num_patterns: int, *, draws: int, seed: int = 0, cues: int = 200
) -> tuple[float, int]:
    """Mean fraction of wrong units after recall from corrupted patterns, and the synapses learned.

    Fresh patterns and a fresh memory for each of the `draws`; at most `cues` of the patterns are asked for.
    """
    wrong, learned = [], 0
    for trial in range(draws):
        generator = torch.Generator().manual_seed(seed + trial)
        patterns, memory = draw(num_patterns, generator), make()
        memory.write(patterns)
        asked = patterns[:cues]
        wrong.append((memory.recall(corrupt(asked, generator)).state != asked).double().mean())
        learned = synapses(memory)
    return float(torch.stack(wrong).mean()), learned


def capacity(
    make: Make,
    dim: int,
    *,
    flips: float,
    error: float,
    draws: int = 5,
    seed: int = 0,
    resolution: float = 0.02,
    draw: Draw | None = None,
    corrupt: Corrupt | None = None,
    active: int | None = None,
    most: int = 2**20,
) -> Held:
    """The largest number of patterns that a memory recalls with a mean fraction of wrong units of at most `error`.

    Random ±1 patterns of which a fraction `flips` is turned over, unless draw and corrupt say otherwise; active: ones per pattern, where
    patterns hold 0 and 1. Loads are searched by `bracket` down to a relative `resolution`; if none up to `most` fails, the memory
    holds at least so many.
    """
    check_count("capacity", "dim", dim)
    check_count("capacity", "draws", draws)
    if not 0 < error < 0.5:
        raise ValueError(f"capacity: error must be between 0 and 0.5, got {error}; it is the fraction of wrong units that is still good.")
    rows: Draw = draw or (lambda count, generator: random_patterns(count, dim, generator=generator))
    spoil: Corrupt = corrupt or (lambda wanted, generator: Flip(flips)(wanted, generator=generator))

    found = {0: (0.0, 0)}

    def holds(num_patterns: int) -> bool:
        found[num_patterns] = mean_error(make, rows, spoil, num_patterns, draws=draws, seed=seed)
        return found[num_patterns][0] <= error

    held, failed = bracket(holds, 1, most, resolution=resolution)
    wrong, learned = found[held]
    bits = bits_of_units(held, dim, wrong) if active is None else bits_of_sparse(held, dim, active, wrong)
    return Held(held, wrong, learned, bits, failed > most)


def _entropy(chance: float) -> float:
    """H₂ in bits."""
    return 0.0 if chance in (0.0, 1.0) else -chance * math.log2(chance) - (1 - chance) * math.log2(1 - chance)
