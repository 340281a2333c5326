"""Hebb's rule with forgetting: W ← (1 - forgetting) W + rate · post preᵀ, one pattern after the other."""

import torch
from torch import Tensor

from ammon.learning.base import PairwiseWeights, Post, Pre
from ammon.shapes import check_positive


class Hebb:
    """The correlation matrix of Kohonen (1972) and Amari (1972), learned one pattern at a time.

    rate: weight of each pattern. forgetting: fraction of the weights lost as each pattern comes in, in [0, 1).
    self_connections: whether a unit may vote for itself; Hopfield (1982) forbids it.
    """

    local = True
    online = True

    def __init__(self, rate: float = 1.0, forgetting: float = 0.0, self_connections: bool = True) -> None:
        check_positive("Hebb", "rate", rate)
        if not 0 <= forgetting < 1:
            raise ValueError(f"Hebb: forgetting must be in [0, 1), got {forgetting}.")
        self.rate, self.forgetting, self.self_connections = float(rate), float(forgetting), self_connections

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        return like.new_zeros(post, pre)

    def learn(self, weights: PairwiseWeights, post: Post, pre: Pre) -> PairwiseWeights:
        # n patterns at once: each has been forgotten as often as others came after it
        age = torch.arange(len(pre) - 1, -1, -1, dtype=weights.dtype, device=weights.device)
        kept = (1 - self.forgetting) ** age
        learned = (1 - self.forgetting) ** len(pre) * weights + self.rate * (post * kept.unsqueeze(-1)).mT @ pre
        if not self.self_connections:
            learned.fill_diagonal_(0)
        return learned
