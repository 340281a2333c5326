"""Cost of what stands around a memory: attention, gates, joins, feed-forward layers, and whole transformers of a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ammon.analysis.cost_episodic import Bank, episodic
from ammon.analysis.cost_neural import Inner, context, neural, surprise
from ammon.analysis.cost_record import Cost, Number, least, up, weights


def attention(
    dim: Number,
    time: Number,
    *,
    window: Number | None = None,
    persistent: Number = 0,
    past: Number = 0,
    batch: Number = 1,
    itemsize: Number = 4,
) -> Cost:
    """`Attention`: 8 dim² a token, 4 dim for each key it is compared with, hidden ones too. past: tokens seen before.

    With a window a state has its one size, whatever `past`; it is read if past is not 0.
    """
    projections = 8 * dim * dim * batch * time + 4 * dim * dim * persistent
    parameters = 4 * dim * dim + persistent * dim
    if window is None:
        keys, queries, slots, known, new = past + time + persistent, time, past + time, past, time
    else:
        block = least(window, time)
        keys, queries, slots = window - 1 + block + persistent, up(time, block), window - 1
        known, new = slots if past != 0 else 0, least(slots, time)
    # keys, values, whether a slot is filled; and the count of tokens
    slot, count = 2 * dim * itemsize + 1, 8
    state = batch * (slots * slot + count)
    moved = batch * ((known + new) * slot + (2 * count if past != 0 else count)) + itemsize * (parameters + 2 * batch * time * dim)
    return Cost(projections + 4 * batch * queries * keys * dim, parameters, state, moved)


def gate(
    dim: Number, time: Number, *, sources: Number = 2, per: str = "token", heads: Number = 1, batch: Number = 1, itemsize: Number = 4
) -> Cost:
    """`Gate` of a `Hybrid`: 2 dim sources (sources + 1) a token for one weight per source, times heads or dim for each head or channel.

    It weighs by the token and all sources. Mixing is elementwise and not counted.
    """
    groups = {"token": 1, "head": heads, "channel": dim}
    if per not in groups:
        raise ValueError(f"cost.gate: per must be one of {', '.join(groups)}, got {per!r}.")
    outputs = sources * groups[per]
    parameters = (sources + 1) * dim * outputs + outputs
    moved = itemsize * (parameters + batch * time * dim * (sources + 2))
    return Cost(2 * batch * time * (sources + 1) * dim * outputs, parameters, 0, moved)


def projection(dim: Number, out: Number, time: Number, *, batch: Number = 1, itemsize: Number = 4) -> Cost:
    """A linear layer without bias."""
    return Cost(2 * batch * time * dim * out, dim * out, 0, itemsize * (dim * out + batch * time * (dim + out)))


def feed_forward(dim: Number, time: Number, *, expansion: Number = 4, batch: Number = 1, itemsize: Number = 4) -> Cost:
    """`FeedForward`: 4 expansion dim² a token."""
    parameters = 2 * expansion * dim * dim + dim
    return Cost(4 * batch * time * expansion * dim * dim, parameters, 0, itemsize * (parameters + 2 * batch * time * dim))


def embedding(vocabulary: Number, dim: Number, time: Number, *, batch: Number = 1, itemsize: Number = 4) -> Cost:
    """A table, of which the rows of the tokens move."""
    return Cost(0, vocabulary * dim, 0, 2 * itemsize * batch * time * dim)


@dataclass(frozen=True)
class Call:
    """What a model is called with, after `past` tokens."""

    dim: Number
    time: Number
    past: Number = 0
    batch: Number = 1
    itemsize: Number = 4

    @property
    def sizes(self) -> dict[str, Number]:
        return {"batch": self.batch, "itemsize": self.itemsize}


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer, as `Size` of `ammon.nn.configurations` makes it."""

    layers: Number = 2
    vocabulary: Number = 256
    near: Number = 16
    window: Number | None = 16
    expansion: Number = 4
    inner: Inner = field(default_factory=lambda: Inner(depth=1))
    bank: Bank = field(default_factory=lambda: Bank(slots=None, heads=2, every=16, summary="each"))
    few: Number = 8


def _attention(call: Call, shape: Shape) -> Cost:
    return attention(call.dim, call.time, window=shape.window, past=call.past, **call.sizes)


def _neural(call: Call, shape: Shape) -> Cost:
    return neural(call.dim, call.time, shape.inner, continued=call.past != 0, **call.sizes)


def _episodic(call: Call, shape: Shape) -> Cost:
    return episodic(call.dim, call.time, shape.bank, past=call.past, **call.sizes)


def _surprising(call: Call, shape: Shape) -> Cost:
    few = Bank(shape.few, shape.bank.heads, recency=shape.bank.recency, strength="surprise", evict="strength")
    felt = surprise(call.dim, call.time, shape.inner, continued=call.past != 0, **call.sizes)
    return felt + episodic(call.dim, call.time, few, past=call.past, **call.sizes)


Part = Callable[[Call, Shape], Cost]


def residual(*parts: Part) -> Part:
    """One norm, and the layers behind it."""
    return lambda call, shape: sum((part(call, shape) for part in parts), start=weights(call.dim, call.itemsize))


def hybrid(*parts: Part) -> Part:
    """A norm, one for each source, and the gate, per token."""

    def found(call: Call, shape: Shape) -> Cost:
        own = gate(call.dim, call.time, sources=len(parts), **call.sizes) + weights((1 + len(parts)) * call.dim, call.itemsize)
        return sum((part(call, shape) for part in parts), start=own)

    return found


def _context(call: Call, shape: Shape) -> Cost:
    return context(call.dim, call.time, shape.inner, continued=call.past != 0, **call.sizes)


def _gated(call: Call, shape: Shape) -> Cost:
    return _attention(call, shape) + _neural(call, shape) + weights(3 * call.dim, call.itemsize)


# the second and later layers of each configuration
PARTS: Mapping[str, Part] = {
    "attention": residual(_attention),
    "neural": residual(_neural),
    "episodic": residual(_episodic),
    "attention_neural": hybrid(_attention, _neural),
    "attention_episodic": hybrid(_attention, _episodic),
    "hybrid": hybrid(_attention, _neural, _episodic),
    "hybrid_surprise": hybrid(_attention, _neural, _surprising),
    "memory_as_gate": _gated,
    "memory_as_layer": residual(_attention, _neural),
    "memory_as_context": _context,
}


def transformer(configuration: str, call: Call, shape: Shape | None = None) -> Cost:
    """A `MemoryTransformer` of a configuration by name: embedding, layers of a memory and a feed-forward layer each, norm and logits."""
    shape = shape or Shape()
    if configuration not in PARTS:
        raise ValueError(f"cost.transformer: the configuration must be one of {', '.join(PARTS)}, got {configuration!r}.")
    near = attention(call.dim, call.time, window=shape.near, past=call.past, **call.sizes) + weights(call.dim, call.itemsize)
    forward = feed_forward(call.dim, call.time, expansion=shape.expansion, **call.sizes)
    ends = embedding(shape.vocabulary, call.dim, call.time, **call.sizes) + weights(call.dim, call.itemsize)
    ends = ends + projection(call.dim, shape.vocabulary, call.time, **call.sizes)
    return ends + near + forward.times(shape.layers) + PARTS[configuration](call, shape).times(shape.layers - 1)
