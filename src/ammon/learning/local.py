"""The general local rule: a weight changes by a polynomial of what its two units do (Gerstner & Kistler 2002, section 10.2).

Δw_ij = c0 + c0_w w_ij + c_pre x_j + c_post y_i + c2_pre x_j² + (c2_post + c2_post_w w_ij) y_i² + c_corr y_i x_j + c21 y_i² x_j
for a pattern x [pre] → y [post]. The named rules are settings of these coefficients.
"""

import math
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ammon.learning.base import PairwiseWeights, Post, Pre, wide
from ammon.shapes import check_positive


@dataclass(frozen=True)
class LocalRule:
    """Coefficients of the activities in the change of a weight; those that end in _w are multiplied by the weight itself.

    The change is linear in the weight, so a batch is one matrix product in which each pattern counts as much as those after it
    have left of it. self_connections: whether a unit may vote for itself where patterns are associated with themselves.
    """

    c0: float = 0.0
    c0_w: float = 0.0
    c_pre: float = 0.0
    c_post: float = 0.0
    c2_pre: float = 0.0
    c2_post: float = 0.0
    c2_post_w: float = 0.0
    c_corr: float = 0.0
    c21: float = 0.0
    self_connections: bool = True
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ValueError(f"LocalRule: {field.name} must be finite, got {getattr(self, field.name)}.")

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        return like.new_zeros(post, pre)

    def learn(self, state: PairwiseWeights, post: Post, pre: Pre) -> PairwiseWeights:
        x, y = wide(pre), wide(post)
        left = 1 + self.c0_w + self.c2_post_w * y.square()
        # what later patterns leave of each: the product of all rows below it
        kept = torch.cat([left, torch.ones_like(left[:1])]).flip(0).cumprod(0).flip(0)
        total, kept = kept[0], kept[1:]
        learned = total.unsqueeze(-1) * state + (kept * (self.c_pre + self.c_corr * y + self.c21 * y.square())).mT @ x
        if self.c2_pre:
            learned += kept.mT @ (self.c2_pre * x.square())
        if self.c0 or self.c_post or self.c2_post:
            learned += (kept * (self.c0 + self.c_post * y + self.c2_post * y.square())).sum(0).unsqueeze(-1)
        if post is pre and not self.self_connections:
            learned.fill_diagonal_(0)
        return learned.to(state.dtype)


def hebb_with_decay(rate: float = 1.0, decay: float = 0.01) -> LocalRule:
    """rate · y x - decay · w: the weights of old patterns fade (decay in (0, 1))."""
    check_positive("hebb_with_decay", "rate", rate)
    if not 0 < decay < 1:
        raise ValueError(f"hebb_with_decay: decay must be in (0, 1), got {decay}.")
    return LocalRule(c_corr=rate, c0_w=-decay)


def presynaptically_gated(rate: float = 1.0, threshold: float = 0.5) -> LocalRule:
    """rate · (y - threshold) x: nothing changes where the sender is silent."""
    check_positive("presynaptically_gated", "rate", rate)
    return LocalRule(c_corr=rate, c_pre=-rate * threshold)


def postsynaptically_gated(rate: float = 1.0, threshold: float = 0.5) -> LocalRule:
    """rate · y (x - threshold): nothing changes where the receiver is silent."""
    check_positive("postsynaptically_gated", "rate", rate)
    return LocalRule(c_corr=rate, c_post=-rate * threshold)


def covariance(rate: float = 1.0, post_mean: float = 0.5, pre_mean: float = 0.5, self_connections: bool = True) -> LocalRule:
    """rate · (y - <y>)(x - <x>), the means given (Sejnowski 1977); for patterns whose mean is not 0."""
    check_positive("covariance", "rate", rate)
    return LocalRule(
        c_corr=rate,
        c_pre=-rate * post_mean,
        c_post=-rate * pre_mean,
        c0=rate * post_mean * pre_mean,
        self_connections=self_connections,
    )


def oja(rate: float = 0.01) -> LocalRule:
    """rate · (y x - y² w): with y = W x the weights turn to the leading eigenvector of <x xᵀ>, at length 1 (Oja 1982, eq. 3)."""
    check_positive("oja", "rate", rate)
    return LocalRule(c_corr=rate, c2_post_w=-rate)


def bcm(rate: float = 0.01, threshold: float = 1.0) -> LocalRule:
    """rate · y (y - threshold) x (Bienenstock, Cooper & Munro 1982) at a fixed threshold; `SlidingThreshold` moves it."""
    check_positive("bcm", "rate", rate)
    return LocalRule(c21=rate, c_corr=-rate * threshold)


def anti_hebb(rate: float = 1.0) -> LocalRule:
    """-rate · y x: takes out what Hebb's rule put in."""
    check_positive("anti_hebb", "rate", rate)
    return LocalRule(c_corr=-rate)


class Sliding(NamedTuple):
    """The weights of BCM units and their thresholds [post]."""

    matrix: Tensor
    threshold: Tensor


@dataclass(frozen=True)
class SlidingThreshold:
    """BCM with threshold <y²>, a running mean over about 1/drift patterns: a unit ends up with few patterns that drive it.

    Patterns come one by one: y must be what the weights of that moment give. `initial` is the threshold before the first.
    """

    rate: float = 0.01
    drift: float = 0.1
    initial: float = 1.0
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("SlidingThreshold", "rate", self.rate)
        check_positive("SlidingThreshold", "initial", self.initial)
        if not 0 < self.drift <= 1:
            raise ValueError(f"SlidingThreshold: drift must be in (0, 1], got {self.drift}.")

    def begin(self, post: int, pre: int, like: Tensor) -> Sliding:
        return Sliding(like.new_zeros(post, pre), wide(like.new_full((post,), self.initial)))

    def learn(self, state: Sliding, post: Post, pre: Pre) -> Sliding:
        x, y = wide(pre), wide(post)
        thresholds = [state.threshold]
        for row in y:
            thresholds.append(thresholds[-1] + self.drift * (row.square() - thresholds[-1]))
        # each pattern meets the threshold that the ones before it left
        before = torch.stack(thresholds)[: len(y)]
        learned = state.matrix + self.rate * (y * (y - before)).mT @ x
        return Sliding(learned.to(state.matrix.dtype), thresholds[-1].to(state.threshold.dtype))
