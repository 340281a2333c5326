"""Demircigil et al. 2017 (arXiv 1702.01929): the exponential memory, F = exp, and its 2^(D/2) patterns."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import binomtest, fisher_exact

import ammon as am


def corrected(make: Callable[[int], am.Memory], dim: int, num_patterns: int, *, draws: int, probes: int, seed: int) -> tuple[int, int]:
    """How many stored patterns come back after one flip of a random unit and one sweep in random order, of how many."""
    generator = torch.Generator().manual_seed(seed)
    found = asked = 0
    for _ in range(draws):
        patterns = am.random_patterns(num_patterns, dim, generator=generator)
        memory = make(dim)
        memory.write(patterns)
        wanted = patterns[:probes]
        flipped = torch.randint(dim, (len(wanted), 1), generator=generator)
        cue = wanted.scatter(1, flipped, -wanted.gather(1, flipped))
        state = memory.recall(cue, steps=1, generator=generator).state
        found, asked = found + int((state == wanted).all(-1).sum()), asked + len(wanted)
    return found, asked


def differ(more: tuple[int, int], fewer: tuple[int, int]) -> bool:
    """Whether the first of two fractions is larger beyond chance: Fisher's exact test, p < .001."""
    table = [[more[0], more[1] - more[0]], [fewer[0], fewer[1] - fewer[0]]]
    return bool(fisher_exact(table, alternative="greater").pvalue < 0.001)


def guaranteed_load(dim: int) -> float:
    """log2(K)/D below which one wrong unit is surely corrected as D grows: I(1 - 2/D)/2 of theorem 3, in bits."""
    a = 1 - 2 / dim
    return ((1 + a) * math.log(1 + a) + (1 - a) * math.log(1 - a)) / 4 / math.log(2)


@pytest.mark.parametrize("dim", [20, 22])
def test_one_wrong_unit_is_corrected_well_below_the_load_and_less_often_above(dim: int) -> None:
    """Theorem 3: K = exp(alpha D) with alpha < I(1-2 rho)/2 <= ln(2)/2. Here log2(K)/D = 1/4, 1/2, 7/10; random patterns.

    Tolerance: .995 is within the Wilson interval (99.9 %) well below; the falls are beyond chance by Fisher's exact test, p < .001.
    """
    assert 0.25 < guaranteed_load(dim) < 0.5
    below, at, above = (
        corrected(am.exponential, dim, round(2 ** (load * dim)), draws=draws, probes=200, seed=dim)
        for load, draws in ((0.25, 12), (0.5, 4), (0.7, 1))
    )
    assert binomtest(*below).proportion_ci(0.999, "wilson").high >= 0.995
    assert differ(below, at)
    assert differ(at, above)


@pytest.mark.parametrize("load", [0.25, 0.5])
def test_the_pairwise_memory_corrects_almost_nothing_at_the_same_load(load: float) -> None:
    """D = 20: 2^(D/4) = 32 and 2^(D/2) = 1024 patterns are 1.6 and 51 per unit, far beyond Hopfield's 0.138.

    Tolerance: Wilson interval (99.9 %) of the pairwise fraction below .2; Fisher's exact test between the two memories.
    """
    num_patterns = round(2 ** (load * 20))
    exponential = corrected(am.exponential, 20, num_patterns, draws=8, probes=100, seed=1)
    pairwise = corrected(am.hopfield, 20, num_patterns, draws=8, probes=100, seed=1)
    assert binomtest(*pairwise).proportion_ci(0.999, "wilson").high < 0.2
    assert differ(exponential, pairwise)


@pytest.mark.slow
def test_at_half_the_bits_recall_of_one_wrong_unit_becomes_certain_as_units_grow() -> None:
    """K = 2^(D/2) exactly, D = 18, 24, 30, the bound of theorem 3 for rho → 0: the fraction corrected rises towards 1.

    Tolerance: each rise is beyond chance by Fisher's exact test, p < .001; at D = 30 the Wilson interval (99.9 %) is above .98.
    """
    counts = [corrected(am.exponential, dim, 2 ** (dim // 2), draws=10, probes=400, seed=dim) for dim in (18, 24, 30)]
    assert differ(counts[1], counts[0])
    assert differ(counts[2], counts[1])
    assert binomtest(*counts[2]).proportion_ci(0.999, "wilson").low > 0.98
