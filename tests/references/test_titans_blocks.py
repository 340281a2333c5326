"""Attention and the blocks of Titans against plain transcriptions of their equations, one row and token at a time."""

import math

import pytest
import torch
from torch import Tensor

from ammon.learning.fast_weights import Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention
from ammon.nn.neural import NeuralMemory
from ammon.nn.titans import MemoryAsContext, MemoryAsGate, MemoryAsLayer

DIM, HEADS, TIME = 8, 2, 13
SIZE = DIM // HEADS


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _turned(row: Tensor, position: int) -> Tensor:
    """Rotary positions as products of complex numbers."""
    half = SIZE // 2
    turned = []
    for head in row.split(SIZE):
        numbers = torch.complex(head[:half], head[half:])
        angles = torch.tensor([position / 10000 ** (i / half) for i in range(half)], dtype=torch.float64)
        numbers = numbers * torch.polar(torch.ones_like(angles), angles)
        turned.append(torch.cat([numbers.real, numbers.imag]))
    return torch.cat(turned)


def _softmax(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    answer = []
    for h in range(HEADS):
        part = slice(h * SIZE, (h + 1) * SIZE)
        weights = torch.stack([query[part] @ key[part] / math.sqrt(SIZE) for key in keys]).softmax(0)
        answer.append(
            sum((w * value[part] for w, value in zip(weights, values, strict=True)), start=torch.zeros(SIZE, dtype=torch.float64))
        )
    return torch.cat(answer)


def _norm(norm: torch.nn.Module, row: Tensor) -> Tensor:
    return row / torch.sqrt(row.square().mean() + torch.finfo(torch.float64).eps) * norm.weight  # type: ignore[operator]


def _gated(gate: torch.nn.Module, y: Tensor, m: Tensor) -> Tensor:
    return _norm(gate.answer, y) / (1 + torch.exp(-_norm(gate.memory, m)))  # type: ignore[arg-type]


def _attended(layer: Attention, rows: Tensor) -> Tensor:
    first, second, third = layer.project.weight.split(DIM)
    fixed = [] if layer.persistent is None else list(layer.persistent)
    answer = []
    for t in range(len(rows)):
        begin = 0 if layer.window is None else max(0, t - layer.window + 1)
        keys = [second @ p for p in fixed] + [_turned(second @ rows[s], s) for s in range(begin, t + 1)]
        values = [third @ p for p in fixed] + [third @ rows[s] for s in range(begin, t + 1)]
        answer.append(layer.out.weight @ _softmax(_turned(first @ rows[t], t), keys, values))
    return torch.stack(answer)


def _memory(chunk: int) -> NeuralMemory:
    return NeuralMemory(DIM, HEADS, Mlp(2, 2), Surprise(chunk))


@pytest.mark.parametrize(("window", "persistent"), [(None, 0), (None, 3), (1, 0), (4, 0), (5, 2), (40, 1)])
def test_attention_is_the_plain_loop_over_what_each_token_may_see(window: int | None, persistent: int) -> None:
    torch.manual_seed(0)
    layer, x = Attention(DIM, HEADS, window, persistent).double(), _draw(2, TIME, DIM)
    truth = torch.stack([_attended(layer, row) for row in x])
    torch.testing.assert_close(layer(x)[0], truth)
    leaves = list(layer.parameters())
    for mine, theirs in zip(*(torch.autograd.grad(y.cos().sum(), leaves) for y in (layer(x)[0], truth)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_memory_as_gate_and_as_layer_are_their_equations() -> None:
    torch.manual_seed(0)
    gate, layer = (kind(Attention(DIM, HEADS, 4, 2), _memory(5)).double() for kind in (MemoryAsGate, MemoryAsLayer))
    x = _draw(2, TIME, DIM)
    for b in range(2):
        normed = torch.stack([_norm(gate.norm, row) for row in x[b]])
        y, m = _attended(gate.attention, normed), gate.memory(normed[None])[0][0]
        o = torch.stack([_gated(gate.gate, *pair) for pair in zip(y, m, strict=True)])
        torch.testing.assert_close(gate(x)[0][b], x[b] + o)
        normed = torch.stack([_norm(layer.norm, row) for row in x[b]])
        torch.testing.assert_close(layer(x)[0][b], x[b] + _attended(layer.attention, layer.memory(normed[None])[0][0]))


@pytest.mark.parametrize("chunk", [1, 4, 13])
@pytest.mark.parametrize("persistent", [0, 2])
def test_memory_as_context_is_its_equations(chunk: int, persistent: int) -> None:
    torch.manual_seed(0)
    block, x = MemoryAsContext(_memory(chunk), HEADS, persistent).double(), _draw(2, TIME, DIM)
    first, second, third = block.project.weight.split(DIM)
    fixed = [] if block.persistent is None else list(block.persistent)
    for b in range(2):
        state, answer = block.memory.init_state(1), []
        for segment in x[b].split(chunk):
            rows = [_norm(block.norm, row) for row in segment]
            before = state.weights
            h = [block.memory.recall(before, (block.ask.weight @ row)[None, None])[0, 0] for row in rows]
            for i, row in enumerate(rows):
                seen = [(r, j) for j in range(i + 1) for r in (h[j], rows[j])]
                keys = [second @ p for p in fixed] + [_turned(second @ r, j) for r, j in seen]
                values = [third @ p for p in fixed] + [third @ r for r, _ in seen]
                y = block.out.weight @ _softmax(_turned(first @ row, i), keys, values)
                m, state = block.memory(y[None, None], state)
                answer.append(segment[i] + _gated(block.gate, y, m[0, 0]))
        torch.testing.assert_close(block(x)[0][b], torch.stack(answer))


def test_blocks_of_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="attention has dim 4, the memory 8"):
        MemoryAsGate(Attention(4), _memory(4))
    with pytest.raises(ValueError, match="attention has dim 4, the memory 8"):
        MemoryAsLayer(Attention(4), _memory(4))
    with pytest.raises(ValueError, match="multiple of 2 · heads, as positions turn pairs, got 8 and 3"):
        MemoryAsContext(_memory(4), heads=3)
    with pytest.raises(ValueError, match="persistent must be at least 0"):
        Attention(8, persistent=-1)
    with pytest.raises(ValueError, match="window must be a whole number"):
        Attention(8, window=0)
