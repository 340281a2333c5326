"""Cost: the matrix FLOPs, parameters, bytes of state and traffic of memory layers, exactly as the layers of `ammon.nn` run.

A FLOP is half a multiply-add. Elementwise work, softmax and norms are not counted, as in torch's FlopCounterMode. The formulas are plain
arithmetic: with whole numbers they give whole numbers, with sympy's symbols expressions. A layer kind has one function of sizes, and one
line in `_KINDS` that takes the sizes from a real layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import nn

from ammon.learning.dual_form import DualForm
from ammon.learning.fast_weights import Mlp
from ammon.learning.gated_scan import GatedScan
from ammon.nn.attention import Attention
from ammon.nn.neural import NeuralMemory
from ammon.nn.titans import MemoryAsContext, MemoryAsGate, MemoryAsLayer
from ammon.shapes import check_count

# a whole number or an expression of sympy
Number = Any
FORMS = ("dual", "scan")
# bytes of a slot's time, strength, use and whether it is filled
METADATA = 20


@dataclass(frozen=True)
class Cost:
    """Of one forward pass over the whole batch; the state is that after it.

    traffic: bytes that must move at least, each once: parameters, x, y, the state before, and what is new in the state after. What a
    layer makes on its way (scores, copies) is not in it.
    """

    flops: Number
    parameters: Number
    state_bytes: Number
    traffic: Number

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(one + two for one, two in zip(self._all, other._all)))

    @property
    def _all(self) -> tuple[Number, ...]:
        return self.flops, self.parameters, self.state_bytes, self.traffic


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
        block = _least(window, time)
        keys, queries, slots = window - 1 + block + persistent, _up(time, block), window - 1
        known, new = slots if past != 0 else 0, _least(slots, time)
    # keys, values, whether a slot is filled; and the count of tokens
    slot, count = 2 * dim * itemsize + 1, 8
    state = batch * (slots * slot + count)
    moved = batch * ((known + new) * slot + (2 * count if past != 0 else count)) + itemsize * (parameters + 2 * batch * time * dim)
    return Cost(projections + 4 * batch * queries * keys * dim, parameters, state, moved)


def neural(
    dim: Number,
    time: Number,
    *,
    heads: Number = 1,
    depth: int = 2,
    expansion: Number = 4,
    chunk: Number = 16,
    convolution: Number = 4,
    form: str = "dual",
    residual: bool = False,
    continued: bool = False,
    batch: Number = 1,
    itemsize: Number = 4,
) -> Cost:
    """`NeuralMemory` with an `Mlp`. W: its matrices, all heads; w: the first of them; b: the chunk. Per token, beside 8 dim² + 6 dim heads:

    dual: 12 W - 2 w + 8 W / b + 2 b Σ(in + out) + 2 b (b + 1) heads (residual: without 8 W / b); scan: 8 W - 2 w. continued: from a state,
    where a call must allow for chunks that begin anywhere, so that it runs up to a chunk more (not for one token).
    """
    if form not in FORMS:
        raise ValueError(f'cost.neural: form must be "dual" or "scan", got {form!r}.')
    pairs, matrices, first = _matrices(dim, heads, depth, expansion)
    slots = time + chunk - 1 if continued and time != 1 else time
    size = _least(chunk, slots)
    slots = _up(slots, size)
    per_slot = 8 * matrices - 2 * first
    if form == "dual":
        per_slot = 12 * matrices - 2 * first + 2 * size * sum(rows + columns for rows, columns in pairs) + 2 * size * (size + 1) * heads
    # weights and momentum are mixed by one product of [2, 2] for each chunk; not for a residual network
    mixing = 8 * matrices * _quotient(slots, size) if form == "dual" and not residual else 0
    flops = batch * (time * (8 * dim * dim + 6 * dim * heads) + slots * per_slot + mixing)
    parameters = 4 * dim * dim + 3 * heads * (dim + 1) + 3 * dim * convolution + _quotient(dim, heads) + matrices
    # weights, momentum and the weights at the chunk's start; the tail of the convolution; the count in the chunk
    state = batch * (3 * matrices * itemsize + (convolution - 1) * 3 * dim * itemsize + 8)
    moved = (2 if continued else 1) * state + itemsize * (parameters + 2 * batch * time * dim)
    return Cost(flops, parameters, state, moved)


def context(
    dim: Number,
    time: Number,
    *,
    heads: Number = 1,
    depth: int = 2,
    expansion: Number = 4,
    chunk: Number = 16,
    convolution: Number = 4,
    form: str = "dual",
    residual: bool = False,
    persistent: Number = 0,
    continued: bool = False,
    batch: Number = 1,
    itemsize: Number = 4,
) -> Cost:
    """`MemoryAsContext`; a segment is a chunk of its memory, n = b tokens of it are run, but 1 if time is 1.

    Per token, beside the memory: 16 dim² + 2 W + 4 dim (2 (b - 1) + 2 n + persistent); per segment 4 dim² persistent.
    """
    single = time == 1
    size = 1 if single else chunk
    number = _quotient(_up(time + chunk - 1 if continued and not single else time, size), size)
    sizes = {"heads": heads, "depth": depth, "expansion": expansion, "chunk": chunk, "convolution": convolution}
    sizes |= {"form": form, "residual": residual}
    _, matrices, _ = _matrices(dim, heads, depth, expansion)
    # the first segment may begin anywhere in its chunk
    written = [neural(dim, size, continued=begun, batch=batch, itemsize=itemsize, **sizes) for begun in (continued, False)]
    slots = 2 * (chunk - 1)
    own = batch * size * (16 * dim * dim + 2 * matrices + 4 * dim * (slots + 2 * size + persistent)) + 4 * dim * dim * persistent
    flops = number * own + written[0].flops + (number - 1) * written[1].flops
    parameters = 5 * dim * dim + (3 + persistent) * dim + written[0].parameters
    state = batch * 2 * slots * dim * itemsize + written[0].state_bytes
    moved = (2 if continued else 1) * state + itemsize * (parameters + 2 * batch * time * dim)
    return Cost(flops, parameters, state, moved)


def episodic(
    dim: Number,
    time: Number,
    slots: Number,
    *,
    read: str = "exact",
    top: Number = 32,
    lists: Number = 256,
    probes: Number = 8,
    every: Number = 1,
    context: Number = 0,
    batch: Number = 1,
    itemsize: Number = 4,
) -> Cost:
    """A bank of `slots` keys and values, read by each token and written by one in `every`. Per token 4 dim² (queries, output) and

    exact: 4 dim slots; top-k: 2 dim (slots + top); approximate (`lists` inverted lists, `probes` looked into): 2 dim (scored + top) with
    scored = lists + probes · slots / lists. A context adds 2 context for each slot scored. A write: 4 dim² and 2 dim · context.
    """
    scored = {"exact": slots, "top-k": slots, "approximate": lists + _quotient(probes * slots, lists)}
    if read not in scored:
        raise ValueError(f"cost.episodic: read must be one of {', '.join(scored)}, got {read!r}.")
    mixed = slots if read == "exact" else top
    reading = 4 * dim * dim + 2 * (dim + context) * scored[read] + 2 * dim * mixed
    writes = _quotient(time, every)
    parameters = 4 * dim * dim + dim * context
    slot = (2 * dim + context) * itemsize
    moved = batch * (slots + writes) * slot + itemsize * (parameters + 2 * batch * time * dim)
    flops = batch * (time * reading + writes * (4 * dim * dim + 2 * dim * context))
    return Cost(flops, parameters, batch * slots * (slot + METADATA), moved)


def gate(
    dim: Number, time: Number, *, sources: Number = 2, per: str = "token", heads: Number = 1, batch: Number = 1, itemsize: Number = 4
) -> Cost:
    """A gate over so many sources from the token: one weight per token, head or channel. Mixing is elementwise and not counted."""
    weights = {"token": 1, "head": heads, "channel": dim}
    if per not in weights:
        raise ValueError(f"cost.gate: per must be one of {', '.join(weights)}, got {per!r}.")
    outputs = sources * weights[per]
    parameters = dim * outputs + outputs
    return Cost(2 * batch * time * dim * outputs, parameters, 0, itemsize * (parameters + batch * time * dim * (sources + 2)))


def cost(layer: nn.Module, batch: int, time: int, *, past: int = 0) -> Cost:
    """What this layer takes for x [batch, time, dim] after `past` tokens (0: no state). TypeError for a layer that has no formula."""
    check_count("cost", "batch", batch)
    check_count("cost", "time", time)
    found = _KINDS[type(layer)](layer, batch, time, past) if type(layer) in _KINDS else None
    if found is None:
        known = ", ".join(kind.__name__ for kind in _KINDS)
        raise TypeError(f"cost: no formula is known for {layer}; there are for {known}, memories with an Mlp in the dual or scan form.")
    return found


def _of_attention(layer: Attention, batch: int, time: int, past: int) -> Cost:
    itemsize = layer.out.weight.element_size()
    return attention(layer.dim, time, window=layer.window, persistent=layer.num_persistent, past=past, batch=batch, itemsize=itemsize)


def _of_neural(layer: NeuralMemory, batch: int, time: int, past: int) -> Cost | None:
    sizes = _sizes_of(layer)
    return None if sizes is None else neural(layer.dim, time, continued=past > 0, batch=batch, **sizes)


def _of_context(layer: MemoryAsContext, batch: int, time: int, past: int) -> Cost | None:
    sizes = _sizes_of(layer.memory)
    return None if sizes is None else context(layer.dim, time, persistent=layer.num_persistent, continued=past > 0, batch=batch, **sizes)


def _of_joined(layer: MemoryAsGate | MemoryAsLayer, batch: int, time: int, past: int) -> Cost:
    norms = sum(parameter.numel() for name, parameter in layer.named_parameters() if name.startswith(("norm", "gate")))
    parts = (cost(part, batch, time, past=past) for part in (layer.attention, layer.memory))
    return sum(parts, start=Cost(0, norms, 0, norms * layer.norm.weight.element_size()))


_KINDS: dict[type, Callable[[Any, int, int, int], Cost | None]] = {
    Attention: _of_attention,
    NeuralMemory: _of_neural,
    MemoryAsContext: _of_context,
    MemoryAsGate: _of_joined,
    MemoryAsLayer: _of_joined,
}


def _sizes_of(layer: NeuralMemory) -> dict[str, Any] | None:
    """The sizes of a memory, or None if there is no formula for its network or form."""
    network, form = layer.network, layer.rule.form_of(layer.network)
    if not isinstance(network, Mlp) or not isinstance(form, DualForm | GatedScan):
        return None
    return {
        "heads": layer.heads,
        "depth": network.depth,
        "expansion": network.expansion,
        "residual": network.residual,
        "chunk": layer.rule.chunk,
        "convolution": layer.convolution.width,
        "form": "dual" if isinstance(form, DualForm) else "scan",
        # what is learned is in float32 at least
        "itemsize": max(4, layer.out.weight.element_size()),
    }


def crossover(one: Callable[[int], Cost], other: Callable[[int], Cost], limit: int = 2**24, quantity: str = "flops") -> int | None:
    """The smallest length from which on `one` takes less of a quantity of `Cost` than `other`; None if it does not at `limit`.

    one, other: the cost of a length, e.g. `lambda time: neural(512, time)`. Sought by doubling and bisection: they should cross once.
    """

    def cheaper(length: int) -> bool:
        return bool(getattr(one(length), quantity) < getattr(other(length), quantity))

    high = 1
    while not cheaper(high):
        high *= 2
        if high > limit:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cheaper(middle) else (middle, high)
    return high


def _matrices(dim: Number, heads: Number, depth: int, expansion: Number) -> tuple[list[tuple[Number, Number]], Number, Number]:
    """Rows and columns of each matrix of a memory with one head; the size of all matrices of all heads; that of the first."""
    sizes = [dim] + [expansion * dim] * (depth - 1) + [dim]
    pairs = list(pairwise(sizes))
    # a head is of dim/heads entries, so its matrices are heads² smaller, and there are `heads` of them
    return pairs, _quotient(sum(rows * columns for rows, columns in pairs), heads), _quotient(sizes[0] * sizes[1], heads)


def _whole(*numbers: Number) -> bool:
    return all(isinstance(number, int) for number in numbers)


def _quotient(one: Number, other: Number) -> Number:
    return one // other if _whole(one, other) else one / other


def _least(one: Number, other: Number) -> Number:
    if _whole(one, other):
        return min(one, other)
    import sympy

    return sympy.Min(one, other)


def _up(number: Number, step: Number) -> Number:
    """The next multiple of `step`."""
    if _whole(number, step):
        return -(-number // step) * step
    import sympy

    return sympy.ceiling(number / step) * step
