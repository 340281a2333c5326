"""Synapses that are products of activations: dense, low-rank, bias, many-body, and any energy you write.

Layers of any shape are taken flat, [batch, n]. Weights are fixed, unless `learnable`; drawn ones are to be learned.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ammon.energies.base import Places, Shape, Synapse, Target, places
from ammon.shapes import Energies, check_count


def hold(module: nn.Module, name: str, value: Tensor, learnable: bool) -> None:
    """Make a tensor the module's own, to be learned or not; it travels with it and is saved with it."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = f"{value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{type(module).__name__}: {name} must be a floating tensor, got a {got}.")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{type(module).__name__}: {name} holds NaN or infinite entries.")
    own = value.detach().clone()
    if learnable:
        module.register_parameter(name, nn.Parameter(own))
    else:
        module.register_buffer(name, own)


def count(shape: Shape) -> int:
    """Neurons of a layer of this shape."""
    return math.prod(shape)


class Dense(Synapse):
    """E = -g1ᵀ W g2 of two layers, W [n1, n2]. One layer named twice: E = -gᵀ W g, Hopfield's energy for W/2."""

    weight: Tensor

    def __init__(self, weight: Tensor, learnable: bool = False) -> None:
        super().__init__()
        hold(self, "weight", weight, learnable)
        self.learnable = learnable
        if weight.ndim != 2:
            raise ValueError(f"Dense: the weight must be [n1, n2], got {list(weight.shape)}.")

    @classmethod
    def drawn(cls, n1: int, n2: int, *, generator: torch.Generator, scale: float | None = None) -> "Dense":
        """Gaussian weights of standard deviation `scale`, 1/sqrt(n1 + n2) by default, to be learned."""
        check_count("Dense.drawn", "n1", n1)
        check_count("Dense.drawn", "n2", n2)
        weight = torch.randn(n1, n2, generator=generator, device=generator.device)
        return cls(weight * ((n1 + n2) ** -0.5 if scale is None else scale), learnable=True)

    def forward(self, *activations: Tensor) -> Energies:
        first, second = (g.flatten(1) for g in activations)
        # through the smaller product
        if self.weight.shape[0] >= self.weight.shape[1]:
            return -((first @ self.weight) * second).sum(-1)
        return -((second @ self.weight.mT) * first).sum(-1)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        first, second = (g.flatten(1) for g in activations)
        fed = (lambda: second @ self.weight.mT, lambda: first @ self.weight)
        return tuple(fed[place]().reshape(activations[place].shape) for place in places(at, activations))

    def relax(self, activations: Sequence[Tensor], targets: Mapping[int, Target]) -> None:
        first, second = (g.flatten(1) for g in activations)
        factors = (second, self.weight.mT), (first, self.weight)
        for place, target in targets.items():
            target.take_product(*factors[place])

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, 2)
        got = [count(shape) for shape in shapes]
        if got != list(self.weight.shape):
            raise ValueError(f"{where}: the weight is {list(self.weight.shape)}, the layers have {got[0]} and {got[1]} neurons.")


class LowRank(Synapse):
    """E = -Σ_r (g1·left_r)(g2·right_r): a dense synapse of weight left rightᵀ, left [n1, rank] and right [n2, rank]."""

    left: Tensor
    right: Tensor

    def __init__(self, left: Tensor, right: Tensor, learnable: bool = False) -> None:
        super().__init__()
        hold(self, "left", left, learnable)
        hold(self, "right", right, learnable)
        self.learnable = learnable
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
            raise ValueError(f"LowRank: left [n1, rank] and right [n2, rank] are needed, got {list(left.shape)} and {list(right.shape)}.")

    def forward(self, *activations: Tensor) -> Energies:
        first, second = (g.flatten(1) for g in activations)
        return -((first @ self.left) * (second @ self.right)).sum(-1)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        first, second = (g.flatten(1) for g in activations)
        fed = (lambda: (second @ self.right) @ self.left.mT, lambda: (first @ self.left) @ self.right.mT)
        return tuple(fed[place]().reshape(activations[place].shape) for place in places(at, activations))

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, 2)
        needed, got = [len(self.left), len(self.right)], [count(shape) for shape in shapes]
        if got != needed:
            raise ValueError(f"{where}: the weights join {needed[0]} and {needed[1]} neurons, the layers have {got[0]} and {got[1]}.")


class Bias(Synapse):
    """E = -<b, g>, b of the layer's shape: an input that never changes."""

    bias: Tensor

    def __init__(self, bias: Tensor, learnable: bool = False) -> None:
        super().__init__()
        hold(self, "bias", bias, learnable)
        self.learnable = learnable

    def forward(self, *activations: Tensor) -> Energies:
        return -(activations[0] * self.bias).flatten(1).sum(-1)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        return tuple(self.bias.expand_as(activations[place]) for place in places(at, activations))

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, 1)
        if shapes[0] != tuple(self.bias.shape):
            raise ValueError(f"{where}: the bias is {list(self.bias.shape)}, the layer {list(shapes[0])}.")


class ManyBody(Synapse):
    """E = -Σ T_ijk... g1_i g2_j g3_k ..., a tensor T [n1, n2, n3, ...] that joins as many layers as it has axes."""

    tensor: Tensor

    def __init__(self, tensor: Tensor, learnable: bool = False) -> None:
        super().__init__()
        hold(self, "tensor", tensor, learnable)
        self.learnable = learnable
        if not tensor.ndim:
            raise ValueError("ManyBody: the tensor must have an axis for each layer, got a single number.")

    def forward(self, *activations: Tensor) -> Energies:
        flat = [g.flatten(1) for g in activations]
        return -(self._fed(flat, 0) * flat[0]).sum(-1)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        flat = [g.flatten(1) for g in activations]
        return tuple(self._fed(flat, place).reshape(activations[place].shape) for place in places(at, activations))

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, self.tensor.ndim)
        got = [count(shape) for shape in shapes]
        if got != list(self.tensor.shape):
            raise ValueError(f"{where}: the tensor is {list(self.tensor.shape)}, the layers have {got} neurons.")

    def _fed(self, flat: list[Tensor], place: int) -> Tensor:
        """T with every activation but that of `place`."""
        others = self.tensor.movedim(place, 0).flatten(1)
        product = flat[0].new_ones(len(flat[0]), 1)
        for other, g in enumerate(flat):
            if other != place:
                product = (product.unsqueeze(-1) * g.unsqueeze(1)).flatten(1)
        return product @ others.mT


class Custom(Synapse):
    """Any energy: a function of the activations [batch, *shape] that gives [batch], item by item. Its pulls come from autograd.

    One that is to be saved is a class of its own, derived from `Synapse`.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"Custom: a function of activations is needed, got a {type(function).__name__}.")
        self.function = function

    def forward(self, *activations: Tensor) -> Tensor:
        return self.function(*activations)


def check_joined(where: str, shapes: tuple[Shape, ...], needed: int) -> None:
    """Refuse a connection that names more or fewer layers than its synapse joins."""
    if len(shapes) != needed:
        raise ValueError(f"{where}: the synapse joins {needed} layer{'s' * (needed > 1)}, the connection names {len(shapes)}.")
