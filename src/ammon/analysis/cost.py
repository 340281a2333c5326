"""Cost: the matrix FLOPs, parameters, bytes of state and traffic of memory layers, exactly as the layers of `ammon.nn` run.

A FLOP is half a multiply-add. Elementwise work, softmax and norms are not counted, as in torch's FlopCounterMode. The formulas
(`cost_blocks`, `cost_neural`, `cost_episodic`) are plain arithmetic: with whole numbers they give whole numbers, with sympy's symbols
expressions. Here sizes are taken from a real layer: one line in `_KINDS` for each kind.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from ammon.analysis.cost_blocks import attention, embedding, feed_forward, gate, projection
from ammon.analysis.cost_episodic import Bank, episodic, hebbian, reader
from ammon.analysis.cost_neural import Inner, context, neural, surprise
from ammon.analysis.cost_record import Cost, weights
from ammon.learning.dual_form import DualForm
from ammon.learning.fast_weights import Mlp
from ammon.learning.gated_scan import GatedScan
from ammon.nn.attention import Attention
from ammon.nn.blocks import Parallel, Series, SharedBank
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.hebbian import HebbianMemory
from ammon.nn.hierarchy import Hierarchy
from ammon.nn.hybrid import Hybrid
from ammon.nn.joint import Memories
from ammon.nn.language_model import MemoryTransformer
from ammon.nn.neural import NeuralMemory
from ammon.nn.residual import FeedForward, Residual
from ammon.nn.segments import Segments
from ammon.nn.stack import Stack
from ammon.nn.surprising import Surprising
from ammon.nn.titans import MemoryAsContext, MemoryAsGate, MemoryAsLayer
from ammon.parts.separations import Softmax
from ammon.parts.top_k import TopK
from ammon.shapes import check_count


def cost(layer: nn.Module, batch: int, time: int, *, past: int = 0) -> Cost:
    """What this layer or model takes for x [batch, time, dim], or tokens, after `past` tokens in one call (0: no state).

    TypeError for a layer that has no formula. Segments end by their length, as without a boundary.
    """
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
    inner = _inner(layer)
    return None if inner is None else neural(layer.dim, time, inner, continued=past > 0, batch=batch, itemsize=_learned(layer))


def _of_context(layer: MemoryAsContext, batch: int, time: int, past: int) -> Cost | None:
    inner, itemsize = _inner(layer.memory), _learned(layer.memory)
    if inner is None:
        return None
    return context(layer.dim, time, inner, persistent=layer.num_persistent, continued=past > 0, batch=batch, itemsize=itemsize)


def _of_episodic(layer: EpisodicMemory, batch: int, time: int, past: int) -> Cost:
    return episodic(layer.dim, time, _bank(layer), past=past, batch=batch, itemsize=layer.store.weight.element_size())


def _of_hebbian(layer: HebbianMemory, batch: int, time: int, past: int) -> Cost:
    drift, itemsize = layer.context, layer.out.weight.element_size()
    fading, sizes = drift.form == "fading", {"heads": layer.heads, "context": drift.size, "batch": batch, "itemsize": itemsize}
    return hebbian(layer.dim, time, fading=fading, continued=past > 0, **sizes)


def _of_joined(layer: MemoryAsGate | MemoryAsLayer, batch: int, time: int, past: int) -> Cost:
    return _norms(layer) + cost(layer.attention, batch, time, past=past) + cost(layer.memory, batch, time, past=past)


def _of_hybrid(layer: Hybrid, batch: int, time: int, past: int) -> Cost:
    groups, itemsize = layer.gate.groups, layer.norm.weight.element_size()
    sources = len(layer.memories.names)
    own = gate(layer.dim, time, sources=sources, per="head", heads=groups, batch=batch, itemsize=itemsize)
    return _norms(layer) + own + _side_by_side(layer.memories, batch, time, past)


def _of_parallel(layer: Parallel, batch: int, time: int, past: int) -> Cost:
    wide, itemsize = len(layer.memories.names) * layer.dim, layer.norm.weight.element_size()
    own = projection(wide, layer.dim, time, batch=batch, itemsize=itemsize)
    return _norms(layer) + own + _side_by_side(layer.memories, batch, time, past)


def _of_series(layer: Series, batch: int, time: int, past: int) -> Cost:
    return sum((cost(part, batch, time, past=past) for part in layer.memories.layers.values()), start=_norms(layer))


def _of_shared(layer: SharedBank, batch: int, time: int, past: int) -> Cost:
    parts = [cost(part, batch, time, past=past) for part in layer.memories.layers.values()]
    (bank, *_), itemsize = layer.memories.layers.values(), layer.norm.weight.element_size()
    assert isinstance(bank, EpisodicMemory)
    again = reader(layer.dim, time, _bank(bank), past=past, batch=batch, itemsize=itemsize).times(len(layer.reads))
    return sum(parts, start=_norms(layer)) + again


def _of_hierarchy(layer: Hierarchy, batch: int, time: int, past: int) -> Cost:
    itemsize, (coarse, fine) = layer.norms[0].weight.element_size(), layer.levels  # type: ignore[operator]
    own = gate(layer.dim, time, sources=2, batch=batch, itemsize=itemsize)
    # the weights of segments are held, and what they add to the scores of tokens too
    banks = (replace(_bank(bank), read="held") for bank in (coarse, fine))
    parts = (episodic(layer.dim, time, bank, past=past, batch=batch, itemsize=itemsize) for bank in banks)
    return sum(parts, start=_norms(layer) + own)


def _of_residual(layer: Residual, batch: int, time: int, past: int) -> Cost:
    return weights(layer.dim, layer.norm.weight.element_size()) + cost(layer.layer, batch, time, past=past)


def _of_forward(layer: FeedForward, batch: int, time: int, past: int) -> Cost:
    expansion, itemsize = layer.wide.out_features // layer.dim, layer.wide.weight.element_size()
    return feed_forward(layer.dim, time, expansion=expansion, batch=batch, itemsize=itemsize)


def _of_stack(layer: Stack, batch: int, time: int, past: int) -> Cost:
    return sum((cost(block, batch, time, past=past) for block in layer.blocks), start=weights(layer.dim, layer.norm.weight.element_size()))


def _of_model(layer: MemoryTransformer, batch: int, time: int, past: int) -> Cost:
    sizes = {"batch": batch, "itemsize": layer.head.weight.element_size()}
    ends = embedding(layer.vocabulary, layer.dim, time, **sizes) + projection(layer.dim, layer.vocabulary, time, **sizes)
    return ends + cost(layer.stack, batch, time, past=past)


_KINDS: dict[type, Callable[[Any, int, int, int], Cost | None]] = {
    Attention: _of_attention,
    NeuralMemory: _of_neural,
    EpisodicMemory: _of_episodic,
    HebbianMemory: _of_hebbian,
    MemoryAsContext: _of_context,
    MemoryAsGate: _of_joined,
    MemoryAsLayer: _of_joined,
    Hybrid: _of_hybrid,
    Parallel: _of_parallel,
    Series: _of_series,
    SharedBank: _of_shared,
    Hierarchy: _of_hierarchy,
    Residual: _of_residual,
    FeedForward: _of_forward,
    Stack: _of_stack,
    MemoryTransformer: _of_model,
}


def _norms(layer: nn.Module) -> Cost:
    """The weights of a block that take part in no product: those of its norms."""
    own = [
        parameter for name, parameter in layer.named_parameters() if name.startswith(("norm", "gate")) and not name.startswith("gate.weigh")
    ]
    return weights(sum(parameter.numel() for parameter in own), own[0].element_size())


def _side_by_side(memories: Memories, batch: int, time: int, past: int) -> Cost:
    parts = [cost(part, batch, time, past=past) for part in memories.layers.values()]
    neural = next((part for part in memories.layers.values() if isinstance(part, NeuralMemory)), None)
    if neural is not None and any(isinstance(part, EpisodicMemory) and "surprise" in part.takes for part in memories.layers.values()):
        inner = _inner(neural)
        assert inner is not None
        parts.append(surprise(neural.dim, time, inner, continued=past > 0, batch=batch, itemsize=_learned(neural)))
    return sum(parts, start=Cost(0, 0, 0, 0))


def _bank(layer: EpisodicMemory) -> Bank:
    write, drift, separation = layer.write, layer.context, layer.read.separation
    surprising = isinstance(layer.strength, Surprising)
    return Bank(
        slots=layer.slots,
        heads=layer.heads,
        context=0 if drift is None else drift.size,
        fading=drift is not None and drift.form == "fading",
        hops=layer.read.hops,
        recency=layer.read.recency is not None,
        strength="surprise" if surprising else "learned" if layer.strength is not None else "",
        every=write.every if isinstance(write, Segments) else 1,
        summary=write.summary if isinstance(write, Segments) else "token",
        meanings=0 if layer.semantics is None else layer.semantics.size,
        evict="" if layer.evict is None else layer.evict.by,
        read="exact" if isinstance(separation, Softmax) else "top-k" if isinstance(separation, TopK) else "held",
        top=separation.k if isinstance(separation, TopK) else Bank.top,
        page=0 if layer.paging is None else layer.paging.size,
        probes=Bank.probes if layer.paging is None else layer.paging.probes,
    )


def _inner(layer: NeuralMemory) -> Inner | None:
    """The sizes of a memory, or None if there is no formula for its network or form."""
    network, form = layer.network, layer.rule.form_of(layer.network)
    if not isinstance(network, Mlp) or not isinstance(form, DualForm | GatedScan):
        return None
    return Inner(
        heads=layer.heads,
        depth=network.depth,
        expansion=network.expansion,
        residual=network.residual,
        chunk=layer.rule.chunk,
        convolution=layer.convolution.width,
        form="dual" if isinstance(form, DualForm) else "scan",
        orthogonal=layer.rule.orthogonal or 0,
    )


def _learned(layer: NeuralMemory) -> int:
    # what is learned is in float32 at least
    return max(4, layer.out.weight.element_size())


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
