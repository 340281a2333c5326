"""Hoover et al. 2024 (NeurIPS; arXiv 2410.24153): dense memories in the space of random features.

The paper prints curves; held here are their laws: the error of the approximate energy falls as 1/sqrt(Y), grows with β and with
the distance from the patterns. Their binary set-up (QUANT1), smaller: entries 0 and 1/sqrt(D), queries with 10 % flips or at random.
"""

import math

import pytest
import torch
from scipy.stats import t
from torch import Tensor

from ammon.memories.feature import FeatureMemory
from ammon.parts.features import Cos, FeatureMap, SinCos

DIM, PATTERNS = 16, 50


def binary(count: int, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, DIM, generator=generator) < 0.5).double() / math.sqrt(DIM)


def near(patterns: Tensor, generator: torch.Generator) -> Tensor:
    """A tenth of the entries turned over, rounded."""
    flipped = torch.rand(patterns.shape, generator=generator).argsort(-1) < round(0.1 * DIM)
    return torch.where(flipped, 1 / math.sqrt(DIM) - patterns, patterns)


def exact(patterns: Tensor, states: Tensor, beta: float) -> Tensor:
    distances = (states.unsqueeze(1) - patterns).square().sum(-1)
    return -torch.logsumexp(-beta / 2 * distances, -1) / beta


def error(kind: type[FeatureMap], num_frequencies: int, beta: float, random_queries: bool, seed: int) -> float:
    """Root mean square of β (E - exact): of the energy in its own unit, the logarithm of a sum."""
    generator = torch.Generator().manual_seed(seed)
    patterns = binary(PATTERNS, generator)
    states = binary(PATTERNS, generator) if random_queries else near(patterns, generator)
    memory = FeatureMemory(kind(DIM, num_frequencies, beta, seed=seed))  # type: ignore[call-arg]
    memory.write(patterns)
    return float((beta * (memory.energy(states) - exact(patterns, states, beta))).square().mean().sqrt())


def errors(kind: type[FeatureMap], num_frequencies: int, beta: float, random_queries: bool = False, seeds: int = 8) -> Tensor:
    return torch.tensor([error(kind, num_frequencies, beta, random_queries, seed) for seed in range(seeds)]).double()


def exceeds(more: Tensor, less: Tensor) -> bool:
    """Paired over seeds, beyond chance: one-sided t-test of the logarithms, p < .001."""
    gap = more.log() - less.log()
    return float(gap.mean()) > t.ppf(0.999, len(gap) - 1) * float(gap.std()) / math.sqrt(len(gap))


@pytest.mark.parametrize("kind", [SinCos, Cos])
def test_the_energy_converges_to_the_exact_one_as_one_over_the_root_of_the_features(kind: type[FeatureMap]) -> None:
    """β = 10, near queries, Y from 500 to 32000: the slope of log error against log Y is -1/2.

    Tolerance: the t-interval (99.9 %) of the slope over 16 seeds holds -1/2 and is narrower than ±0.12.
    """
    sizes = torch.tensor([500.0, 2000.0, 8000.0, 32000.0]).double().log()
    logs = torch.stack([errors(kind, num, 10.0, seeds=16).log() for num in (500, 2000, 8000, 32000)])
    centred = sizes - sizes.mean()
    slopes = (centred @ logs) / centred.square().sum()
    half = t.ppf(0.9995, 15) * float(slopes.std()) / math.sqrt(16)
    assert half < 0.12
    assert abs(float(slopes.mean()) + 0.5) < half


def test_the_error_grows_with_beta() -> None:
    """Y = 16000, near queries, β = 2, 10, 30: each is larger than the one before, by a paired t-test, p < .001."""
    found = [errors(SinCos, 16000, beta) for beta in (2.0, 10.0, 30.0)]
    assert exceeds(found[1], found[0])
    assert exceeds(found[2], found[1])


def test_the_error_is_larger_far_from_the_patterns() -> None:
    """Y = 16000, β = 30: random queries against queries with 10 % flips, by a paired t-test, p < .001."""
    assert exceeds(errors(SinCos, 16000, 30.0, random_queries=True), errors(SinCos, 16000, 30.0))
