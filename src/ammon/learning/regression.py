"""Regression: W that predicts post from pre with the least squared error, less a ridge; what a predictive network learns, at once.

W = B (A + λ)⁻¹ from the running sums A = Σ x xᵀ and B = Σ y xᵀ: where the delta rule ΔW = (y - W x) xᵀ - λ W comes to rest
(Tang, Barron & Bogacz 2023, for y the state that follows x). Rows [pattern, unit].
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ammon.learning.base import Post, Pre
from ammon.shapes import check_positive


class Sums(NamedTuple):
    """The weights [post, pre], and the sums A [pre, pre] and B [post, pre], which are kept in float64 (float32 where a device has none)."""

    matrix: Tensor
    within: Tensor
    between: Tensor


@dataclass(frozen=True)
class Regression:
    """All patterns at once or one by one, to the same weights; constant in size.

    ridge: λ as a share of the mean square of an entry of pre, summed over patterns. The smaller, the nearer to the pseudo-inverse; below
    1e-9 the sums' rounding would drown it.
    """

    ridge: float = 1e-3
    local: ClassVar[bool] = False
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("Regression", "ridge", self.ridge)
        if self.ridge < 1e-9:
            raise ValueError(f"Regression: ridge must be at least 1e-9, got {self.ridge:g}; for none at all take RecursivePseudoInverse.")

    def begin(self, post: int, pre: int, like: Tensor) -> Sums:
        wide = _finest(like)
        return Sums(like.new_zeros(post, pre), wide.new_zeros(pre, pre), wide.new_zeros(post, pre))

    def learn(self, state: Sums, post: Post, pre: Pre) -> Sums:
        if not len(pre):
            return state
        x, y = _finest(pre), _finest(post)
        within, between = state.within.to(x) + x.mT @ x, state.between.to(x) + y.mT @ x
        # patterns of nothing but zeros predict nothing
        noise = (self.ridge * within.diagonal().mean()).clamp_min(torch.finfo(x.dtype).tiny ** 0.5)
        lower = torch.linalg.cholesky(within + noise * torch.eye(len(within)).to(within))
        matrix = torch.cholesky_solve(between.mT, lower).mT
        return Sums(matrix.to(state.matrix.dtype), within, between)


def _finest(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)
