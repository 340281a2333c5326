"""Statistics of recall: intervals of rates and means, and the law by which a quantity grows. By scipy; extra `lab`.

All intervals are two-sided, of the given confidence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Interval(NamedTuple):
    """An estimate and where it may lie."""

    value: float
    low: float
    high: float


def wilson(right: Sequence[int], asked: Sequence[int], confidence: float = 0.95) -> Interval:
    """The rate of successes over several groups (Wilson 1927), items of a group not being taken for independent.

    The number of items is divided by the design effect (Kish 1965): how much more the groups' rates vary than those of independent items
    would, at least 1. Where all items agree, nothing can be said of it, and it is 1. NaN if nothing was asked.
    """
    from scipy.stats import norm

    if len(right) != len(asked) or any(not 0 <= r <= n for r, n in zip(right, asked)):
        raise ValueError(f"wilson: as many successes as items are needed, none larger than its items, got {right} of {asked}.")
    total, successes = sum(asked), sum(right)
    if not total:
        return Interval(math.nan, math.nan, math.nan)
    rate = successes / total
    count = total / _design_effect(right, asked, rate)
    z = float(norm.isf((1 - confidence) / 2))
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    # where none or all succeed the end of the interval is the rate itself, which rounding may miss
    return Interval(rate, min(rate, max(0.0, middle - reach)), max(rate, min(1.0, middle + reach)))


def student(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean of independent values and its t interval; NaN ends if there are fewer than two."""
    from scipy.stats import t

    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
    reach = float(t.isf((1 - confidence) / 2, count - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


@dataclass(frozen=True)
class Growth:
    """y = factor · x^exponent ("power") or y = factor · exp(exponent · x) ("exponential"), fitted to log y by least squares."""

    law: Literal["power", "exponential"]
    exponent: Interval
    factor: float
    residual: float  # root mean square of log y

    def __call__(self, x: float) -> float:
        return self.factor * (x**self.exponent.value if self.law == "power" else math.exp(self.exponent.value * x))


def growth(x: Sequence[float], y: Sequence[float], law: Literal["power", "exponential"], confidence: float = 0.95) -> Growth:
    """The fitted law. With two points the interval of its exponent has no ends (NaN). ValueError for fewer, or for numbers not > 0."""
    from scipy.stats import linregress, t

    if len(x) != len(y) or len(set(x)) < 2 or not all(0 < value < math.inf for value in (*x, *y)):
        raise ValueError(f"growth: at least two points with positive numbers are needed, got x = {list(x)}, y = {list(y)}.")
    across = [math.log(value) for value in x] if law == "power" else list(x)
    heights = [math.log(value) for value in y]
    fit = linregress(across, heights)
    slope, offset, free = float(fit.slope), float(fit.intercept), len(x) - 2
    reach = float(t.isf((1 - confidence) / 2, free)) * float(fit.stderr) if free else math.nan
    left = [height - offset - slope * place for place, height in zip(across, heights)]
    residual = math.sqrt(math.fsum(value * value for value in left) / len(left))
    return Growth(law, Interval(slope, slope - reach, slope + reach), math.exp(offset), residual)


def _design_effect(right: Sequence[int], asked: Sequence[int], rate: float) -> float:
    groups = [(r, n) for r, n in zip(right, asked) if n]
    if len(groups) < 2 or rate in (0, 1):
        return 1.0
    total = sum(n for _, n in groups)
    # the variance of a ratio over groups (Cochran 1977, eq. 6.4) against that of independent items
    between = math.fsum((r - rate * n) ** 2 for r, n in groups) * len(groups) / (len(groups) - 1) / total**2
    return max(1.0, between * total / (rate * (1 - rate)))
