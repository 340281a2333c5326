"""Adaptive: gradient flow whose step is shortened until the energy does not rise, item by item (backtracking; Armijo 1966).

Near a minimum energies differ by less than their rounding. There the mean of the slopes at both ends of a step tells whether it leads
down (Hager & Zhang 2005), and no energy may exceed the lowest one passed by more than rounding, so that rises cannot add up.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ammon.dynamics.integrators import Motion
from ammon.dynamics.packed import Packed
from ammon.shapes import check_positive

# the least fall of the energy that is enough, as a share of what the slope promises
ENOUGH = 0.1


@dataclass(frozen=True)
class Adaptive:
    """x += (1 - exp(-step/tau)) · (-dE/dg), the step halved until the energy does not rise, and doubled after it fitted at once.

    That is exact for an input that does not change (exponential Euler), and a step however long leads no farther than to where the input
    leaves a layer. The energy never rises, whatever the step and the network. An item that no step can lower stays and is `stalled`.
    halvings: tried at most in one step.
    """

    step: float = 1.0
    halvings: int = 40

    def __post_init__(self) -> None:
        check_positive("Adaptive", "step", self.step)
        if not isinstance(self.halvings, int) or self.halvings < 1:
            raise ValueError(f"Adaptive: halvings must be a whole number of at least 1, got {self.halvings!r}.")

    def begin(self, field: Packed, generator: torch.Generator | None) -> Motion:
        return _Backtracking(field, self)


@dataclass
class _Place:
    """What is known at some states: energy [row] and the rounding in it, activations and drift [row, unit]."""

    energy: Tensor
    rounding: Tensor
    activations: Tensor
    drift: Tensor

    def of(self, index: Tensor) -> "_Place":
        return _Place(*(held[index] for held in vars(self).values()))

    def put(self, index: Tensor, other: "_Place") -> "_Place":
        return _Place(*(mine.index_copy(0, index, theirs) for mine, theirs in zip(vars(self).values(), vars(other).values())))


class _Backtracking:
    def __init__(self, field: Packed, how: Adaptive) -> None:
        self.field, self.halvings = field, how.halvings
        # beyond it a layer is where its input leaves it
        self.longest = 16 / float(field.rate[field.rate > 0].amin()) if bool((field.rate > 0).any()) else 1.0
        batch = len(field.cue)
        like = field.cue.detach()
        self.size, self.taken = like.new_full((batch,), how.step), like.new_zeros(batch)
        self.lowest, self.slack = like.new_full((batch,), math.inf), like.new_full((batch,), math.inf)
        self.known: _Place | None = None

    def start(self, x: Tensor) -> Tensor:
        return x

    @torch.no_grad()
    def _find(self, x: Tensor, rows: Tensor) -> Tensor:
        """How long the step of each row is, and where it leads."""
        everyone = len(rows) == len(self.size)
        if self.known is None:
            self.known = self._look(x, rows)
            if not bool(torch.isfinite(self.known.energy).all()):
                item = int((~torch.isfinite(self.known.energy)).nonzero()[0])
                raise ValueError(
                    f"Adaptive: the energy of item {item} is {float(self.known.energy[item])} where it begins; begin elsewhere."
                )
        here = self.known if everyone else self.known.of(rows)
        self.left = here.drift
        lowest = torch.minimum(self.lowest[rows], here.energy)
        # the least rounding so far: states that grow without bound would excuse any rise
        slack = torch.minimum(self.slack[rows], here.rounding)
        size, taken, new = self.size[rows].clone(), torch.zeros_like(here.energy), x
        left = torch.arange(len(rows), device=x.device)
        for trial in range(self.halvings):
            whole = len(left) == len(rows)
            old, start, place = (x, here, rows) if whole else (x[left], here.of(left), rows[left])
            tried = self._moved(old, start.drift, size[left], place)
            there = self._look(tried, place)
            _check_floor(start, there, place)
            turned = there.activations - start.activations
            # dE along the step at its ends, the first never above 0: their mean is the change of a quadratic energy, free of its rounding
            first, last = -(start.drift * turned).sum(-1), -(there.drift * turned).sum(-1)
            down = torch.minimum(there.energy - start.energy, (first + last) / 2) <= ENOUGH * first
            fits = (there.energy <= lowest[left] + slack[left]) & down
            good = left[fits]
            taken[good] = size[good]
            if whole and bool(fits.all()):
                new, self.known = tried, there if everyone else self.known.put(rows, there)
            elif len(good):
                chosen = fits.nonzero().squeeze(-1)
                new, self.known = new.index_copy(0, good, tried[chosen]), self.known.put(rows[good], there.of(chosen))
            # a step that fitted at once may be longer next time
            if not trial:
                size[good] = torch.maximum(size[good], (2 * size[good]).clamp_max(self.longest))
            left = left[~fits]
            if not len(left):
                break
            size[left] /= 2
        self.taken[rows], self.size[rows] = taken, size
        self.lowest[rows], self.slack[rows] = torch.minimum(lowest, self.known.energy[rows]), slack
        return new

    def step(self, state: Tensor, rows: Tensor) -> Tensor:
        new = self._find(state, rows)
        if not torch.is_grad_enabled():
            return new
        moved = self.again(state, rows)
        # the very state that is known: the rounding between both would grow along stiff directions until the energy rises
        return moved + (new - moved).detach()

    def again(self, state: Tensor, rows: Tensor) -> Tensor:
        moved = self._moved(state, self.field.drift(state, rows), self.taken[rows], rows)
        # a step of no length keeps its fast layers too
        return torch.where((self.taken[rows] > 0).unsqueeze(-1), moved, state)

    def still(self, tolerance: float, least: float) -> Tensor:
        return self.field.at_rest(lambda units: self.left[:, units], tolerance)

    def _moved(self, x: Tensor, drift: Tensor, size: Tensor, rows: Tensor) -> Tensor:
        return self.field.follow(torch.addcmul(x, drift, -torch.expm1(-size.unsqueeze(-1) * self.field.rate)), rows)

    def _look(self, x: Tensor, rows: Tensor) -> _Place:
        layers = self.field.unpack(x)
        activations = self.field.flow.activations(layers)
        energy = self.field.flow.energy(layers, activations)
        g, forces = self.field.pack(activations), self.field.forces(self.field.flow.forces(activations, self.field.slow), x, rows)
        # an energy is a difference of terms of this size
        scale = energy.abs() + (x * g).abs().sum(-1) + (forces * g).abs().sum(-1)
        return _Place(energy, 16 * torch.finfo(x.dtype).eps * scale, g, forces - x)


def _check_floor(start: _Place, there: _Place, rows: Tensor) -> None:
    """Refuse to follow an energy down to minus infinity."""
    lost = ~torch.isfinite(there.energy) & (start.energy < -(torch.finfo(start.energy.dtype).max ** 0.25))
    if bool(lost.any()):
        item = int(lost.nonzero()[0])
        raise FloatingPointError(
            f"Adaptive: the energy of item {int(rows[item])} falls without end, {float(start.energy[item]):.3g} and then no longer finite; "
            "this network has no lowest energy. Bound its activations (Tanh, Softmax, Sphere) or weaken its synapses."
        )
