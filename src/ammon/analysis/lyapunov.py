"""Lyapunov: does the energy of a memory fall along its recall? Energies [step + 1, batch], the cue first."""

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.dynamics.settle import Recall, default_tolerance
from ammon.memories.base import Memory

Trace = Float[Tensor, "step batch"]


def energies(memory: Memory, recall: Recall) -> Trace | None:
    """The energy of each state that a recall with `keep=True` went through, or None if the memory has no energy.

    Hetero-association settles among the keys, and so does its trajectory: the energy is that of the keys.
    """
    if recall.trajectory is None:
        raise ValueError("energies: the recall kept no trajectory; recall with keep=True.")
    try:
        return torch.stack([memory.energy(state) for state in recall.trajectory])
    except TypeError:
        return None


def never_rose(energies: Trace, scale: float = 0.0) -> bool:
    """Whether no item's energy rose in any step by more than rounding: eps^(3/4) of the size of its energies, or of `scale` if larger.

    eps^(3/4) is 6e-6 in float32 and 2e-12 in float64. scale: the size of the terms that the energy sums, |x|²/2 for dot products and
    distances; near a stored pattern they can cancel to almost 0 and leave nothing but their rounding.
    NaN counts as risen, and so does a step from a finite energy to infinity.
    """
    if energies.ndim != 2:
        raise ValueError(f"never_rose: energies must be [step, batch], got {list(energies.shape)}; ask `energies(memory, recall)`.")
    finite = torch.where(torch.isfinite(energies), energies.abs(), torch.zeros_like(energies))
    # a sum of dim terms is rounded by some sqrt(dim) eps of their size: below eps^(3/4) of it up to thousands of terms in float32
    allowed = default_tolerance(energies.dtype) * finite.amax(0).clamp_min(scale)
    return bool((energies[1:] <= energies[:-1] + allowed).all())
