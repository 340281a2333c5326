"""The pseudo-inverse (projection) rule: W = Yᵀ(Xᵀ)⁺, so that W x = y for every pattern, as many as are linearly independent.

Kohonen 1974; Personnaz, Guyon & Dreyfus 1985. At once by singular values, or one by one by Greville's recursion. Where patterns depend
on each other a warning says so, and the answer is the one of least squares and least norm.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ammon.learning.base import Post, Pre, Trained, untrained


@dataclass(frozen=True)
class PseudoInverse:
    """All patterns at once: what was learned before is replaced. The residual is the largest |y - W x|.

    self_connections: False clears the diagonal where patterns are associated with themselves, after the fit (Kanter & Sompolinsky 1987):
    fields then shrink to (1 - w_ii) y_i, of the same sign, and basins are wider.
    """

    self_connections: bool = True
    local: ClassVar[bool] = False
    online: ClassVar[bool] = False

    def begin(self, post: int, pre: int, like: Tensor) -> Trained:
        return untrained(post, pre, like)

    def learn(self, state: Trained, post: Post, pre: Pre) -> Trained:
        if not len(pre):
            return state
        x, y = _finest(pre), _finest(post)
        u, s, v = torch.linalg.svd(x, full_matrices=False)
        kept = s > max(x.shape) * torch.finfo(x.dtype).eps * s[0]
        if int(kept.sum()) < len(x):
            _warn("PseudoInverse", len(x) - int(kept.sum()), len(x))
        u, s, v = u[:, kept], s[kept], v[kept]
        weights = _projector(v) if post is pre else (y.mT @ u / s) @ v
        residual = (y - x @ weights.mT).abs().amax()
        if post is pre and not self.self_connections:
            weights.fill_diagonal_(0)
        fitted = residual <= torch.finfo(pre.dtype).eps ** 0.5 * y.abs().amax()
        return Trained(weights.to(state.matrix.dtype), torch.ones_like(state.epochs), fitted, residual.to(torch.float32))


# patterns taken in together, as long as they are independent
BLOCK = 64


class Projection(NamedTuple):
    """The weights, the projector on the patterns seen [pre, pre] and the pseudo-inverse of their correlation matrix [pre, pre]."""

    matrix: Tensor
    projector: Tensor
    inverse: Tensor


@dataclass(frozen=True)
class RecursivePseudoInverse:
    """One pattern at a time (Greville 1960), the same weights as all at once up to rounding; constant in size.

    Kept in float64 (float32 where a device has none), so that many steps do not blur which patterns are independent.
    """

    self_connections: bool = True
    local: ClassVar[bool] = False
    online: ClassVar[bool] = True

    def begin(self, post: int, pre: int, like: Tensor) -> Projection:
        square = _finest(like.new_zeros(pre, pre))
        return Projection(like.new_zeros(post, pre), square, square.clone())

    def learn(self, state: Projection, post: Post, pre: Pre) -> Projection:
        if not len(pre):
            return state
        weights, projector, inverse = (_finest(part).clone() for part in state)
        slack = 8 * pre.shape[1] * torch.finfo(state.projector.dtype).eps
        dependent, auto = 0, post is pre
        for y, x in zip(torch.split(post.to(weights), BLOCK), torch.split(pre.to(weights), BLOCK), strict=True):
            dependent += _append(weights, projector, inverse, y, x, slack, auto)
        if dependent:
            _warn("RecursivePseudoInverse", dependent, len(pre))
        # patterns that fill the space: the identity itself, as fields of nothing but rounding would never settle
        if round(float(projector.trace())) == len(projector):
            projector = torch.eye(len(projector)).to(projector)
        if post is pre:
            weights = projector.clone()
            if not self.self_connections:
                weights.fill_diagonal_(0)
        return Projection(weights.to(state.matrix.dtype), projector.to(state.projector.dtype), inverse.to(state.inverse.dtype))


def _projector(basis: Tensor) -> Tensor:
    """On the span of orthonormal rows; the identity itself if they fill the space, as fields of nothing but rounding would never settle."""
    if len(basis) == basis.shape[1]:
        return torch.eye(len(basis)).to(basis)
    product = basis.mT @ basis
    return (product + product.mT) / 2


def _append(weights: Tensor, projector: Tensor, inverse: Tensor, y: Tensor, x: Tensor, slack: float, auto: bool) -> int:
    """Take in a block of patterns, in place; how many depend on others. Only if none does they are taken in at once.

    Greville's step for several: with N what the patterns X add to the old span and G = N⁺, the inverse C becomes
    C - K Gᵀ - G Kᵀ + G (1 + X K) Gᵀ with K = C Xᵀ, and the weights W + (Y - W X) Gᵀ.
    """
    new, known = x.mT - projector @ x.mT, inverse @ x.mT
    # the diagonal of R is what each pattern adds to those before it
    independent = len(x) <= len(projector) and bool(
        (torch.linalg.qr(new, mode="r").R.diagonal().abs() > slack * torch.linalg.vector_norm(x, dim=1)).all()
    )
    if independent:
        # once more against the projector: what rounding left of the old patterns would be blown up
        basis, corner = torch.linalg.qr(new - projector @ new)
        # G = Q R⁻ᵀ, for Gᵀ N = 1 with N = Q R
        gain = torch.linalg.solve_triangular(corner.mT, basis, upper=False, left=False)
        mixed = gain @ known.mT
        grown = gain @ (torch.eye(len(x)).to(x) + x @ known) @ gain.mT
        inverse += (grown + grown.mT) / 2 - (mixed + mixed.mT)
        added = basis @ basis.mT
        projector += (added + added.mT) / 2
    elif len(x) > 1:
        return sum(_append(weights, projector, inverse, y[[t]], x[[t]], slack, auto) for t in range(len(x)))
    else:
        gain = known / (1 + x @ known)
        lost = known @ gain.mT
        inverse -= (lost + lost.mT) / 2
    if not auto:
        weights += (y.mT - weights @ x.mT) @ gain.mT
    return int(not independent)


def _finest(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _warn(rule: str, dependent: int, count: int) -> None:
    warnings.warn(
        f"{rule}.learn: {dependent} of {count} patterns depend linearly on others; "
        "the weights are those of least squares and least norm. Leave out duplicates, or use fewer patterns than entries.",
        stacklevel=3,
    )
