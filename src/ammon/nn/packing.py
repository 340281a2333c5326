"""Packing: tokens that are there moved to the front of their row, so that what is masked leaves no gap. [batch, time, ...]."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a mask [batch, time] go. Without a mask nothing moves."""

    order: Tensor | None  # [batch, time]: the token that stands at each place
    back: Tensor | None  # [batch, time]: the place of each token
    count: Tensor | None  # [batch]: tokens that are there
    mask: Tensor | None

    def pack(self, rows: Tensor) -> Tensor:
        """Tokens that are there first, zeros after them, whatever was masked (NaN too)."""
        if self.order is None or self.mask is None or self.count is None:
            return rows
        moved = rows.gather(1, _wide(self.order, rows))
        there = torch.arange(rows.shape[1], device=rows.device) < self.count[:, None]
        return torch.where(_over(there, rows), moved, torch.zeros_like(moved))

    def unpack(self, rows: Tensor) -> Tensor:
        """Each token back in its place; zeros where it was masked."""
        if self.back is None or self.mask is None:
            return rows
        moved = rows.gather(1, _wide(self.back, rows))
        return torch.where(_over(self.mask, rows), moved, torch.zeros_like(moved))

    def after(self, rows: Tensor) -> Tensor:
        """Of packed [batch, time + 1, ...], each gap between tokens, the one after the last token that is there."""
        if self.count is None:
            return rows[:, -1]
        return rows.gather(1, _wide(self.count[:, None], rows)).squeeze(1)


def packing(mask: Tensor | None) -> Packing:
    """How to pack by a mask, True where a token is there."""
    if mask is None:
        return Packing(None, None, None, None)
    order = torch.argsort((~mask).long(), dim=1, stable=True)
    return Packing(order, torch.argsort(order, dim=1), mask.sum(1), mask)


def only(rows: Tensor, mask: Tensor | None) -> Tensor:
    """The rows [batch, time, ...] where a token is there, zeros elsewhere, whatever stood there (NaN too)."""
    return rows if mask is None else torch.where(_over(mask, rows), rows, torch.zeros_like(rows))


def last(rows: Tensor, count: Tensor | None, number: int, new: int) -> Tensor:
    """The last `number` tokens of each row, which holds `number` older ones, then `new` of which `count` [batch] are there."""
    if count is None:
        return rows[:, new:]
    places = count[:, None] + torch.arange(number, device=rows.device)
    return rows.gather(1, _wide(places, rows))


def _wide(index: Tensor, rows: Tensor) -> Tensor:
    return _over(index, rows).expand(*index.shape, *rows.shape[2:])


def _over(scalars: Tensor, rows: Tensor) -> Tensor:
    return scalars.reshape(*scalars.shape, *[1] * (rows.ndim - 2))
