"""Cost formulas against what the layers do: torch's count of FLOPs, their parameters, the bytes of their states."""

from collections.abc import Callable
from typing import Any

import pytest
import sympy
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ammon.analysis.cost import cost, crossover
from ammon.analysis.cost_blocks import Call, Shape, attention, transformer
from ammon.analysis.cost_episodic import Bank, episodic
from ammon.analysis.cost_neural import Inner, neural
from ammon.analysis.cost_record import Cost
from ammon.learning.fast_weights import Functional, Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention
from ammon.nn.blocks import Parallel, Series, SharedBank, stacked_cmr
from ammon.nn.configurations import CONFIGURATIONS, Size
from ammon.nn.drifting import Drift
from ammon.nn.episodic import EpisodicMemory
from ammon.nn.evicting import Lowest
from ammon.nn.hebbian import HebbianMemory
from ammon.nn.hierarchy import Hierarchy
from ammon.nn.hybrid import Hybrid
from ammon.nn.language_model import MemoryTransformer
from ammon.nn.neural import NeuralMemory
from ammon.nn.paging import Paging
from ammon.nn.residual import FeedForward, Residual
from ammon.nn.segments import Segments
from ammon.nn.semantics import Semantics
from ammon.nn.stack import Stack
from ammon.nn.state import State
from ammon.nn.surprising import Surprising
from ammon.nn.titans import MemoryAsContext, MemoryAsGate, MemoryAsLayer
from ammon.parts.separations import Entmax
from ammon.parts.top_k import TopK

LAYERS = {
    "attention": lambda: Attention(16, 2),
    "attention, persistent": lambda: Attention(16, 2, persistent=3),
    "window": lambda: Attention(16, 4, window=6),
    "window, persistent": lambda: Attention(8, 1, window=5, persistent=2),
    "dual, linear": lambda: NeuralMemory(16, 2, Mlp(1), Surprise(8)),
    "dual, 2 layers": lambda: NeuralMemory(16, 2, Mlp(2, 4), Surprise(8)),
    "dual, 3 layers, 1 head": lambda: NeuralMemory(8, 1, Mlp(3, 2), Surprise(5), convolution=2),
    "dual, chunks of 1": lambda: NeuralMemory(8, 2, Mlp(2, 2), Surprise(1)),
    "dual, with a norm": lambda: NeuralMemory(8, 2, Mlp(2, 2, residual=True), Surprise(4)),
    "memory as gate": lambda: MemoryAsGate(Attention(8, 2, 4, 1), NeuralMemory(8, 2, Mlp(2, 2), Surprise(4))),
    "memory as layer": lambda: MemoryAsLayer(Attention(8, 2), NeuralMemory(8, 1, Mlp(1), Surprise(4))),
    "memory as context": lambda: MemoryAsContext(NeuralMemory(8, 2, Mlp(2, 2), Surprise(4)), 2, 3),
    "memory as context, linear": lambda: MemoryAsContext(NeuralMemory(8, 1, Mlp(1), Surprise(5)), 4),
    "memory as context, segments of 1": lambda: MemoryAsContext(NeuralMemory(8, 2, Mlp(1), Surprise(1)), 2, 1),
    "scan, linear": lambda: NeuralMemory(16, 2, Mlp(1), Surprise(8, form="scan")),
    "scan, 2 layers": lambda: NeuralMemory(16, 2, Mlp(2, 3), Surprise(8, form="scan")),
    "scan, 3 layers": lambda: NeuralMemory(16, 4, Mlp(3, 2), Surprise(4, form="scan"), convolution=1),
    "orthogonal, linear": lambda: NeuralMemory(16, 2, Mlp(1), Surprise(8, orthogonal=5)),
    "orthogonal, 2 layers": lambda: NeuralMemory(16, 2, Mlp(2, 3), Surprise(8, orthogonal=3)),
    "orthogonal, 4 layers": lambda: NeuralMemory(16, 4, Mlp(4, 2), Surprise(4, orthogonal=2), convolution=1),
}
LAYERS |= {
    "hebbian": lambda: HebbianMemory(16, 2, 3),
    "hebbian, fading": lambda: HebbianMemory(8, 4, Drift(8, 4, 5, form="fading")),
}
# counting uses is done without gradients, in which torch's counter fails if it finds parameters that ask for them
EPISODIC: dict[str, Callable[[], EpisodicMemory]] = {
    "all": lambda: EpisodicMemory(16, 2, None),
    "ring": lambda: EpisodicMemory(16, 2, 9),
    "top 3": lambda: EpisodicMemory(16, 2, 9, separation=TopK(3), recency=0.1),
    "entmax, context, hops": lambda: EpisodicMemory(16, 4, 9, separation=Entmax(1.5), context=3, hops=2),
    "recency": lambda: EpisodicMemory(16, 2, 9, recency=0.1),
    "strength and recency, all": lambda: EpisodicMemory(16, 2, None, recency=0.1, strength=True),
    "context": lambda: EpisodicMemory(16, 2, 9, context=3),
    "context, fading, hops": lambda: EpisodicMemory(16, 2, 9, context=Drift(16, 2, 5, form="fading"), hops=2),
    "segments of tokens": lambda: EpisodicMemory(16, 2, 9, Segments(4, "each")),
    "segments by their last": lambda: EpisodicMemory(16, 2, 3, Segments(4, "last"), context=3),
    "segments by their mean, all": lambda: EpisodicMemory(16, 2, None, Segments(4, "mean"), strength=True),
    "segments by attention": lambda: EpisodicMemory(16, 2, 3, Segments(5, "attention")),
    "segments of the caller": lambda: EpisodicMemory(16, 2, 3, Segments()),
    "the weakest gives way": lambda: EpisodicMemory(16, 2, 9, strength=True, evict=Lowest("strength")),
    "the least used gives way": lambda: EpisodicMemory(16, 2, 9, context=3, hops=1, evict=Lowest("use")).requires_grad_(False),
    "the least used gives way, top 3": lambda: EpisodicMemory(16, 2, 9, separation=TopK(3), evict=Lowest("use")).requires_grad_(False),
    "the most redundant gives way": lambda: EpisodicMemory(16, 2, 9, evict=Lowest("redundancy")),
    "by surprise": lambda: EpisodicMemory(16, 2, 9, strength=Surprising()),
    "semantics": lambda: EpisodicMemory(16, 2, 9, semantics=Semantics(torch.eye(3))),
    "semantics of segments, context, hops": lambda: EpisodicMemory(
        16, 2, 9, Segments(3), semantics=Semantics.of(torch.eye(3, 5)), context=3, hops=1, recency=0.1
    ),
    "by surprise, segments": lambda: EpisodicMemory(16, 2, 9, Segments(3), strength=Surprising(), evict=Lowest("strength")),
}


def beside(form: str = "dual") -> dict[str, torch.nn.Module]:
    return {
        "attention": Attention(16, 2, 5),
        "neural": NeuralMemory(16, 2, Mlp(2, 2), Surprise(4, form=form)),
        "episodic": EpisodicMemory(16, 2, 5, strength=Surprising(), evict=Lowest("strength")),
    }


BLOCKS: dict[str, Callable[[], torch.nn.Module]] = {
    "gate per token": lambda: Hybrid({"attention": Attention(16, 2), "episodic": EpisodicMemory(16, 2, 5)}),
    "gate per head": lambda: Hybrid({"attention": Attention(16, 2), "episodic": EpisodicMemory(16, 2, 5)}, "softmax", "head", 4),
    "gate per channel": lambda: Hybrid({"hebbian": HebbianMemory(16, 2), "attention": Attention(16, 2)}, per="channel"),
    "by surprise": lambda: Hybrid(beside()),
    "by surprise, scan": lambda: Parallel(beside("scan")),
    "parallel": lambda: Parallel({"attention": Attention(16, 2), "episodic": EpisodicMemory(16, 2, 5)}),
    "series": lambda: Series({"episodic": EpisodicMemory(16, 2, 5), "attention": Attention(16, 2)}),
    "stacked cmr": lambda: stacked_cmr(16, 2, 9, context=3),
    "shared bank": lambda: SharedBank(
        EpisodicMemory(16, 2, 9, context=3, hops=1, recency=0.1), {name: Attention(16, 2, 4) for name in "abc"}
    ),
    "hierarchy": lambda: Hierarchy(16, 2, 3, 4, 2),
    "hierarchy, all": lambda: Hierarchy(16, 2, 3, 4, None, "attention"),
    "feed-forward": lambda: Stack([Residual(Attention(16, 2)), FeedForward(16, 3)]),
}


each_call = pytest.mark.parametrize(
    ("batch", "time", "past"), [(2, 24, 0), (3, 13, 0), (1, 3, 0), (2, 1, 0), (2, 1, 9), (2, 13, 9), (1, 16, 16)]
)


def counted(layer: Any, batch: int, time: int, past: int) -> tuple[Cost, State, State | None]:
    """Holds the formula of a layer to what torch counts, and gives it with the states after and before."""
    tokens = isinstance(layer, MemoryTransformer)

    def draw(length: int) -> torch.Tensor:
        return torch.randint(layer.vocabulary, (batch, length)) if tokens else torch.randn(batch, length, layer.dim)

    def told(length: int) -> dict[str, torch.Tensor]:
        if not isinstance(layer, EpisodicMemory):
            return {}
        every = {"surprise": torch.rand(batch, length), "items": torch.randint(3, (batch, length))}
        return {name: said for name, said in every.items() if name in layer.takes}

    before = layer(draw(past), **told(past))[1] if past else None
    # in half of the fused kernels torch counts nothing
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _, state = layer(draw(time), before, **told(time))
    expected = cost(layer, batch, time, past=past)
    assert counter.get_total_flops() == expected.flops
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected.parameters
    assert sum(tensor.nbytes for tensor in state.named().values()) == expected.state_bytes
    return expected, state, before


@each_call
@pytest.mark.parametrize("name", LAYERS)
def test_a_formula_is_the_count_of_the_real_layer(name: str, batch: int, time: int, past: int) -> None:
    layer = LAYERS[name]()
    expected, state, before = counted(layer, batch, time, past)
    floor = sum(p.nbytes for p in layer.parameters()) + 2 * batch * time * layer.dim * 4
    begun = 0 if before is None else before.nbytes
    if before is not None and isinstance(layer, Attention) and layer.window is None:
        # what a cache held before is not written anew
        assert expected.traffic == floor + begun + (state.nbytes - begun) + batch * 8
    elif isinstance(layer, NeuralMemory | MemoryAsContext | HebbianMemory):
        assert expected.traffic == floor + (2 if past else 1) * expected.state_bytes


@pytest.mark.parametrize(("batch", "time", "past"), [(2, 13, 0), (1, 1, 0), (2, 1, 9), (2, 13, 9)])
@pytest.mark.parametrize("name", EPISODIC)
def test_a_formula_is_the_count_of_the_real_bank(name: str, batch: int, time: int, past: int) -> None:
    expected, _, before = counted(EPISODIC[name](), batch, time, past)
    if before is not None and name == "ring":
        # 13 tokens write all 9 slots anew, one token one slot, beside the counts
        slot = (2 * 16 + 2) * 4 + 9
        floor = expected.parameters * 4 + 2 * batch * time * 16 * 4
        assert expected.traffic == floor + before.nbytes + batch * (min(time, 9) * slot + 16)


@pytest.mark.parametrize(("time", "past"), [(300, 0), (513, 40), (257, 600), (1300, 5)])
@pytest.mark.parametrize("slots", [3, 130, 1200])
@pytest.mark.parametrize("by_surprise", [False, True])
def test_a_ring_is_read_by_blocks_that_leave_out_what_is_gone(slots: int, time: int, past: int, by_surprise: bool) -> None:
    counted(EpisodicMemory(4, 1, slots, strength=Surprising() if by_surprise else False), 1, time, past)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("batch", "time", "past"), [(2, 13, 0), (2, 1, 9), (1, 13, 9)])
def test_a_formula_is_the_count_of_the_real_block(name: str, batch: int, time: int, past: int) -> None:
    counted(BLOCKS[name](), batch, time, past)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize(("batch", "time", "past"), [(2, 24, 0), (1, 1, 24), (2, 16, 8)])
def test_the_formula_of_a_whole_transformer_is_the_count_of_the_real_one(name: str, batch: int, time: int, past: int) -> None:
    size = Size(dim=16, heads=2, layers=3, near=5, window=7, chunk=8, depth=2, segment=4, slots=None if past == 24 else 6, recency=0.1)
    model = MemoryTransformer(19, CONFIGURATIONS[name](size))
    expected, _, _ = counted(model, batch, time, past)
    inner = Inner(heads=2, depth=2, chunk=8)
    bank = Bank(size.slots, heads=2, every=4, summary="each", recency=True)
    shape = Shape(layers=3, vocabulary=19, near=5, window=7, inner=inner, bank=bank, few=size.slots or 8)
    assert transformer(name, Call(16, time, past, batch), shape) == expected


@pytest.mark.parametrize(("time", "past"), [(300, 0), (513, 40), (257, 600), (1300, 5), (1, 600)])
@pytest.mark.parametrize("slots", [3, 130, 1200, None])
@pytest.mark.parametrize(
    "settings",
    [{}, {"context": Drift(4, 1, 2, form="fading"), "hops": 1}, {"strength": Surprising()}],
    ids=["plain", "hops", "by surprise"],
)
def test_a_read_of_the_best_mixes_few_values_of_a_long_block_and_all_of_a_short_one(
    slots: int | None, time: int, past: int, settings: dict[str, Any]
) -> None:
    for k in (2, 3 if slots == 3 else 10):
        counted(EpisodicMemory(4, 1, slots, separation=TopK(k), **settings), 1, time, past)


@pytest.mark.parametrize(("batch", "time", "past"), [(2, 13, 0), (1, 1, 0), (2, 1, 9), (2, 13, 9), (1, 300, 140), (1, 1, 600)])
@pytest.mark.parametrize("slots", [40, None])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"separation": TopK(1), "recency": 0.1, "paging": Paging(16, 2)},
        {"separation": Entmax(1.5), "semantics": Semantics(torch.eye(3))},
        {"context": Drift(8, 2, 3, form="fading"), "hops": 2},
    ],
    ids=["plain", "top 1", "entmax, semantics", "hops"],
)
def test_a_read_by_pages_takes_the_representatives_and_the_items_of_few_pages(
    settings: dict[str, Any], slots: int | None, batch: int, time: int, past: int
) -> None:
    counted(EpisodicMemory(8, 2, slots, **{"paging": Paging(4, 3), **settings}), batch, time, past)


def test_one_token_more_by_pages_costs_what_is_compared_by_numbers_and_by_symbols() -> None:
    d, length, slots, page, probes = sympy.symbols("d L M page probes", positive=True, integer=True)
    found = episodic(d, 1, Bank(slots, page=page, probes=probes), past=length)
    assert sympy.expand(found.flops - (8 * d**2 + 2 * d * (slots / page + 1) + 4 * d * page * (probes + 1))) == 0
    numbers = {d: 16, length: 9, slots: 4096, page: 16, probes: 8}
    real = cost(EpisodicMemory(16, 1, 4096, paging=Paging()), 1, 1, past=9)
    assert found.flops.subs(numbers) == real.flops
    assert found.state_bytes.subs(numbers) == real.state_bytes
    # what must move: 144 items and the new one, the representatives and counts before and after, parameters, x and y
    pages = 256 * (16 * 4 + 17)
    assert real.traffic == (144 + 1) * (2 * 16 * 4 + 17) + 2 * (pages + 16) + 4 * (real.parameters + 2 * 16)
    assert found.traffic.subs(numbers) == real.traffic
    shared = SharedBank(EpisodicMemory(16, 2, 40, paging=Paging(4, 3)), {name: Attention(16, 2, 4) for name in "ab"})
    counted(shared, 2, 13, 50)


def test_the_best_of_many_slots_are_read_for_less_than_all_by_numbers_and_by_symbols() -> None:
    d, length, slots, top = sympy.symbols("d L M k", positive=True, integer=True)
    found = episodic(d, 1, Bank(slots, read="top-k", top=top), past=length)
    assert sympy.expand(found.flops - (8 * d**2 + 2 * d * (slots + 1) + 2 * d * top)) == 0
    numbers = {d: 16, length: 9, slots: 2**16, top: 8}
    assert found.flops.subs(numbers) == cost(EpisodicMemory(16, 1, 2**16, separation=TopK(8)), 1, 1, past=9).flops
    assert episodic(16, 1, Bank(2**16, read="held"), past=9).flops - found.flops.subs(numbers) == 2 * 16 * (2**16 + 1 - 8)


def test_formulas_of_symbols_give_the_same_numbers_and_the_known_expressions() -> None:
    d, length, heads, chunk = sympy.symbols("d L H C", positive=True, integer=True)
    whole = attention(d, length)
    assert sympy.expand(whole.flops - (8 * length * d**2 + 4 * length**2 * d)) == 0
    dual = neural(d, length, Inner(heads, 2, 4, chunk))
    values = {d: 64, length: 256, heads: 4, chunk: 16}
    number = neural(64, 256, Inner(4, 2, 4, 16))
    assert (dual.flops.subs(values), dual.parameters.subs(values), dual.state_bytes.subs(values)) == (
        number.flops,
        number.parameters,
        number.state_bytes,
    )
    # per token at whole chunks: 8d² + 6dH + 11W + 8W/C + 4Cd(1 + e) + 2C²H + 2CH with W = 8d²/H
    per_token = 8 * 64**2 + 6 * 64 * 4 + 11 * 8 * 64**2 // 4 + 8 * 8 * 64**2 // 4 // 16 + 4 * 16 * 64 * 5 + 2 * 16**2 * 4 + 2 * 16 * 4
    assert number.flops == 256 * per_token
    linear = neural(d, length, Inner(depth=1, form="scan", chunk=1))
    # 8W - 2w of the scan with W = w = d²
    assert sympy.expand(linear.flops - length * (14 * d**2 + 6 * d)) == 0


def test_neural_memory_is_cheaper_than_attention_only_beyond_a_long_text() -> None:
    slow = Inner(expansion=4, form="scan", chunk=1)
    found = crossover(lambda time: neural(512, time, slow), lambda time: attention(512, time))
    # (8 · 8 - 2 · 4) d² + 6 d = 4 L d: L = 14 d + 1.5
    assert found == 14 * 512 + 2
    assert crossover(lambda time: attention(64, time), lambda time: attention(32, time), limit=2**12) is None


def test_layers_without_a_formula_and_counts_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError, match="no formula is known"):
        cost(torch.nn.Linear(2, 2), 1, 1)
    with pytest.raises(TypeError, match="no formula is known"):
        cost(NeuralMemory(8, 2, Functional(torch.nn.Linear(4, 4))), 1, 1)
    with pytest.raises(ValueError, match="time must be a whole number"):
        cost(Attention(8), 1, 0)
    with pytest.raises(ValueError, match='form must be "dual" or "scan"'):
        Inner(form="loop")
    with pytest.raises(ValueError, match="dual form has no orthogonal momentum"):
        Inner(orthogonal=5)
    with pytest.raises(ValueError, match="read must be one of exact, held, top-k, got 'ann'"):
        Bank(read="ann")
    with pytest.raises(ValueError, match="summary must be one of"):
        Bank(summary="first")
    with pytest.raises(ValueError, match="configuration must be one of attention, neural"):
        transformer("mamba", Call(8, 8))
    with pytest.raises(TypeError, match="no formula is known"):
        cost(Hybrid({"neural": NeuralMemory(8, 2, Functional(torch.nn.Linear(4, 4)))}), 1, 1)
