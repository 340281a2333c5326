"""Sanger's rule: with y = W x the rows of W turn to the leading eigenvectors of <x xᵀ>, in order (Sanger 1989, eq. 2)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ammon.learning.base import PairwiseWeights, Post, Pre, wide
from ammon.shapes import check_positive


@dataclass(frozen=True)
class Sanger:
    """ΔW = rate (y xᵀ - tril(y yᵀ) W). A unit reads what the units before it do, so the rule is not local; its first unit is Oja's."""

    rate: float = 0.01
    local: ClassVar[bool] = False
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("Sanger", "rate", self.rate)

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        return like.new_zeros(post, pre)

    def learn(self, state: PairwiseWeights, post: Post, pre: Pre) -> PairwiseWeights:
        learned = wide(state)
        for y, x in zip(post.to(learned), pre.to(learned), strict=True):
            # row i of tril(y yᵀ) W: what the units up to i explain of x
            explained = (y.unsqueeze(-1) * learned).cumsum(0)
            learned = learned + self.rate * y.unsqueeze(-1) * (x - explained)
        return learned.to(state.dtype)
