"""Stored: random patterns as a memory takes them, and how near a state is to them. What several experiments share, in one place."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.catalog import Entry
from ammon.experiments.base import Column
from ammon.parts.patterns import Preparation, random_patterns, sparse, unit
from ammon.shapes import Rows, States

Overlaps = Float[Tensor, "batch pattern"]


def bipolar_auto(entry: Entry) -> bool:
    """Whether a memory takes ±1 patterns and recalls what it stored."""
    return entry.data == "bipolar" and entry.task != "sequence"


BIPOLAR_AUTO = "memories of ±1 patterns that recall what they stored"


def random_rows(data: Preparation, num_patterns: int, dim: int, generator: torch.Generator) -> Rows:
    """Independent random patterns: ±1, normal rows of length 1, uniform ones in the unit cube, or a few 1s among 0s."""
    if data == "bipolar":
        return random_patterns(num_patterns, dim, generator=generator)
    rows = torch.rand(num_patterns, dim, generator=generator)
    if data == "unit":
        return unit(torch.randn(num_patterns, dim, generator=generator))
    return sparse(rows) if data == "sparse" else rows


def signs(state: States) -> States:
    """The state of ±1 memories, also of those that answer with an echo."""
    return torch.where(state >= 0, 1.0, -1.0).to(state)


def overlaps(state: States, patterns: Rows) -> Overlaps:
    """The cosine of every state with every pattern: ξ·s/D for ±1."""
    return torch.nn.functional.normalize(state, dim=-1) @ torch.nn.functional.normalize(patterns, dim=-1).mT


@contextmanager
def overloaded() -> Iterator[None]:
    """Around what writes more than a memory can hold on purpose: that patterns depend on each other, or a fit has no end, is no news."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(depend|the fit stopped)")
        yield


def with_interval(name: str, meaning: str, unit: str = "") -> dict[str, Column]:
    """The column of an estimate, and those of the ends of its 95 % interval."""
    ends = {f"{name}_{end}": Column(f"{end} end of the 95 % interval of {name}", unit) for end in ("low", "high")}
    return {name: Column(meaning, unit), **ends}
