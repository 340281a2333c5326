"""Lagrangians: scalars L(x) of a layer whose gradient is the layer's activation.

The same object separates the scores of a memory [*lead, pattern], activates a layer of neurons [*lead, unit] and is the
softmax of attention. `value` [*lead] enters the energy, `activation` = dL/dx the update (Krotov & Hopfield 2021).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.shapes import Lead, Units, check_count, check_positive


class Lagrangian(nn.Module):
    """The contract of a Lagrangian, with the defaults that most of them share.

    convex: dL²/dx² >= 0 everywhere, so a layer of such neurons only loses energy.
    null: the score that gets weight 0, written where a mask hides a pattern.
    scale_free: the activation ignores a positive factor of its input, so weights are needed only up to one.
    compact: patterns out of reach get no weight at all, so it may happen that none has any.
    normalised: the weights of a row sum to 1 (or, if compact, are all 0), as recall by distances needs for its energy.
    """

    convex: bool = True
    null: float = 0.0
    scale_free: bool = False
    compact: bool = False
    normalised: bool = False

    def value(self, x: Units) -> Lead:
        """L(x), summed or pooled over the last axis."""
        raise NotImplementedError

    def activation(self, x: Units) -> Units:
        """dL/dx, in closed form."""
        raise NotImplementedError

    def dual(self, g: Units) -> Lead:
        """L*(g) = <x, g> - L(x) at g = dL/dx: the energy of the layer itself. TypeError where no closed form is held."""
        raise TypeError(f"{type(self).__name__}.dual: no closed form is held, so a layer with this activation has no energy here.")

    def weights(self, x: Units) -> Units:
        """How strongly each pattern is mixed into the answer: the activation, unless a class says otherwise."""
        return self.activation(x)

    def hide(self, x: Units, seen: Tensor) -> Units:
        """x with the scores out of play where `seen`, bool, is False; a row that sees nothing stays as it is, so that it stays finite."""
        return torch.where(~seen & seen.any(-1, keepdim=True), self.null, x)

    def direction(self, x: Units) -> Units:
        """The weights up to one positive factor per row, free of overflow and of total underflow."""
        weights = self.weights(x)
        return weights / weights.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)

    def differences(self, x: Units, step: float, bound: float) -> tuple[Units, Units]:
        """Odd and even part of the change of each term f of L = Σf when its score moves by ±step; |x| + step <= bound.

        odd = (f(x+step) - f(x-step)) / 2 and even = f(x) - (f(x+step) + f(x-step)) / 2, both up to one positive factor per
        row. For scores of ±1 patterns they hold the exact energy difference of every single flip. TypeError if L is no sum.
        """
        raise TypeError(f"{type(self).__name__}.differences: this Lagrangian is no sum over units, so single flips have no short form.")

    def steepness(self, step: float) -> float:
        """How many times a term's change over one step can exceed its change over the step before: what `differences` loses to rounding.

        Whole-numbered scores are meant, whose smallest step is from 1 to 1 + step.
        """
        raise TypeError(f"{type(self).__name__}.steepness: this Lagrangian is no sum over units, so single flips have no short form.")

    def contrast(self, plus: Units, minus: Units) -> Lead:
        """A number with the sign of L(plus) - L(minus), right also where the values themselves overflow."""
        return self.value(plus) - self.value(minus)

    def extra_repr(self) -> str:
        """The arguments of the constructor, as `print(memory)` shows them."""
        names = ("n", "unit", "alpha", "beta", "gamma", "theta", "eps")
        return ", ".join(f"{name}={float(torch.as_tensor(getattr(self, name)).detach()):g}" for name in names if hasattr(self, name))

    def forward(self, x: Units) -> Units:
        """The activation, so that a Lagrangian serves as a layer."""
        return self.activation(x)


def gain(where: str, name: str, value: float, learnable: bool) -> nn.Parameter | float:
    """A positive factor such as β: a number, or a parameter if it is to be learned."""
    check_positive(where, name, value)
    return nn.Parameter(torch.tensor(float(value))) if learnable else float(value)


def times(beta: Tensor | float, x: Units) -> Units:
    """β x. A learned β gets no gradient of what is hidden, -inf, which stays so; β times -inf would give it NaN."""
    if not isinstance(beta, Tensor):
        return beta * x
    hidden = x == -math.inf
    return torch.where(hidden, -math.inf, beta * torch.where(hidden, 0, x))


def _outside(size: Tensor, limit: Tensor | float) -> Tensor:
    """0 up to the limit, with room for rounding, and infinite beyond: the dual of a bounded activation."""
    allowed = limit * (1 + torch.finfo(size.dtype).eps ** 0.75)
    return torch.where(size <= allowed, torch.zeros_like(size), torch.full_like(size, torch.inf))


class Identity(Lagrangian):
    """L = |x|²/2; activation x."""

    def value(self, x: Units) -> Lead:
        return x.square().sum(-1) / 2

    def activation(self, x: Units) -> Units:
        return x

    def dual(self, g: Units) -> Lead:
        return g.square().sum(-1) / 2

    def differences(self, x: Units, step: float, bound: float) -> tuple[Units, Units]:
        return x * step, torch.full_like(x, -(step**2) / 2)

    def steepness(self, step: float) -> float:
        return 1 + step


class Sign(Lagrangian):
    """L = Σ|x|; activation sign(x) with sign(0) = +1; the dual is 0 on [-1, 1] and infinite beyond."""

    scale_free = True

    def value(self, x: Units) -> Lead:
        return x.abs().sum(-1)

    def activation(self, x: Units) -> Units:
        # the gradient of |x|, with the tie at 0 broken to +1 as everywhere in this library
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))

    def dual(self, g: Units) -> Lead:
        return _outside(g.abs().amax(-1), 1.0)


class Sigmoid(Lagrangian):
    """L = Σ softplus(βx)/β; activation sigmoid(βx)."""

    null = -math.inf

    def __init__(self, beta: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        self.beta, self.learnable = gain("Sigmoid", "beta", beta, learnable), learnable

    def value(self, x: Units) -> Lead:
        return functional.softplus(times(self.beta, x)).sum(-1) / self.beta

    def activation(self, x: Units) -> Units:
        return torch.sigmoid(times(self.beta, x))

    def dual(self, g: Units) -> Lead:
        return (torch.xlogy(g, g) + torch.xlogy(1 - g, 1 - g)).sum(-1) / self.beta


class Tanh(Lagrangian):
    """L = Σ log cosh(βx)/β; activation tanh(βx)."""

    def __init__(self, beta: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        self.beta, self.learnable = gain("Tanh", "beta", beta, learnable), learnable

    def value(self, x: Units) -> Lead:
        # log cosh(z) = |z| + softplus(-2|z|) - log 2: no overflow
        z = (self.beta * x).abs()
        return (z + functional.softplus(-2 * z) - math.log(2)).sum(-1) / self.beta

    def activation(self, x: Units) -> Units:
        return torch.tanh(self.beta * x)

    def dual(self, g: Units) -> Lead:
        return (torch.xlogy(1 + g, 1 + g) + torch.xlogy(1 - g, 1 - g)).sum(-1) / (2 * self.beta)


class LayerNorm(Lagrangian):
    """L = D γ sqrt(var(x) + ε) + δ·x over the D units; activation γ (x - mean)/sqrt(var + ε) + δ (Hoover et al. 2023).

    γ is a scalar: with one per unit the layer norm is the gradient of nothing.
    """

    def __init__(self, gamma: float = 1.0, eps: float = 1e-5, delta: Tensor | None = None, learnable: bool = False) -> None:
        super().__init__()
        check_positive("LayerNorm", "eps", eps)
        self.gamma, self.eps, self.learnable = gain("LayerNorm", "gamma", gamma, learnable), float(eps), learnable
        self.delta: Tensor | None
        if learnable and delta is not None:
            self.delta = nn.Parameter(delta.detach().clone())
        else:
            self.register_buffer("delta", delta)

    def value(self, x: Units) -> Lead:
        spread = x.shape[-1] * self.gamma * self._deviation(x).squeeze(-1)
        return spread if self.delta is None else spread + (self.delta * x).sum(-1)

    def activation(self, x: Units) -> Units:
        normal = self.gamma * (x - x.mean(-1, keepdim=True)) / self._deviation(x)
        return normal if self.delta is None else normal + self.delta

    def _deviation(self, x: Tensor) -> Tensor:
        return torch.sqrt(x.var(-1, correction=0, keepdim=True) + self.eps)


class Sphere(Lagrangian):
    """L = γ sqrt(|x|² + ε); activation γ x/sqrt(|x|² + ε), on or inside the sphere of radius γ; at ε = 0 and x = 0 it is 0.

    The dual is infinite outside the sphere, where no activation can be.
    """

    def __init__(self, gamma: float = 1.0, eps: float = 0.0, learnable: bool = False) -> None:
        super().__init__()
        if not 0 <= eps < math.inf:
            raise ValueError(f"Sphere: eps must be >= 0 and finite, got {eps}.")
        self.gamma, self.eps, self.learnable = gain("Sphere", "gamma", gamma, learnable), float(eps), learnable
        self.scale_free = eps == 0

    def value(self, x: Units) -> Lead:
        return self.gamma * self._length(x).squeeze(-1)

    def activation(self, x: Units) -> Units:
        return self.gamma * x / self._length(x).clamp_min(torch.finfo(x.dtype).tiny)

    def dual(self, g: Units) -> Lead:
        length: Tensor = torch.linalg.vector_norm(g, dim=-1)
        inside = torch.sqrt(self.eps * (self.gamma**2 - length.square()).clamp_min(0))
        return _outside(length, self.gamma) - inside

    def _length(self, x: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        # hypot: the square of a long vector would overflow where its length does not
        return length if self.eps == 0 else torch.hypot(length, torch.full_like(length, self.eps**0.5))


class Winners(Lagrangian):
    """L = sum of the k largest inputs of each of `groups` equal groups; its gradient is 1 on them. Of equal inputs the first win."""

    scale_free = True

    def __init__(self, k: int = 1, groups: int = 1) -> None:
        super().__init__()
        check_count("Winners", "k", k)
        check_count("Winners", "groups", groups)
        self.k, self.groups = k, groups

    def value(self, x: Units) -> Lead:
        return (self.activation(x) * x).sum(-1)

    def activation(self, x: Units) -> Units:
        if x.shape[-1] % self.groups or x.shape[-1] // self.groups < self.k:
            raise ValueError(f"Winners: {x.shape[-1]} units do not make {self.groups} equal groups of at least k = {self.k} units.")
        apart = x.reshape(*x.shape[:-1], self.groups, x.shape[-1] // self.groups)
        # of equal entries both ways take the first; one winner needs no order
        if self.k == 1:
            first = apart.max(dim=-1, keepdim=True).indices
        else:
            first = apart.argsort(dim=-1, descending=True, stable=True)[..., : self.k]
        return torch.zeros_like(apart).scatter(-1, first, 1.0).flatten(-2)

    def dual(self, g: Units) -> Lead:
        return torch.zeros_like(g[..., 0])
