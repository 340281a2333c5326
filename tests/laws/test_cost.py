"""Cost formulas against what the layers do: torch's count of FLOPs, their parameters, the bytes of their states."""

import pytest
import sympy
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ammon.analysis import cost as costs
from ammon.analysis.cost import cost, crossover
from ammon.learning.fast_weights import Functional, Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention
from ammon.nn.neural import NeuralMemory
from ammon.nn.titans import MemoryAsContext, MemoryAsGate, MemoryAsLayer

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
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("batch", "time", "past"), [(2, 24, 0), (3, 13, 0), (1, 3, 0), (2, 1, 0), (2, 1, 9), (2, 13, 9), (1, 16, 16)])
def test_a_formula_is_the_count_of_the_real_layer(name: str, batch: int, time: int, past: int) -> None:
    layer = LAYERS[name]()
    state = layer(torch.randn(batch, past, layer.dim))[1] if past else None
    # in half of the fused kernels torch counts nothing
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _, state = layer(torch.randn(batch, time, layer.dim), state)
    expected = cost(layer, batch, time, past=past)
    assert counter.get_total_flops() == expected.flops
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected.parameters
    assert sum(tensor.nbytes for tensor in state.named().values()) == expected.state_bytes
    # what a cache held before is not written anew
    begun = layer(torch.randn(batch, past, layer.dim))[1].nbytes if past else 0
    grown = state.nbytes - begun if past and isinstance(layer, Attention) and layer.window is None else None
    floor = sum(p.nbytes for p in layer.parameters()) + 2 * batch * time * layer.dim * 4
    if grown is not None:
        assert expected.traffic == floor + begun + grown + batch * 8
    elif isinstance(layer, NeuralMemory | MemoryAsContext):
        assert expected.traffic == floor + (2 if past else 1) * expected.state_bytes


def test_formulas_of_symbols_give_the_same_numbers_and_the_known_expressions() -> None:
    d, length, heads, chunk = sympy.symbols("d L H C", positive=True, integer=True)
    whole = costs.attention(d, length)
    assert sympy.expand(whole.flops - (8 * length * d**2 + 4 * length**2 * d)) == 0
    dual = costs.neural(d, length, heads=heads, depth=2, expansion=4, chunk=chunk)
    values = {d: 64, length: 256, heads: 4, chunk: 16}
    number = costs.neural(64, 256, heads=4, depth=2, expansion=4, chunk=16)
    assert (dual.flops.subs(values), dual.parameters.subs(values), dual.state_bytes.subs(values)) == (
        number.flops,
        number.parameters,
        number.state_bytes,
    )
    # per token at whole chunks: 8d² + 6dH + 11W + 8W/C + 4Cd(1 + e) + 2C²H + 2CH with W = 8d²/H
    per_token = 8 * 64**2 + 6 * 64 * 4 + 11 * 8 * 64**2 // 4 + 8 * 8 * 64**2 // 4 // 16 + 4 * 16 * 64 * 5 + 2 * 16**2 * 4 + 2 * 16 * 4
    assert number.flops == 256 * per_token
    linear = costs.neural(d, length, depth=1, form="scan", chunk=1)
    # 8W - 2w of the scan with W = w = d²
    assert sympy.expand(linear.flops - length * (14 * d**2 + 6 * d)) == 0


def test_neural_memory_is_cheaper_than_attention_only_beyond_a_long_text() -> None:
    found = crossover(lambda time: costs.neural(512, time, expansion=4, form="scan", chunk=1), lambda time: costs.attention(512, time))
    # (8 · 8 - 2 · 4) d² + 6 d = 4 L d: L = 14 d + 1.5
    assert found == 14 * 512 + 2
    assert crossover(lambda time: costs.attention(64, time), lambda time: costs.attention(32, time), limit=2**12) is None


def test_layers_without_a_formula_and_counts_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError, match="no formula is known"):
        cost(torch.nn.Linear(2, 2), 1, 1)
    with pytest.raises(TypeError, match="no formula is known"):
        cost(NeuralMemory(8, 2, Functional(torch.nn.Linear(4, 4))), 1, 1)
    with pytest.raises(ValueError, match="time must be a whole number"):
        cost(Attention(8), 1, 0)
    with pytest.raises(ValueError, match='form must be "dual" or "scan"'):
        costs.neural(8, 8, form="loop")
