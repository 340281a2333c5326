"""Hebb's rule with forgetting: W ← (1 - forgetting) W + rate · post preᵀ, one pattern after the other."""

from torch import Tensor

from ammon.learning.base import PairwiseWeights, Post, Pre
from ammon.learning.local import LocalRule
from ammon.shapes import check_positive


class Hebb:
    """The correlation matrix of Kohonen (1972) and Amari (1972), learned one pattern at a time: two coefficients of `LocalRule`.

    rate: weight of each pattern. forgetting: fraction of the weights lost as each pattern comes in, in [0, 1).
    self_connections: whether a unit may vote for itself where patterns are associated with themselves; Hopfield (1982) forbids it.
    """

    local = True
    online = True

    def __init__(self, rate: float = 1.0, forgetting: float = 0.0, self_connections: bool = True) -> None:
        check_positive("Hebb", "rate", rate)
        if not 0 <= forgetting < 1:
            raise ValueError(f"Hebb: forgetting must be in [0, 1), got {forgetting}.")
        self.rate, self.forgetting, self.self_connections = float(rate), float(forgetting), self_connections
        self.setting = LocalRule(c_corr=self.rate, c0_w=-self.forgetting, self_connections=self_connections)

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        return self.setting.begin(post, pre, like)

    def learn(self, weights: PairwiseWeights, post: Post, pre: Pre) -> PairwiseWeights:
        return self.setting.learn(weights, post, pre)
