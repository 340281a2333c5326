"""Hopfield 1982, and Amit, Gutfreund & Sompolinsky 1985: overlap and errors of a Hopfield network against its load alpha = K/D.

Patterns are random ±1. Draws of the patterns, not probes, are the independent units of every statistic here.
"""

import math

import pytest
import torch
from scipy.optimize import brentq, minimize_scalar
from scipy.special import erf
from scipy.stats import binom, linregress, norm, t, ttest_1samp

import ammon as am


def settled_overlaps(dim: int, load: float, *, draws: int, seed: int, probes: int = 20) -> list[float]:
    """The mean overlap with the pattern it starts at of an asynchronous recall to the fixed point, draw by draw."""
    generator = torch.Generator().manual_seed(seed)
    overlaps = []
    for _ in range(draws):
        patterns = am.random_patterns(round(load * dim), dim, generator=generator)
        memory = am.hopfield(dim, steps=500)
        memory.write(patterns)
        found = memory.recall(patterns[:probes], generator=generator)
        assert found.converged.all()
        overlaps.append((found.state * patterns[:probes]).mean().item())
    return overlaps


def load_of(y: float) -> float:
    """The load at which the retrieval state has overlap erf(y): Amit et al. 1985, the replica-symmetric equations at T = 0."""
    return (erf(y) / y - 2 / math.sqrt(math.pi) * math.exp(-(y**2))) ** 2 / 2


def critical_point() -> float:
    return minimize_scalar(lambda y: -load_of(y), bounds=(0.5, 5), method="bounded", options={"xatol": 1e-10}).x


def theoretical_overlap(load: float) -> float:
    return float(erf(brentq(lambda y: load_of(y) - load, critical_point(), 10)))


def test_the_critical_load_is_0138_and_the_overlap_there_0967() -> None:
    """Amit et al. 1985: alpha_c = 0.138, m = 0.967; to more digits alpha_c = 0.1379."""
    y = critical_point()
    assert round(load_of(y), 4) == 0.1379
    assert round(float(erf(y)), 3) == 0.967


@pytest.mark.parametrize("load", [0.08, 0.1, 0.12])
def test_below_the_critical_load_the_overlap_is_that_of_the_replica_theory(load: float) -> None:
    """Amit et al. 1985, T = 0: D = 1000, 20 probes of each of 10 draws, random-order sweeps to the fixed point.

    Tolerance: Student's t over draws, p > .001.
    """
    overlaps = settled_overlaps(1000, load, draws=10, seed=1)
    assert ttest_1samp(overlaps, theoretical_overlap(load)).pvalue > 0.001


@pytest.mark.parametrize(("load", "measured"), [(0.08, 1.000), (0.12, 0.992), (0.15, 0.974)])
def test_overlap_at_500_units_is_that_of_one_independent_run(load: float, measured: float) -> None:
    """Our own earlier plain-loop run: D = 500, one draw, 20 probes, random-order sweeps; printed to three digits.

    Tolerance: the 99.9 % Student prediction interval for one more draw, and the rounding of the printed number.
    """
    draws = 12
    overlaps = torch.tensor(settled_overlaps(500, load, draws=draws, seed=2), dtype=torch.float64)
    reach = t.ppf(0.9995, draws - 1) * overlaps.std().item() * math.sqrt(1 + 1 / draws)
    assert abs(overlaps.mean().item() - measured) <= reach + 0.0005


def exact_bit_error(num_patterns: int, dim: int) -> float:
    """P(a unit leaves its pattern in one step): its crosstalk is a sum of (K-1)(D-1) independent ±1; a tie breaks to +1."""
    terms = (num_patterns - 1) * (dim - 1)
    ties = (terms - (dim - 1)) / 2
    tied = float(binom.pmf(ties, terms, 0.5)) if ties.is_integer() else 0.0
    return float(binom.cdf(math.ceil(ties) - 1, terms, 0.5)) + tied / 2


@pytest.mark.parametrize("load", [0.1, 0.138, 0.2, 0.5])
def test_one_step_bit_error_is_the_gaussian_tail_of_one_over_root_load(load: float) -> None:
    """P = Q(1/sqrt(alpha)), the textbook form of Hopfield 1982's estimate: D = 500, one synchronous step 100 draws.

    Tolerance: Student's t over draws against the exact law at this D, p > .001; that law reaches Q within 1 % at D = 20,000.
    """
    dim, rates = 500, []
    generator = torch.Generator().manual_seed(3)
    for _ in range(100):
        patterns = am.random_patterns(round(load * dim), dim, generator=generator)
        memory = am.synchronous_hopfield(dim)
        memory.write(patterns)
        rates.append((memory.recall(patterns[:100], steps=1).state != patterns[:100]).double().mean().item())
    assert ttest_1samp(rates, exact_bit_error(round(load * dim), dim)).pvalue > 0.001
    assert exact_bit_error(round(load * 20_000), 20_000) == pytest.approx(norm.sf(load**-0.5), rel=0.01)


def test_one_step_bit_error_at_the_critical_load_is_00036() -> None:
    """Q(1/sqrt(.138)) = .0036."""
    assert round(float(norm.sf(0.138**-0.5)), 4) == 0.0036


@pytest.mark.slow
def test_beyond_the_critical_load_recall_collapses_as_the_network_grows() -> None:
    """Amit et al. 1985: at alpha = .16 the overlap falls as D grows from 500 to 2000; at .12 it stays at the theory's.

    12 draws of 20 probes each. Tolerance: the slope in log D is negative with p < .001; Student's t over draws, p > .001.
    """
    dims = [500, 1000, 2000]
    beyond = [settled_overlaps(dim, 0.16, draws=12, seed=dim) for dim in dims]
    trend = linregress([math.log(dim) for dim in dims for _ in range(12)], [m for row in beyond for m in row], alternative="less")
    assert trend.pvalue < 0.001
    assert sum(beyond[-1]) / 12 < 0.8
    below = settled_overlaps(2000, 0.12, draws=12, seed=4)
    assert ttest_1samp(below, theoretical_overlap(0.12)).pvalue > 0.001
