"""Cost: the matrix FLOPs, parameters and bytes of state of memory layers, exactly as the layers of `ammon.nn` run.

A FLOP is half a multiply-add. Elementwise work, softmax and norms are not counted, as in torch's FlopCounterMode. The formulas are plain
arithmetic: with whole numbers they give whole numbers, with sympy's symbols expressions.
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
from ammon.nn.titans import MemoryAsGate, MemoryAsLayer
from ammon.shapes import check_count

# a whole number or an expression of sympy
Number = Any


@dataclass(frozen=True)
class Cost:
    """Of one forward pass over the whole batch; the state is that after it."""

    flops: Number
    parameters: Number
    state_bytes: Number

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.parameters + other.parameters, self.state_bytes + other.state_bytes)


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
    """`Attention`: 8 dim² a token, 4 dim for each key it is compared with, hidden ones too. past: tokens seen before (without a window)."""
    projections = 8 * dim * dim * batch * time + 4 * dim * dim * persistent
    parameters = 4 * dim * dim + persistent * dim
    if window is None:
        keys, queries, slots = past + time + persistent, time, past + time
    else:
        block = _least(window, time)
        keys, queries, slots = window - 1 + block + persistent, _up(time, block), window - 1
    # keys, values, whether a slot is filled, and the count of tokens
    state = batch * (slots * (2 * dim * itemsize + 1) + 8)
    return Cost(projections + 4 * batch * queries * keys * dim, parameters, state)


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
    continued: bool = False,
    batch: Number = 1,
    itemsize: Number = 4,
) -> Cost:
    """`NeuralMemory` with an `Mlp`. W: its matrices, all heads; w: the first of them; b: the chunk. Per token, beside 8 dim² + 6 dim heads:

    dual: 12 W - 2 w + 2 b Σ(in + out) + 2 b (b + 1) heads; scan: 8 W - 2 w. continued: from a state, where a call must allow for chunks
    that begin anywhere, so that it runs up to a chunk more (not for one token).
    """
    if form not in ("dual", "scan"):
        raise ValueError(f'cost.neural: form must be "dual" or "scan", got {form!r}.')
    sizes = [dim] + [expansion * dim] * (depth - 1) + [dim]
    pairs = list(pairwise(sizes))
    # a head is of dim/heads entries, so its matrices are heads² smaller, and there are `heads` of them
    matrices = _quotient(sum(rows * columns for rows, columns in pairs), heads)
    first = _quotient(sizes[0] * sizes[1], heads)
    slots = time + chunk - 1 if continued and time != 1 else time
    size = _least(chunk, slots)
    slots = _up(slots, size)
    per_slot = 8 * matrices - 2 * first
    if form == "dual":
        per_slot = 12 * matrices - 2 * first + 2 * size * sum(rows + columns for rows, columns in pairs) + 2 * size * (size + 1) * heads
    flops = batch * (time * (8 * dim * dim + 6 * dim * heads) + slots * per_slot)
    parameters = 4 * dim * dim + 3 * heads * (dim + 1) + 3 * dim * convolution + _quotient(dim, heads) + matrices
    # weights, momentum and the weights at the chunk's start; the tail of the convolution; the count in the chunk
    state = batch * (3 * matrices * itemsize + (convolution - 1) * 3 * dim * itemsize + 8)
    return Cost(flops, parameters, state)


def cost(layer: nn.Module, batch: int, time: int, *, past: int = 0) -> Cost:
    """What this layer takes for x [batch, time, dim] after `past` tokens (0: no state). TypeError for a layer that has no formula."""
    check_count("cost", "batch", batch)
    check_count("cost", "time", time)
    if isinstance(layer, Attention):
        itemsize = layer.out.weight.element_size()
        return attention(layer.dim, time, window=layer.window, persistent=layer.num_persistent, past=past, batch=batch, itemsize=itemsize)
    if isinstance(layer, MemoryAsGate | MemoryAsLayer):
        norms = sum(parameter.numel() for name, parameter in layer.named_parameters() if name.startswith(("norm", "gate")))
        parts = (cost(part, batch, time, past=past) for part in (layer.attention, layer.memory))
        return sum(parts, start=Cost(0, norms, 0))
    if isinstance(layer, NeuralMemory) and isinstance(layer.network, Mlp):
        form = layer.rule.form_of(layer.network)
        if isinstance(form, DualForm | GatedScan):
            return neural(
                layer.dim,
                time,
                heads=layer.heads,
                depth=layer.network.depth,
                expansion=layer.network.expansion,
                chunk=layer.rule.chunk,
                convolution=layer.convolution.width,
                form="dual" if isinstance(form, DualForm) else "scan",
                continued=past > 0,
                batch=batch,
                itemsize=max(4, layer.out.weight.element_size()),
            )
    raise TypeError(f"cost: no formula is known for {layer}; there are for Attention, NeuralMemory with an Mlp (dual, scan), MAG and MAL.")


def crossover(one: Callable[[int], Cost], other: Callable[[int], Cost], limit: int = 2**24) -> int | None:
    """The smallest length from which on `one` takes fewer FLOPs than `other`; None if it does not at `limit`.

    one, other: the cost of a length, e.g. `lambda time: neural(512, time)`. Sought by doubling and bisection: they should cross once.
    """

    def cheaper(length: int) -> bool:
        return bool(one(length).flops < other(length).flops)

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
