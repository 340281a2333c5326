"""Top-k: softmax over the k largest scores, exact zeros elsewhere, as memories that read their nearest neighbours do.

Scores [*lead, pattern] in, weights [*lead, pattern] out.
"""

import math

import torch

from ammon.parts.lagrangians import Lagrangian, gain
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
        largest = top.detach()[..., :1]
        return torch.logsumexp(self.beta * (top - largest), -1) / self.beta + largest.squeeze(-1)

    def activation(self, x: Units) -> Units:
        top, index = x.topk(min(self.k, x.shape[-1]), -1)
        weights = torch.softmax(self.beta * (top - top.detach()[..., :1]), -1)
        return torch.zeros_like(x).scatter(-1, index, weights)

    def dual(self, g: Units) -> Lead:
        return torch.xlogy(g, g).sum(-1) / self.beta

    def extra_repr(self) -> str:
        return f"k={self.k}, {super().extra_repr()}"
