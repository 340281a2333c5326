"""Owned: products of rows with the matrix of the network that each row belongs to, many networks in one product.

Rows [row, in], matrices [network, out, in], owner [row] (ascending) give rows [row, out].
"""

import torch
from torch import Tensor

from ammon.shapes import Index


class Owners:
    """Which network owns each row: rows of one network side by side, as many places to each as the largest has rows."""

    def __init__(self, owner: Index, networks: int) -> None:
        self.owner, self.networks = owner, networks
        counts = torch.bincount(owner, minlength=networks)
        self.most = int(counts.max()) if len(owner) else 0
        self.even = self.most * networks == len(owner)
        if self.even:
            return
        place = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
        used = counts.nonzero().squeeze(-1)
        # a copy of the matrices in use costs more than products with a few empty places
        self.used = None if 2 * len(used) > networks else used
        rank = owner if self.used is None else torch.searchsorted(used, owner)
        self.shape = (networks if self.used is None else len(used), self.most)
        self.place = rank * self.most + place

    def of(self, rows: Index) -> "Owners":
        """The owners of these rows."""
        return Owners(self.owner[rows], self.networks)

    def product(self, rows: Tensor, matrices: Tensor) -> Tensor:
        """rows[r] @ matrices[owner[r]]ᵀ for each r."""
        if self.even:
            return torch.bmm(rows.reshape(self.networks, self.most, rows.shape[1]), matrices.mT).reshape(len(rows), matrices.shape[1])
        padded = rows.new_zeros(self.shape[0] * self.shape[1], rows.shape[1]).index_copy_(0, self.place, rows)
        some = matrices if self.used is None else matrices[self.used]
        return torch.bmm(padded.reshape(*self.shape, rows.shape[1]), some.mT).flatten(0, 1)[self.place]
