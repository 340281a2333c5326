"""Theory: how often a unit of a Hebbian expansion errs, and how many features a pattern takes, by the ratio of signal to noise.

With W = Σ ξ φ(ξ)ᵀ over N random patterns of ±1 the field of a unit is its pattern's own part K(m), m the overlap of cue and pattern, and
a sum of N - 1 parts of random sign. Each has the mean square E[K²] + 1/F: the kernel's own, over the overlaps of random
rows, and what F features add to it. Whatever the features are, fixed or learned, if all F of them are used in the mean their squares
must come to 1/F at least (Welch 1974), so no expansion errs less often than Q(K(m) sqrt(F/N)).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ammon.shapes import check_count

# the kernel of rows of ±1 at an overlap in [-1, 1], e.g. `SinCos(...).kernel`
Kernel = Callable[[Tensor], Tensor]


def mean_square(kernel: Kernel, dim: int) -> float:
    """E[K²] between two independent random rows of ±1, relative to K(1)², by the exact law of their overlap."""
    return _mean(lambda m: kernel(m).square(), dim) / _at(kernel, 1.0) ** 2


def self_vote(kernel: Kernel, dim: int) -> float:
    """E[m K(m)], relative to K(1): what each other pattern adds to a unit's field in favour of the value that the unit has in the cue.

    For the overlap itself it is 1/dim, which a Hopfield network takes out by leaving its diagonal empty; features cannot.
    """
    return _mean(lambda m: m * kernel(m), dim) / _at(kernel, 1.0)


def unit_error(kernel: Kernel, dim: int, num_features: float, num_patterns: int, flips: float, steps: int = 1) -> float:
    """How often a unit is wrong after `steps` reads from a cue of which a fraction `flips` is wrong.

    num_features: F; math.inf for the exact kernel. One step: a unit that the cue has right has the field K(1 - 2 flips) + (N - 1) v in the
    mean, one that it has wrong K(1 - 2 flips) - (N - 1) v, v the self vote, and both the variance
    (N - 1)(E[K²] + 1/F - v²) + (N - 1)(N - 2) v/F. The last term is what F features make
    of the self votes, the same for all patterns.
    Beyond one step each starts from the errors of the one before as if they were drawn anew, which is a guess: real errors
    remember their noise.
    """
    check_count("unit_error", "num_patterns", num_patterns)
    vote, others = self_vote(kernel, dim), num_patterns - 1
    apart = others * (mean_square(kernel, dim) + 1 / num_features - vote**2)
    noise = math.sqrt(max(0.0, apart + others * (others - 1) * vote / num_features))
    error = round(flips * dim) / dim
    for _ in range(steps):
        # a kernel is known at whole numbers of equal units; between them it is a straight line
        wrong = error * dim
        below, share = math.floor(wrong), wrong - math.floor(wrong)
        signal = (1 - share) * _at(kernel, 1 - 2 * below / dim) + share * _at(kernel, 1 - 2 * min(dim, below + 1) / dim)
        signal /= _at(kernel, 1.0)
        error = (1 - error) * _tail(signal + others * vote, noise) + error * _tail(signal - others * vote, noise)
    return error


def most_patterns(kernel: Kernel, dim: int, num_features: float, flips: float, error: float, steps: int = 1) -> int:
    """The largest number of patterns at which `unit_error` is at most `error`; 2^40 if it is more than that."""
    low, high = 0, 1
    while high < 2**40 and unit_error(kernel, dim, num_features, high, flips, steps) <= error:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if unit_error(kernel, dim, num_features, middle, flips, steps) <= error else (low, middle)
    return low


def features_per_pattern(error: float, signal: float = 1.0) -> float:
    """(Q⁻¹(error)/signal)²: no expansion learned by the activity product has a smaller chance of error with fewer features per pattern.

    signal: K(m)/K(1) at the overlap of the cue, 1 at the pattern itself. 1/z² at error .005 is the .1507 of a Hopfield network.
    """
    if not 0 < error < 0.5:
        raise ValueError(f"features_per_pattern: error must be between 0 and 0.5, got {error}.")
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - 2 * error, dtype=torch.float64)))
    return (z / signal) ** 2


def _at(kernel: Kernel, overlap: float) -> float:
    return float(kernel(torch.tensor(overlap, dtype=torch.float64)))


def _mean(of: Kernel, dim: int) -> float:
    """The mean over the overlap of two random rows of ±1, a binomial number."""
    check_count("theory", "dim", dim)
    k = torch.arange(dim + 1, dtype=torch.float64)
    n = torch.tensor(float(dim), dtype=torch.float64)
    chances = torch.exp(torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1) - n * math.log(2))
    return float((chances * of(2 * k / dim - 1)).sum())


def _tail(signal: float, noise: float) -> float:
    """The chance that noise overturns the signal."""
    return math.erfc(signal / noise / math.sqrt(2)) / 2 if noise else float(signal < 0)
