"""Configurations: functions that give the blocks of a transformer. The first layer only attends nearby, memories stand in the others.

A configuration is called as `configuration(size)`; yours may be any function that takes a `Size` and gives blocks of its dim.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from ammon.learning.fast_weights import Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.evicting import Lowest
from ammon.nn.hybrid import Hybrid
from ammon.nn.neural import NeuralMemory
from ammon.nn.residual import FeedForward, Residual
from ammon.nn.segments import PerToken, Segments
from ammon.nn.surprising import Surprising
from ammon.nn.titans import MemoryAsContext, MemoryAsGate, MemoryAsLayer
from ammon.parts.top_k import TopK
from ammon.shapes import check_count

# slots of a bank that is to hold only what surprises
FEW = 8


@dataclass(frozen=True)
class Size:
    """What all configurations share; each takes from it what it needs.

    near: the window of attention in the first layer; window: of attention beside or in the place of a memory, None for all tokens.
    chunk, depth: of the neural memory. segment: tokens after which the episodic memory writes. slots: of it, None for all tokens;
    top: a read takes so many of them, None for all; recency: at first, the rate at which they fade, None for none.
    """

    dim: int = 64
    heads: int = 2
    layers: int = 2
    near: int = 4
    window: int | None = 16
    chunk: int = 16
    depth: int = 1
    segment: int = 16
    slots: int | None = None
    top: int | None = None
    recency: float | None = None
    expansion: int = 4

    def __post_init__(self) -> None:
        for name in ("dim", "heads", "layers", "near", "chunk", "depth", "segment", "expansion"):
            check_count("Size", name, getattr(self, name))


Blocks = list[nn.Module]
Configuration = Callable[[Size], Blocks]


def attention(size: Size) -> Blocks:
    """Attention in all layers."""
    return _layers(size, lambda: Residual(_attention(size)))


def neural(size: Size) -> Blocks:
    """A neural memory in the place of attention."""
    return _layers(size, lambda: Residual(_neural(size)))


def episodic(size: Size) -> Blocks:
    """An episodic memory in the place of attention."""
    return _layers(size, lambda: Residual(_episodic(size)))


def attention_neural(size: Size) -> Blocks:
    """Attention and a neural memory side by side, gated."""
    return _layers(size, lambda: Hybrid({"attention": _attention(size), "neural": _neural(size)}, start=0.5))


def attention_episodic(size: Size) -> Blocks:
    """Attention and an episodic memory side by side, gated."""
    return _layers(size, lambda: Hybrid({"attention": _attention(size), "episodic": _episodic(size)}, start=0.5))


def hybrid(size: Size) -> Blocks:
    """Attention, a neural and an episodic memory side by side, gated."""
    return _layers(size, lambda: Hybrid({"attention": _attention(size), "neural": _neural(size), "episodic": _episodic(size)}, start=0.5))


def hybrid_surprise(size: Size) -> Blocks:
    """The same with an episodic memory of few slots (8 unless `slots` says) that keeps what most surprised the neural one."""
    return _layers(size, lambda: Hybrid({"attention": _attention(size), "neural": _neural(size), "episodic": _surprising(size)}, start=0.5))


def memory_as_gate(size: Size) -> Blocks:
    """MAG of Titans."""
    return _layers(size, lambda: MemoryAsGate(_attention(size), _neural(size)))


def memory_as_layer(size: Size) -> Blocks:
    """MAL of Titans."""
    return _layers(size, lambda: MemoryAsLayer(_attention(size), _neural(size)))


def memory_as_context(size: Size) -> Blocks:
    """MAC of Titans."""
    return _layers(size, lambda: MemoryAsContext(_neural(size), size.heads))


CONFIGURATIONS: Mapping[str, Configuration] = {
    "attention": attention,
    "neural": neural,
    "episodic": episodic,
    "attention_neural": attention_neural,
    "attention_episodic": attention_episodic,
    "hybrid": hybrid,
    "hybrid_surprise": hybrid_surprise,
    "memory_as_gate": memory_as_gate,
    "memory_as_layer": memory_as_layer,
    "memory_as_context": memory_as_context,
}


def _layers(size: Size, memory: Callable[[], nn.Module]) -> Blocks:
    blocks: Blocks = []
    for layer in range(size.layers):
        blocks += [memory() if layer else Residual(Attention(size.dim, size.heads, size.near)), FeedForward(size.dim, size.expansion)]
    return blocks


def _attention(size: Size) -> Attention:
    return Attention(size.dim, size.heads, size.window)


def _neural(size: Size) -> NeuralMemory:
    # unbounded steps that were learned on short texts can run away in long ones
    return NeuralMemory(size.dim, size.heads, Mlp(size.depth), Surprise(size.chunk, limit=4.0), unit_values=size.depth > 1)


def _episodic(size: Size) -> EpisodicMemory:
    write = PerToken() if size.segment == 1 else Segments(size.segment, "each")
    separation = None if size.top is None else TopK(size.top)
    return EpisodicMemory(size.dim, size.heads, size.slots, write, separation, recency=size.recency)


def _surprising(size: Size) -> EpisodicMemory:
    return EpisodicMemory(size.dim, size.heads, size.slots or FEW, strength=Surprising(), evict=Lowest("strength"), recency=size.recency)
