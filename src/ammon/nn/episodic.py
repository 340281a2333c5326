"""EpisodicMemory: a layer that writes items down as they happen and recalls them by content, by context and by recency.

x [batch, time, dim] → y [batch, time, dim] and the state after it. Without a context, with room for all, it is attention over the past.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ammon.dynamics.drift import direction
from ammon.nn.drifting import Drift
from ammon.nn.evicting import Lowest, survivors
from ammon.nn.packing import Packing, packing
from ammon.nn.paging import Paged, Paging, Representatives, paged, unwritten
from ammon.nn.reading import Cues, Pages, Reader
from ammon.nn.segments import NEVER, PerToken, Pool, Segments, ends, next_end
from ammon.nn.semantics import Semantics
from ammon.nn.slots import Slots, empty, joined, newest, none
from ammon.nn.state import Mode, State, check_input, check_rows_of, check_state, record, replace_rows
from ammon.nn.surprising import Surprising
from ammon.nn.told import Told
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.top_k import TopK
from ammon.shapes import check_count

# tokens that are read in one product, at least
BLOCK = 128


@record
class EpisodicState(State):
    """What an `EpisodicMemory` holds."""

    slots: Slots
    context: Tensor  # [batch, head, context]; 0 wide without a context
    seen: Tensor  # [batch], tokens written so far, by themselves or in segments
    open: Tensor  # [batch], tokens of the segment under way
    pooled: Tensor  # [batch, ...], sums over the segment under way; 0 wide where segments are not summed up
    pages: tuple[Representatives, ...] = ()  # what stands for the pages, in a bank that is read by pages


@dataclass(frozen=True)
class Written:
    """What a call writes, and what it leaves of the segment under way."""

    items: Slots
    born: Tensor  # [batch or 1, item or gap]: the gap from which on an item is read; as `EpisodicMemory._pages` takes it
    gaps: Tensor  # [batch or 1, item]: where it is written
    count: Tensor | None  # [batch]: how many items there are, first in their row; None: all
    open: Tensor
    pooled: Tensor


class EpisodicMemory(nn.Module):
    """Keys of length 1, values and queries by projection, per head; one item per token or segment; the newest `slots` items are held.

    slots: None holds all, so the state grows with the text. write: `PerToken` or `Segments`. separation: `Softmax`, `TopK`, `Entmax`.
    sharpness: of the item match at first, a factor of the cosine. context: entries per head of a context that drifts (see `Drift`,
    which also may be given), `match` the weight of its cosine at first. recency: at first, the rate per token by which items fade.
    strength: learn how strongly each item is written, σ(W x) near 1 at first, or by what surprises (`Surprising`). hops: reinstatements
    of context in a read. evict: which item gives way once all slots are filled, the oldest by default (`Lowest`). semantics: associations
    that items have from before. paging: read the best pages of a long bank instead of all of it (`Paging`).
    """

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        slots: int | None = 256,
        write: PerToken | Segments | None = None,
        separation: Lagrangian | None = None,
        *,
        sharpness: float = 16.0,
        context: int | Drift | None = None,
        match: float = 4.0,
        recency: float | None = None,
        strength: bool | Surprising = False,
        hops: int = 0,
        evict: Lowest | None = None,
        semantics: Semantics | None = None,
        paging: Paging | None = None,
    ) -> None:
        super().__init__()
        where = "EpisodicMemory"
        check_count(where, "dim", dim)
        check_count(where, "heads", heads)
        if slots is not None:
            check_count(where, "slots", slots)
        if dim % heads:
            raise ValueError(f"{where}: dim must be a multiple of heads, got {dim} and {heads}.")
        if isinstance(separation, TopK) and slots is not None and separation.k > slots:
            raise ValueError(f"{where}: the read takes the top {separation.k} of {slots} slots; give more slots or a smaller k.")
        if slots is None and evict is not None:
            raise ValueError(f"{where}: {evict} evicts from a bank that is full, and this one holds all; give slots.")
        self.dim, self.heads, self.slots, self.write = dim, heads, slots, write or PerToken()
        # a ring needs no policy: the newest stay
        self.evict = None if evict is None or evict.by == "age" else evict
        self.context = Drift(dim, heads, context) if isinstance(context, int) else context
        if self.context is not None and self.context.heads != heads:
            raise ValueError(f"{where}: the context has {self.context.heads} heads, the memory {heads}; give both the same.")
        self.store = nn.Linear(dim, 2 * dim, bias=False)
        self.strength = strength if isinstance(strength, Surprising) else nn.Linear(dim, 1) if strength else None
        if isinstance(self.strength, nn.Linear):
            nn.init.constant_(self.strength.bias, 2.0)
        summary = self.write.summary if isinstance(self.write, Segments) else "each"
        self.pool = None if summary == "each" else Pool(dim, summary)
        self.read = Reader(
            dim,
            heads,
            separation,
            sharpness=sharpness,
            match=None if self.context is None else match,
            recency=recency,
            strength=self.strength is not None,
            hops=hops,
            semantic=None if semantics is None else semantics.weight,
        )
        self.semantics, self.paging = semantics, paging
        if paging is not None:
            top = self.read.separation.k if isinstance(self.read.separation, TopK) else None
            paging.check(where, slots, self.write if isinstance(self.write, Segments) else None, self.evict, self.strength, top)

    @property
    def takes(self) -> frozenset[str]:
        """What it must or may be told of tokens: "boundary" if it writes segments, "surprise" if by surprise, "items" with semantics."""
        asked = {
            "boundary": isinstance(self.write, Segments),
            "surprise": isinstance(self.strength, Surprising),
            "items": self.semantics is not None,
        }
        return frozenset(name for name, takes in asked.items() if takes)

    def init_state(self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> EpisodicState:
        """The state of `batch` rows that have seen nothing."""
        check_count("EpisodicMemory.init_state", "batch", batch)
        return self._state(batch, self.slots or 0, device, dtype)

    def reset(self, state: EpisodicState, rows: Tensor) -> EpisodicState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("EpisodicMemory.reset", state, rows)
        return replace_rows(state, self._state(state.batch, state.slots.number, state.seen.device), rows)

    def forward(
        self,
        x: Tensor,
        state: EpisodicState | None = None,
        *,
        mask: Tensor | None = None,
        mode: Mode = "read-write",
        boundary: Tensor | None = None,
        surprise: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, EpisodicState]:
        """What each token recalls, and the state after the last.

        mask [batch, time]: True where a token is there; the others change nothing and recall zeros. mode: "read-only" writes nothing and
        nothing ages (only context drifts on), "write-only" gives zeros. boundary bool [batch, time]: True where a token begins a new
        segment, e.g. a turn or an event (for a memory that writes `Segments`); what it ends is written before that token reads.
        surprise floating or bool [batch, time]: for a memory made with `Surprising`, which needs it to write; a segment's is summed up
        as its tokens are. items [batch, time]: which item each token is, for a memory made with `Semantics`; -1 for none.
        """
        told = Told(boundary, surprise, items)
        held, begun = self.checked(x, state, mask, mode, told)
        if not x.shape[1]:
            return torch.zeros_like(x), held
        if self.counts and mode == "read-write" and x.shape[1] > 1:
            return self._token_by_token(x, held, mask, told)
        places = packing(mask)
        cues, pages, after = self.turn(x, held, begun, places, mode, told)
        y = torch.zeros_like(x) if mode == "write-only" else places.unpack(self.read(cues, pages))
        return y, after

    def turn(
        self, x: Tensor, state: EpisodicState, begun: bool, places: Packing, mode: Mode, told: Told
    ) -> tuple[Cues, Pages, EpisodicState]:
        """What may be asked, what may be read, and the state after; for readers of their own. begun: False where slots hold nothing."""
        rows, time, told = places.pack(x), x.shape[1], told.map(places.pack)
        contexts, cues, context = None, Cues(rows), state.context
        if self.context is not None:
            inputs, contexts = self.context(rows, state.context)
            context = places.after(contexts)
            contexts = self.context.used(contexts)
            cues = Cues(rows, inputs, contexts[:, 1:])
            contexts = contexts[:, :-1] if self.context.association == "previous" else contexts[:, 1:]
        seen = state.seen + (time if places.count is None else places.count)
        there = torch.arange(time, device=x.device) < (seen - state.seen)[:, None]
        meanings = None
        if self.semantics is not None and told.items is not None:
            asks, meanings = self.semantics(torch.where(there, told.items, -1))
            cues = replace(cues, meanings=asks)
        if mode == "read-only":
            pages = self._pages(state, None, None, time)
            return cues, pages, replace(state, context=context)
        old = state if begun else replace(state, slots=none(state.slots), pages=tuple(none(part) for part in state.pages))
        new = self._written(rows, contexts, meanings, state, there, told, places)
        pages = self._pages(old, new.items, (new.born, new.gaps), time)
        if self.counts and mode == "read-write":
            pages = self._counted(cues, pages, there)
        held = self.slots if self.slots is not None else pages.slots.number
        if self.slots is None and (self.paging is None or new.count is None):
            slots = pages.slots
        elif self.evict is None:
            slots = newest(pages.slots, held, new.items.number, new.count)
        else:
            assert pages.dies is not None
            slots = survivors(pages.slots, pages.slots.there & (pages.dies == NEVER), held)
        known = () if pages.paged is None else pages.paged.after(old.pages[0].there.shape[1], held, seen)
        return cues, pages, EpisodicState(slots, context, seen, new.open, new.pooled, known)

    def _written(
        self,
        rows: Tensor,
        contexts: Tensor | None,
        meanings: Tensor | None,
        state: EpisodicState,
        there: Tensor,
        told: Told,
        places: Packing,
    ) -> "Written":
        """What a call writes: its tokens, or the segments that end in it."""
        time = rows.shape[1]
        level = None if told.surprise is None else told.surprise.to(state.pooled.dtype)
        opened, pooled, count = state.open, state.pooled, places.count
        if isinstance(self.write, PerToken):
            born = gaps = torch.arange(time, device=rows.device)[None] + (0 if self.write.own else 1)
            items = self._items(rows, contexts, meanings, state.seen[:, None] + torch.arange(1, time + 1, device=rows.device), there, level)
        else:
            found = ends(told.boundary, there, state.open, self.write.every)
            opened = found.open
            if self.pool is None:
                gaps = torch.arange(1, time + 1, device=rows.device)[None]
                born = next_end(found.closes)
                items = self._items(rows, contexts, meanings, state.seen[:, None] + gaps, there, level)
            else:
                any_gap = told.boundary is not None or self.write.every is None
                most = time + 1 if any_gap else (time + self.write.every - 1) // self.write.every  # type: ignore[operator]
                parts = [
                    rows,
                    contexts if contexts is None else contexts.flatten(2),
                    meanings,
                    level if level is None else level[..., None],
                ]
                features = [part.to(state.pooled.dtype) for part in parts if part is not None]
                done = self.pool(rows, torch.cat(features, -1), found, there, state.pooled, most)
                summed = iter(done.means.split([part.shape[-1] for part in features], -1))
                means = next(summed).to(rows.dtype)
                kept = None if contexts is None else direction(next(summed).unflatten(-1, contexts.shape[2:]))
                meanings = None if meanings is None else next(summed)
                level = None if level is None else next(summed).squeeze(-1)
                filled = torch.arange(most, device=rows.device) < done.number[:, None]
                items = self._items(means, kept, meanings, state.seen[:, None] + done.gaps, filled, level)
                born, gaps, count, pooled = done.gaps, done.gaps, done.number, done.carried
        if level is not None:
            items, born, gaps, count = self._chosen(items, level, born, gaps)
        return Written(items, born, gaps, count, opened, pooled)

    def _chosen(self, items: Slots, level: Tensor, born: Tensor, written: Tensor) -> tuple[Slots, Tensor, Tensor, Tensor | None]:
        """The items that surprise enough, first in their row, the gaps at which they come, and how many there are."""
        assert isinstance(self.strength, Surprising)
        places = packing(items.there & self.strength.chosen(level))

        def gaps(when: Tensor) -> Tensor:
            return torch.where(kept.there, places.pack(when.expand(len(level), -1)), NEVER)

        kept = items.map(places.pack)
        # of segments by their tokens the first gap is that of what was written before this call
        before = born.shape[1] - items.number
        first, born = born[:, :before], gaps(born[:, before:])
        return kept, torch.cat([first.expand(len(level), -1), born], 1), gaps(written), places.count

    @property
    def counts(self) -> bool:
        """Whether items count their uses, which asks for token after token."""
        return self.evict is not None and self.evict.by == "use"

    def _token_by_token(self, x: Tensor, state: EpisodicState, mask: Tensor | None, told: Told) -> tuple[Tensor, EpisodicState]:
        found = []
        for place in range(x.shape[1]):
            one = slice(place, place + 1)
            places = packing(None if mask is None else mask[:, one])
            some = told.map(lambda said, one=one: said[:, one])  # type: ignore[misc]
            cues, pages, state = self.turn(x[:, one], state, True, places, "read-write", some)
            found.append(places.unpack(self.read(cues, pages)))
        return torch.cat(found, 1), state

    @torch.no_grad()
    def _counted(self, cues: Cues, pages: Pages, there: Tensor) -> Pages:
        weights = self.read.weights(cues, pages).mean(1) * there[..., None]
        return replace(pages, slots=replace(pages.slots, uses=pages.slots.uses + weights.sum(1).to(pages.slots.uses.dtype)))

    def weights(self, x: Tensor, state: EpisodicState, *, mask: Tensor | None = None, items: Tensor | None = None) -> Tensor:
        """How each token weighs the slots of the state, which stay as they are: [batch, head, time, slot]; 0 where it is masked."""
        told = Told(items=items)
        self.checked(x, state, mask, "read-only", told)
        places = packing(mask)
        cues, pages, _ = self.turn(x, state, True, places, "read-only", told)
        return places.unpack(self.read.weights(cues, pages).transpose(1, 2)).transpose(1, 2)

    def checked(self, x: Tensor, state: EpisodicState | None, mask: Tensor | None, mode: Mode, told: Told) -> tuple[EpisodicState, bool]:
        """The state to begin with, and whether its slots may hold anything; refuses what `forward` refuses."""
        where = "EpisodicMemory"
        check_input(where, x, mask, self.dim, mode)
        told.check(where, x, self.takes, mode)
        if state is None:
            return self._state(len(x), self.slots or 0, x.device), False
        slots = state.slots.number if self.slots is None and isinstance(state, EpisodicState) else self.slots or 0
        # as wide as it should be, and made of one slot: long banks are not filled at each call
        size = 1 if self.paging is None else self.paging.size
        one = self._state(1, size, self.store.weight.device)
        wide = one.slots.map(lambda rows: rows[:, :1].expand(-1, slots, *rows.shape[2:]))
        pages = tuple(part.map(lambda rows: rows.expand(-1, slots // size, *rows.shape[2:])) for part in one.pages)
        check_state(where, state, replace(one, slots=wide, pages=pages).map(lambda rows: rows.expand(len(x), *rows.shape[1:])))
        return state, slots > 0

    def _items(
        self, rows: Tensor, contexts: Tensor | None, meanings: Tensor | None, times: Tensor, there: Tensor, level: Tensor | None
    ) -> Slots:
        """One item per row [batch, item, dim]; zeros where nothing is there."""
        dtype = self.store.weight.dtype
        keys, values = self.store(rows.to(dtype)).unflatten(-1, (2, self.heads, -1)).unbind(2)
        wide = torch.promote_types(dtype, torch.float32)
        strengths = there.to(wide)
        if isinstance(self.strength, Surprising):
            strengths = strengths * self.strength(level)
        elif self.strength is not None:
            strengths = strengths * torch.sigmoid(self.strength(rows.to(dtype)).to(wide)).squeeze(-1)
        if contexts is None:
            contexts = rows.new_zeros(*rows.shape[:2], self.heads, 0)
        shown = there[..., None, None]
        contexts = torch.where(shown, contexts, torch.zeros_like(contexts))
        meanings = rows.new_zeros(*rows.shape[:2], 0) if meanings is None else meanings * there[..., None]
        unused = torch.zeros_like(strengths)
        return Slots(direction(keys), values, contexts.to(wide), meanings.to(dtype), torch.where(there, times, 0), strengths, unused, there)

    def _pages(self, state: EpisodicState, items: Slots | None, gaps: tuple[Tensor, Tensor] | None, time: int) -> Pages:
        """The slots of the state and the items written in this call, with the gaps at which they are (born, written)."""
        old = state.slots
        # tokens of the segment under way are written, and read once it has ended
        hidden = (old.times > (state.seen - state.open)[:, None]) if self.pool is None and isinstance(self.write, Segments) else None
        if items is None or gaps is None:
            shown = old.there if hidden is None else old.there & ~hidden
            by_pages = self._paged(state, old, state.seen[:, None].expand(-1, time), 0)
            return Pages(
                old, shown, torch.zeros_like(old.times), None, state.seen, ((slice(0, time), slice(0, old.number)),), paged=by_pages
            )
        born, written = gaps
        if hidden is not None:
            # born holds the next end from each gap on: an open item waits for that of the first, a new one for that after it
            old_born, born = torch.where(hidden, born[:, :1], 0), born[:, 1:]
        else:
            old_born = torch.zeros_like(old.times)
        slots = joined(old, items)
        if len(born) == 1 and not old.number:
            born = torch.cat([old_born[:1], born], 1)
        else:
            born = torch.cat([old_born, born.expand(len(old_born), -1)], 1)
        dies = None
        blocks = [(slice(0, time), slice(0, slots.number))]
        if self.evict is not None and self.slots is not None:
            dies = self.evict.deaths(slots, written.expand(len(state.seen), -1), items.number, self.slots, NEVER, state.seen)
        elif self.slots is not None:
            # the item that is `slots` newer takes its place
            spare = self.slots - old.number
            if spare < items.number:
                lasting = torch.full_like(born, NEVER)
                dies = torch.cat([written[:, spare:].expand(len(born), -1), lasting], 1)[:, : slots.number]
            if self.pool is None:
                # short against the slots, so that few keys are compared in vain, and not too short for a product
                size = max(self.slots // 8, BLOCK)
                # where not every token is written, old items stay for longer
                blocks = [
                    (
                        slice(start, min(start + size, time)),
                        slice(0 if "surprise" in self.takes else max(0, start - spare), old.number + min(start + size, time)),
                    )
                    for start in range(0, time, size)
                ]
        own = isinstance(self.write, PerToken) and self.write.own
        by_pages = self._paged(state, slots, state.seen[:, None] + torch.arange(time, device=born.device) + own, items.number)
        return Pages(slots, None, born, dies, state.seen, tuple(blocks), paged=by_pages)

    def _paged(self, state: EpisodicState, slots: Slots, shown: Tensor, new: int) -> Paged | None:
        return None if self.paging is None else paged(self.paging, state.pages, slots, state.seen, shown, self.slots, new)

    def _state(self, batch: int, slots: int, device: torch.device | str | None, dtype: torch.dtype | None = None) -> EpisodicState:
        like = self.store.weight.new_zeros((), device=device, dtype=dtype)
        wide = torch.promote_types(like.dtype, torch.float32)
        size = 0 if self.context is None else self.context.size
        context = like.new_zeros(batch, self.heads, 0, dtype=wide) if self.context is None else self.context.begin(batch, wide)
        nothing = torch.zeros(batch, dtype=torch.int64, device=like.device)
        meaning = 0 if self.semantics is None else self.semantics.size
        pooled = 0 if self.pool is None else self.dim + self.heads * size + meaning + ("surprise" in self.takes) + 1
        held = empty(batch, slots, self.heads, self.dim // self.heads, size, meaning, like)
        pages = () if self.paging is None else (unwritten(held, self.paging.size),)
        return EpisodicState(held, context.to(like.device), nothing, nothing, like.new_zeros(batch, pooled, dtype=wide), pages)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, slots={self.slots}, write={self.write}"
