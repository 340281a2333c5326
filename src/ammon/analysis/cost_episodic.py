"""Cost of episodic memories: banks of slots, as the layer reads them and as an index would, and dense associations."""

from bisect import bisect_left
from dataclasses import dataclass

from ammon.analysis.cost_record import Cost, Number, least, most, quotient, up, whole
from ammon.nn.drifting import BLOCK as DRIFTING
from ammon.nn.episodic import BLOCK as READING
from ammon.nn.hebbian import BLOCK as BINDING
from ammon.parts.retrieve import SPARSE

# "exact" by torch's attention; "held" (entmax, maximum): scores held, all values mixed; "top-k": scores held, and of many items only the
# values of the best mixed
READS = ("exact", "held", "top-k")
SUMMARIES = ("token", "each", "last", "mean", "attention")


@dataclass(frozen=True)
class Bank:
    """Sizes and settings of an `EpisodicMemory`. slots: None holds all. context: entries per head; fading: its form. meanings: of rows
    of `Semantics`.

    summary: what is written after `every` tokens (None: where the caller says), "token" for each by itself. evict: "" for a ring, else
    by what. strength: "", "learned" or "surprise". top: of "top-k". page, probes: of `Paging` (page 0: all are read).
    """

    slots: Number | None = 256
    heads: Number = 1
    context: Number = 0
    fading: bool = False
    hops: int = 0
    meanings: Number = 0
    recency: bool = False
    strength: str = ""
    every: Number | None = 1
    summary: str = "token"
    evict: str = ""
    read: str = "exact"
    top: Number = 32
    page: Number = 0
    probes: Number = 8

    def __post_init__(self) -> None:
        if self.read not in READS:
            raise ValueError(f"Bank: read must be one of {', '.join(READS)}, got {self.read!r}.")
        if self.summary not in SUMMARIES:
            raise ValueError(f"Bank: summary must be one of {', '.join(SUMMARIES)}, got {self.summary!r}.")

    @property
    def pools(self) -> bool:
        return self.summary in ("last", "mean", "attention")

    def items(self, time: Number) -> Number:
        """How many a call of so many tokens has room for."""
        if not self.pools:
            return time
        return time + 1 if self.every is None else quotient(up(time, self.every), self.every)


def episodic(dim: Number, time: Number, bank: Bank | None = None, *, past: Number = 0, batch: Number = 1, itemsize: Number = 4) -> Cost:
    """`EpisodicMemory` after `past` tokens, segments without boundaries. Per token 4 dim² (query, output), per item 4 dim² (key, value).

    A token is compared with all slots and those of the items of its call that come in its block of r = max(slots/8, 128) tokens: 4 dim
    (slots + r) in a stream that has begun, once, and each hop again. A context adds 2 dim · heads · context a token and 4 heads · context
    for each comparison; widths beside dim are filled up to multiples of 8. Where scores are held a comparison takes
    2 (dim + heads · context) and no filling up; mixing takes 2 dim for each item compared, of the best of many 2 dim top a token.
    By pages a token is compared with slots/page representatives, 2 dim each, and (probes + 1) page items; no more of them need move.
    """
    bank = bank or Bank()
    heads, wide, contexts = bank.heads, most(4, itemsize), bank.heads * bank.context
    items = bank.items(time)
    old = 0 if past == 0 else bank.slots if bank.slots is not None else bank.items(past)
    flops = _flops(dim, time, items, old, bank)
    if bank.evict == "use" and time != 1:
        # token after token
        flops = time * _flops(dim, 1, bank.items(1), bank.slots, bank)
    learned = {"": 0, "learned": dim + 1, "surprise": 2}[bank.strength] + (dim if bank.summary == "attention" else 0)
    # keys and values, and the drift with its share and its start
    written = 2 * dim * dim + (dim * contexts + heads + contexts if bank.context != 0 else 0) + learned
    parameters = written + _asking(dim, bank)
    slot = (2 * dim + bank.meanings) * itemsize + contexts * wide + 2 * wide + 9
    row = contexts * wide + 16
    if bank.pools:
        row = row + (dim + contexts + bank.meanings + 1 + (1 if bank.strength == "surprise" else 0)) * wide
    number = bank.slots if bank.slots is not None else old + items
    new = items if bank.slots is None else least(items, bank.slots)
    read = old
    if bank.page != 0:
        row = row + quotient(number, bank.page) * ((dim + bank.meanings) * itemsize + contexts * wide + 17)
        # of symbols: what many tokens may read in common is not told apart
        found = time * _paged(items, old, bank)[1]
        read = least(old, found) if whole(old, found) else found if old != 0 else 0
    moved = batch * ((read + new) * slot + (1 if past == 0 else 2) * row) + itemsize * (parameters + 2 * batch * time * dim)
    return Cost(batch * flops, parameters, batch * (number * slot + row), moved)


def reader(dim: Number, time: Number, bank: Bank, *, past: Number = 0, batch: Number = 1, itemsize: Number = 4) -> Cost:
    """One more read of a bank that another layer writes (`SharedBank`)."""
    items = bank.items(time)
    old = 0 if past == 0 else bank.slots if bank.slots is not None else bank.items(past)
    flops = batch * (4 * dim * dim * time + _reading(dim, time, items, old, bank))
    parameters = _asking(dim, bank)
    return Cost(flops, parameters, 0, itemsize * (parameters + 2 * batch * time * dim))


def _asking(dim: Number, bank: Bank) -> Number:
    """Parameters of a `Reader`: query, output; sharpness, match, recency, and the two of reinstatement, per head."""
    scalars = 1 + (1 if bank.context != 0 else 0) + (1 if bank.meanings != 0 else 0) + (1 if bank.recency else 0) + (2 if bank.hops else 0)
    return 2 * dim * dim + bank.heads * scalars


def _flops(dim: Number, time: Number, items: Number, old: Number, bank: Bank) -> Number:
    """Of one call and row. old: slots that it begins with."""
    # uses are counted by weights of their own, with their own query
    token = (
        (6 if bank.evict == "use" else 4) * dim * dim
        + 2 * dim * bank.heads * bank.context
        + (2 * dim if bank.summary == "attention" else 0)
    )
    item = 4 * dim * dim + (2 * dim if bank.strength == "learned" else 0)
    flops = time * token + items * item + _reading(dim, time, items, old, bank)
    if bank.fading:
        flops = flops + 2 * bank.heads * bank.context * _squares(time, DRIFTING)
    if bank.evict == "redundancy":
        flops = flops + 2 * dim * (old + items) ** 2
    return flops


def _reading(dim: Number, time: Number, items: Number, old: Number, bank: Bank) -> Number:
    """Comparisons and mixing."""
    heads, size = bank.heads, quotient(dim, bank.heads)
    width = size + bank.context + bank.meanings + (1 if bank.recency or bank.strength else 0)
    if bank.page != 0:
        _, found = _paged(items, old, bank)
        pairs = time * found
        mixed = time * bank.top if bank.read == "top-k" and not (whole(found, bank.top) and bank.top * SPARSE > found) else pairs
    else:
        pairs = _pairs(time, old, items, bank)
        mixed = pairs if bank.read != "top-k" else _mixed(time, old, items, bank)
    full = up(width, 8) if width != size else size

    def read(entries: Number) -> Number:
        """Of values of so many entries, in each head."""
        choosing = 0 if bank.page == 0 else time * 2 * heads * width * _paged(items, old, bank)[0]
        return choosing + (pairs * 4 * heads * full if bank.read == "exact" else 2 * heads * (pairs * width + mixed * entries))

    hops = bank.hops * read(bank.context)
    counting = hops + pairs * 2 * heads * width if bank.evict == "use" else 0
    return hops + read(size) + counting


def _paged(items: Number, old: Number, bank: Bank) -> tuple[Number, Number]:
    """Pages that a token is compared with, and items that it then reads, those of the page under way too."""
    pages = quotient(old, bank.page) + (1 if items == 1 else quotient(up(items, bank.page), bank.page))
    return pages, bank.page * (1 + (least(bank.probes, pages) if whole(pages, bank.probes) else bank.probes))


def _pairs(time: Number, old: Number, items: Number, bank: Bank) -> Number:
    """How many comparisons of a token and an item, those that turn out to be hidden too."""
    block = _block(bank)
    if block is None or bank.slots is None:
        return time * (old + items)
    stays = bank.strength == "surprise"
    if not whole(time, old, block):
        block = least(block, time) if time != 1 else 1
        if stays:
            return time * (2 * old + time + block) / 2
        # a stream that has begun; else one that is longer than the bank, which fills first
        return time * (bank.slots + block) if old != 0 else (bank.slots + block) * (time - bank.slots / 2)
    number, rest = divmod(time, block)
    pairs = block * old * number + block * block * number * (number + 1) // 2 + rest * (old + time)
    if stays:
        return pairs
    # slots that a block need not look at, as they are gone by then
    spare = bank.slots - old
    first = min(spare // block + 1, number)
    gone = block * (number * (number - 1) - first * (first - 1)) // 2 - spare * (number - first)
    return pairs - block * gone - rest * max(0, number * block - spare)


def _mixed(time: Number, old: Number, items: Number, bank: Bank) -> Number:
    """How many values are mixed by reads of the best: all of few, `top` of many. For symbols: of many."""
    block = _block(bank)
    if not whole(time, old, items, bank.top):
        return time * bank.top
    many = bank.top * SPARSE
    if block is None or bank.slots is None:
        return time * (bank.top if many <= old + items else old + items)
    spare = bank.slots - old

    def slots(start: int) -> int:
        """What a block of tokens is compared with."""
        return int(old + min(start + block, time) - (0 if bank.strength == "surprise" else max(0, start - spare)))

    number, rest = divmod(time, block)
    # full blocks have ever more slots before them
    few = bisect_left(range(number), many, key=lambda place: slots(place * block))
    tail = 0 if not rest else bank.top if many <= slots(number * block) else slots(number * block)
    return _pairs(few * block, old, items, bank) + (number - few) * block * bank.top + rest * tail


def _block(bank: Bank) -> Number | None:
    """Tokens that are read at once, if not all."""
    return None if bank.pools or bank.evict or bank.slots is None else most(quotient(bank.slots, 8), READING)


def hebbian(
    dim: Number,
    time: Number,
    *,
    heads: Number = 1,
    context: Number = 16,
    fading: bool = False,
    continued: bool = False,
    batch: Number = 1,
    itemsize: Number = 4,
) -> Cost:
    """`HebbianMemory`: per token 8 dim² + 10 dim · context + 4 s (dim + heads · context) with blocks of s = 64, context in each head."""
    contexts = heads * context
    bound = 4 * (dim + contexts) * _squares(time, BINDING)
    flops = time * (8 * dim * dim + 2 * dim * contexts + 8 * dim * context) + bound
    if fading:
        flops = flops + 2 * contexts * _squares(time, DRIFTING)
    parameters = 4 * dim * dim + quotient(dim, heads) + 4 * heads + dim * contexts + contexts
    state = batch * (2 * dim * context + contexts) * most(4, itemsize)
    moved = (2 if continued else 1) * state + itemsize * (parameters + 2 * batch * time * dim)
    return Cost(batch * flops, parameters, state, moved)


def _squares(time: Number, block: int) -> Number:
    """Σ s² over blocks of s = `block` tokens and the rest."""
    if not whole(time):
        return time * block
    number, rest = divmod(time, block)
    return number * block * block + rest * rest
