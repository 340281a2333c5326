"""Dual rules: from patterns that are compared by a kernel to one coefficient per pattern and unit, h_i(s) = Σ_μ α_μi k(s, ξ_μ).

All units share one Gram matrix K [pattern, pattern] and one factorisation of it, which patterns that come and go only border.
Targets and coefficients [pattern, unit].
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ammon.learning.reduced import Reduced

Square = Float[Tensor, "pattern pattern"]
Dual = Float[Tensor, "pattern unit"]

# rows of a factor that are rotated together when patterns are forgotten
BLOCK = 64


@dataclass(frozen=True)
class Fit:
    """What a fit found."""

    residual: float  # the largest |target - answer - λα|: 0 at the one minimum of the convex loss
    iterations: int  # solves with the shared factor
    converged: bool  # the residual is within the rule's tolerance


@runtime_checkable
class DualRule(Protocol):
    """How coefficients are learned. penalty: λ > 0, so that there is one answer, also where patterns depend on each other."""

    penalty: float

    def solve(self, gram: "Gram", targets: Dual, start: Dual | None = None) -> tuple[Dual, Fit]:
        """The coefficients for ±1 targets. start: coefficients to begin with; `gram` keeps the factor it was given last."""
        ...

    def solve_reduced(self, problem: Reduced, start: Dual | None = None) -> tuple[Dual, Fit]:
        """The same for the few coefficients [feature, unit] of a problem in a space of features."""
        ...


class Factor:
    """The Cholesky factor of K + shift · I. It can grow by a border and lose rows, so that K itself need not be kept."""

    def __init__(self, lower: Square, shift: float) -> None:
        self.lower, self.shift = lower, shift

    def grown(self, matrix: Square) -> "Factor | None":
        """With new patterns, `matrix` being the Gram matrix of all, O(P²) per pattern; None if rounding leaves no positive pivot."""
        old = len(self.lower)
        if len(matrix) == old:
            return self
        below = torch.linalg.solve_triangular(self.lower, matrix[:old, old:], upper=False).mT
        schur = matrix[old:, old:] - below @ below.mT
        schur.diagonal().add_(self.shift)
        last, failed = torch.linalg.cholesky_ex(schur)
        return None if bool(failed) else Factor(_bordered(self.lower, below, last), self.shift)

    def without(self, indices: Int[Tensor, " index"]) -> "Factor | None":
        """Less some patterns: rotated in place of theirs, O(P²) for few of them; None for many, where factoring anew costs less."""
        if len(indices) > 4 * BLOCK:
            return None
        kept = torch.ones(len(self.lower), dtype=torch.bool, device=self.lower.device)
        kept[indices] = False
        rows = self.lower[kept]
        return Factor(_rotated(rows[:, kept], rows[:, ~kept], first=int(indices.min()) if len(indices) else len(rows)), self.shift)


class Gram:
    """A Gram matrix K, and the Cholesky factor of K + shift · I once it has been asked for, or if one is held already."""

    def __init__(self, matrix: Square, held: Factor | None = None) -> None:
        self.matrix, self.held = matrix, held

    def factor(self, shift: float) -> bool:
        """Factor K + shift · I; False where rounding leaves it without a positive pivot."""
        if self.held is not None and self.held.shift == shift:
            return True
        self.held = None
        own = self.matrix.diagonal().clone()
        # shifted in place and back: no copy of what may be as large as the machine; columns as rows, which LAPACK need not turn
        self.matrix.diagonal().add_(shift)
        lower, failed = torch.linalg.cholesky_ex(self.matrix.mT)
        self.matrix.diagonal().copy_(own)
        if bool(failed):
            return False
        self.held = Factor(lower, shift)
        return True

    def solve(self, rows: Float[Tensor, "unit pattern"]) -> Float[Tensor, "unit pattern"]:
        """rows (K + shift · I)⁻¹; a contiguous row per unit is what LAPACK takes as it is."""
        if self.held is None:
            raise ValueError("Gram.solve: nothing is factored yet; call factor(shift) first.")
        return torch.cholesky_solve(rows.mT, self.held.lower).mT


def least_norm(matrix: Square, targets: Dual, penalty: float) -> Dual:
    """(K + λI)⁻¹ Y on the span of K, 0 beyond it: for a λ that rounding would lose. In float64."""
    values, vectors = torch.linalg.eigh(matrix.double())
    kept = values > _negligible(matrix) * values[-1]
    vectors = vectors[:, kept]
    dual: Tensor = (vectors @ ((vectors.mT @ targets.double()) / (values[kept] + penalty).unsqueeze(-1))).to(targets)
    return dual


def dependent(matrix: Square, strict: bool, first: int = 0) -> int:
    """How many patterns from `first` on add nothing to those before them, up to rounding.

    strict: the kernel keeps any distinct patterns apart, so only equal ones are looked for; else the rank is counted.
    """
    if not strict:
        return _span(matrix) - _span(matrix[:first, :first]) if len(matrix) else 0
    length = matrix.diagonal().sqrt()
    count = 0
    for start in range(first, len(matrix), 1024):
        rows = matrix[start : start + 1024, : start + 1024]
        alike = rows >= (1 - 8 * torch.finfo(matrix.dtype).eps) * length[start : start + 1024, None] * length[None, : rows.shape[1]]
        count += int(torch.tril(alike, start - 1).any(-1).sum())
    return count


def _span(matrix: Tensor) -> int:
    """Patterns beyond the rank."""
    if not len(matrix):
        return 0
    # a factor with sound pivots tells full rank at a fraction of the cost of the eigenvalues
    lower, failed = torch.linalg.cholesky_ex(matrix)
    limit = _negligible(matrix) * float(matrix.diagonal().amax())
    if not bool(failed) and bool((lower.diagonal().square() > limit).all()):
        return 0
    values = torch.linalg.eigvalsh(matrix)
    return int((values <= _negligible(matrix) * values[-1]).sum())


def _negligible(matrix: Tensor) -> float:
    return 4 * len(matrix) * float(torch.finfo(matrix.dtype).eps)


def _bordered(lower: Tensor, below: Tensor, corner: Tensor) -> Tensor:
    old = len(lower)
    # column by column, as LAPACK keeps factors: no copy in later solves
    whole = lower.new_zeros(old + len(corner), old + len(corner)).mT
    whole[:old, :old], whole[old:, :old], whole[old:, old:] = lower, below, corner
    return whole


def _rotated(lower: Tensor, others: Tensor, first: int) -> Tensor:
    """The factor of lower lowerᵀ + others othersᵀ, block by block. others: columns that were taken out, 0 above row `first`."""
    lower, others = lower.mT.contiguous().mT, others.clone()
    for start in range(first, len(lower), BLOCK):
        end = min(start + BLOCK, len(lower))
        width = end - start
        rotation, triangle = torch.linalg.qr(torch.cat([lower[start:end, start:end], others[start:end]], dim=1).mT, mode="complete")
        # a factor has a positive diagonal
        sign = torch.where(triangle.diagonal() < 0, -1.0, 1.0).to(lower)
        rotation[:, :width] *= sign
        turned = torch.cat([lower[end:, start:end], others[end:]], dim=1) @ rotation
        lower[start:end, start:end] = (triangle[:width] * sign.unsqueeze(-1)).mT
        lower[end:, start:end], others[end:] = turned[:, :width], turned[:, width:]
    return lower
