"""Backtracking: steps that are shortened until the energy does not rise, item by item (Armijo 1966); `Adaptive` is gradient flow by them.

Near a minimum energies differ by less than their rounding. There the mean of the slopes at both ends of a step tells whether it leads
down (Hager & Zhang 2005), and no energy may exceed the lowest one passed by more than rounding, so that rises cannot add up.
"""

import math
from collections.abc import Callable
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
        return _Flowing(field, self)


@dataclass
class Place:
    """What is known at some states: energy [row] and the rounding in it, activations g and drift -dE/dg [row, unit]."""

    energy: Tensor
    rounding: Tensor
    activations: Tensor
    drift: Tensor

    def of(self, index: Tensor) -> "Place":
        return Place(*(held[index] for held in vars(self).values()))

    def put(self, index: Tensor, other: "Place") -> "Place":
        return Place(*(mine.index_copy(0, index, theirs) for mine, theirs in zip(vars(self).values(), vars(other).values())))


class Backtracking:
    """The search that all who descend without a rise share.

    look(x, rows) tells what is known there, move(x, drift, size, rows) makes steps of these sizes [row]; activations must be monotonic in
    the states and steps go along the drift, so that its slope is never positive. size [batch]: of the first steps. longest: to which a
    step that fitted at once may be doubled. `taken` [batch] is the size of each item's last step, 0 where none leads down.
    """

    def __init__(
        self,
        where: str,
        look: Callable[[Tensor, Tensor], Place],
        move: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
        size: Tensor,
        longest: float,
        halvings: int,
    ) -> None:
        self.where, self.look, self.move, self.longest, self.halvings = where, look, move, longest, halvings
        self.size, self.taken = size, torch.zeros_like(size)
        self.known: Place | None = None

    @torch.no_grad()
    def find(self, x: Tensor, rows: Tensor) -> Tensor:
        """Where the step of each row leads. The first call has all rows; `start` is what was known at x."""
        everyone = len(rows) == len(self.size)
        if self.known is None:
            self.known = self.look(x, rows)
            if not bool(torch.isfinite(self.known.energy).all()):
                item = int((~torch.isfinite(self.known.energy)).nonzero()[0])
                raise ValueError(
                    f"{self.where}: the energy of item {item} is {float(self.known.energy[item])} where it begins; begin elsewhere."
                )
            self.lowest, self.slack = (torch.full_like(self.known.energy, math.inf) for _ in range(2))
        self.start = here = self.known if everyone else self.known.of(rows)
        lowest = torch.minimum(self.lowest[rows], here.energy)
        # the least rounding so far: states that grow without bound would excuse any rise
        slack = torch.minimum(self.slack[rows], here.rounding)
        size, new = self.size[rows].clone(), x
        taken = torch.zeros_like(size)
        left = torch.arange(len(rows), device=x.device)
        for trial in range(self.halvings):
            whole = len(left) == len(rows)
            old, start, place = (x, here, rows) if whole else (x[left], here.of(left), rows[left])
            tried = self.move(old, start.drift, size[left], place)
            there = self.look(tried, place)
            self._check_floor(start, there, place)
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

    def _check_floor(self, start: Place, there: Place, rows: Tensor) -> None:
        """Refuse to follow an energy down to minus infinity."""
        lost = ~torch.isfinite(there.energy) & (start.energy < -(torch.finfo(start.energy.dtype).max ** 0.25))
        if bool(lost.any()):
            item = int(lost.nonzero()[0])
            raise FloatingPointError(
                f"{self.where}: the energy of item {int(rows[item])} falls without end, {float(start.energy[item]):.3g} and then no longer "
                "finite; this network has no lowest energy. Bound its activations (Tanh, Softmax, Sphere) or weaken its synapses."
            )


def held_to(new: Tensor, moved: Tensor) -> Tensor:
    """The very state that was judged, with the gradient of the same step `moved`.

    The rounding between both would grow along stiff directions until the energy rises.
    """
    return moved + (new - moved).detach()


class _Flowing:
    """Gradient flow of a packed network by such steps."""

    def __init__(self, field: Packed, how: Adaptive) -> None:
        self.field = field
        # beyond it a layer is where its input leaves it
        longest = 16 / float(field.rate[field.rate > 0].amin()) if bool((field.rate > 0).any()) else 1.0
        size = field.cue.detach().new_full((len(field.cue),), how.step)
        self.search = Backtracking("Adaptive", self._look, self._moved, size, longest, how.halvings)

    def start(self, x: Tensor) -> Tensor:
        return x

    def step(self, state: Tensor, rows: Tensor) -> Tensor:
        new = self.search.find(state, rows)
        return held_to(new, self.again(state, rows)) if torch.is_grad_enabled() else new

    def again(self, state: Tensor, rows: Tensor) -> Tensor:
        taken = self.search.taken[rows]
        moved = self._moved(state, self.field.drift(state, rows), taken, rows)
        # a step of no length keeps its fast layers too
        return torch.where((taken > 0).unsqueeze(-1), moved, state)

    def still(self, tolerance: float, least: float) -> Tensor:
        return self.field.at_rest(lambda units: self.search.start.drift[:, units], tolerance)

    def _moved(self, x: Tensor, drift: Tensor, size: Tensor, rows: Tensor) -> Tensor:
        return self.field.follow(torch.addcmul(x, drift, -torch.expm1(-size.unsqueeze(-1) * self.field.rate)), rows)

    def _look(self, x: Tensor, rows: Tensor) -> Place:
        layers = self.field.unpack(x)
        activations = self.field.flow.activations(layers)
        energy = self.field.flow.energy(layers, activations)
        g, forces = self.field.pack(activations), self.field.forces(self.field.flow.forces(activations, self.field.slow), x, rows)
        # an energy is a difference of terms of this size
        scale = energy.abs() + (x * g).abs().sum(-1) + (forces * g).abs().sum(-1)
        return Place(energy, 16 * torch.finfo(x.dtype).eps * scale, g, forces - x)
