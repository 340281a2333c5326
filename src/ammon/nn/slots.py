"""Slots: the items that an episodic bank holds, oldest first. [batch, slot, ...]; a slot that holds nothing has `there` False."""

import torch
from torch import Tensor

from ammon.nn.packing import last
from ammon.nn.state import State, record


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


def joined(slots: Slots, more: Slots) -> Slots:
    """The older ones, then the newer."""
    return slots.join(more, lambda old, new: torch.cat([old, new.to(old.dtype)], 1))


def newest(slots: Slots, number: int, new: int, count: Tensor | None) -> Slots:
    """The newest `number` of slots that end with `new` ones, of which the first `count` [batch] hold something (None: all)."""
    short = number + new - slots.number
    if short > 0:
        slots = slots.map(lambda rows: torch.cat([rows.new_zeros(len(rows), short, *rows.shape[2:]), rows], 1))
    return slots.map(lambda rows: last(rows, count, number, new))
