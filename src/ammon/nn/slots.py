"""Slots: the items that an episodic bank holds, oldest first. [batch, slot, ...]; a slot that holds nothing has `there` False."""

from typing import TypeVar

import torch
from torch import Tensor

from ammon.nn.packing import last
from ammon.nn.state import State, record

S = TypeVar("S", bound=State)


@record
class Slots(State):
    """One item a slot. Times count the tokens that had been written when the item was complete."""

    keys: Tensor  # [batch, slot, head, entry], of length 1
    values: Tensor  # [batch, slot, head, entry]
    contexts: Tensor  # [batch, slot, head, context], of length 1; context is 0 wide in a bank without one
    meanings: Tensor  # [batch, slot, feature], rows of the semantics; 0 wide in a bank without
    times: Tensor  # [batch, slot]
    strengths: Tensor  # [batch, slot], 1 unless the bank learns how strongly to write
    uses: Tensor  # [batch, slot], its weights in all reads, summed; counted only where a policy asks
    there: Tensor  # bool [batch, slot]

    @property
    def number(self) -> int:
        """How many slots there are, empty ones too."""
        return self.keys.shape[1]


def empty(batch: int, number: int, heads: int, entries: int, context: int, meaning: int, like: Tensor) -> Slots:
    """Slots that hold nothing, in the dtype of `like`; contexts in float32 at least, as they drift by small steps."""
    keys = like.new_zeros(batch, number, heads, entries)
    wide = torch.promote_types(like.dtype, torch.float32)
    contexts = torch.zeros(batch, number, heads, context, dtype=wide, device=like.device)
    times = torch.zeros(batch, number, dtype=torch.int64, device=like.device)
    strengths = torch.zeros(batch, number, dtype=wide, device=like.device)
    meanings = like.new_zeros(batch, number, meaning)
    return Slots(keys, torch.zeros_like(keys), contexts, meanings, times, strengths, torch.zeros_like(strengths), times.bool())


def none(rows: S) -> S:
    """Of rows [batch, row, ...] none."""
    return rows.map(lambda part: part[:, :0])


def joined(rows: S, more: S) -> S:
    """The older ones, then the newer."""
    return rows.join(more, lambda old, new: torch.cat([old, new.to(old.dtype)], 1))


def newest(rows: S, number: int, new: int, count: Tensor | None) -> S:
    """The newest `number` of rows that end with `new` ones, of which the first `count` [batch] hold something (None: all)."""
    short = number + new - next(iter(rows.named().values())).shape[1]
    if short > 0:
        rows = rows.map(lambda part: torch.cat([part.new_zeros(len(part), short, *part.shape[2:]), part], 1))
    return rows.map(lambda part: last(part, count, number, new))
