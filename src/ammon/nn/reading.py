"""Reading: how a token recalls from the items of an episodic bank. Scores are one inner product of extended cues and keys.

score = sharpness · q·k + match · c_t·c_j + semantic · m_t·m_j + log s_j - λ (t - t_j), for the items that a token may see; the weights are
their separation.
"""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ammon.dynamics.drift import direction, drift
from ammon.nn.paging import Paged
from ammon.nn.segments import NEVER
from ammon.nn.slots import Slots
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.retrieve import retrieve, rows_at, weigh
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot
from ammon.shapes import check_positive

# numbers that the tokens of one block may bring together from pages: 32 MB in float32
BROUGHT = 2**23


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
    paged: Paged | None = None  # how items are found by their pages, in a bank that is read so

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
        if pages.paged is None or not pages.slots.number:
            mixed = [self._read(cues, pages, tokens, slots) for tokens, slots in pages.blocks]
        else:
            mixed = self._read_pages(cues, pages, pages.paged)
        recalled: Tensor = self.out(torch.cat(mixed, 2).transpose(1, 2).flatten(2).to(self.out.weight.dtype))
        return recalled.to(cues.rows.dtype)

    def mixed(self, weights: Tensor, pages: Pages, dtype: torch.dtype) -> Tensor:
        """What weights [batch, head, time, slot] recall: `forward` for those of `weights`."""
        found: Tensor = self.out((weights @ pages.slots.values.transpose(1, 2)).transpose(1, 2).flatten(2).to(self.out.weight.dtype))
        return found.to(dtype)

    def weights(self, cues: Cues, pages: Pages) -> Tensor:
        """The weights of each token's last read: [batch, head, time, slot]."""
        if pages.paged is not None:
            return self._weights_of_pages(cues, pages, pages.paged)
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

    def _read_pages(self, cues: Cues, pages: Pages, paged: Paged) -> list[Tensor]:
        """As `_read`, of the items of each token's best pages."""
        scored = self._page_keys(cues, paged)

        def read(tokens: slice) -> Tensor:
            asked, keys, index, shown = self._asked_pages(cues, pages, paged, scored, tokens)
            values = rows_at(pages.slots.values.transpose(1, 2), index)
            return self._retrieve(asked.unsqueeze(-2), keys, values, shown)[..., 0, : self.dim // self.heads]

        parts = list(self._blocks_of_pages(cues, pages, paged))
        if len(parts) > 1 and torch.is_grad_enabled():
            # what is brought together is brought again in the backward pass: else that of all blocks would be kept at once
            return [checkpoint(read, part, use_reentrant=False) for part in parts]
        return [read(part) for part in parts]

    def _weights_of_pages(self, cues: Cues, pages: Pages, paged: Paged) -> Tensor:
        found, scored = [], self._page_keys(cues, paged)
        for tokens in self._blocks_of_pages(cues, pages, paged):
            asked, keys, index, shown = self._asked_pages(cues, pages, paged, scored, tokens)
            some = weigh(asked.unsqueeze(-2), keys, Dot(), self.separation, shown).squeeze(-2)
            # no item stands twice among those that have a weight
            found.append(some.new_zeros(*some.shape[:-1], pages.slots.number).scatter_add(-1, index, some))
        return torch.cat(found, 2)

    def _blocks_of_pages(self, cues: Cues, pages: Pages, paged: Paged) -> Iterator[slice]:
        batch, time = cues.rows.shape[:2]
        items = (1 + min(paged.paging.probes, paged.means.there.shape[1])) * paged.paging.size
        size = max(1, BROUGHT // max(1, batch * items * 2 * self.dim))
        return (slice(start, min(start + size, time)) for start in range(0, time, size))

    def _page_keys(self, cues: Cues, paged: Paged) -> Tensor:
        """Extended keys of the representatives: [batch, head, page, wide]."""
        means = paged.means
        # ages are compared, so that of the last item serves as well as the mean
        recent = self._recent((means.stops - paged.seen[:, None])[:, None])
        return self._extended(cues, means.keys.transpose(1, 2), recent, means.meanings[:, None], means.contexts.transpose(1, 2))

    def _asked_pages(self, cues: Cues, pages: Pages, paged: Paged, scored: Tensor, tokens: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Extended cues [batch, head, token, wide], extended keys of the items that each reads [batch, head, token, item, wide], their
        slots [batch, head, token, item], and which of them are shown [batch, head, token, 1, item], for the last read.
        """
        slots = pages.slots

        def brought(asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            items, shown = paged.chosen(asked.detach() @ scored.detach().mT, tokens)
            index = (items - paged.first[:, None, None, None]).clamp(0, slots.number - 1)
            flat = index.flatten(1, 2)
            shown = shown & slots.there.gather(1, flat.flatten(1)).reshape(index.shape)
            meanings = contexts = slots.meanings
            if self.semantic is not None:
                meanings = rows_at(slots.meanings, flat).reshape(*index.shape, -1)
            if self.match is not None:
                contexts = rows_at(slots.contexts.transpose(1, 2), index)
            recent = self._recent(items + 1 - paged.seen[:, None, None, None])
            keys = self._extended(cues, rows_at(slots.keys.transpose(1, 2), index), recent, meanings, contexts)
            return keys, index, shown.unsqueeze(-2)

        def recall(asked: Tensor) -> Tensor:
            keys, index, shown = brought(asked)
            stored = rows_at(slots.contexts.transpose(1, 2), index).to(keys.dtype)
            return self._retrieve(asked.unsqueeze(-2), keys, stored, shown).squeeze(-2)

        asked = self._cue(cues, tokens, slots.keys.dtype, recall)
        return (asked, *brought(asked))

    def _asked(self, cues: Cues, pages: Pages, tokens: slice, slots: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Extended cues and keys [batch, head, token or slot, wide], values and what is shown, for the last read."""
        items = pages.slots
        values, stored = items.values[:, slots].transpose(1, 2), items.contexts[:, slots].transpose(1, 2)
        shown = pages.visible(tokens, slots)[:, None]
        keys = self._extended(cues, items.keys[:, slots].transpose(1, 2), self._bias(pages, slots), items.meanings[:, None, slots], stored)

        def recall(asked: Tensor) -> Tensor:
            return self._retrieve(asked, keys, stored.to(keys.dtype), shown)

        return self._cue(cues, tokens, keys.dtype, recall), keys, values, shown

    def _cue(self, cues: Cues, tokens: slice, dtype: torch.dtype, recall: Callable[[Tensor], Tensor]) -> Tensor:
        """Extended cues [batch, head, token, wide] for the last read. recall: contexts, as the first entries of what cues bring."""
        rows = self.query(cues.rows[:, tokens]).unflatten(-1, (self.heads, -1)).to(dtype)
        queries = (direction(rows) * self.sharpness.exp().to(dtype)[:, None]).transpose(1, 2)
        if self.strength or self.recency is not None:
            queries = torch.cat([queries, torch.ones_like(queries[..., :1])], -1)
        if self.semantic is not None and cues.meanings is not None:
            asks = self.semantic.to(queries.dtype)[:, None, None] * cues.meanings[:, None, tokens].to(queries.dtype)
            queries = torch.cat([queries, asks], -1)
        if self.match is None or cues.contexts is None or cues.inputs is None:
            return queries
        context, inputs = cues.contexts[:, tokens].transpose(1, 2), cues.inputs[:, tokens].transpose(1, 2)
        weight = self.match.exp().to(context.dtype)[:, None, None]

        def extended(context: Tensor) -> Tensor:
            return torch.cat([queries, (weight * context).to(queries.dtype)], -1)

        for _ in range(self.hops):
            share, beta = torch.sigmoid(self.reinstated.to(context.dtype))[:, None, None], torch.sigmoid(self.drift.to(context.dtype))  # type: ignore[union-attr]
            recalled = recall(extended(context))[..., : context.shape[-1]]
            brought = direction((1 - share) * inputs + share * recalled.to(context.dtype))
            context = drift(context, brought, beta[:, None])
        return extended(context)

    def _extended(self, cues: Cues, keys: Tensor, bias: Tensor | None, meanings: Tensor, contexts: Tensor) -> Tensor:
        """Keys [batch, head, ..., item, entry] beside what else is compared: [batch, head, ..., item, wide]. bias without the last axis."""
        parts = [keys]
        if bias is not None:
            parts.append(bias[..., None].expand(*keys.shape[:-1], 1))
        if self.semantic is not None and cues.meanings is not None:
            parts.append(meanings.expand(*keys.shape[:-1], -1))
        if self.match is not None and cues.contexts is not None and cues.inputs is not None:
            parts.append(contexts)
        return keys if len(parts) == 1 else torch.cat([part.to(keys.dtype) for part in parts], -1)

    def _retrieve(self, asked: Tensor, keys: Tensor, values: Tensor, shown: Tensor, bias: Tensor | None = None) -> Tensor:
        """[batch, head, token, at least the width of the values]."""
        wide = keys.shape[-1]
        if isinstance(self.separation, Softmax) and wide > values.shape[-1]:
            # equal widths, and multiples of 8, let torch attend in one kernel
            full = -(-wide // 8) * 8
            asked, keys, values = (functional.pad(rows, (0, full - rows.shape[-1])) for rows in (asked, keys, values))
        return retrieve(asked, keys, values, Dot(), self.separation, mask=shown, bias=bias)

    def _bias(self, pages: Pages, slots: slice) -> Tensor | None:
        """What the age and strength of an item add to its score: [batch, head, slot]."""
        bias = None
        if self.strength:
            strengths = pages.slots.strengths[:, slots]
            there = pages.slots.there[:, slots]
            bias = torch.where(there, strengths, torch.ones_like(strengths)).log()[:, None].expand(-1, self.heads, -1)
        # relative to the start of the call: what all items share changes no weight
        recent = self._recent((pages.slots.times[:, slots] - pages.seen[:, None])[:, None])
        return recent if bias is None else bias if recent is None else bias + recent

    def _recent(self, since: Tensor) -> Tensor | None:
        """What times [batch, head or 1, ...] add to a score, per head."""
        if self.recency is None:
            return None
        wide = torch.promote_types(self.recency.dtype, torch.float32)
        return self.recency.exp().to(wide).reshape(-1, *[1] * (since.ndim - 2)) * since.to(wide)


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
