"""Descent: many small smooth minimisations at once, by BFGS, each with its own step length and its own end.

problem   minimisations that share a function but no variables;  variable  a few tens at most (dense inverse Hessians)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Points = Float[Tensor, "problem variable"]
# values and slopes of some problems, by their numbers
Function = Callable[[Points, Int[Tensor, " problem"]], tuple[Float[Tensor, " problem"], Points]]
# part of the decrease that the slope promises which a step must give (Nocedal & Wright 2006, eq. 3.4)
SUFFICIENT = 1e-4
LONGEST, SHORTEST = 2.0, 1e-8


@dataclass(frozen=True)
class Minima:
    """Where each problem ended, its value there, whether it converged, and evaluations of value and slope."""

    points: Points
    values: Float[Tensor, " problem"]
    converged: Bool[Tensor, " problem"]
    evaluations: Int[Tensor, " problem"]


def minimise(
    function: Function,
    start: Points,
    *,
    evaluations: int = 400,
    slope: float = 1e-3,
    decrease: float = 1e-9,
    progress: Callable[[int, int], None] | None = None,
) -> Minima:
    """Local minima of each problem from its start.

    A problem has converged when no slope exceeds `slope`, or when three steps in a row won less than `decrease` of its value.
    progress: called with the number of ended problems and of all. A value that is not finite counts as a step too long.
    """
    count, size = start.shape
    everyone = torch.arange(count)
    point = start.clone()
    value, gradient = function(point, everyone)
    inverse = torch.eye(size, dtype=start.dtype).repeat(count, 1, 1)
    fresh = torch.ones(count, dtype=torch.bool)
    step = torch.ones(count, dtype=start.dtype)
    used, idle = torch.ones(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
    converged = gradient.abs().amax(-1) <= slope
    ended = converged | ~torch.isfinite(value)
    heading = _heading(inverse, gradient)
    for _ in range(evaluations - 1):
        rows = (~ended).nonzero().squeeze(-1)
        if progress is not None:
            progress(count - len(rows), count)
        if not len(rows):
            break
        towards = step[rows].unsqueeze(-1) * heading[rows]
        trial = point[rows] + towards
        found, slopes = function(trial, rows)
        used[rows] += 1
        promised = (towards * gradient[rows]).sum(-1)
        good = torch.isfinite(found) & (found <= value[rows] + SUFFICIENT * promised)
        kept = rows[good]
        if len(kept):
            won = value[kept] - found[good]
            inverse[kept] = _learned(inverse[kept], towards[good], slopes[good] - gradient[kept], fresh[kept])
            fresh[kept] = False
            idle[kept] = torch.where(won <= decrease * value[kept].abs(), idle[kept] + 1, 0)
            point[kept], value[kept], gradient[kept], step[kept] = trial[good], found[good], slopes[good], 1.0
            done = (gradient[kept].abs().amax(-1) <= slope) | (idle[kept] >= 3)
            converged[kept] = done
            ended[kept] = done
            heading[kept] = _heading(inverse[kept], gradient[kept])
        failed = rows[~good]
        if len(failed):
            # the minimum of the parabola through both values and the slope, kept within a tenth and a half
            excess = found[~good] - value[failed] - promised[~good]
            shorter = torch.nan_to_num(-promised[~good] / (2 * excess), nan=0.1, posinf=0.1, neginf=0.1).clamp(0.1, 0.5)
            step[failed] *= shorter
            stuck = failed[step[failed] < SHORTEST]
            # once more straight down the slope; if even that gives nothing, this is a minimum as far as can be told
            converged[stuck] = fresh[stuck]
            ended[stuck] = fresh[stuck]
            again = stuck[~ended[stuck]]
            inverse[again] = torch.eye(size, dtype=start.dtype)
            fresh[again], step[again] = True, 1.0
            heading[again] = _heading(inverse[again], gradient[again])
    return Minima(point, value, converged, used)


def _heading(inverse: Tensor, gradient: Tensor) -> Tensor:
    heading = -(inverse @ gradient.unsqueeze(-1)).squeeze(-1)
    uphill = (heading * gradient).sum(-1, keepdim=True) >= 0
    heading = torch.where(uphill, -gradient, heading)
    return heading * (LONGEST / heading.abs().amax(-1, keepdim=True).clamp_min(LONGEST))


def _learned(inverse: Tensor, moved: Tensor, changed: Tensor, fresh: Tensor) -> Tensor:
    """The inverse Hessian after a step (Nocedal & Wright 2006, eq. 6.17); unchanged where the curvature was not positive."""
    along = (moved * changed).sum(-1)
    curved = along > 1e-10 * moved.norm(dim=-1) * changed.norm(dim=-1)
    safe = torch.where(curved, along, torch.ones_like(along))
    scale = torch.where(curved, along / changed.square().sum(-1).clamp_min(torch.finfo(along.dtype).tiny), torch.ones_like(along))
    inverse = torch.where(fresh[:, None, None], scale[:, None, None] * inverse, inverse)
    part = torch.eye(moved.shape[-1], dtype=moved.dtype) - moved.unsqueeze(-1) * changed.unsqueeze(-2) / safe[:, None, None]
    new = part @ inverse @ part.mT + moved.unsqueeze(-1) * moved.unsqueeze(-2) / safe[:, None, None]
    return torch.where(curved[:, None, None], new, inverse)
