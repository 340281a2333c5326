"""Rules that also read the local field h = W x: what the network would answer by itself decides how much is learned.

Patterns x [pattern, pre] → y [pattern, post], one after the other, so each change sees those before it. The changes of a block of
patterns are kept as their factors: fields then come from one product with the weights and from products among the patterns of the
block, and the weights are touched once a block. The result is that of the plain loop, up to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ammon.learning.base import PairwiseWeights, Post, Pre, Trained, untrained, wide
from ammon.shapes import check_bipolar, check_count, check_positive

# patterns whose changes are kept as factors before the weights are touched
BLOCK = 64


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
        auto, y, x = post is pre, post.to(learned), pre.to(learned)
        # each pattern scales the weights by 1 + 2/D: blocks so short that this stays below e lose no digits
        block = max(1, min(BLOCK, max(learned.shape) // 2))
        for values, keys in zip(torch.split(y, block), torch.split(x, block), strict=True):
            learned = _storkey_block(learned, keys if auto else values, keys, auto)
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


def _storkey_block(weights: Tensor, y: Tensor, x: Tensor, auto: bool) -> Tensor:
    """The weights after the patterns of a block: ΔW = (y xᵀ - h xᵀ - y bᵀ + 2 W)/D, h = W x and b = Wᵀ y, the diagonal left out if auto.

    So W after t patterns is c^t W₀ + Σ_s c^(t-1-s) (y_s x_sᵀ - h_s x_sᵀ - y_s b_sᵀ)/D with c = 1 + 2/D.
    """
    size, count = max(weights.shape), len(x)
    growth = 1 + 2 / size
    # what is left of the change by pattern s when t comes: [t, s]
    left = growth ** (torch.arange(count + 1)[:, None] - 1 - torch.arange(count)).to(weights)
    fields, returns = x @ weights.mT, y @ weights
    pairs, targets = x @ x.mT, y @ y.mT
    own = weights.new_zeros(len(weights))
    for t in range(count):
        past, share = slice(t), left[t, :t] / size
        fields[t] *= growth**t
        fields[t] += (share * pairs[t, :t]) @ (y[past] - fields[past]) - (share * (returns[past] @ x[t])) @ y[past]
        if auto:
            fields[t] -= own * x[t]
            own = growth * own + (1 - 2 * fields[t] * x[t]) / size
            returns[t] = fields[t]
        else:
            returns[t] *= growth**t
            returns[t] += (share * targets[t, :t]) @ (x[past] - returns[past]) - (share * (fields[past] @ y[t])) @ x[past]
    share = left[count].unsqueeze(-1) / size
    if auto:
        # one half and its transpose, so that the weights stay symmetric to the last bit
        half = (share * (x / 2 - fields)).mT @ x
        return (growth**count * weights + (half + half.mT)).fill_diagonal_(0)
    return growth**count * weights + (share * (y - fields)).mT @ x - (share * y).mT @ returns


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
    parts = zip(torch.split(x, BLOCK), torch.split(y, BLOCK), torch.split(lengths, BLOCK), strict=True)
    blocks = [(keys, values, sizes, keys @ keys.mT) for keys, values, sizes in parts]
    left, made = torch.zeros_like(lengths[0, 0]), 0
    while made < epochs:
        made += 1
        for keys, values, sizes, pairs in blocks:
            fields, steps = keys @ weights.mT, torch.zeros_like(values)
            voted = torch.zeros_like(values[0])
            for t in range(len(keys)):
                field = torch.addmv(fields[t], steps[:t].mT, pairs[:t, t])
                if not own:
                    # what the changes of this block would let each unit tell itself
                    field -= voted * keys[t]
                steps[t] = step(values[t], field, sizes[t])
                if not own:
                    voted += steps[t] * keys[t]
            weights.addmm_(steps.mT, keys)
            if not own:
                weights.fill_diagonal_(0)
        left = residual(y, x @ weights.mT, lengths)
        if bool(left <= tolerance):
            break
    count = torch.tensor(made, device=weights.device)
    return Trained(weights.to(state.matrix.dtype), count, left <= tolerance, left.to(torch.float32))
