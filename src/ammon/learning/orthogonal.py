"""Orthogonal: the matrix of nearly equal singular values in another's place, by Newton-Schulz steps (Muon; Jordan et al. 2024).

Matrices [*lead, row, column], each on its own: X = U Σ Vᵀ of norm 1 becomes U p(... p(Σ)) Vᵀ, p(σ) = 3.4445 σ - 4.7750 σ³ + 2.0315 σ⁵.
"""

import torch
from torch import Tensor

# steep at 0, so that 5 steps bring any σ from .0017 to 1 into [.68, 1.21]; they end within [.68, 1.14] and never settle
A, B, C = 3.4445, -4.7750, 2.0315
# a matrix of a smaller norm is taken to be as small as this; 0 stays 0
EPS = 1e-7


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """Each matrix over its Frobenius norm, after so many steps of 4 r² c + 2 r³ operations, r and c its shorter and its longer side."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(EPS)
    for _ in range(steps):
        square = x @ x.mT
        x = A * x + (B * square + C * (square @ square)) @ x
    found: Tensor = x.mT if tall else x
    return found


def sizes(step: Tensor, valid: Tensor, steps: int | None) -> tuple[Tensor, Tensor]:
    """By what a gradient enters the momentum, and the momentum the weights. Its size is lost between the two, so θ must come after."""
    return (step, valid) if steps is None else (valid, step)


def move(momentum: Tensor, axes: int, steps: int | None) -> Tensor:
    """Along what the weights go: the momentum, made orthogonal where each one is a matrix; vectors stay as they are."""
    return momentum if steps is None or axes != 2 else orthogonal(momentum, steps)
