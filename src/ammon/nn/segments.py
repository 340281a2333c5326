"""Segments: when an episodic memory writes, and what. Tokens packed to the front of their row; gap g stands before token g.

A segment ends at its length, or where the caller begins a new one (a turn, a sentence, an event). A masked token is in none.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ammon.shapes import check_count

# a gap that never comes
NEVER = 2**31 - 1
Summary = Literal["each", "last", "mean", "attention"]
SUMMARIES: tuple[Summary, ...] = ("each", "last", "mean", "attention")


@dataclass(frozen=True)
class PerToken:
    """Every token is an item, as soon as it is there. own: it may read itself."""

    own: bool = True


@dataclass(frozen=True)
class Segments:
    """Segments of `every` tokens (None: only as the caller says). What is written once a segment has ended, and read from then on:

    "each": each of its tokens; "last": the last; "mean": their mean; "attention": their mean weighted by a learned score.
    """

    every: int | None = None
    summary: Summary = "mean"

    def __post_init__(self) -> None:
        if self.every is not None:
            check_count("Segments", "every", self.every)
        if self.summary not in SUMMARIES:
            raise ValueError(f"Segments: summary must be one of {', '.join(SUMMARIES)}, got {self.summary!r}.")


@dataclass(frozen=True)
class Ends:
    """Where segments end."""

    closes: Tensor  # bool [batch, time + 1]: a segment that holds tokens ends at the gap
    last: Tensor  # bool [batch, time]: the token is the last of its segment
    open: Tensor  # [batch]: tokens of the segment that goes on after all


def ends(begins: Tensor | None, there: Tensor, open_before: Tensor, every: int | None) -> Ends:
    """Ends of segments of `every` tokens, begun anew before the tokens where `begins` [batch, time] is True.

    there [batch, time]: the tokens that are there, first in their row. open_before [batch]: tokens of the segment under way.
    """
    batch, time = there.shape
    index = torch.arange(time, device=there.device)
    begun = -open_before[:, None]
    if begins is not None:
        begins = begins & there
        begun = torch.cummax(torch.where(begins, index, begun), 1).values
    size = (index - begun + 1).expand(batch, time)
    if every is not None:
        # the tokens of the segment up to each, from 1 to `every`
        size = (size - 1) % every + 1
    full = there & (size == every) if every is not None else torch.zeros_like(there)
    # tokens of the open segment at each gap
    held = torch.cat([open_before[:, None], torch.where(full, 0, size)], 1)
    closes = torch.cat([torch.zeros_like(full[:, :1]), full], 1)
    if begins is not None:
        closes = closes | torch.cat([begins & (held[:, :-1] > 0), torch.zeros_like(full[:, :1])], 1)
    count = there.sum(1, keepdim=True)
    return Ends(closes, there & (closes[:, 1:] | (index == count - 1)), held.gather(1, count).squeeze(1))


def next_end(closes: Tensor) -> Tensor:
    """The first gap from each one on where a segment ends, or `NEVER`: [batch, time + 1]."""
    gaps = torch.arange(closes.shape[1], device=closes.device)
    return torch.where(closes, gaps, NEVER).flip(1).cummin(1).values.flip(1)


class Pool(nn.Module):
    """Sums over the open segment, carried between calls: features and their weight, [batch, feature + 1]."""

    def __init__(self, dim: int, summary: Summary) -> None:
        super().__init__()
        self.summary = summary
        self.score = nn.Linear(dim, 1, bias=False) if summary == "attention" else None

    def forward(self, rows: Tensor, features: Tensor, found: Ends, there: Tensor, carried: Tensor, most: int) -> "Pooled":
        """The first `most` segments that end, and what is carried on. rows [batch, time, dim] are scored, features [.., feature] pooled."""
        weights = (found.last if self.summary == "last" else there).to(carried.dtype)[..., None]
        if self.score is not None:
            # within ±10, so that no segment needs its largest score to be known before
            weights = weights * torch.exp(10 * torch.tanh(self.score(rows).to(carried.dtype) / 10))
        if self.summary == "last":
            # an earlier token is the last only if none has come since
            carried = carried * (found.closes[:, :1] | ~there.any(1, keepdim=True))
        ordinal = found.closes.cumsum(1)
        sums = torch.cat([features.to(carried.dtype), torch.ones_like(weights)], -1) * weights
        bins = torch.cat([carried[:, None], carried.new_zeros(len(carried), most, carried.shape[1])], 1)
        bins = bins.scatter_add(1, ordinal[:, :-1, None].expand_as(sums).clamp(max=most), sums)
        gaps = torch.arange(ordinal.shape[1], device=rows.device).expand_as(ordinal)
        when = torch.full((len(rows), most + 1), NEVER, device=rows.device)
        when = when.scatter(1, torch.where(found.closes, ordinal - 1, most), gaps)[:, :most]
        number = ordinal[:, -1]
        open_bin = number[:, None, None].expand(-1, 1, bins.shape[-1])
        total = bins[:, :most, -1:]
        means = bins[:, :most, :-1] / torch.where(total > 0, total, torch.ones_like(total))
        return Pooled(means, when, number, bins.gather(1, open_bin).squeeze(1))


@dataclass(frozen=True)
class Pooled:
    """Segments that have ended, in order, and the sums of the open one."""

    means: Tensor  # [batch, segment, feature]
    gaps: Tensor  # [batch, segment]: where it ended, or `NEVER`
    number: Tensor  # [batch]: how many have ended
    carried: Tensor  # [batch, feature + 1]
