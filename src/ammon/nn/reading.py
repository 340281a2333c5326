"""Reading: how a token recalls from the items of an episodic bank. Scores are one inner product of extended cues and keys.

score = sharpness · q·k + match · c_t·c_j + semantic · m_t·m_j + log s_j - λ (t - t_j), for the items that a token may see; the weights are
their separation.
"""

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.dynamics.drift import direction, drift
from ammon.nn.segments import NEVER
from ammon.nn.slots import Slots
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.retrieve import retrieve, weigh
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot
from ammon.shapes import check_positive


@dataclass(frozen=True)
class Pages:
    """The items of a bank during one call, and when each may be read: by the tokens from `born` on and before `dies`."""

    slots: Slots
    shown: Tensor | None  # bool [batch, slot]: what all tokens may read; None: as born and dies say
    born: Tensor  # [batch or 1, slot], a token of this call
    dies: Tensor | None  # [batch or 1, slot]; None: none dies
    seen: Tensor  # [batch], tokens before this call
    blocks: "tuple[tuple[slice, slice], ...]"  # tokens, and the slots beyond which they see nothing
    within: Tensor | None = None  # [batch, slot], the column of `Cues.above` that a slot belongs to

    def visible(self, tokens: slice, slots: slice) -> Tensor:
        """Bool [batch, token or 1, slot]."""
        if self.shown is not None:
            return self.shown[:, None, slots]
        index = torch.arange(tokens.start, tokens.stop, dtype=torch.int32, device=self.born.device)[:, None]
        # 32 bits and few passes, as there is one entry for each token and slot
        born = torch.where(self.slots.there[:, slots], self.born[:, slots], NEVER).to(torch.int32)
        found = born[:, None] <= index
        return found if self.dies is None else found & (index < self.dies[:, None, slots].to(torch.int32))


@dataclass(frozen=True)
class Cues:
    """What a call asks with. Context is None in a bank without one."""

    rows: Tensor  # [batch, time, dim]
    inputs: Tensor | None = None  # [batch, time, head, context]: the direction of each token's own input to context
    contexts: Tensor | None = None  # [batch, time, head, context]: as drifted
    meanings: Tensor | None = None  # [batch, time, feature]: what the items are associated with, in a bank with semantics
    above: Tensor | None = None  # [batch, head, time, column]: log weights that a level above has given, -inf for what it hides


class Reader(nn.Module):
    """Queries of length 1, per head. Learned per head: the sharpness, the weight `match` of context, and λ, the rate of `recency`.

    match: None reads without context; semantic, the weight of associations from before, likewise. recency: per token, so the strength of an
    item falls by exp(-λ) with each; None does without.
    hops: so often a read is repeated with the context that was reinstated, ρ c + β c_in', where c_in' is the direction of
    (1 - g) c_in + g Σ w_j c_j (Polyn, Norman & Kahana 2009, eq. 1 and 3). It cues this token's next read, and is gone with the token.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        separation: Lagrangian | None = None,
        *,
        sharpness: float = 16.0,
        match: float | None = None,
        recency: float | None = None,
        strength: bool = False,
        hops: int = 0,
        semantic: float | None = None,
    ) -> None:
        super().__init__()
        separation = separation or Softmax()
        if not separation.normalised or separation.compact:
            raise ValueError(
                f"Reader: {type(separation).__name__} gives weights that need not sum to 1; use Softmax, TopK, Entmax or Maximum."
            )
        check_positive("Reader", "sharpness", sharpness)
        if not isinstance(hops, int) or hops < 0:
            raise ValueError(f"Reader: hops must be a whole number of at least 0, got {hops!r}.")
        if hops and match is None:
            raise ValueError("Reader: hops reinstate a context, and there is none; give the bank a context.")
        self.dim, self.heads, self.separation, self.hops, self.strength = dim, heads, separation, hops, strength
        self.start = {"sharpness": sharpness, "match": match, "recency": recency, "semantic": semantic}
        self.query = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.sharpness = nn.Parameter(torch.full((heads,), math.log(sharpness)))
        self.match = _log_parameter("match", match, heads)
        self.recency = _log_parameter("recency", recency, heads)
        self.semantic = None if semantic is None else nn.Parameter(torch.full((heads,), float(semantic)))
        # reinstatement: g and β, one half at first
        self.reinstated = nn.Parameter(torch.zeros(heads)) if hops else None
        self.drift = nn.Parameter(torch.zeros(heads)) if hops else None

    def alike(self) -> "Reader":
        """Another reader that begins with the same settings, and learns its own."""
        return Reader(self.dim, self.heads, deepcopy(self.separation), **self.start, strength=self.strength, hops=self.hops)  # type: ignore[arg-type]

    def forward(self, cues: Cues, pages: Pages) -> Tensor:
        """What each token recalls: [batch, time, dim]; zeros where it sees no item."""
        mixed = [self._read(cues, pages, tokens, slots) for tokens, slots in pages.blocks]
        recalled: Tensor = self.out(torch.cat(mixed, 2).transpose(1, 2).flatten(2).to(self.out.weight.dtype))
        return recalled.to(cues.rows.dtype)

    def mixed(self, weights: Tensor, pages: Pages, dtype: torch.dtype) -> Tensor:
        """What weights [batch, head, time, slot] recall: `forward` for those of `weights`."""
        found: Tensor = self.out((weights @ pages.slots.values.transpose(1, 2)).transpose(1, 2).flatten(2).to(self.out.weight.dtype))
        return found.to(dtype)

    def weights(self, cues: Cues, pages: Pages) -> Tensor:
        """The weights of each token's last read: [batch, head, time, slot]."""
        found = []
        for tokens, slots in pages.blocks:
            asked, keys, _, shown = self._asked(cues, pages, tokens, slots)
            bias, shown = _from_above(cues, pages, tokens, slots, shown)
            some = weigh(asked, keys, Dot(), self.separation, shown, bias)
            found.append(functional.pad(some, (slots.start, pages.slots.number - slots.stop)))
        return torch.cat(found, 2)

    def _read(self, cues: Cues, pages: Pages, tokens: slice, slots: slice) -> Tensor:
        """[batch, head, token, entry]."""
        asked, keys, values, shown = self._asked(cues, pages, tokens, slots)
        bias, shown = _from_above(cues, pages, tokens, slots, shown)
        return self._retrieve(asked, keys, values, shown, bias)[..., : self.dim // self.heads]

    def _asked(self, cues: Cues, pages: Pages, tokens: slice, slots: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Extended cues and keys [batch, head, token or slot, wide], values and what is shown, for the last read."""
        items = pages.slots
        keys, values = items.keys[:, slots].transpose(1, 2), items.values[:, slots].transpose(1, 2)
        shown = pages.visible(tokens, slots)[:, None]
        rows = self.query(cues.rows[:, tokens]).unflatten(-1, (self.heads, -1)).to(keys.dtype)
        queries = (direction(rows) * self.sharpness.exp().to(keys.dtype)[:, None]).transpose(1, 2)
        bias = self._bias(pages, slots)
        if bias is not None:
            keys = torch.cat([keys, bias.to(keys.dtype)], -1)
            queries = torch.cat([queries, torch.ones_like(queries[..., :1])], -1)
        if self.semantic is not None and cues.meanings is not None:
            asks = self.semantic.to(queries.dtype)[:, None, None] * cues.meanings[:, None, tokens].to(queries.dtype)
            queries = torch.cat([queries, asks], -1)
            keys = torch.cat([keys, items.meanings[:, None, slots].to(keys.dtype).expand(-1, self.heads, -1, -1)], -1)
        if self.match is None or cues.contexts is None or cues.inputs is None:
            return queries, keys, values, shown
        stored = items.contexts[:, slots].transpose(1, 2)
        context, inputs = cues.contexts[:, tokens].transpose(1, 2), cues.inputs[:, tokens].transpose(1, 2)
        keys = torch.cat([keys, stored.to(keys.dtype)], -1)
        weight = self.match.exp().to(context.dtype)[:, None, None]

        def extended(context: Tensor) -> Tensor:
            return torch.cat([queries, (weight * context).to(queries.dtype)], -1)

        for _ in range(self.hops):
            share, beta = torch.sigmoid(self.reinstated.to(context.dtype))[:, None, None], torch.sigmoid(self.drift.to(context.dtype))  # type: ignore[union-attr]
            recalled = self._retrieve(extended(context), keys, stored.to(keys.dtype), shown)[..., : stored.shape[-1]]
            brought = direction((1 - share) * inputs + share * recalled.to(context.dtype))
            context = drift(context, brought, beta[:, None])
        return extended(context), keys, values, shown

    def _retrieve(self, asked: Tensor, keys: Tensor, values: Tensor, shown: Tensor, bias: Tensor | None = None) -> Tensor:
        """[batch, head, token, at least the width of the values]."""
        wide = keys.shape[-1]
        if isinstance(self.separation, Softmax) and wide > values.shape[-1]:
            # equal widths, and multiples of 8, let torch attend in one kernel
            full = -(-wide // 8) * 8
            asked, keys, values = (functional.pad(rows, (0, full - rows.shape[-1])) for rows in (asked, keys, values))
        return retrieve(asked, keys, values, Dot(), self.separation, mask=shown, bias=bias)

    def _bias(self, pages: Pages, slots: slice) -> Tensor | None:
        """What the age and strength of an item add to its score: [batch, head, slot, 1]."""
        bias = None
        if self.strength:
            strengths = pages.slots.strengths[:, slots]
            there = pages.slots.there[:, slots]
            bias = torch.where(there, strengths, torch.ones_like(strengths)).log()[:, None].expand(-1, self.heads, -1)
        if self.recency is not None:
            # relative to the start of the call: what all items share changes no weight
            since = (pages.slots.times[:, slots] - pages.seen[:, None]).to(pages.slots.strengths.dtype)
            recent = self.recency.exp().to(since.dtype)[:, None] * since[:, None]
            bias = recent if bias is None else bias + recent
        return None if bias is None else bias[..., None]


def _from_above(cues: Cues, pages: Pages, tokens: slice, slots: slice, shown: Tensor) -> tuple[Tensor | None, Tensor]:
    """What a level above adds to each score [batch, head, token, slot], and what it leaves to be seen."""
    if cues.above is None or pages.within is None:
        return None, shown
    above = cues.above[:, :, tokens]
    bias = above.gather(-1, pages.within[:, None, None, slots].expand(*above.shape[:3], -1))
    there = bias > -torch.inf
    return torch.where(there, bias, 0), shown & there


def _log_parameter(name: str, value: float | None, heads: int) -> nn.Parameter | None:
    if value is None:
        return None
    check_positive("Reader", name, value)
    return nn.Parameter(torch.full((heads,), math.log(value)))
