"""Evicting: which item gives way when a bank is full. Items [batch, item], oldest first, of which the last ones are new.

An item dies at the gap where a new one takes its room; reads up to then see it, so all tokens of a call are still read at once.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ammon.nn.slots import Slots

By = Literal["age", "strength", "use", "redundancy"]
KINDS: tuple[By, ...] = ("age", "strength", "use", "redundancy")


@dataclass(frozen=True)
class Lowest:
    """The item of the lowest value gives way, of equals the oldest; a new item always gets room.

    "age": the oldest (a ring). "strength": as written and faded at `rate` a token. "use": what its weights in all reads add up to, over the
    tokens since it was written; reads then go token after token. "redundancy": the one that a newer item resembles most, by the
    cosine of keys over all heads together.
    """

    by: By = "age"
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.by not in KINDS:
            raise ValueError(f"Lowest: by must be one of {', '.join(KINDS)}, got {self.by!r}.")
        if not 0 <= self.rate < float("inf"):
            raise ValueError(f"Lowest: rate must be at least 0 and finite, got {self.rate}.")

    @torch.no_grad()
    def deaths(self, items: Slots, written: Tensor, new: int, room: int, never: int, now: Tensor) -> Tensor:
        """The gap at which each item dies, or `never`: [batch, item].

        written [batch, new]: the gaps at which new items come. now [batch]: tokens before this call.
        """
        old = items.number - new
        alive = items.there.clone()
        alive[:, old:] = False
        dies = torch.full_like(items.times, never)
        worth = self._worth(items, now)
        alike = self._alike(items)
        index = torch.arange(items.number, device=dies.device)
        for number in range(new):
            comes = items.there[:, old + number]
            value = worth
            if alike is not None:
                value = -torch.where((alive | (index == old + number))[:, None], alike, -2.0).amax(-1)
            value = torch.where(alive, value, torch.inf)
            victim = (comes & (alive.sum(1) >= room))[:, None] & (index == value.argmin(1, keepdim=True))
            dies = torch.where(victim, written[:, number : number + 1], dies)
            alive = (alive & ~victim) | (comes[:, None] & (index == old + number))
        return dies

    def _worth(self, items: Slots, now: Tensor) -> Tensor:
        wide = items.strengths.dtype
        times = items.times.to(wide)
        if self.by == "strength":
            # relative to the same moment for all, as a logarithm, which does not underflow
            return items.strengths.clamp_min(torch.finfo(wide).tiny).log() + self.rate * times
        if self.by == "use":
            return items.uses / (now[:, None].to(wide) - times + 1).clamp_min(1)
        return times

    def _alike(self, items: Slots) -> Tensor | None:
        """[batch, item, newer item]: cosines, -2 for those that are not newer."""
        if self.by != "redundancy":
            return None
        keys = items.keys.flatten(2).to(items.strengths.dtype)
        keys = keys / keys.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(keys.dtype).tiny)
        newer = torch.ones(items.number, items.number, dtype=torch.bool, device=keys.device).triu(1)
        return torch.where(newer, keys @ keys.mT, -2.0)


def survivors(items: Slots, alive: Tensor, room: int) -> Slots:
    """Those that live, oldest first, in the last of `room` slots; zeros before them."""
    short = max(0, room - items.number)
    items = items.map(lambda rows: torch.cat([rows.new_zeros(len(rows), short, *rows.shape[2:]), rows], 1))
    alive = torch.cat([alive.new_zeros(len(alive), short), alive], 1)
    order = torch.argsort(alive.long(), dim=1, stable=True)[:, -room:]

    def keep(rows: Tensor) -> Tensor:
        kept = torch.where(alive.reshape(*alive.shape, *[1] * (rows.ndim - 2)), rows, torch.zeros_like(rows))
        return kept.gather(1, order.reshape(*order.shape, *[1] * (rows.ndim - 2)).expand(-1, -1, *rows.shape[2:]))

    return items.map(keep)
