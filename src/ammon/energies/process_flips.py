"""Process flips: the exact energy difference of every single flip of ±1 neurons whose synapses and processes are at rest.

E(s) = -q·M⁻¹q/4D³ with q = (Ξs)² and M the coupling of the processes; M = 1 is a dense memory of power 4. With h = Ξs without a unit's own
part E(s_i = -1) - E(s_i = +1) = 2 (h ξ_i)·M⁻¹(h² + 1)/D³. States [batch, dim], patterns [pattern, dim], overlaps [batch, pattern].
"""

from copy import copy

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.shapes import Index, Rows

# numbers that the units of one question may hold at once
ROOM = 2**24


class ProcessFlips:
    """What a sweep asks; `mixing` is M⁻¹ [pattern, pattern]."""

    def __init__(self, patterns: Rows, mixing: Float[Tensor, "pattern pattern"]) -> None:
        self.units = patterns.mT.contiguous()  # [dim, pattern]
        self.mixing = mixing

    def arrange(self, order: Index) -> "ProcessFlips":
        """The same, its units in this order."""
        arranged = copy(self)
        arranged.units = self.units[order]
        return arranged

    def begin(self, state: Tensor) -> Float[Tensor, "row pattern"]:
        """The overlaps of the states."""
        return state.to(self.units) @ self.units

    def field(self, carried: Tensor, spins: Tensor, units: slice) -> Float[Tensor, "row unit"]:
        """A positive multiple of E(s_i = -1) - E(s_i = +1) of each of `units`, its own vote left out."""
        return self._differences(carried.unsqueeze(1), spins, units)

    def field_after(self, carried: Tensor, last: Tensor, spins: Tensor, units: slice) -> Float[Tensor, "item unit"]:
        """The same where each unit has its own row of `carried`, named by `last`."""
        return self._differences(carried[last], spins, units)

    def change(self, units: Index, new: Float[Tensor, " index"]) -> Float[Tensor, "index pattern"]:
        """How the overlaps move when units[k] becomes new[k], row by row."""
        return self.units[units].mul_(2 * new.to(self.units).unsqueeze(-1))

    def _differences(self, carried: Tensor, spins: Tensor, units: slice) -> Tensor:
        keys, spins = self.units[units], spins.to(carried)
        size = max(1, ROOM // max(1, len(spins) * keys.shape[1]))
        found = []
        for start in range(0, len(keys), size):
            part = slice(start, start + size)
            own = carried[:, part] if carried.shape[1] > 1 else carried
            others = own - spins[:, part].unsqueeze(-1) * keys[part]
            terms = others * keys[part] * ((others.square() + 1) @ self.mixing)
            field = terms.sum(-1)
            # what is below rounding is a tie, and must be one whatever the unit's value is now
            least = 32 * torch.finfo(field.dtype).eps * terms.abs().sum(-1)
            found.append(torch.where(field.abs() > least, field, torch.zeros_like(field)))
        return torch.cat(found, 1)
