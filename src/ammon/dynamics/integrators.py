"""Integrators of tau dx/dt = -dE/dg: how the states of a network move in one step. Rows [row, unit] of a packed network.

Each is a frozen record of its arguments; `begin` gives the motion of one batch, which keeps what a single item carries along.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ammon.dynamics.packed import Packed
from ammon.shapes import check_count, check_positive


class Motion(Protocol):
    """The steps of one batch. A state is [x, and what the integrator needs beside it]."""

    def start(self, x: Tensor) -> Tensor:
        """The state with which x begins."""
        ...

    def step(self, state: Tensor, rows: Tensor) -> Tensor:
        """The state of these rows after one step."""
        ...

    def again(self, state: Tensor, rows: Tensor) -> Tensor:
        """The last step of each row once more, from the state before it."""
        ...

    def still(self, tolerance: float, least: float) -> Tensor:
        """Which of the rows of the last step had no entry of dE/dg above the tolerance left before it [row].

        least: in each row some unit moved by more than that and rounding, which may be enough to say that none had.
        """
        ...


class Integrator(Protocol):
    """How to move."""

    def begin(self, field: Packed, generator: torch.Generator | None) -> Motion:
        """The motion of a batch."""
        ...


@dataclass(frozen=True)
class Euler:
    """x += step/tau · (-dE/dg). With step = tau each layer goes to where its input leaves it, all layers together.

    The energy never rises if the step is short enough; how short depends on the network.
    """

    step: float = 0.5

    def __post_init__(self) -> None:
        check_positive("Euler", "step", self.step)

    def begin(self, field: Packed, generator: torch.Generator | None) -> Motion:
        return _Straight(field, self.step)


@dataclass(frozen=True)
class Momentum:
    """The heavy ball: v = momentum · v + step/tau · (-dE/dg), x += v (Polyak 1964). The energy may rise on the way."""

    step: float = 0.2
    momentum: float = 0.8

    def __post_init__(self) -> None:
        check_positive("Momentum", "step", self.step)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"Momentum: momentum must be in [0, 1), got {self.momentum}.")

    def begin(self, field: Packed, generator: torch.Generator | None) -> Motion:
        return _Rolling(field, self.step, self.momentum)


@dataclass(frozen=True)
class Langevin:
    """Euler with noise: x += step/tau · (-dE/dg) + sqrt(2 temperature step/tau) · normal.

    Layers of identity neurons then come to exp(-E/temperature), for short steps; others are shaken, and sample no such law.
    cooling: the temperature falls evenly to 0 over so many steps, and the descent ends as Euler's (annealing); None keeps it.
    An item stops only once it is cold. One generator draws for the whole batch, so the noise of an item depends on its place there.
    """

    step: float = 0.1
    temperature: float = 1.0
    cooling: int | None = None

    def __post_init__(self) -> None:
        check_positive("Langevin", "step", self.step)
        check_positive("Langevin", "temperature", self.temperature)
        if self.cooling is not None:
            check_count("Langevin", "cooling", self.cooling)

    def begin(self, field: Packed, generator: torch.Generator | None) -> Motion:
        if generator is None:
            raise ValueError("Langevin: noise needs a generator; descend(..., generator=torch.Generator().manual_seed(0)).")
        return _Shaken(field, self, generator)


@dataclass(frozen=True)
class FixedPoint:
    """Layer after layer goes to where its input leaves it, and each sees those before it; tau does not matter.

    order: the layers in the order of their turns; by default from the last to the first, so that a cue in the first fills the others.
    The energy never rises if every synapse is linear or concave in each single layer: dense and many-body between different layers,
    convolution, mean pooling, bias, stored patterns with dot products and a convex separation.
    """

    order: tuple[str, ...] | None = None

    def begin(self, field: Packed, generator: torch.Generator | None) -> Motion:
        unknown = [name for name in self.order or () if name not in field.names]
        if unknown:
            raise ValueError(f"FixedPoint: order names {unknown[0]!r}, which is no layer; the layers are {', '.join(field.names)}.")
        return _InTurn(field, list(self.order or reversed(field.names)))


class _Straight:
    def __init__(self, field: Packed, step: float) -> None:
        self.field, self.length = field, step

    def start(self, x: Tensor) -> Tensor:
        return x

    def step(self, state: Tensor, rows: Tensor) -> Tensor:
        moved = self.field.towards(state, self.length, rows)
        self.last = state.detach(), moved.detach(), rows
        return self.field.follow(moved, rows)

    def again(self, state: Tensor, rows: Tensor) -> Tensor:
        return self.step(state, rows)

    def still(self, tolerance: float, least: float) -> Tensor:
        return self.field.rested(*self.last, self.length, tolerance, least)


class _Rolling:
    def __init__(self, field: Packed, step: float, momentum: float) -> None:
        self.field, self.scaled, self.momentum = field, field.rate * step, momentum

    def start(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x)], -1)

    def step(self, state: Tensor, rows: Tensor) -> Tensor:
        x, velocity = state.chunk(2, -1)
        drift = self.field.drift(x, rows)
        velocity = torch.addcmul(self.momentum * velocity, drift, self.scaled)
        self.last = torch.cat([drift, velocity], -1).detach()
        return torch.cat([self.field.follow(x + velocity, rows), velocity], -1)

    def again(self, state: Tensor, rows: Tensor) -> Tensor:
        return self.step(state, rows)

    def still(self, tolerance: float, least: float) -> Tensor:
        return self.field.at_rest(lambda units: self.last[:, units], tolerance)


class _Shaken:
    def __init__(self, field: Packed, how: Langevin, generator: torch.Generator) -> None:
        self.field, self.how, self.generator = field, how, generator
        self.done, self.left = 0, 1.0
        self.noise = torch.zeros_like(field.cue)

    def start(self, x: Tensor) -> Tensor:
        return x

    def step(self, state: Tensor, rows: Tensor) -> Tensor:
        self.left = 1.0 if self.how.cooling is None else max(0.0, 1 - self.done / self.how.cooling)
        self.done += 1
        if self.left:
            drawn = torch.randn(self.noise.shape, generator=self.generator, device=self.generator.device, dtype=torch.float32)
            self.noise = drawn.to(self.noise) * (2 * self.how.temperature * self.left * self.how.step * self.field.rate).sqrt()
        else:
            self.noise = torch.zeros_like(self.noise)
        return self.again(state, rows)

    def again(self, state: Tensor, rows: Tensor) -> Tensor:
        moved = self.field.towards(state, self.how.step, rows)
        self.last = state.detach(), moved.detach(), rows
        return self.field.follow(self.field.hold(moved + self.noise[rows], state, rows), rows)

    def still(self, tolerance: float, least: float) -> Tensor:
        if self.left:
            return torch.zeros_like(self.last[-1], dtype=torch.bool)
        return self.field.rested(*self.last, self.how.step, tolerance, least)


class _InTurn:
    def __init__(self, field: Packed, order: list[str]) -> None:
        self.field, self.order = field, order

    def start(self, x: Tensor) -> Tensor:
        return x

    def step(self, state: Tensor, rows: Tensor) -> Tensor:
        flow, layers = self.field.flow, self.field.unpack(state)
        activations = flow.activations(layers)
        masks = None if self.field.clamped is None else self.field.unpack(self.field.clamped[rows])
        for name in self.order:
            new = flow.forces(activations, [name])[name]
            layers[name] = new if masks is None else torch.where(masks[name], layers[name], new)
            activations[name] = flow.activations(layers)[name]
        moved = self.field.pack(layers)
        self.last = state.detach(), moved.detach()
        return moved

    def again(self, state: Tensor, rows: Tensor) -> Tensor:
        return self.step(state, rows)

    def still(self, tolerance: float, least: float) -> Tensor:
        old, new = self.last
        return self.field.at_rest(lambda units: new[:, units] - old[:, units], tolerance)
