"""Paging: a long bank in pages, so that a token is compared with one representative a page, and reads the items of the best pages alone.

Items are counted in their order in each row; page p holds the items from p · size on. Representatives [batch, page, ...].
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ammon.nn.slots import Slots, joined, newest
from ammon.nn.state import State, record
from ammon.shapes import check_count


@dataclass(frozen=True)
class Paging:
    """A token reads the `probes` pages of `size` items whose representatives match it best, and the items of the page under way.

    A page's representative is the mean of its items' keys (contexts, meanings), so what it scores is the mean of what they score: as in
    MoBA (Lu et al. 2025); Quest (Tang et al. 2024) takes bounds of each entry, InfLLM (Xiao et al. 2024) a few of the keys. A page counts
    once all its items may be read, and no longer once one has given way. Which pages are read has no gradient; what they give has.
    """

    size: int = 16
    probes: int = 8

    def __post_init__(self) -> None:
        check_count("Paging", "size", self.size)
        check_count("Paging", "probes", self.probes)

    def check(self, where: str, slots: int | None, segments: object, evict: object, strength: object, top: int | None) -> None:
        """Refuse a bank that is written, emptied or read in a way that pages cannot follow. top: of a read of the best."""
        if segments is not None:
            raise ValueError(f"{where}: pages are of tokens in their order, and it writes {segments}; leave out paging or take PerToken().")
        if evict is not None:
            raise ValueError(f"{where}: pages are of items in their order, and {evict} takes some out; leave out paging or evict.")
        if strength is not None:
            raise ValueError(f"{where}: strengths fade, which no mean over a page follows; leave out paging or strength.")
        if slots is not None and self.probes * self.size > slots:
            raise ValueError(
                f"{where}: the read takes {self.probes} pages of {self.size}, and {slots} slots are {slots // self.size} of them; "
                "give more slots or fewer probes."
            )
        if top is not None and top > self.probes * self.size:
            raise ValueError(
                f"{where}: the read takes the top {top} of {self.probes} pages of {self.size}; give more probes or a smaller k."
            )


@record
class Representatives(State):
    """Of the newest whole pages, the last of them last; one that holds nothing has `there` False."""

    keys: Tensor  # [batch, page, head, entry]
    contexts: Tensor  # [batch, page, head, context]
    meanings: Tensor  # [batch, page, feature]
    starts: Tensor  # [batch, page]: the number of its first item
    stops: Tensor  # [batch, page]: that of the item after its last
    there: Tensor  # bool [batch, page]


def unwritten(slots: Slots, size: int) -> Representatives:
    """None yet, and room for those of slots that hold nothing."""

    def zeros(rows: Tensor) -> Tensor:
        return rows.new_zeros(len(rows), slots.number // size, *rows.shape[2:])

    means = zeros(slots.keys), zeros(slots.contexts), zeros(slots.meanings)
    return Representatives(*means, zeros(slots.times), zeros(slots.times), zeros(slots.there))


def without(pages: tuple[Representatives, ...], there: Tensor, seen: Tensor) -> tuple[Representatives, ...]:
    """Less the pages of which none of the slots [batch, slot] is there any more. seen [batch]: items that had been written."""
    before = functional.pad(there.cumsum(1), (1, 0))
    first = (seen - there.shape[1])[:, None]

    def left(page: Representatives) -> Tensor:
        start, stop = (before.gather(1, (number - first).clamp(0, there.shape[1])) for number in (page.starts, page.stops))
        return stop > start

    return tuple(replace(page, there=page.there & left(page)) for page in pages)


@dataclass(frozen=True)
class Paged:
    """The pages of a bank during one call."""

    paging: Paging
    means: Representatives  # those of the state, then those of pages that this call may have made whole
    first: Tensor  # [batch]: the number of the item in the first slot
    shown: Tensor  # [batch, time]: the items from this number on are hidden from a token
    room: int | None  # so many items are held, the newest; None: all
    seen: Tensor  # [batch]: items before this call

    def chosen(self, scores: Tensor, tokens: slice) -> tuple[Tensor, Tensor]:
        """By scores [batch, head, token, page] the numbers of the items to read [batch, head, token, item], and which of them may be."""
        size, means = self.paging.size, self.means
        shown = self.shown[:, tokens, None]
        whole = means.there[:, None] & (means.stops[:, None] <= shown)
        if self.room is not None:
            whole = whole & (means.starts[:, None] >= shown - self.room)
        best = torch.where(whole[:, None], scores, -torch.inf).topk(min(self.paging.probes, means.there.shape[1]), -1)
        starts = means.starts[:, None, None].expand(scores.shape).gather(-1, best.indices)
        # beside the best the page under way, which is whole for no token that reads it
        under_way = (shown - shown % size)[:, None].expand(*scores.shape[:3], 1)
        readable = functional.pad(best.values > -torch.inf, (0, 1), value=True)
        within = torch.arange(size, device=scores.device)
        items = (torch.cat([starts, under_way], -1)[..., None] + within).flatten(-2)
        return items, readable.repeat_interleave(size, -1) & (items < shown[:, None])

    def after(self, held: int, slots: int, seen: Tensor) -> tuple[Representatives]:
        """The representatives for a state of so many slots, once `seen` items are written. held: how many the state had before."""
        size = self.paging.size
        added = self.means.there.shape[1] - held
        return (newest(self.means, slots // size, added, seen // size - self.seen // size),)


def paged(
    paging: Paging, held: tuple[Representatives, ...], items: Slots, seen: Tensor, shown: Tensor, room: int | None, new: int
) -> Paged:
    """The pages of items [batch, slot] of which the last `new` are written in this call, after `seen` [batch] others."""
    (means,) = held
    first = seen - (items.number - new)
    if new:
        means = joined(means, _finished(paging.size, items, seen, first, new))
    return Paged(paging, means, first, shown, room, seen)


@torch.no_grad()
def _finished(size: int, items: Slots, seen: Tensor, first: Tensor, new: int) -> Representatives:
    """Of the page under way and those after it, as many as so many items can make whole: the means of what is there."""
    batch, count = len(seen), -(-new // size)
    starts = (seen // size + torch.arange(count, device=seen.device)[:, None]).T * size
    slot = (starts[..., None] - first[:, None, None] + torch.arange(size, device=seen.device)).flatten(1)
    inside = slot.clamp_max(items.number - 1)
    there = (items.there.gather(1, inside) & (slot < items.number)).reshape(batch, count, size)
    number = there.sum(-1)

    share = there / number.clamp_min(1)[..., None]

    def mean(rows: Tensor) -> Tensor:
        tail = [1] * (rows.ndim - 2)
        index = inside.reshape(batch, -1, *tail).expand(-1, -1, *rows.shape[2:])
        taken = rows.gather(1, index).reshape(batch, count, size, *rows.shape[2:])
        return torch.sum(taken * share.to(rows.dtype).reshape(batch, count, size, *tail), 2)

    return Representatives(mean(items.keys), mean(items.contexts), mean(items.meanings), starts, starts + size, number > 0)
