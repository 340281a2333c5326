"""Mean field: the overlap of a recall with its pattern against load and step, for random ±1 patterns and D → ∞.

load is α = K/D^(n-1) of a dense memory xⁿ, n = 2 the Hopfield network. Overlaps m in [0, 1]; the crosstalk of one update is Gaussian
with variance α (2n-3)!!.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ammon.analysis.theory import odd_factorial


@dataclass(frozen=True)
class Critical:
    """Where the retrieval state ends: beyond this load there is none, and just below it has this overlap."""

    load: float
    overlap: float


def critical(n: int = 2) -> Critical:
    """The end of the retrieval state: α = .137906, m = .967 for n = 2, replica-symmetric (Amit, Gutfreund & Sompolinsky 1985)."""
    x = _turn(n)
    return Critical(_load_of(x, n), math.erf(x))


def retrieval_overlap(load: float, n: int = 2) -> float:
    """The overlap of the retrieval state with its pattern at T = 0, 0 beyond the critical load.

    n = 2: m = erf(y), 2α = (erf(y)/y - 2/√π e^{-y²})², the larger y (Amit, Gutfreund & Sompolinsky 1985; replica-symmetric).
    n > 2: m = erf(m^(n-1)/sqrt(2α (2n-3)!!)), since overlaps with the other patterns add nothing to the noise (Gardner 1987).
    """
    if not 0 <= load < math.inf:
        raise ValueError(f"retrieval_overlap: load must be >= 0 and finite, got {load}.")
    low = _turn(n)
    if load > _load_of(low, n):
        return 0.0
    high = low
    while _load_of(high, n) > load and high < 30:
        high *= 2
    return math.erf(_bisect(lambda x: load - _load_of(x, n), low, high))


def overlap_steps(start: float, load: float, steps: int, n: int = 2) -> list[float]:
    """The overlap at each step of synchronous recall from a cue of overlap `start`, the cue first: steps + 1 numbers.

    m' = erf(m^(n-1)/(√2 σ)). n = 2: σ'² = α + 4 φ² + 4 α m m' φ/σ with φ the normal density at m/σ, which takes the noise of two
    steps as independent given the pattern (Amari & Maginu 1988). n > 2: σ² = α (2n-3)!! stays, since the shift that a state
    leaves in its overlap with another pattern is of order D^(1-n/2). Exact in the first step; later ones neglect
    a unit's own delayed vote, which slows recall near the critical load (Mimura et al. 2025).
    """
    if not -1 <= start <= 1 or not 0 < load < math.inf:
        raise ValueError(f"overlap_steps: start must be in [-1, 1] and load positive and finite, got {start} and {load}.")
    overlaps, variance = [float(start)], load * odd_factorial(n)
    for _ in range(steps):
        m, sigma = overlaps[-1], math.sqrt(variance)
        new = math.erf(m ** (n - 1) / (math.sqrt(2) * sigma))
        if n == 2:
            density = math.exp(-((m / sigma) ** 2) / 2) / math.sqrt(2 * math.pi)
            variance = load + 4 * density**2 + 4 * load * m * new * density / sigma
        overlaps.append(new)
    return overlaps


def basin_edge(load: float, n: int = 2, steps: int = 1000) -> float:
    """The smallest overlap of a cue from which `overlap_steps` ends at the retrieval state; 1 if none does."""

    def recalls(start: float) -> bool:
        return overlap_steps(start, load, steps, n)[-1] > 0.5

    if not recalls(1.0):
        return 1.0
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if recalls(middle) else (middle, high)
    return high


def _load_of(x: float, n: int) -> float:
    """The load at which the retrieval state has overlap erf(x)."""
    m = math.erf(x)
    if n == 2:
        return (m / x - 2 / math.sqrt(math.pi) * math.exp(-(x**2))) ** 2 / 2
    return m ** (2 * n - 2) / (2 * odd_factorial(n) * x**2)


def _turn(n: int) -> float:
    """The x at which the load is largest; the load rises before it and falls after."""
    odd_factorial(n)
    if n < 2:
        raise ValueError(f"mean_field: n must be at least 2, got {n}.")
    golden, low, high = (math.sqrt(5) - 1) / 2, 0.1, 10.0
    while high - low > 1e-9:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if _load_of(left, n) > _load_of(right, n) else (left, high)
    return (low + high) / 2


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function is 0."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > 0 else (middle, high)
    return (low + high) / 2
