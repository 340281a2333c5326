"""Kernel ridge regression: α = (K + λI)⁻¹ Y, all units from one Cholesky factor; every λ from one eigendecomposition.

Tamamori 2025 (arXiv 2504.12561). Targets Y and coefficients [pattern, unit].
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.learning.kernel import Dual, Fit, Gram, Square, least_norm
from ammon.learning.reduced import Reduced
from ammon.shapes import check_positive

# solves with one factor: the first, and corrections by its own residual
SOLVES = 4


class Ridge:
    """The least squares Σ (y - h)² + λ αᵀKα of each unit, in closed form.

    tolerance: the largest |y - h - λα| that will do; float32 reaches about 1e-5.
    """

    def __init__(self, penalty: float = 0.01, tolerance: float = 1e-4) -> None:
        check_positive("Ridge", "penalty", penalty)
        check_positive("Ridge", "tolerance", tolerance)
        self.penalty, self.tolerance = float(penalty), float(tolerance)

    def solve(self, gram: Gram, targets: Dual, start: Dual | None = None) -> tuple[Dual, Fit]:
        """The coefficients; nothing is gained from a start, since the factor that `gram` keeps makes it one solve."""
        if not gram.factor(self.penalty):
            dual = least_norm(gram.matrix, targets, self.penalty)
            residual = float(_left(gram, targets.mT, dual.mT, self.penalty).abs().amax())
            return dual, Fit(residual, 1, residual <= self.tolerance)
        left = targets = targets.mT.contiguous()
        dual, residual, solves = torch.zeros_like(targets), float("inf"), 0
        while residual > self.tolerance and solves < SOLVES:
            better = dual + gram.solve(left)
            solves += 1
            left = _left(gram, targets, better, self.penalty)
            now = float(left.abs().amax())
            if not now < residual:
                break
            dual, residual = better, now
        return dual.mT, Fit(residual, solves, residual <= self.tolerance)

    def solve_reduced(self, problem: Reduced, start: Dual | None = None) -> tuple[Dual, Fit]:
        """The same in a space of few features, where the moments of the patterns are diagonal."""
        shrunk = problem.moments.unsqueeze(-1) + self.penalty
        place = problem.gather(None, lambda _, targets: targets) / shrunk
        residual, solves = float("inf"), 1
        while True:
            left = problem.gather(place, lambda field, targets: targets - field) - self.penalty * place
            residual = problem.size(left.mT)
            if residual <= self.tolerance or solves == SOLVES:
                return problem.dual(place), Fit(residual, solves, residual <= self.tolerance)
            place, solves = place + left / shrunk, solves + 1


def ridge_path(gram: Square, targets: Dual, penalties: Sequence[float]) -> Float[Tensor, "penalty pattern unit"]:
    """The coefficients for every λ, from one eigendecomposition."""
    values, vectors, turned = _turned(gram, targets, penalties)
    return torch.stack([vectors @ (turned / (values + penalty).unsqueeze(-1)) for penalty in penalties])


def leave_one_out(gram: Square, targets: Dual, penalties: Sequence[float]) -> Float[Tensor, "penalty pattern unit"]:
    """For every λ, what is left of each target by the answer h learned from all the other patterns: α_μ / ((K + λI)⁻¹)_μμ."""
    values, vectors, turned = _turned(gram, targets, penalties)
    left = []
    for penalty in penalties:
        inverse = 1 / (values + penalty)
        left.append((vectors @ (turned * inverse.unsqueeze(-1))) / (vectors.square() @ inverse).unsqueeze(-1))
    return torch.stack(left)


def _turned(gram: Tensor, targets: Tensor, penalties: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    for penalty in penalties:
        check_positive("ridge_path", "every penalty", penalty)
    values, vectors = torch.linalg.eigh(gram)
    return values.clamp_min(0), vectors, vectors.mT @ targets


def _left(gram: Gram, targets: Tensor, dual: Tensor, penalty: float) -> Tensor:
    return targets - dual @ gram.matrix - penalty * dual
