"""Neurons: a layer of a network, with a state x, an activation g = dL/dx and the energy <x, g> - L(x) (Krotov & Hopfield 2021).

States and activations [batch, *shape].
"""

import math

from torch import Tensor, nn

from ammon.energies.base import Shape
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.shapes import Energies


class Neurons(nn.Module):
    """Neurons of any shape with a convex Lagrangian, which move as tau dx/dt = -x + what synapses feed them.

    axis: the axis of the layer, counted without the batch, over which the Lagrangian runs; its values over the other axes are summed.
    None takes all neurons together. It matters where neurons compete: softmax, layer norm, sphere.
    tau: the time constant. 0 is a layer so fast that it is always where its input leaves it: x = input, at every moment.
    """

    def __init__(self, shape: int | Shape, lagrangian: Lagrangian | None = None, tau: float = 1.0, axis: int | None = -1) -> None:
        super().__init__()
        self.shape: Shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if not self.shape or not all(isinstance(size, int) and size >= 1 for size in self.shape):
            raise ValueError(f"Neurons: shape must be one or more whole numbers of at least 1, got {shape!r}.")
        if not 0 <= tau < math.inf:
            raise ValueError(f"Neurons: tau must be 0 or more and finite, got {tau}; 0 is a layer that follows its input at once.")
        if axis is not None and not -len(self.shape) <= axis < len(self.shape):
            raise ValueError(f"Neurons: axis {axis} is none of a layer of shape {list(self.shape)}.")
        self.lagrangian = lagrangian or Identity()
        if not isinstance(self.lagrangian, Lagrangian):
            raise TypeError(f"Neurons: the Lagrangian must be an ammon.Lagrangian, got a {type(lagrangian).__name__}.")
        if not self.lagrangian.convex:
            name = f"{type(self.lagrangian).__name__}({self.lagrangian.extra_repr()})"
            raise ValueError(f"Neurons: {name} is not convex, so the energy of such neurons could rise; use a convex Lagrangian.")
        self.tau, self.axis = float(tau), axis

    def activation(self, x: Tensor) -> Tensor:
        """g = dL/dx."""
        moved = self._apart(x)
        g: Tensor = self.lagrangian.activation(moved)
        if self.axis is None:
            return g.reshape(x.shape)
        return g if moved is x else g.movedim(-1, self._place)

    def energy(self, x: Tensor, g: Tensor) -> Energies:
        """<x, g> - L(x). Its derivative by x is g - dL/dx, so 0 where g is the activation of x, and by g it is x."""
        value: Tensor = self.lagrangian.value(self._apart(x))
        return (x * g).flatten(1).sum(-1) - (value if value.ndim == 1 else value.flatten(1).sum(-1))

    def extra_repr(self) -> str:
        return f"shape={list(self.shape)}, tau={self.tau:g}" + ("" if self.axis == -1 else f", axis={self.axis}")

    @property
    def _place(self) -> int:
        assert self.axis is not None
        return 1 + self.axis % len(self.shape)

    def _apart(self, x: Tensor) -> Tensor:
        """The states with the units of the Lagrangian as last axis."""
        if self.axis is None:
            return x.flatten(1)
        return x if self._place == len(self.shape) else x.movedim(self._place, -1)
