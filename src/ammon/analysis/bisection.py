"""Bisection: between which two counts a memory goes from holding to failing. Every search for a capacity uses this one."""

import math
from collections.abc import Callable


def bracket(holds: Callable[[int], bool], start: int, most: int, *, least: int = 1, resolution: float = 0.02) -> tuple[int, int]:
    """A count that holds and a larger one that fails, neighbours or within a share `resolution` of each other.

    Doubles or halves `start` until one of each is known, then halves the ratio between them. (most, most + 1) if none up to `most`
    fails, (least - 1, least) if not even the least holds. Where holding is a matter of chance, each count is still asked once.
    """
    if not 1 <= least <= start <= most:
        raise ValueError(f"bracket: 1 <= least <= start <= most is needed, got {least}, {start}, {most}.")
    below, above = least - 1, most + 1
    count = start
    while below < least or above > most:  # one side is not known yet
        if holds(count):
            below = count
            if count == most:
                return most, most + 1
            count = min(2 * count, most)
        else:
            above = count
            if count == least:
                return least - 1, least
            count = max(count // 2, least)
    while above - below > max(1, resolution * below):
        middle = min(max(round(math.sqrt(below * above)), below + 1), above - 1)
        below, above = (middle, above) if holds(middle) else (below, middle)
    return below, above
