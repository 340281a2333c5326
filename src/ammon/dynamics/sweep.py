"""Sweep: units update one by one, in one order for the whole batch, and each sees what the ones before it did.

The answer is exactly that of the plain loop, without a step per unit. The units of a block are asked together which of them would
flip; the carried overlaps after each of these flips are formed as running sums, and all units are asked again, each under the
flips before it. Answers up to the first that changed are right, so the guess is repeated until none does: mostly once or twice.
Items of one batch may belong to different networks: their fields are then `Owned`. Where fields are sums over units (`Linear`), a
flip moves those after it by one number each, and guesses cost no product with the patterns.
"""

from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from ammon.shapes import Index, States

# units asked together: many when a row is short, few when a wrong guess is dear; fewer still where their guesses would not fit in memory
BLOCKS = (64, 512)
LARGEST = 2**24
# units of linear fields asked together: a wrong guess costs little, a block many small steps
LINEAR_BLOCK = 128
# items taken together: enough to fill the matrix products
GROUP = 256
# numbers carried under one set of guesses, so that they stay in the processor's cache
ROOM = 2**18


@runtime_checkable
class Fields(Protocol):
    """What a sweep asks. A unit becomes +1 where its field is >= 0, else -1."""

    def arrange(self, order: Tensor) -> "Fields":
        """The same with its units in this order."""
        ...

    def begin(self, state: Tensor) -> Tensor:
        """What is carried along a sweep, one row per item [batch, pattern]."""
        ...

    def field(self, carried: Tensor, spins: Tensor, units: slice) -> Tensor:
        """The field on `units`, whose values are `spins`, one row per row of `carried` [row, unit]."""
        ...


class Stepwise(Fields, Protocol):
    """Fields that are asked again after flips have been tried."""

    def field_after(self, carried: Tensor, last: Tensor, spins: Tensor, units: slice) -> Tensor:
        """The same where each unit has its own row of `carried`, named by `last` [item, unit]; `last` never falls along an item."""
        ...

    def change(self, units: Tensor, new: Tensor) -> Tensor:
        """How a carried row moves when units[k] becomes new[k] [index, pattern]."""
        ...


class Owned(Fields, Protocol):
    """Fields that differ from item to item, since the items belong to different networks."""

    def of(self, rows: Tensor) -> "Owned":
        """The fields of these items of the batch; an item may occur again and again."""
        ...


class Linear(Fields, Protocol):
    """Fields that are sums over units, if `linear` says so."""

    linear: bool

    def coupled(self, change: Tensor, units: slice) -> Tensor:
        """How the fields on `units` move when the ones of them that come before change by so much [row, unit]."""
        ...

    def moved(self, change: Tensor, units: slice) -> Tensor:
        """How carried rows move when `units` change by so much [row, pattern]."""
        ...

    def rounded(self, field: Tensor, units: slice) -> Tensor:
        """The field, 0 where it is below rounding [row, unit]."""
        ...


def sweep(fields: Fields, state: States, order: Index | None = None, free: Bool[Tensor, "batch dim"] | None = None) -> States:
    """The state ±1 after every unit was updated once, in turn or in the given order; units that are not `free` keep their value."""
    if order is not None:
        fields, spins, free = fields.arrange(order), state[:, order], free if free is None else free[:, order]
    else:
        spins = state.clone()
    for part in range(0, len(spins), GROUP):
        some = slice(part, part + GROUP)
        items = torch.arange(len(spins), device=spins.device)[some]
        _sweep_group(_of(fields, items), spins[some], None if free is None else free[some])
    return spins if order is None else spins[:, order.argsort()]


def _sweep_group(fields: Fields, spins: Tensor, free: Tensor | None) -> None:
    """Update all units of a few items in place."""
    carried = fields.begin(spins)
    if getattr(fields, "linear", False):
        for start in range(0, spins.shape[1], LINEAR_BLOCK):
            _sweep_linear(cast(Linear, fields), carried, spins, slice(start, min(start + LINEAR_BLOCK, spins.shape[1])), free)
        return
    block = min(max(8 * ROOM // max(1, carried.numel()), BLOCKS[0]), BLOCKS[1])
    block = min(block, max(1, LARGEST // max(1, carried.shape[1])))
    for start in range(0, spins.shape[1], block):
        _sweep_block(cast(Stepwise, fields), carried, spins, slice(start, min(start + block, spins.shape[1])), free)


def _sweep_block(fields: Stepwise, carried: Tensor, state: Tensor, units: slice, free: Tensor | None) -> None:
    """Update `units` of all items in place."""
    spins, free = state[:, units], None if free is None else free[:, units]
    field = fields.field(carried, spins, units)
    count = _wanted(field, spins, free).sum(-1)
    rows = count.nonzero().squeeze(-1)
    if len(rows):
        group = max(1, ROOM * len(rows) // (carried.shape[1] * int(count.sum())))
        for some in torch.split(rows, group):
            _settle_order(fields, carried, spins, field, units, free, some)


def _sweep_linear(fields: Linear, carried: Tensor, state: Tensor, units: slice, free: Tensor | None) -> None:
    """Update `units` of all items in place."""
    spins, free = state[:, units], None if free is None else free[:, units]
    field = fields.field(carried, spins, units)
    flips = _wanted(field, spins, free)
    rows = flips.any(-1).nonzero().squeeze(-1)
    if not len(rows):
        return
    # where most items move, to take them out would cost more than it saves
    part = slice(None) if 2 * len(rows) > len(spins) else rows
    some = fields if isinstance(part, slice) else cast(Linear, _of(fields, rows))
    alone, now, flips, free = field[part], spins[part], flips[part], None if free is None else free[part]
    # each round makes at least one more unit right, so there are never more rounds than units
    while True:
        change = torch.where(flips, -2 * now, torch.zeros_like(now)).to(carried.dtype)
        again = _wanted(some.rounded(alone + some.coupled(change, units), units), now, free)
        if torch.equal(again, flips):
            break
        flips = again
    carried[part] += some.moved(change, units)
    spins[part] = torch.where(flips, -now, now)


def _settle_order(fields: Stepwise, carried: Tensor, spins: Tensor, alone: Tensor, units: slice, free: Tensor | None, rows: Tensor) -> None:
    """Find which of the units flip in the items `rows`, given their field if they were `alone` in flipping, and flip them in place."""
    now = spins[rows]
    flips = _wanted(alone[rows], now, None if free is None else free[rows])
    # each round makes at least one more unit right, so there are never more rounds than units
    for left in reversed(range(flips.shape[1])):
        item, place = flips.nonzero(as_tuple=True)
        moving = cast(Stepwise, _of(fields, rows[item]))
        moved = moving.change(place + units.start, -now[item, place]).cumsum_(0)
        count = flips.sum(-1)
        ends = count.cumsum(0)
        starts = ends - count
        offset = carried[rows]
        if len(rows) == 1:
            moved += offset
        else:
            # the sums run through all items: what the items before one have added gives way to what the item itself carries
            offset[1:] -= moved[starts[1:] - 1]
            moved += offset[item]
        before = flips.cumsum(-1) - flips.to(torch.int64)
        last = (starts.unsqueeze(-1) + before - 1).clamp_min_(0)
        one = moving is fields
        later = fields.field_after(moved, last, now, units) if one else moving.field(moved, now[item], units).gather(0, last)
        again = _wanted(torch.where(before > 0, later, alone[rows]), now, None if free is None else free[rows])
        wrong = (again != flips).any(-1)
        if not left or not bool(wrong.any()):
            carried[rows] = moved[ends - 1]
            spins[rows] = torch.where(flips, -now, now)
            return
        right = ~wrong
        done = rows[right]
        carried[done] = moved[ends[right] - 1]
        spins[done] = torch.where(flips[right], -now[right], now[right])
        rows, now, flips = rows[wrong], now[wrong], again[wrong]


def _of(fields: Fields, rows: Tensor) -> Fields:
    # by name: to ask a protocol whether it fits takes longer than a product
    return cast(Owned, fields).of(rows) if hasattr(fields, "of") else fields


def _wanted(field: Tensor, spins: Tensor, free: Tensor | None) -> Tensor:
    wanted = (field >= 0) != (spins > 0)
    return wanted if free is None else wanted & free
