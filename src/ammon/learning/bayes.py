"""Rules for sparse patterns of 0 and 1: Willshaw's clipped weights, and weights that are log odds (BCPNN)."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ammon.learning.base import PairwiseWeights, Post, Pre, check_binary, wide
from ammon.shapes import check_positive


@dataclass(frozen=True)
class Willshaw:
    """w_ij = 1 once units i and j were active together, else 0 (Willshaw, Buneman & Longuet-Higgins 1969). Patterns hold 0 and 1.

    Best with about log2(D) active units: up to ln 2 = .69 bits per weight.
    """

    self_connections: bool = True
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        return like.new_zeros(post, pre)

    def learn(self, state: PairwiseWeights, post: Post, pre: Pre) -> PairwiseWeights:
        check_binary("Willshaw.learn", "pattern", pre)
        check_binary("Willshaw.learn", "value", post)
        learned = ((state + post.mT @ pre) > 0).to(state.dtype)
        if post is pre and not self.self_connections:
            learned.fill_diagonal_(0)
        return learned


class Traces(NamedTuple):
    """What a Bayesian network holds: weights, biases, and the activities they are made of."""

    matrix: Tensor
    bias: Tensor
    post: Tensor  # mean activity of the receiving units [post]
    pre: Tensor  # of the sending units [pre]
    pair: Tensor  # of both together [post, pre]
    seen: Tensor  # patterns so far


@dataclass(frozen=True)
class Bcpnn:
    """Bayesian confidence propagation: w_ij = log p_ij/(p_i p_j), bias_i = log p_i (Lansner & Ekeberg 1989); activities in [0, 1].

    horizon None: p are the means over all patterns, each counted alike. A number: traces that each pattern moves by 1/horizon, so the
    old ones fade (Sandberg et al. 2002). floor: p_i = (1 - floor) mean_i + floor and p_ij = (1 - floor²) mean_ij + floor²
    (ibid., eq. 11), so that what was never seen has a finite weight and silent units have weight 0.
    """

    horizon: float | None = None
    floor: float = 0.01
    self_connections: bool = False
    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.horizon is not None and not 1 <= self.horizon < math.inf:
            raise ValueError(f"Bcpnn: horizon must be at least 1 and finite, or None, got {self.horizon}.")
        check_positive("Bcpnn", "floor", self.floor)
        if self.floor >= 1:
            raise ValueError(f"Bcpnn: floor must be below 1, got {self.floor}.")

    def begin(self, post: int, pre: int, like: Tensor) -> Traces:
        none = wide(like.new_zeros(post, pre))
        bias = like.new_full((post,), math.log(self.floor))
        return Traces(like.new_zeros(post, pre), bias, none.new_zeros(post), none.new_zeros(pre), none, none.new_zeros(()))

    def learn(self, state: Traces, post: Post, pre: Pre) -> Traces:
        for what, rows in (("pattern", pre), ("value", post)):
            if bool(((rows < 0) | (rows > 1)).any()):
                raise ValueError(f"Bcpnn.learn: the {what} must hold activities between 0 and 1; scale or binarise it first.")
        if not len(pre):
            return state
        x, y = pre.to(state.pair), post.to(state.pair)
        age = torch.arange(len(x) - 1, -1, -1, dtype=x.dtype, device=x.device)
        seen = state.seen + len(x)
        if self.horizon is None:
            kept, share = state.seen / seen, torch.ones_like(age) / seen
        else:
            fade = 1 - 1 / self.horizon
            kept, share = torch.as_tensor(fade ** len(x)).to(seen), fade**age / self.horizon
        p_post, p_pre = kept * state.post + share @ y, kept * state.pre + share @ x
        pair = kept * state.pair + (share.unsqueeze(-1) * y).mT @ x
        raised_post, raised_pre = self.floor + (1 - self.floor) * p_post, self.floor + (1 - self.floor) * p_pre
        matrix = (self.floor**2 + (1 - self.floor**2) * pair).log() - raised_post.log().unsqueeze(-1) - raised_pre.log()
        if post is pre:
            # products may round differently on the two sides of the diagonal
            matrix = (matrix + matrix.mT) / 2
            if not self.self_connections:
                matrix.fill_diagonal_(0)
        return Traces(matrix.to(state.matrix.dtype), raised_post.log().to(state.bias.dtype), p_post, p_pre, pair, seen)
