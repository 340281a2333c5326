"""Fast weights: a small network that stores pairs in its weights while it is used, and what surprises it.

Weights [batch, head, in, out], one per item and head; keys and queries [batch, head, time, dim], values [batch, head, time, value_dim].
The inner loss, |f(k) - v|², is a sum over entries: its gradient has a factor 2 (Behrouz et al. 2024, eq. 12).
"""

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from ammon.shapes import check_count

Fast = tuple[Tensor, ...]
Heads = Float[Tensor, "batch head time dim"]
Targets = Float[Tensor, "batch head time value_dim"]
Gate = Float[Tensor, "batch head time"]
# what a norm adds to a variance, as in torch's layer norm
EPS = 1e-5
# scale of the last of the first matrices, beside the one that keeps the size of x
LAST = 0.3


class Gates(NamedTuple):
    """How each token writes: S ← momentum · S - step · surprise; M ← (1 - decay) · M + valid · S."""

    step: Tensor  # θ [batch, head, time]
    momentum: Tensor  # η
    decay: Tensor  # α
    valid: Tensor  # 1, or 0 for a token that is not there

    def only(self, there: Tensor) -> "Gates":
        """The same with nothing written where `there` [batch, 1 or head, time] is False: neither decay nor old momentum acts."""
        zero = torch.zeros_like(self.step)
        return Gates(
            torch.where(there, self.step, zero),
            torch.where(there, self.momentum, 1 + zero),
            torch.where(there, self.decay, zero),
            torch.where(there, self.valid, zero),
        )


class Held(NamedTuple):
    """What a memory that learns is between two tokens."""

    anchor: Fast  # the weights at the start of the chunk, where the surprise of its tokens is measured
    weights: Fast
    momentum: Fast
    filled: Int[Tensor, " batch"]  # tokens of the chunk that are written, below its length


@runtime_checkable
class Network(Protocol):
    """What can learn: any function of weights, differentiable twice."""

    def initial(self, heads: int, dim: int) -> Fast:
        """Weights to begin with, [head, ...]; from keys of `dim` entries to values of `dim`."""
        ...

    def __call__(self, weights: Fast, x: Tensor) -> Tensor:
        """Values [dim] of one network for one key or query [dim]."""
        ...


@dataclass(frozen=True)
class Mlp:
    """`depth` matrices with SiLU between; depth 1 is a linear memory. Widths inside are expansion · dim.

    residual: x + layer norm of that (Sun et al. 2024), the norm without weights of its own. Rows or vectors x, weights [*lead, in, out].
    """

    depth: int = 2
    expansion: int = 4
    residual: bool = False

    def __post_init__(self) -> None:
        check_count("Mlp", "depth", self.depth)
        check_count("Mlp", "expansion", self.expansion)

    def initial(self, heads: int, dim: int) -> Fast:
        """A linear memory begins empty, deeper ones random at the scale that keeps the size of x, but for the last matrix."""
        if self.depth == 1 and not self.residual:
            return (torch.zeros(heads, dim, dim),)
        sizes = [dim] + [self.expansion * dim] * (self.depth - 1) + [dim]
        *first, last = (torch.randn(heads, rows, columns) / rows**0.5 for rows, columns in pairwise(sizes))
        # what it reads at first is error to be unlearned: 128 pairs of 64 entries, .91 come back instead of .82
        return (*first, LAST * last)

    def __call__(self, weights: Fast, x: Tensor) -> Tensor:
        hidden = x
        for matrix in weights[:-1]:
            hidden = functional.silu(hidden @ matrix)
        last = hidden @ weights[-1]
        return x + functional.layer_norm(last, last.shape[-1:], eps=EPS) if self.residual else last


class Functional:
    """Any module without buffers as a `Network`, by torch.func: [dim] in, [dim] out; each head begins with a copy of its parameters."""

    def __init__(self, module: nn.Module) -> None:
        if any(True for _ in module.buffers()):
            raise ValueError(f"Functional: {type(module).__name__} has buffers, which would be shared by all rows; use one without.")
        self.names = [name for name, _ in module.named_parameters()]
        self._begin = [parameter.detach().clone() for parameter in module.parameters()]
        # only the shape of the computation is kept: parameters here would be copies that never learn
        self._skeleton = copy.deepcopy(module).to("meta")

    def initial(self, heads: int, dim: int) -> Fast:
        return tuple(begin.expand(heads, *begin.shape).clone() for begin in self._begin)

    def __call__(self, weights: Fast, x: Tensor) -> Tensor:
        return torch.as_tensor(functional_call(self._skeleton, dict(zip(self.names, weights, strict=True)), (x,)))


def surprise(network: Network, anchor: Fast, keys: Heads, values: Targets, limit: float | None) -> Fast:
    """The gradient of the inner loss for each token on its own, [batch, head, time, ...], by torch.func at the weights `anchor`."""

    def loss(weights: Fast, key: Tensor, value: Tensor) -> Tensor:
        return (network(weights, key) - value).square().sum()

    per_token = vmap(grad(loss), in_dims=(None, 0, 0))
    found: Fast = vmap(vmap(per_token))(anchor, keys, values)
    if limit is None:
        return found
    size = sum((part.flatten(3).square().sum(-1) for part in found), start=torch.zeros_like(keys[..., 0]))
    return tuple(like(soften(size, limit), part) * part for part in found)


def soften(square: Tensor, limit: float) -> Tensor:
    """The factor that keeps a gradient of squared norm `square` below the norm `limit`, smoothly: 1/sqrt(1 + square/limit²)."""
    return torch.rsqrt(1 + square / limit**2)


def like(scalars: Tensor, tensor: Tensor) -> Tensor:
    """Scalars of the leading axes, shaped to multiply a tensor that has more."""
    return scalars.reshape(*scalars.shape, *[1] * (tensor.ndim - scalars.ndim))


@runtime_checkable
class Form(Protocol):
    """One way to carry the recurrence through a chunk. All give the same numbers."""

    def plan(self, gates: Gates) -> Any:
        """What depends on the gates alone, for all chunks at once; gates [chunk, batch, head, time]. Indexed by `part`."""
        ...

    def part(self, plan: Any, index: int) -> Any: ...

    def chunk(
        self, network: Any, held: Held, keys: Tensor, values: Tensor, queries: Tensor | None, plan: Any, limit: float | None
    ) -> tuple[Tensor | None, Fast, Fast]:
        """What each query reads after its token is written, then weights and momentum after the last."""
        ...
