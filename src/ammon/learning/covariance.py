"""Covariance rules with means that the rule finds out itself: w_ij = <y_i x_j> - <y_i><x_j>, whole or per active sender.

With means given beforehand the first is the setting `covariance` of the general local rule.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ammon.learning.base import Post, Pre
from ammon.learning.traces import Means, check_activities, check_horizon, follow, no_means


@dataclass(frozen=True)
class Covariance:
    """w_ij = p_ij - p_i p_j over the patterns seen (Sejnowski 1977); activities in [0, 1].

    horizon: None counts all patterns alike; a number lets the old ones fade. Independent units get weight 0.
    """

    horizon: float | None = None
    self_connections: bool = False
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_horizon("Covariance", self.horizon)

    def begin(self, post: int, pre: int, like: Tensor) -> Means:
        return no_means(post, pre, like)

    def learn(self, state: Means, post: Post, pre: Pre) -> Means:
        check_activities("Covariance.learn", post, pre)
        if not len(pre):
            return state
        p_post, p_pre, pair, seen = follow(state, post, pre, self.horizon)
        matrix = pair - torch.outer(p_post, p_pre)
        if post is pre:
            # products may round differently on the two sides of the diagonal
            matrix = (matrix + matrix.mT) / 2
            if not self.self_connections:
                matrix.fill_diagonal_(0)
        return Means(matrix.to(state.matrix.dtype), p_post, p_pre, pair, seen)


@dataclass(frozen=True)
class PresynapticCovariance:
    """w_ij = (p_ij - p_i p_j)/p_j = P(i | j) - P(i): what an active sender j changes in the receiver's odds (Minai 1997).

    A sender never seen active has weight 0. The weights are not symmetric, so recall has no energy.
    """

    horizon: float | None = None
    self_connections: bool = False
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_horizon("PresynapticCovariance", self.horizon)

    def begin(self, post: int, pre: int, like: Tensor) -> Means:
        return no_means(post, pre, like)

    def learn(self, state: Means, post: Post, pre: Pre) -> Means:
        check_activities("PresynapticCovariance.learn", post, pre)
        if not len(pre):
            return state
        p_post, p_pre, pair, seen = follow(state, post, pre, self.horizon)
        given = pair / torch.where(p_pre > 0, p_pre, torch.ones_like(p_pre))
        matrix = torch.where(p_pre > 0, given - p_post.unsqueeze(-1), torch.zeros_like(given))
        if post is pre and not self.self_connections:
            matrix.fill_diagonal_(0)
        return Means(matrix.to(state.matrix.dtype), p_post, p_pre, pair, seen)
