"""Flips: the exact energy difference of every single flip of a ±1 state, from overlaps that are kept up to date.

For patterns of ±1 a term f(ξ·s) of the energy can move only to f(ξ·s ± 2), so the differences of many units are one matrix
product (Krotov & Hopfield 2016, eq. 4, without its sum per unit):
E(s_i = -1) - E(s_i = +1) = 2 Σ_μ (ξ_i odd(h_μ) + s_i even(h_μ)), with h = Ξs.
States [batch, dim], keys [pattern, dim], overlaps h [batch, pattern]. Items of many networks of one size: keys
[network, pattern, dim] and the network that owns each item [batch].
"""

from collections.abc import Callable
from copy import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ammon.energies.owned import Owners
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.parts.separations import Power
from ammon.shapes import Index

Carried = Float[Tensor, "row pattern"]
Spins = Float[Tensor, "item unit"]
Places = Int[Tensor, "item unit"]


# units whose scores one comparison in log space may hold at once
ROOM = 2**22


class PatternFlips:
    """Fields of a memory with energy E(s) = -L(Ξs), L a sum over patterns or a monotonic function of one. Patterns must be ±1.

    The matrix product subtracts terms that differ by up to the separation's steepness. It is taken in the keys' own precision, at
    least float32 (overlaps are whole numbers, which half precision would lose), in float64 where that is too coarse, and where
    even that is, each unit is compared in log space at the cost of one row per unit.
    """

    def __init__(self, keys: Tensor, separation: Lagrangian, owner: Index | None = None) -> None:
        steepness = separation.steepness(2.0)
        coarse = steepness > _finest(torch.float32) or keys.dtype == torch.float64
        wide = keys.to(torch.float64 if coarse else torch.float32)
        # unit by unit: a block of units is then one piece of memory
        self.units = wide.mT.contiguous()  # [*network, dim, pattern]
        self.separation = separation
        self.bound = keys.shape[-1] + 2.0
        self.steep = steepness > _finest(torch.float64)
        self.inexact = self._inexact()
        # fields are then sums over units, in whole numbers
        self.linear = (
            not self.steep
            and not self.inexact
            and (isinstance(separation, Identity) or (isinstance(separation, Power) and separation.n == 2))
        )
        self.owners = None if owner is None else Owners(owner, len(keys))
        self._couplings: dict[tuple[int, int], Tensor] = {}

    def of(self, rows: Index) -> "PatternFlips":
        """The same for these items of the batch."""
        if self.owners is None:
            return self
        some = copy(self)
        some.owners = self.owners.of(rows)
        return some

    def arrange(self, order: Index) -> "PatternFlips":
        """The same, its units in this order."""
        arranged = copy(self)
        arranged.units = self.units[..., order, :]
        arranged._couplings = {}
        return arranged

    def begin(self, state: Tensor) -> Carried:
        """The overlaps of the states."""
        return self._products(state.to(self.units.dtype), self.units.mT)

    def field(self, carried: Carried, spins: Spins, units: slice) -> Spins:
        """Half of E(s_i = -1) - E(s_i = +1) of each of `units`, whose values are `spins`, up to a positive factor per row."""
        if self.steep:
            return self._compared(carried, None, spins, units)
        odd, even = self.separation.differences(carried, 2.0, self.bound)
        product = self._products(odd, self.units[..., units, :])
        return self._without_ties(product, spins, even.sum(-1, keepdim=True), lambda: _size(odd, even).unsqueeze(-1))

    def field_after(self, carried: Carried, last: Places, spins: Spins, units: slice) -> Spins:
        """The same where each unit has its own row of `carried`, named by `last`; of one network."""
        if self.steep:
            return self._compared(carried, last, spins, units)
        odd, even = self.separation.differences(carried, 2.0, self.bound)
        keys = self.units[units]
        if len(last) == 1:
            # few of the products are asked for: neighbours with the same row share one
            rows, sizes = torch.unique_consecutive(last, return_counts=True)
            runs = zip(torch.split(keys, sizes.tolist()), rows.tolist(), strict=True)
            product = torch.cat([torch.mv(some, odd[row]) for some, row in runs]).unsqueeze(0)
        else:
            product = (odd @ keys.mT).gather(0, last)
        return self._without_ties(product, spins, even.sum(-1)[last], lambda: _size(odd, even)[last])

    def change(self, units: Index, new: Float[Tensor, " index"]) -> Carried:
        """How the overlaps move when units[k] becomes new[k], row by row."""
        sent = self.units[units] if self.owners is None else self.units[self.owners.owner, units]
        return sent.mul_(2 * new.to(self.units.dtype).unsqueeze(-1))

    def coupled(self, change: Spins, units: slice) -> Spins:
        """How the fields on `units` move when the ones of them that come before change by so much."""
        place = (units.start, units.stop)
        if place not in self._couplings:
            # kept from sweep to sweep: no larger in all than a block of units is wide, times dim
            own = self.units[..., units, :]
            factor = self.separation.differences(own.new_ones(1, 1), 2.0, self.bound)[0]
            self._couplings[place] = (own @ own.mT * factor).triu(1).mT.contiguous()
        return self._products(change, self._couplings[place])

    def moved(self, change: Spins, units: slice) -> Carried:
        """How the overlaps move when `units` change by so much."""
        return self._products(change, self.units[..., units, :].mT)

    def rounded(self, field: Spins, units: slice) -> Spins:
        """The field as it is: linear ones are whole numbers."""
        return field

    def content(self, state: Tensor, values: Tensor) -> Tensor:
        """The values mixed by the odd part: what one unit more per entry, with these values as its patterns, would read."""
        overlaps = self.begin(state)
        odd = self.separation.direction(overlaps) if self.steep else self.separation.differences(overlaps, 2.0, self.bound)[0]
        return odd @ values.to(odd.dtype)

    def _products(self, rows: Tensor, matrix: Tensor) -> Tensor:
        """rows @ matrixᵀ, each row with the matrix of its own network."""
        return rows @ matrix.mT if self.owners is None else self.owners.product(rows, matrix)

    def _compared(self, carried: Tensor, last: Tensor | None, spins: Tensor, units: slice) -> Tensor:
        """The sign of the field, each unit's two energies compared as they are."""
        keys, spins = self.units[..., units, :], spins.to(carried.dtype)
        size = max(1, ROOM // max(1, len(spins) * carried.shape[1]))
        fields = []
        for start in range(0, spins.shape[1], size):
            some = slice(start, start + size)
            each = keys[..., some, :] if self.owners is None else keys[self.owners.owner, some]
            own = carried.unsqueeze(1) if last is None else carried[last[:, some]]
            others = own - spins[:, some].unsqueeze(-1) * each
            fields.append(self.separation.contrast(others + each, others - each))
        return torch.cat(fields, dim=1)

    def _without_ties(self, product: Tensor, spins: Tensor, even: Tensor, size: Callable[[], Tensor]) -> Tensor:
        field = product.addcmul_(spins.to(product.dtype), even)
        if not self.inexact:
            return field
        # what is below rounding is a tie, and must be one whatever the unit's value is now
        return torch.where(field.abs() > 8 * torch.finfo(field.dtype).eps * size(), field, torch.zeros_like(field))

    def _inexact(self) -> bool:
        """Whether fields can be anything but whole numbers that their dtype holds exactly."""
        largest = torch.full((1, 1), self.bound - 2, dtype=self.units.dtype, device=self.units.device)
        parts = torch.cat(self.separation.differences(largest, 2.0, self.bound))
        total = self.units.shape[-1] * float(parts.abs().sum())
        return bool((parts != parts.round()).any()) or total > 1 / torch.finfo(parts.dtype).eps


def _size(odd: Tensor, even: Tensor) -> Tensor:
    """What the sums of a field are rounded by, up to eps."""
    return odd.abs().sum(-1) + even.abs().sum(-1)


def _finest(dtype: torch.dtype) -> float:
    """The steepness at which ten binary digits of a difference are still right."""
    return float(2**-10 / torch.finfo(dtype).eps)
