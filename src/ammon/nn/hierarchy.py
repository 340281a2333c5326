"""Hierarchy: a read from coarse to fine. Summaries of segments say which segments count, and among their tokens the token is found.

x [batch, time, dim] → y [batch, time, dim]: what both levels recall, under a gate.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ammon.nn.episodic import EpisodicMemory
from ammon.nn.hybrid import Gate
from ammon.nn.joint import Joint, JointState, Memories
from ammon.nn.packing import packing
from ammon.nn.reading import Pages
from ammon.nn.segments import Segments, Summary
from ammon.nn.state import Mode
from ammon.nn.told import Told
from ammon.parts.separations import Softmax
from ammon.parts.top_k import TopK
from ammon.shapes import check_count


class Hierarchy(Joint):
    """The newest `segments` segments of `every` tokens: a summary of each, and all of their tokens.

    A token weighs the summaries, w_s = top-k softmax of its scores, and reads those tokens j alone whose segment has a weight:
    softmax of score_j + log w_s(j). What the summaries recall and what the tokens recall, each normalised, are mixed by a softmax gate.
    A segment is read once it has ended. top: segments that are looked into, None for all. (EM-LLM and InfLLM look into blocks likewise,
    by hand-made representatives; Fountas et al. 2024.)
    """

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        segments: int = 64,
        every: int = 16,
        top: int | None = 4,
        summary: Summary = "mean",
        *,
        sharpness: float = 16.0,
    ) -> None:
        super().__init__()
        where = "Hierarchy"
        check_count(where, "segments", segments)
        check_count(where, "every", every)
        if summary == "each":
            raise ValueError(f'{where}: summary "each" is no summary; take "last", "mean" or "attention".')
        if top is not None and top > segments:
            raise ValueError(f"{where}: the read takes the top {top} of {segments} segments; give more segments or a smaller top.")
        separation = Softmax() if top is None else TopK(top)
        coarse = EpisodicMemory(dim, heads, segments, Segments(every, summary), separation, sharpness=sharpness)
        # all tokens of the segments that are held, and those of the one under way
        fine = EpisodicMemory(dim, heads, (segments + 1) * every - 1, Segments(every, "each"), sharpness=sharpness)
        self.memories = Memories(where, {"segments": coarse, "tokens": fine})
        self.dim, self.every = dim, every
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=1e-6) for _ in range(2))
        self.gate = Gate(dim, self.memories.names, (0.5, 0.5), "softmax", 1)

    def forward(
        self, x: Tensor, state: JointState | None = None, *, mask: Tensor | None = None, mode: Mode = "read-write"
    ) -> tuple[Tensor, JointState]:
        """What each token recalls, and the states after the last. mask, mode: as for `EpisodicMemory`."""
        self.memories.check(x, state, mask, mode)
        coarse, fine = self.levels
        parts = [None, None] if state is None else state.parts
        begun = [bank.checked(x, part, mask, mode, Told()) for bank, part in zip((coarse, fine), parts, strict=True)]  # type: ignore[arg-type]
        if not x.shape[1]:
            return torch.zeros_like(x), JointState(tuple(held for held, _ in begun))
        places = packing(mask)
        above, below = (bank.turn(x, held, known, places, mode, Told()) for bank, (held, known) in zip((coarse, fine), begun, strict=True))
        after = JointState((above[2], below[2]))
        if mode == "write-only":
            return torch.zeros_like(x), after
        weights = coarse.read.weights(above[0], above[1])
        chosen = torch.where(weights > 0, torch.where(weights > 0, weights, 1).log(), -torch.inf)
        # a last column for tokens whose segment is not held
        chosen = torch.cat([chosen, torch.full_like(chosen[..., :1], -torch.inf)], -1)
        pages = replace(below[1], within=self._within(above[1], below[1]))
        read = [coarse.read.mixed(weights, above[1], x.dtype), fine.read(replace(below[0], above=chosen), pages)]
        sources = [norm(y) for norm, y in zip(self.norms, read, strict=True)]
        gates = self.gate(places.pack(x), sources)
        mixed = (torch.stack(sources, 2) * gates).sum(2)
        return places.unpack(mixed.to(x.dtype)), after

    @property
    def levels(self) -> tuple[EpisodicMemory, EpisodicMemory]:
        """The bank of summaries and the bank of tokens."""
        coarse, fine = self.memories.layers.values()
        assert isinstance(coarse, EpisodicMemory)
        assert isinstance(fine, EpisodicMemory)
        return coarse, fine

    def _within(self, coarse: Pages, fine: Pages) -> Tensor:
        """The slot of each token's segment [batch, slot], the number of slots where it is not held."""
        # segments by their number, oldest first; slots that hold nothing take that of the one before
        numbers = torch.where(coarse.slots.there, coarse.slots.times // self.every, 0).cummax(1).values
        own = (fine.slots.times + self.every - 1) // self.every
        place = torch.searchsorted(numbers, own.contiguous())
        found = numbers.gather(1, place.clamp_max(numbers.shape[1] - 1)) == own
        return torch.where(found & fine.slots.there, place, numbers.shape[1])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, every={self.every}"
