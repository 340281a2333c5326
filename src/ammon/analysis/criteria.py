"""Criteria: when a cue counts as recalled. States and targets [batch, dim] give one answer per item.

Papers differ silently in this, and their capacities with it: every experiment says which criterion it used, and at which threshold.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor

from ammon.analysis.overlap import overlap, relative_error
from ammon.shapes import States

Numbers = Float[Tensor, " batch"]


def bit_error(state: States, target: States) -> Numbers:
    """Share of entries on the other side of 0 than the target's, 0 itself counting as positive; of 0-1 rows, of 1/2."""
    middle = 0.5 if bool((target >= 0).all()) else 0.0
    return ((state >= middle) != (target >= middle)).to(overlap(state, target).dtype).mean(-1)


def squared_error(state: States, target: States) -> Numbers:
    """|x - ξ|²/|ξ|²: 4 × the bit error for ±1. The state is taken as it is, not up to a factor."""
    wide = overlap(state, target).dtype
    return (state.to(wide) - target.to(wide)).square().sum(-1) / target.to(wide).square().sum(-1)


# what is measured, the default threshold, and whether recall means at least (+1) or at most (-1) that much
CRITERIA: dict[str, tuple[Callable[[States, States], Numbers], float, int]] = {
    "exact": (relative_error, 0.01, -1),
    "overlap": (overlap, 0.9, 1),
    "bits": (bit_error, 0.01, -1),
    "squared": (squared_error, 0.01, -1),
}
MEANING = {
    "exact": "the relative error is at most {:g} (for ±1: all entries are right)",
    "overlap": "the overlap with the pattern is at least {:g}",
    "bits": "at most a share {:g} of the entries is wrong",
    "squared": "the squared error is at most {:g} of the squared length of the pattern",
}


def recalled(state: States, target: States, criterion: str, threshold: float | None = None) -> Bool[Tensor, " batch"]:
    """Whether each state counts as its target by the criterion, at its default threshold unless one is given. KeyError if there is none."""
    measure, default, sense = CRITERIA[criterion]
    return sense * measure(state, target) >= sense * (default if threshold is None else threshold)


def meaning(criterion: str, threshold: float | None = None) -> str:
    """The criterion in words."""
    return MEANING[criterion].format(CRITERIA[criterion][1] if threshold is None else threshold)
