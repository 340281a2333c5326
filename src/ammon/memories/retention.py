"""Retention: which traces a memory drops, when it is asked to consolidate. Traces [trace] in, True [trace] where one is dropped.

Policies are combined by giving several: a trace that any of them drops is dropped.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ammon.shapes import check_count, check_positive

DAY = 86_400.0


@dataclass(frozen=True)
class Traces:
    """What a policy may know of each trace. strength: times it was written; uses: times it was of use; age: seconds since it was written;
    idle: seconds since it was last of use (its age if never); redundancy: its largest cosine to a trace that is older."""

    strength: Float[Tensor, " trace"]
    uses: Float[Tensor, " trace"]
    age: Float[Tensor, " trace"]
    idle: Float[Tensor, " trace"]
    redundancy: Float[Tensor, " trace"]

    def __len__(self) -> int:
        return len(self.strength)


class Policy(Protocol):
    """Says which traces are dropped."""

    def __call__(self, traces: Traces) -> Bool[Tensor, " trace"]: ...


@dataclass(frozen=True)
class Weak:
    """Drops what was written fewer than `below` times and is older than `after` seconds."""

    below: float = 2.0
    after: float = 30 * DAY

    def __post_init__(self) -> None:
        check_positive("Weak", "below", self.below)

    def __call__(self, traces: Traces) -> Bool[Tensor, " trace"]:
        return (traces.strength < self.below) & (traces.age > self.after)


@dataclass(frozen=True)
class Unused:
    """Drops what has been of no use for `after` seconds."""

    after: float = 90 * DAY

    def __post_init__(self) -> None:
        check_positive("Unused", "after", self.after)

    def __call__(self, traces: Traces) -> Bool[Tensor, " trace"]:
        return traces.idle > self.after


@dataclass(frozen=True)
class Old:
    """Drops what is older than `after` seconds, used or not."""

    after: float = 365 * DAY

    def __post_init__(self) -> None:
        check_positive("Old", "after", self.after)

    def __call__(self, traces: Traces) -> Bool[Tensor, " trace"]:
        return traces.age > self.after


@dataclass(frozen=True)
class Redundant:
    """Drops what an older trace says almost as well: a cosine above `above`."""

    above: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.above <= 1:
            raise ValueError(f"Redundant: above must be a cosine in (0, 1], got {self.above}.")

    def __call__(self, traces: Traces) -> Bool[Tensor, " trace"]:
        return traces.redundancy > self.above


@dataclass(frozen=True)
class Capacity:
    """Keeps the `num` traces of highest base-level activation ln(n/(1 - d)) - d ln(age) (Anderson & Lebiere 1998, eq. 4.2).

    n = strength + uses counts the times a trace was met, `decay` is d: recent and often met ones stay, of equals the newer.
    """

    num: int
    decay: float = 0.5

    def __post_init__(self) -> None:
        check_count("Capacity", "num", self.num)
        if not 0 < self.decay < 1:
            raise ValueError(f"Capacity: decay must be in (0, 1), got {self.decay}.")

    def __call__(self, traces: Traces) -> Bool[Tensor, " trace"]:
        drop = torch.zeros(len(traces), dtype=torch.bool)
        if len(traces) <= self.num:
            return drop
        met = (traces.strength + traces.uses).double()
        activation = (met / (1 - self.decay)).log() - self.decay * traces.age.double().clamp(min=1.0).log()
        by_age = traces.age.argsort(stable=True)
        drop[by_age[activation[by_age].argsort(descending=True, stable=True)][self.num :]] = True
        return drop
