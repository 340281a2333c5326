"""Top-k: softmax over the k largest scores, exact zeros elsewhere, as memories that read their nearest neighbours do.

Scores [*lead, pattern] in, weights [*lead, pattern] out.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ammon.parts.lagrangians import Lagrangian, gain, times
from ammon.shapes import Lead, Units, check_count


class TopK(Lagrangian):
    """L = log Σ exp(βx)/β over the k largest x; activation their softmax (the read of Wu et al. 2022). Of fewer than k scores, all.

    Convex: it is the largest of the logarithms over all sets of k scores. Of equal scores those that `topk` finds count.
    """

    null = -math.inf
    normalised = True

    def __init__(self, k: int, beta: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        check_count("TopK", "k", k)
        self.k, self.learnable = k, learnable
        self.beta = gain("TopK", "beta", beta, learnable)

    def value(self, x: Units) -> Lead:
        top = x.topk(min(self.k, x.shape[-1]), -1).values
        return torch.logsumexp(self._scaled(top), -1) / self.beta + top.detach()[..., 0]

    def activation(self, x: Units) -> Units:
        weights, index = self.best(x)
        return torch.zeros_like(x).scatter(-1, index, weights)

    def best(self, x: Units) -> tuple[Float[Tensor, "*lead top"], Int[Tensor, "*lead top"]]:
        """The weights that are not 0, largest first, and where they stand."""
        top, index = x.topk(min(self.k, x.shape[-1]), -1)
        return torch.softmax(self._scaled(top), -1), index

    def _scaled(self, top: Tensor) -> Tensor:
        return times(self.beta, top - top.detach()[..., :1])

    def dual(self, g: Units) -> Lead:
        return torch.xlogy(g, g).sum(-1) / self.beta

    def extra_repr(self) -> str:
        return f"k={self.k}, {super().extra_repr()}"
