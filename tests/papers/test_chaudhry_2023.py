"""Chaudhry, Zavatone-Veth, Krotov & Pehlevan 2023 (NeurIPS; arXiv 2306.04532): how long a sequence a network of N units can hold.

Their protocol: random ±1 sequences; P starts at twice the theory and is lowered by 1 % until 100 sequences are recalled without a
single wrong unit; 20 trials. A transition is ξ¹ → ξ²; a whole sequence is right if and only if each of its transitions is, since
each starts from the pattern itself. The paper prints curves and formulas, so the numbers here are held against the formulas.
"""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import binom, norm, t
from torch import Tensor

import ammon as am
from ammon.memories.sequence import End, SequenceMemory
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.separations import Power, Softmax

BASE = math.exp(2) / math.cosh(2)


def transitions_in_theory(dim: int, degree: int | None) -> float:
    """P below which a single transition is right: N^d/(2 (2d-1)!! ln N), exponential b^(N-1)/(2 ln N)."""
    if degree is None:
        return BASE ** (dim - 1) / (2 * math.log(dim))
    return dim**degree / (2 * _double_factorial(2 * degree - 1) * math.log(dim))


def sequence_in_theory(dim: int, degree: int | None) -> float:
    """P below which a whole sequence is right: the same over d + 1, exponential b^N/(2 ln(b) N)."""
    if degree is None:
        return BASE**dim / (2 * math.log(BASE) * dim)
    return transitions_in_theory(dim, degree) / (degree + 1)


def _double_factorial(n: int) -> int:
    return math.prod(range(n, 0, -2))


def separation(degree: int | None) -> Lagrangian:
    return Softmax(1.0) if degree is None else Power(degree + 1)


def draw(num_patterns: int, dim: int, degree: int | None, generator: torch.Generator, end: End = "open") -> tuple[SequenceMemory, Tensor]:
    patterns = am.random_patterns(num_patterns, dim, generator=generator)
    memory = SequenceMemory(dim, separation(degree), end)
    memory.write(patterns)
    return memory, patterns


def first_transition_is_right(num_patterns: int, dim: int, degree: int | None, generator: torch.Generator) -> bool:
    memory, patterns = draw(num_patterns, dim, degree, generator)
    return torch.equal(memory.recall(patterns[:1]).state, patterns[1:2])


def sequence_is_right(num_patterns: int, dim: int, degree: int | None, generator: torch.Generator) -> bool:
    memory, patterns = draw(num_patterns, dim, degree, generator)
    parts = zip(patterns[:-1].split(256), patterns[1:].split(256), strict=True)
    return all(torch.equal(memory.recall(part).state, following) for part, following in parts)


Right = Callable[[int, int, int | None, torch.Generator], bool]


def capacity(right: Right, theory: float, dim: int, degree: int | None, generator: torch.Generator, sequences: int = 100) -> int:
    """The first P, coming down from twice the theory in steps of 1 %, at which all sequences are right."""
    num_patterns = math.ceil(2 * theory)
    while num_patterns > 2 and not all(right(num_patterns, dim, degree, generator) for _ in range(sequences)):
        num_patterns = min(num_patterns - 1, math.floor(0.99 * num_patterns))
    return num_patterns


def unit_error(num_patterns: int, dim: int, degree: int) -> float:
    """How often a unit is wrong after one step from a pattern of an open sequence, by the exact law of the crosstalk.

    The other terms are P - 2 independent ±(2B - (N-1))^d, B binomial; their sum is a convolution, taken by Fourier transform.
    """
    overlaps = 2 * torch.arange(dim, dtype=torch.float64) - (dim - 1)
    chance = torch.as_tensor(binom.pmf(range(dim), dim - 1, 0.5))
    signal = (dim - 1) ** degree
    # a sum beyond this many deviations has a chance far below rounding, so wrapping round is harmless
    deviation = math.sqrt(max(1, num_patterns - 2) * float((chance * overlaps ** (2 * degree)).sum()))
    length = 2 ** math.ceil(math.log2(2 * signal + 40 * deviation + 2))
    term = torch.zeros(length, dtype=torch.float64)
    for sign in (1, -1):
        term.index_add_(0, (sign * overlaps**degree).to(torch.int64) % length, chance / 2)
    total = torch.fft.irfft(torch.fft.rfft(term).real.pow(num_patterns - 2).to(torch.complex128), n=length)
    # a tie becomes +1, which is wrong for half of the units
    beyond = total[signal + 1 : length // 2].sum() + total[signal] / 2
    return max(0.0, float(beyond))


def predicted(sequence: bool, theory: float, dim: int, degree: int, sequences: int = 100) -> tuple[float, float]:
    """Mean and standard deviation of what `capacity` finds if units err independently with the chance `unit_error`."""
    num_patterns, left, mean, square = math.ceil(2 * theory), 1.0, 0.0, 0.0
    while left > 1e-9:
        steps = num_patterns - 1 if sequence else 1
        stops = 1.0 if num_patterns <= 2 else (1 - unit_error(num_patterns, dim, degree)) ** (dim * steps * sequences)
        mean, square, left = mean + left * stops * num_patterns, square + left * stops * num_patterns**2, left * (1 - stops)
        num_patterns = min(num_patterns - 1, math.floor(0.99 * num_patterns))
    return mean, math.sqrt(max(0.0, square - mean**2))


SLOW_CELLS = [(1, 100), (2, 20), (2, 50), (3, 20), (3, 30)]


@pytest.mark.parametrize("sequence", [False, True], ids=["transition", "sequence"])
@pytest.mark.parametrize(("degree", "dim"), [(1, 50), *(pytest.param(*cell, marks=pytest.mark.slow) for cell in SLOW_CELLS)])
def test_polynomial_capacity_is_that_of_the_exact_crosstalk_within_the_spread_of_20_trials(degree: int, dim: int, sequence: bool) -> None:
    """Figs. on transition and sequence capacity, d = 1, 2, 3. The formulas are limits for large N; the exact law of the crosstalk is not.

    Tolerance: mean ± standard deviation of 20 trials meets mean ± standard deviation of the prediction. Units are not quite
    independent (they share their overlaps), so errors come in clusters and the prediction is a little low.
    """
    right, theory = (sequence_is_right, sequence_in_theory) if sequence else (first_transition_is_right, transitions_in_theory)
    found = torch.tensor([capacity(right, theory(dim, degree), dim, degree, torch.Generator().manual_seed(k)) for k in range(20)]).double()
    mean, spread = predicted(sequence, theory(dim, degree), dim, degree)
    assert abs(float(found.mean()) - mean) <= float(found.std()) + spread


@pytest.mark.parametrize(("degree", "dim", "load"), [(1, 100, 30), (2, 50, 400), (3, 20, 600)])
def test_one_step_errs_as_often_as_the_exact_crosstalk_says(degree: int, dim: int, load: int) -> None:
    """Beyond capacity, where errors can be counted: 1 to 10 % of the units. Tolerance: t-interval (99.9 %) over 80 transitions."""
    wrong = []
    for seed in range(80):
        memory, patterns = draw(load, dim, degree, torch.Generator().manual_seed(seed))
        wrong.append((memory.recall(patterns[:1]).state != patterns[1:2]).double().mean())
    fractions = torch.stack(wrong)
    assert abs(float(fractions.mean()) - unit_error(load, dim, degree)) < t.ppf(0.9995, 79) * float(fractions.std()) / math.sqrt(80)


@pytest.mark.parametrize(("degree", "dim"), [(1, 4000), (2, 400)])
def test_the_crosstalk_becomes_the_gaussian_one_behind_the_formulas(degree: int, dim: int) -> None:
    """Variance (2d-1)!! P/N^d: at 1 % errors the exact rate is that of the Gaussian tail to 1 %, which checks `unit_error` itself."""
    load = round((dim - 1) ** degree / (_double_factorial(2 * degree - 1) * norm.isf(0.01) ** 2)) + 2
    gaussian = norm.sf(math.sqrt((dim - 1) ** degree / (_double_factorial(2 * degree - 1) * (load - 2))))
    assert abs(unit_error(load, dim, degree) / gaussian - 1) < 0.01


@pytest.mark.slow
def test_exponential_capacity_grows_by_b_per_unit_and_stays_below_the_formula() -> None:
    """Transitions, N = 10 and 14, 10 trials; b = e²/cosh 2 = 1.964. Tolerance: t-interval (99.9 %) of the growth per unit.

    The number itself is a tenth of b^(N-1)/(2 ln N): with P patterns a double of the first one within the other N - 1 units has
    the chance P/2^(N-1), so 100 sequences without an error ask for P of the order of 2^(N-1)/100 and no more.
    """
    logs = []
    for dim in (10, 14):
        theory = transitions_in_theory(dim, None)
        found = [capacity(first_transition_is_right, theory, dim, None, torch.Generator().manual_seed(seed)) for seed in range(10)]
        logs.append(torch.tensor(found).double().log())
        assert max(found) < theory / 4
    growth = (logs[1].mean() - logs[0].mean()) / 4
    error = math.sqrt(float(logs[0].var() + logs[1].var()) / 10) / 4
    assert abs(float(growth) - math.log(BASE)) < t.ppf(0.9995, 18) * error
    assert t.ppf(0.9995, 18) * error < math.log(BASE) / 4
