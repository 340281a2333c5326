"""Critical: the count at which a rate that falls with it crosses a level, by bisection on measured rates.

Each count asked is measured anew, so rates are noisy; the answer says between which counts intervals leave no doubt.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ammon.analysis.bisection import bracket
from ammon.analysis.statistics import Interval

Probe = Callable[[int], Interval]


@dataclass(frozen=True)
class Critical:
    """Where the rate crosses the level, between counts whose intervals lie above and below it. NaN where none was found."""

    value: float
    low: float  # the largest count up to which every interval asked lies above the level
    high: float  # the smallest from which on every one lies below
    probed: dict[int, Interval]  # the rates, by count


def critical(probe: Probe, start: int, most: int, *, least: int = 1, level: float = 0.5, resolution: float = 0.02) -> Critical:
    """Find two counts around the level by `bracket`, and read the crossing between them off a straight line."""
    probed: dict[int, Interval] = {}

    def holds(count: int) -> bool:
        if count not in probed:
            probed[count] = probe(count)
        return probed[count].value >= level

    below, above = bracket(holds, start, most, least=least, resolution=resolution)
    if below < least or above > most:
        return Critical(math.nan, *_sure(probed, level), probed)
    # one step further out on either side, until the intervals leave no doubt that the crossing is between
    for side in (-1, 1):
        reach = 1
        while reach <= 64:
            low, high = _sure(probed, level)
            if not math.isnan(low if side < 0 else high):
                break
            count = round((below if side < 0 else above) * (1 + resolution) ** (side * reach)) + side
            if not least <= count <= most:
                break
            holds(count)
            reach *= 2
    first, last = probed[below].value, probed[above].value
    return Critical(below + (above - below) * (first - level) / (first - last), *_sure(probed, level), probed)


def _sure(probed: dict[int, Interval], level: float) -> tuple[float, float]:
    """The largest count up to which, and the smallest from which on, all intervals are clear of the level."""
    low = high = math.nan
    for count in sorted(probed):
        if probed[count].low <= level:
            break
        low = count
    for count in sorted(probed, reverse=True):
        if probed[count].high >= level:
            break
        high = count
    return low, high
