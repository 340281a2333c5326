"""Packed: the layers of a network side by side in one row per item, so that whatever settles rows settles networks.

States [batch, unit], unit over all layers. A flow is anything with layers, an energy and forces: dynamics know no energy by name.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import torch
from torch import Tensor

Layers = Mapping[str, Tensor]
Clamp = Mapping[str, Tensor | bool]
# units of an item, side by side, that are looked at before all are
SAMPLE = 8


class Flow(Protocol):
    """What can descend: layers with states x and activations g, and an energy E with dE/dg = x - force."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each layer, without the batch."""
        ...

    @property
    def tau(self) -> dict[str, float]:
        """The time constant of each layer; 0 follows at once."""
        ...

    def activations(self, states: Layers) -> dict[str, Tensor]:
        """g of each layer [batch, *shape]."""
        ...

    def forces(self, activations: Layers, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        """What feeds these layers [batch, *shape]."""
        ...

    def relax(self, states: Layers, into: Layers, shares: Mapping[str, float]) -> None:
        """into ← states + share · (force - states) for the layers that have a share, without gradients."""
        ...

    def energy(self, states: Layers, activations: Layers | None = None) -> Tensor:
        """E [batch]."""
        ...

    def check_states(self, where: str, states: Layers) -> None:
        """Refuse states that are not of this network."""
        ...


def largest(rows: Tensor) -> Tensor:
    """The largest |entry| of each row, 0 of none."""
    return rows.detach().abs().amax(-1) if rows.shape[-1] else rows.new_zeros(len(rows))


class Packed:
    """A flow over rows. `cue` [batch, unit] is where it begins, `clamped` [batch, unit] says which entries stay (None: none).

    keep: all states that are passed through may be kept; without, at most the present one and the one before it.
    """

    def __init__(self, flow: Flow, states: Layers, clamp: Clamp | None, keep: bool = True) -> None:
        self.keep, self.ring, self.turn = keep, list[Tensor](), 0
        self.flow, self.names = flow, list(flow.shapes)
        self.shapes = flow.shapes
        flat = [states[name].flatten(1) for name in self.names]
        self.sizes = [rows.shape[1] for rows in flat]
        self.cue = torch.cat(flat, -1)
        self.clamped = None if not clamp else torch.cat([self._clamp(name, states[name], clamp) for name in self.names], -1)
        held = {name for name in self.names if clamp and clamp.get(name) is True}
        self.fast = [name for name in self.names if not flow.tau[name] and name not in held]
        self.slow = [name for name in self.names if flow.tau[name] and name not in held]
        self.rates = {name: 1 / flow.tau[name] for name in self.slow}
        self.rate = torch.cat([self.cue.new_full((size,), self.rates.get(name, 0.0)) for size, name in zip(self.sizes, self.names)])
        self.sample, self.rounding = self._sample(), 4 * torch.finfo(self.cue.dtype).eps
        # units that are not slow move otherwise
        self.fastest = max(self.rates.values()) if bool(self.rate[self.sample].all()) else math.inf

    def pack(self, layers: Layers) -> Tensor:
        """One row per item."""
        return torch.cat([layers[name].flatten(1) for name in self.names], -1)

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """The layers of rows [*lead, unit], as [*lead, *shape]."""
        layers = dict(zip(self.names, rows.split_with_sizes(self.sizes, -1)))
        for name, shape in self.shapes.items():
            if len(shape) > 1:
                layers[name] = layers[name].view(*rows.shape[:-1], *shape)
        return layers

    def some(self, rows: Tensor) -> Tensor:
        """A copy of a few units of each row that lie side by side, [unit, row], as maxima are then taken fast: mostly they tell enough."""
        return rows.detach()[:, self.sample].T.clone(memory_format=torch.contiguous_format)

    def follow(self, x: Tensor, rows: Tensor) -> Tensor:
        """x with its fast layers where their input leaves them."""
        if not self.fast:
            return x
        layers = self.unpack(x)
        layers |= self.flow.forces(self.flow.activations(layers), self.fast)
        return self.hold(self.pack(layers), x, rows)

    def feed(self, x: Tensor) -> dict[str, Tensor]:
        """What feeds the slow layers, layer by layer."""
        return self.flow.forces(self.flow.activations(self.unpack(x)), self.slow)

    def forces(self, fed: Layers, x: Tensor, rows: Tensor) -> Tensor:
        """What feeds the slow layers, packed; x itself in all the others and where it is clamped."""
        layers = self.unpack(x) if len(self.slow) < len(self.names) else {}
        return self.hold(self.pack({**layers, **fed}), x, rows)

    def drift(self, x: Tensor, rows: Tensor) -> Tensor:
        """-dE/dg of what may move, 0 elsewhere."""
        return self.forces(self.feed(x), x, rows) - x

    def towards(self, x: Tensor, step: float, rows: Tensor) -> Tensor:
        """x + step/tau · (fed - x), clamped entries and layers that are not slow as they were."""
        layers, shares = self.unpack(x), {name: step * rate for name, rate in self.rates.items()}
        if torch.is_grad_enabled():
            fed = self.flow.forces(self.flow.activations(layers), self.slow)
            moved = {name: layers[name] + shares[name] * (fed[name] - layers[name]) for name in self.slow}
            return self.hold(self.pack({**layers, **moved}), x, rows)
        new = self._room(x)
        if len(self.slow) < len(self.names):
            new.copy_(x)
        self.flow.relax(layers, self.unpack(new), shares)
        return self.hold(new, x, rows)

    def rested(self, old: Tensor, new: Tensor, rows: Tensor, step: float, tolerance: float, least: float) -> Tensor:
        """Which rows had no entry of dE/dg above the tolerance at `old`, from where a step of this size led to `new`.

        least: in each row some of the few units moved farther than that. Mostly it tells that no row is at rest, else how far all units
        moved; of the rows that are left the forces are asked for once more.
        """
        if least > step * tolerance * self.fastest:
            return torch.zeros_like(rows, dtype=torch.bool)
        near = ((new - old).abs_() <= torch.add(step * tolerance * self.rate, old.abs(), alpha=self.rounding)).all(-1)
        index = near.nonzero().squeeze(-1)
        if len(index):
            near[index] = largest(self.drift(old[index], rows[index])) <= tolerance
        return near

    def at_rest(self, left: Callable[[slice], Tensor], tolerance: float) -> Tensor:
        """Which rows have no entry above the tolerance. left(units) gives their entries there: mostly a few tell enough."""
        few = largest(left(self.sample)) <= tolerance
        return few if not bool(few.any()) else largest(left(slice(None))) <= tolerance

    def hold(self, new: Tensor, old: Tensor, rows: Tensor) -> Tensor:
        """The new states, the old ones where they are clamped."""
        return new if self.clamped is None else torch.where(self.clamped[rows], old, new)

    def known(self, x: Tensor, rows: Tensor) -> Tensor:
        """x, the cue where it is clamped."""
        return x if self.clamped is None else torch.where(self.clamped[rows], self.cue[rows], x)

    def _room(self, x: Tensor) -> Tensor:
        """Where a new state is written: unless all are kept, where that of three steps ago was. Fresh memory costs more than a sum."""
        if self.keep or x.shape != self.cue.shape:
            return torch.empty_like(x)
        if len(self.ring) < 3:
            self.ring.append(torch.empty_like(x))
            return self.ring[-1]
        self.turn += 1
        return self.ring[(self.turn - 1) % 3]

    def _sample(self) -> slice:
        """Of all stretches of so many units the one that may move most freely; of equals the middle one."""
        size = min(SAMPLE, self.cue.shape[1])
        free = (self.rate > 0).float() if self.clamped is None else (~self.clamped).float().sum(0) * (self.rate > 0)
        stretches = free[: len(free) // size * size].view(-1, size).sum(-1)
        best = (stretches == stretches.max()).nonzero().squeeze(-1)
        start = size * int(best[len(best) // 2])
        return slice(start, start + size)

    def _clamp(self, name: str, x: Tensor, clamp: Clamp) -> Tensor:
        mask = clamp.get(name, False)
        if isinstance(mask, bool):
            return torch.full((len(x), x[0].numel() if len(x) else 0), mask, dtype=torch.bool, device=x.device)
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) not in (tuple(x.shape), tuple(x.shape[1:])):
            got = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
            raise ValueError(
                f"descend: clamp[{name!r}] must be True, or a bool tensor of the layer's shape {list(x.shape[1:])}, "
                f"with or without the batch of {len(x)} in front, got {got}."
            )
        return mask.expand(x.shape).flatten(1)
