"""Rules that also read the local field h = W x: what the network would answer by itself decides how much is learned.

Patterns x [pattern, pre] → y [pattern, post], one after the other, so each change sees those before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ammon.learning.base import PairwiseWeights, Post, Pre, Trained, untrained, wide
from ammon.shapes import check_bipolar, check_count, check_positive


@dataclass(frozen=True)
class Storkey:
    """Storkey's rule for ±1 patterns (Storkey 1997; Storkey & Valabregue 1999, eq. 3): capacity D/sqrt(2 ln D), no self-connections.

    Δw_ij = (x_i x_j - x_i h_ji - h_ij x_j)/D with h_ij = Σ_{k ≠ i,j} w_ik x_k. Between two sets of units (ours, by analogy) h_ij leaves
    out j alone, h_ji is the field that the values send back, and D is the larger of the two sizes.
    """

    local: ClassVar[bool] = True
    online: ClassVar[bool] = True

    def begin(self, post: int, pre: int, like: Tensor) -> PairwiseWeights:
        return like.new_zeros(post, pre)

    def learn(self, state: PairwiseWeights, post: Post, pre: Pre) -> PairwiseWeights:
        check_bipolar("Storkey.learn", "pattern", pre)
        check_bipolar("Storkey.learn", "value", post)
        learned = wide(state).clone()
        for y, x in zip(post.to(learned), pre.to(learned), strict=True):
            ahead = x * ((learned @ x).unsqueeze(-1) - learned * x)
            # one population: the transpose itself, so that the weights stay symmetric to the last bit
            back = ahead.mT if post is pre else y.unsqueeze(-1) * (y @ learned - learned * y.unsqueeze(-1))
            learned += (torch.outer(y, x) - (ahead + back)) / max(learned.shape)
            if post is pre:
                learned.fill_diagonal_(0)
        return learned.to(state.dtype)


@dataclass(frozen=True)
class Delta:
    """Delta rule, Δw_ij = rate (y_i - h_i) x_j / |x|² (Widrow & Hoff 1960, with the step measured by the pattern's own length).

    It goes over the patterns until the largest |y - h|, its residual, is at most `tolerance`, or `epochs` times. With one epoch a
    pattern is seen once, and learning is online. rate in (0, 2): beyond 2 it diverges.
    """

    rate: float = 1.0
    epochs: int = 100
    tolerance: float = 1e-3
    self_connections: bool = True
    local: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.rate < 2:
            raise ValueError(f"Delta: rate must be in (0, 2), got {self.rate}.")
        check_count("Delta", "epochs", self.epochs)
        check_positive("Delta", "tolerance", self.tolerance)

    @property
    def online(self) -> bool:
        return self.epochs == 1

    def begin(self, post: int, pre: int, like: Tensor) -> Trained:
        return untrained(post, pre, like)

    def learn(self, state: Trained, post: Post, pre: Pre) -> Trained:
        def step(target: Tensor, field: Tensor, length: Tensor) -> Tensor:
            return torch.where(length > 0, self.rate * (target - field) / length, torch.zeros_like(field))

        def residual(targets: Tensor, fields: Tensor, lengths: Tensor) -> Tensor:
            return (targets - fields).abs().amax()

        return _train(state, post, pre, self.epochs, self.tolerance, self.self_connections, step, residual)


@dataclass(frozen=True)
class Perceptron:
    """Perceptron with margin (Rosenblatt 1958; Gardner 1988): w_i += y_i x wherever y_i h_i falls short of the margin; y must be ±1.

    margin: in units of |x|², what one presentation adds to the field; at 0 the field must have the sign of y, and a field of 0 falls
    short. For ±1 patterns all fields are whole numbers and all comparisons exact. The residual is the fraction of (pattern, unit)
    pairs that fall short after the last epoch; what no weights can store ends after `epochs`, not converged.
    """

    margin: float = 1.0
    epochs: int = 100
    self_connections: bool = False
    local: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.margin < float("inf"):
            raise ValueError(f"Perceptron: margin must be >= 0 and finite, got {self.margin}.")
        check_count("Perceptron", "epochs", self.epochs)

    @property
    def online(self) -> bool:
        return self.epochs == 1

    def begin(self, post: int, pre: int, like: Tensor) -> Trained:
        return untrained(post, pre, like)

    def learn(self, state: Trained, post: Post, pre: Pre) -> Trained:
        check_bipolar("Perceptron.learn", "value (or the pattern, if it is its own value)", post)

        def short(target: Tensor, field: Tensor, length: Tensor) -> Tensor:
            return (target * field <= 0) | (target * field < self.margin * length)

        def step(target: Tensor, field: Tensor, length: Tensor) -> Tensor:
            return target * short(target, field, length)

        def residual(targets: Tensor, fields: Tensor, lengths: Tensor) -> Tensor:
            return short(targets, fields, lengths).to(fields.dtype).mean()

        return _train(state, post, pre, self.epochs, 0.0, self.self_connections, step, residual)


def diederich_opper_1(epochs: int = 100) -> Perceptron:
    """w += y xᵀ/D wherever y h < 1 (Diederich & Opper 1987, rule I): a perceptron of margin 1. The weights are D times the paper's."""
    return Perceptron(margin=1.0, epochs=epochs)


def diederich_opper_2(epochs: int = 100, tolerance: float = 1e-3) -> Delta:
    """w += y (1 - y h) xᵀ/D (Diederich & Opper 1987, rule II), Adaline without self-connections; for ±1 patterns."""
    return Delta(rate=1.0, epochs=epochs, tolerance=tolerance, self_connections=False)


Correction = Callable[[Tensor, Tensor, Tensor], Tensor]  # of targets, fields and squared lengths of the patterns


def _train(
    state: Trained, post: Tensor, pre: Tensor, epochs: int, tolerance: float, self_connections: bool, step: Correction, residual: Correction
) -> Trained:
    """Go over the patterns one by one, W += step · xᵀ, until the residual is small enough."""
    if not len(pre):
        return state
    weights = wide(state.matrix).clone()
    x, y = pre.to(weights), post.to(weights)
    lengths = x.square().sum(-1, keepdim=True)
    own = self_connections or post is not pre
    left, made = torch.zeros_like(lengths[0, 0]), 0
    while made < epochs:
        made += 1
        for target, row, length in zip(y, x, lengths, strict=True):
            weights.addr_(step(target, weights @ row, length), row)
            if not own:
                weights.fill_diagonal_(0)
        left = residual(y, x @ weights.mT, lengths)
        if bool(left <= tolerance):
            break
    count = torch.tensor(made, device=weights.device)
    return Trained(weights.to(state.matrix.dtype), count, left <= tolerance, left.to(torch.float32))
