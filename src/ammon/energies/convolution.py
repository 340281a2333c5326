"""Synapses between layers of neurons in space: convolution and pooling, in one dimension or two.

Layers [channel, length] or [channel, height, width]; activations have the batch in front.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional, grad

from ammon.energies.base import Places, Shape, Synapse, places
from ammon.energies.synapses import check_joined, hold
from ammon.shapes import Energies, check_count


class Convolution(Synapse):
    """E = -<g2, kernel * g1>: g1 looks at g2 through one kernel [channel2, channel1, size] or [channel2, channel1, height, width]."""

    kernel: Tensor

    def __init__(self, kernel: Tensor, stride: int = 1, padding: int = 0, learnable: bool = False) -> None:
        super().__init__()
        hold(self, "kernel", kernel, learnable)
        if kernel.ndim not in (3, 4):
            raise ValueError(
                "Convolution: the kernel must be [channel2, channel1, size] or [channel2, channel1, height, width], "
                f"got {list(kernel.shape)}."
            )
        check_count("Convolution", "stride", stride)
        if not isinstance(padding, int) or padding < 0:
            raise ValueError(f"Convolution: padding must be a whole number of 0 or more, got {padding!r}.")
        self.stride, self.padding, self.learnable = stride, padding, learnable

    def forward(self, *activations: Tensor) -> Energies:
        first, second = activations
        return -(self._seen(first) * second).flatten(1).sum(-1)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        first, second = activations
        fed = (lambda: _adjoint(first, self.kernel, second, self.stride, self.padding), lambda: self._seen(first))
        return tuple(fed[place]() for place in places(at, activations))

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, 2)
        sizes = tuple(self.kernel.shape[2:])
        needed = _after(where, shapes[0], sizes, self.stride, self.padding)
        if shapes[0][0] != self.kernel.shape[1]:
            raise ValueError(f"{where}: the kernel sees {self.kernel.shape[1]} channels, the first layer has {shapes[0][0]}.")
        if shapes[1] != (self.kernel.shape[0], *needed):
            raise ValueError(
                f"{where}: the kernel makes {[self.kernel.shape[0], *needed]} of the first layer, the second is {list(shapes[1])}."
            )

    def _seen(self, first: Tensor) -> Tensor:
        convolve = functional.conv1d if self.kernel.ndim == 3 else functional.conv2d
        return convolve(first, self.kernel, stride=self.stride, padding=self.padding)


class Pooling(Synapse):
    """E = -<g2, pool(g1)>, the mean or the maximum over windows of `size`, which lie `stride` apart (side by side by default)."""

    def __init__(self, size: int, stride: int | None = None, kind: Literal["mean", "maximum"] = "mean") -> None:
        super().__init__()
        check_count("Pooling", "size", size)
        if stride is not None:
            check_count("Pooling", "stride", stride)
        if kind not in ("mean", "maximum"):
            raise ValueError(f'Pooling: kind must be "mean" or "maximum", got {kind!r}.')
        self.size, self.stride, self.kind = size, stride or size, kind

    def forward(self, *activations: Tensor) -> Energies:
        first, second = activations
        return -(self._pooled(first) * second).flatten(1).sum(-1)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        first, second = activations
        fed = (lambda: self._spread(first, second), lambda: self._pooled(first))
        return tuple(fed[place]() for place in places(at, activations))

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, 2)
        if len(shapes[0]) not in (2, 3):
            raise ValueError(f"{where}: the first layer must be [channel, length] or [channel, height, width], got {list(shapes[0])}.")
        needed = (shapes[0][0], *_after(where, shapes[0], (self.size,) * (len(shapes[0]) - 1), self.stride, 0))
        if shapes[1] != needed:
            raise ValueError(f"{where}: pooling makes {list(needed)} of the first layer, the second is {list(shapes[1])}.")

    def extra_repr(self) -> str:
        return f"size={self.size}, stride={self.stride}, kind={self.kind!r}"

    def _pooled(self, first: Tensor) -> Tensor:
        if self.kind == "maximum":
            return (functional.max_pool1d if first.ndim == 3 else functional.max_pool2d)(first, self.size, self.stride)
        return (functional.avg_pool1d if first.ndim == 3 else functional.avg_pool2d)(first, self.size, self.stride)

    def _spread(self, first: Tensor, second: Tensor) -> Tensor:
        """What each neuron of the second layer sends back to those it is pooled from."""
        if self.kind == "mean":
            sizes = (self.size,) * (first.ndim - 2)
            even = first.new_full((first.shape[1], 1, *sizes), 1 / self.size ** len(sizes))
            return _adjoint(first, even, second, self.stride, 0, first.shape[1])
        pool = functional.max_pool1d if first.ndim == 3 else functional.max_pool2d
        _, largest = pool(first, self.size, self.stride, return_indices=True)
        return torch.zeros_like(first.flatten(2)).scatter_add(2, largest.flatten(2), second.flatten(2)).reshape(first.shape)


def _adjoint(first: Tensor, kernel: Tensor, second: Tensor, stride: int, padding: int, groups: int = 1) -> Tensor:
    """What a convolution of `first` takes to it from `second`: its transpose."""
    adjoint = grad.conv1d_input if first.ndim == 3 else grad.conv2d_input
    fed: Tensor = adjoint(first.shape, kernel, second, stride=stride, padding=padding, groups=groups)  # type: ignore[no-untyped-call]
    return fed


def _after(where: str, shape: Shape, sizes: Shape, stride: int, padding: int) -> Shape:
    """The size in space of what a window of these sizes makes of a layer."""
    if len(shape) != len(sizes) + 1:
        raise ValueError(f"{where}: the first layer must have a channel axis and {len(sizes)} in space, got {list(shape)}.")
    after = tuple((length + 2 * padding - size) // stride + 1 for length, size in zip(shape[1:], sizes))
    if min(after) < 1:
        raise ValueError(f"{where}: a window of {list(sizes)} does not fit into the first layer, {list(shape)}.")
    return after
