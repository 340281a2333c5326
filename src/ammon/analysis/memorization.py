"""Memorization: of generated states, which are copies of the training data, which are attractors that nobody stored, which are new.

By two thresholds (Pham et al. 2025, section 4): memorised, within δ_m of a training row; else spurious, within δ_s of another generated
state, since attractors are met again and again; else generalised. Rows [row, dim], thresholds as distances in their units.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.shapes import Rows, check_positive

KINDS = ("memorised", "spurious", "generalised")
Distances = Float[Tensor, " row"]
# distances held at a time
ROOM = 2**24


class Nearest(NamedTuple):
    """Of each generated state the distance to the nearest training row, and to the nearest other generated state."""

    training: Distances
    generated: Distances


def nearest(generated: Rows, training: Rows) -> Nearest:
    """Both distances; infinite where there is no other row."""
    return Nearest(_least(generated, training, itself=False), _least(generated, generated, itself=True))


def classify(distances: Nearest, memorised: float, spurious: float) -> Tensor:
    """The place in `KINDS` of each generated state, by δ_m and δ_s. [row]"""
    check_positive("classify", "memorised", memorised)
    check_positive("classify", "spurious", spurious)
    kinds = torch.full_like(distances.training, KINDS.index("generalised"), dtype=torch.int64)
    kinds[distances.generated <= spurious] = KINDS.index("spurious")
    kinds[distances.training <= memorised] = KINDS.index("memorised")
    return kinds


def fractions(kinds: Tensor) -> dict[str, float]:
    """The share of each kind among the generated states."""
    return {kind: float((kinds == number).double().mean()) for number, kind in enumerate(KINDS)}


def _least(rows: Tensor, others: Tensor, itself: bool) -> Tensor:
    if len(others) <= int(itself):
        return torch.full_like(rows[:, 0], torch.inf)
    found, size = [], max(1, ROOM // len(others))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        # differences, not products: copies must be told from what is merely near
        distances = torch.cdist(part, others, compute_mode="donot_use_mm_for_euclid_dist")
        if itself:
            distances[torch.arange(len(part)), torch.arange(start, start + len(part))] = torch.inf
        found.append(distances.amin(-1))
    return torch.cat(found)
