"""Overlap: how near a recalled state is to the stored pattern. States and targets [batch, dim] give numbers [batch].

A memory may answer up to a positive factor (an echo, a linear correlation matrix), so the direction is what is judged.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from ammon.shapes import Energies, States

Overlaps = Energies


def overlap(state: States, target: States) -> Overlaps:
    """The cosine between state and target, in [-1, 1]; 0 if either is 0 or not finite."""
    _check("overlap", state, target)
    return (_unit(state) * _unit(target)).sum(-1).clamp(-1, 1)


def relative_error(state: States, target: States) -> Overlaps:
    """The distance of the state to the target over the target's length, at the best positive scale of the state: in [0, 1].

    That is sqrt(1 - cos²) where the cosine is positive and 1 elsewhere, also for a state that is 0 or not finite.
    A target of 0 is met only by a state of 0. Half precision is judged in float32.
    """
    _check("relative_error", state, target)
    direction, aim = _unit(state), _unit(target)
    cosine = (direction * aim).sum(-1)
    # the length of what the direction leaves over: 1 - cos² would lose half of the digits
    left = torch.linalg.vector_norm(aim - cosine.unsqueeze(-1) * direction, dim=-1).clamp_max(1)
    met = (aim == 0).all(-1) & (state == 0).all(-1)
    return torch.where(cosine > 0, left, torch.where(met, 0.0, 1.0).to(left))


def exact(state: States, target: States, tolerance: float = 0.01) -> Bool[Tensor, " batch"]:
    """Whether the relative error is at most the tolerance.

    One wrong sign among D gives an error of about 2/sqrt(D): beyond 40,000 entries the default lets it pass.
    """
    return relative_error(state, target) <= tolerance


def _check(where: str, state: Tensor, target: Tensor) -> None:
    if state.shape != target.shape or state.ndim != 2:
        raise ValueError(
            f"{where}: state and target must be rows [batch, dim] of one shape, got {list(state.shape)} and {list(target.shape)}; "
            f"give each state its own target."
        )
    if not torch.isfinite(target).all():
        raise ValueError(f"{where}: the target holds NaN or infinite entries; compare with the pattern that was stored.")


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1 in float32 or better; 0 where a row is 0 or not finite."""
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    rows = torch.where(torch.isfinite(rows).all(-1, keepdim=True), rows, torch.zeros_like(rows))
    # by the largest entry first: squares of very large or small entries leave the range
    rows = rows / _positive(rows.abs().amax(-1, keepdim=True))
    return rows / _positive(torch.linalg.vector_norm(rows, dim=-1, keepdim=True))


def _positive(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, torch.ones_like(scale))
