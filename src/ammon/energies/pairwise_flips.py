"""Pairwise flips: the exact energy difference of every single flip under E(s) = -s·W s/2 - b·s, from fields kept up to date.

E(s_i = -1) - E(s_i = +1) = 2 (h_i - w_ii s_i), h = W s + b, for symmetric W: a unit never votes for itself.
States [batch, dim], weights [dim, dim], fields [batch, dim]. W need not be symmetric; there is then no energy that falls.
Items of many networks of one size: weights [network, dim, dim], biases [network, dim] and the network that owns each item [batch].
"""

from copy import copy

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.energies.owned import Owners
from ammon.shapes import Index

Carried = Float[Tensor, "row dim"]
Spins = Float[Tensor, "item unit"]


class PairwiseFlips:
    """What a sweep asks of pairwise weights: the fields on all units are carried, and a flip adds one column of W to them."""

    linear = True

    def __init__(
        self,
        weights: Float[Tensor, "*network dim dim"],
        bias: Float[Tensor, "*network dim"] | None = None,
        owner: Index | None = None,
    ) -> None:
        wide = torch.promote_types(weights.dtype, torch.float32)
        # row j is what unit j sends: a flip then reads one piece of memory
        self.sent = weights.to(wide).mT.contiguous()
        self.bias = self.sent.new_zeros(self.sent.shape[:-1]) if bias is None else bias.to(wide)
        self.own = self.sent.diagonal(dim1=-2, dim2=-1)
        size = self.sent.abs().sum(-2) + self.bias.abs()
        whole = not bool((self.sent != self.sent.round()).any() or (self.bias != self.bias.round()).any())
        exact = whole and bool((size < 1 / torch.finfo(wide).eps).all())
        # what is below rounding is a tie, and must be one whatever the unit's value is now
        self.rounding = torch.zeros_like(size) if exact else 8 * torch.finfo(wide).eps * size
        self.owners = None if owner is None else Owners(owner, len(weights))

    def of(self, rows: Index) -> "PairwiseFlips":
        """The same for these items of the batch."""
        if self.owners is None:
            return self
        some = copy(self)
        some.owners = self.owners.of(rows)
        return some

    def arrange(self, order: Index) -> "PairwiseFlips":
        """The same, its units in this order."""
        return PairwiseFlips(
            self.sent[..., order, :][..., order].mT, self.bias[..., order], None if self.owners is None else self.owners.owner
        )

    def begin(self, state: Tensor) -> Carried:
        """The fields of the states."""
        state = state.to(self.sent.dtype)
        if self.owners is None:
            return torch.addmm(self.bias, state, self.sent)
        return self.bias[self.owners.owner] + self._products(state, self.sent.mT)

    def field(self, carried: Carried, spins: Spins, units: slice) -> Spins:
        """Half of E(s_i = -1) - E(s_i = +1) of each of `units`, whose values are `spins`."""
        own = self.own[..., units] if self.owners is None else self.own[self.owners.owner, units]
        return self.rounded(carried[:, units] - own * spins.to(carried.dtype), units)

    def coupled(self, change: Spins, units: slice) -> Spins:
        """How the fields on `units` move when the ones of them that come before change by so much."""
        return self._products(change, self.sent[..., units, units].triu(1).mT)

    def moved(self, change: Spins, units: slice) -> Carried:
        """How the fields move when `units` change by so much."""
        return self._products(change, self.sent[..., units, :].mT)

    def rounded(self, field: Spins, units: slice) -> Spins:
        """The field, 0 where it is below rounding."""
        rounding = self.rounding[..., units] if self.owners is None else self.rounding[self.owners.owner, units]
        return torch.where(field.abs() > rounding, field, torch.zeros_like(field))

    def _products(self, rows: Tensor, matrix: Tensor) -> Tensor:
        """rows @ matrixᵀ, each row with the matrix of its own network."""
        return rows @ matrix.mT if self.owners is None else self.owners.product(rows, matrix)
