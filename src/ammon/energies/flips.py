"""Flips: the exact energy difference of every single flip of a ±1 state, from overlaps that are kept up to date.

For patterns of ±1 a term f(ξ·s) of the energy can move only to f(ξ·s ± 2), so the differences of many units are one matrix
product (Krotov & Hopfield 2016, eq. 4, without its sum per unit):
E(s_i = -1) - E(s_i = +1) = 2 Σ_μ (ξ_i odd(h_μ) + s_i even(h_μ)), with h = Ξs.
States [batch, dim], keys [pattern, dim], overlaps h [batch, pattern].
"""

from copy import copy

from jaxtyping import Float
from torch import Tensor

from ammon.parts.lagrangians import Lagrangian
from ammon.shapes import Index

Carried = Float[Tensor, "row pattern"]
Spins = Float[Tensor, "row unit"]


class PatternFlips:
    """Fields of a memory with energy E(s) = -L(Ξs), L a sum over patterns or a monotonic function of one. Patterns must be ±1."""

    def __init__(self, keys: Tensor, separation: Lagrangian) -> None:
        # overlaps are whole numbers: below float32 they would drift after many flips
        wide = keys if keys.element_size() >= 4 else keys.float()
        # unit by unit: a block of units is then one piece of memory
        self.units = wide.mT.contiguous()  # [dim, pattern]
        self.separation = separation

    def arrange(self, order: Index) -> "PatternFlips":
        """The same, its units in this order."""
        arranged = copy(self)
        arranged.units = self.units[order]
        return arranged

    def begin(self, state: Tensor) -> Carried:
        """The overlaps of the states."""
        return state.to(self.units.dtype) @ self.units

    def field(self, carried: Carried, spins: Spins, units: slice) -> Spins:
        """Half of E(s_i = -1) - E(s_i = +1) of each of `units`, whose values are `spins`, up to a positive factor per row."""
        odd, even = self.separation.differences(carried, 2.0, len(self.units) + 2.0)
        return (odd @ self.units[units].mT).addcmul_(spins.to(odd.dtype), even.sum(-1, keepdim=True))

    def change(self, units: Index, new: Float[Tensor, " index"]) -> Carried:
        """How the overlaps move when units[k] becomes new[k], row by row."""
        return self.units[units].mul_(2 * new.to(self.units.dtype).unsqueeze(-1))

    def content(self, state: Tensor, values: Tensor) -> Tensor:
        """The values mixed by the odd part: what one unit more per entry, with these values as its patterns, would read."""
        odd, _ = self.separation.differences(self.begin(state), 2.0, len(self.units) + 2.0)
        return odd @ values.to(odd.dtype)
