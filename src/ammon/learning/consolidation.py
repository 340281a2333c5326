"""Consolidation: new pairs are learned with a penalty that holds old weights by what they are known from (Kirkpatrick et al. 2017).

For linear units with Gaussian errors the Fisher information of the weights of every unit is C = Σ x xᵀ over the patterns of the past, so
W ← argmin Σ |y - Wx|² + tr (W - W*)(λI + s C)(W - W*)ᵀ. With all of C and s = 1 this is recursive least squares, and nothing is lost.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ammon.learning.base import Post, Pre, wide
from ammon.shapes import check_positive


class Consolidation(NamedTuple):
    """The weights [post, pre] and the information of the past: C [pre, pre], or its diagonal [pre]."""

    matrix: Tensor
    information: Tensor


@dataclass(frozen=True)
class Consolidated:
    """Least squares on the new patterns, held to the old weights.

    penalty: λ, also that of a ridge regression on all there is. strength: s, 0 holds by λ alone. fisher: "full" C, or its "diagonal",
    as elastic weight consolidation takes it; for patterns of ±1 that is the number of patterns for every weight alike, so that it holds
    all weights equally and knows nothing of what the old patterns were.
    """

    penalty: float = 0.01
    strength: float = 1.0
    fisher: Literal["full", "diagonal"] = "full"
    local: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("Consolidated", "penalty", self.penalty)
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"Consolidated: strength must be >= 0 and finite, got {self.strength}.")
        if self.fisher not in ("full", "diagonal"):
            raise ValueError(f'Consolidated: fisher must be "full" or "diagonal", got {self.fisher!r}.')

    @property
    def online(self) -> bool:
        return self.fisher == "full" and self.strength == 1

    def begin(self, post: int, pre: int, like: Tensor) -> Consolidation:
        size = (pre, pre) if self.fisher == "full" else (pre,)
        return Consolidation(like.new_zeros(post, pre), wide(like.new_zeros(size)))

    def learn(self, state: Consolidation, post: Post, pre: Pre) -> Consolidation:
        information = state.information
        weights, x, y = (tensor.to(information) for tensor in (state.matrix, pre, post))
        held = self.strength * (information if self.fisher == "full" else information.diag())
        new = x.mT @ x
        precision = held + new
        precision.diagonal().add_(self.penalty)
        change = torch.linalg.solve(precision, x.mT @ (y - x @ weights.mT)).mT
        information = information + (new if self.fisher == "full" else new.diagonal())
        return Consolidation((weights + change).to(state.matrix.dtype), information)
