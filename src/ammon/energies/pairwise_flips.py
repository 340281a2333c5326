"""Pairwise flips: the exact energy difference of every single flip under E(s) = -s·W s/2 - b·s, from fields kept up to date.

E(s_i = -1) - E(s_i = +1) = 2 (h_i - w_ii s_i), h = W s + b, for symmetric W: a unit never votes for itself.
States [batch, dim], weights [dim, dim], fields [batch, dim]. W need not be symmetric; there is then no energy that falls.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ammon.shapes import Index

Carried = Float[Tensor, "row dim"]
Spins = Float[Tensor, "item unit"]
Places = Int[Tensor, "item unit"]


class PairwiseFlips:
    """What a sweep asks of pairwise weights: the fields on all units are carried, and a flip adds one column of W to them."""

    def __init__(self, weights: Float[Tensor, "dim dim"], bias: Float[Tensor, " dim"] | None = None) -> None:
        wide = torch.promote_types(weights.dtype, torch.float32)
        # row j is what unit j sends: a flip then reads one piece of memory
        self.sent = weights.to(wide).mT.contiguous()
        self.bias = self.sent.new_zeros(len(self.sent)) if bias is None else bias.to(wide)
        self.own = self.sent.diagonal()
        size = self.sent.abs().sum(0) + self.bias.abs()
        whole = not bool((self.sent != self.sent.round()).any() or (self.bias != self.bias.round()).any())
        exact = whole and bool((size < 1 / torch.finfo(wide).eps).all())
        # what is below rounding is a tie, and must be one whatever the unit's value is now
        self.rounding = torch.zeros_like(size) if exact else 8 * torch.finfo(wide).eps * size

    def arrange(self, order: Index) -> "PairwiseFlips":
        """The same, its units in this order."""
        return PairwiseFlips(self.sent[order][:, order].mT, self.bias[order])

    def begin(self, state: Tensor) -> Carried:
        """The fields of the states."""
        return torch.addmm(self.bias, state.to(self.sent.dtype), self.sent)

    def field(self, carried: Carried, spins: Spins, units: slice) -> Spins:
        """Half of E(s_i = -1) - E(s_i = +1) of each of `units`, whose values are `spins`."""
        return self._without_ties(carried[:, units], spins, units)

    def field_after(self, carried: Carried, last: Places, spins: Spins, units: slice) -> Spins:
        """The same where each unit has its own row of `carried`, named by `last`."""
        return self._without_ties(carried[:, units].gather(0, last), spins, units)

    def change(self, units: Index, new: Float[Tensor, " index"]) -> Carried:
        """How the fields move when units[k] becomes new[k], row by row."""
        return self.sent[units] * (2 * new.to(self.sent.dtype)).unsqueeze(-1)

    def _without_ties(self, carried: Tensor, spins: Tensor, units: slice) -> Tensor:
        field = carried - self.own[units] * spins.to(carried.dtype)
        return torch.where(field.abs() > self.rounding[units], field, torch.zeros_like(field))
