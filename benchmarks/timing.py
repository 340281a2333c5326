"""Timing: ways to do one work take turns, and are timed only after their results were found equal.

The first call of each way (compilation, caches) is kept apart and gives the result that is checked. Then A B C A B C ...: what
else runs on the machine meets all of them alike.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# long enough for the waiting threads of the way before to fall asleep, in seconds
REST = 0.05
# a turn repeats work that is shorter than this, in seconds: its caches are then its own
SHORT = 0.1
# when slow work has taken turns enough, in seconds
PATIENCE = 40.0


class Unequal(Exception):
    """Two ways gave different results, so their times may not be compared."""


@dataclass(frozen=True)
class Turn:
    """One run of one way: seconds on the clock, seconds of processor time of its process, and what came out."""

    wall: float
    cpu: float
    result: Any = None


@dataclass(frozen=True)
class Samples:
    """The same quantity measured again and again: "s" seconds or "B" bytes."""

    values: tuple[float, ...]
    unit: str = "s"

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Timing:
    """The turns of one way."""

    wall: Samples
    cpu: Samples
    first: float  # seconds on the clock of the first call


Way = Callable[[], Turn]


def here(function: Callable[[], Any]) -> Way:
    """A way that runs in this process. Its function returns what will be checked, and must be done when it returns."""

    def turn() -> Turn:
        wall, cpu, times = time.perf_counter(), time.process_time(), 0
        while not times or time.perf_counter() - wall < SHORT:
            result, times = function(), times + 1
        return Turn((time.perf_counter() - wall) / times, (time.process_time() - cpu) / times, result)

    return turn


def race(ways: Mapping[str, Way], check: Callable[[dict[str, Any]], None], repeats: int) -> dict[str, Timing]:
    """Run every way once, check the results (`check` raises Unequal), then let them take turns `repeats` times.

    Slow work takes fewer turns, at least 3.
    """
    first = {name: way() for name, way in ways.items()}
    check({name: turn.result for name, turn in first.items()})
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    enough = time.perf_counter() + PATIENCE
    for number in range(repeats):
        if number >= 3 and time.perf_counter() > enough:
            break
        for name, way in ways.items():
            time.sleep(REST)
            turns[name].append(way())
    return {
        name: Timing(Samples(tuple(t.wall for t in taken)), Samples(tuple(t.cpu for t in taken)), first[name].wall)
        for name, taken in turns.items()
    }
