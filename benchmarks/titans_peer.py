"""One memory layer in a fresh process, for `neural_memory`: ours, attention or titans-pytorch, with the peak of resident memory.

`python -m benchmarks.titans_peer WAY BATCH TIME REPEATS THREADS`; the answer is one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.learning.fast_weights import Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.neural import NeuralMemory
from benchmarks.store import forget_peak, now, peak

DIM, HEADS, CHUNK = 256, 4, 64


class SiluMlp(nn.Module):
    """Two matrices with SiLU between, as our `Mlp(2)`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(dim, hidden) / dim**0.5)
        self.second = nn.Parameter(0.3 * torch.randn(hidden, dim) / hidden**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x @ self.first) @ self.second


class Plain(nn.Module):
    """Causal softmax attention without positions: the least that an attention layer does."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.project, self.out = heads, nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        q, k, v = self.project(x).reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2)), None


def peer(dim: int, heads: int, chunk: int, coarse: bool) -> Any:
    """titans-pytorch, a gradient at the start of each `chunk`. coarse: one gate and one summed gradient a chunk, else one a token."""
    from titans_pytorch import NeuralMemory as Peer

    entries = dim // heads
    return Peer(
        dim,
        chunk_size=chunk if coarse else 1,
        batch_size=chunk,
        dim_head=entries,
        heads=heads,
        model=SiluMlp(entries, 4 * entries),
        mem_model_norm_add_residual=False,
        default_step_transform_max_lr=1 / chunk,
    )


def run(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """y and the gradients of all parameters that have one."""
    y, _ = layer(x)
    gradients = torch.autograd.grad(y.square().mean(), list(layer.parameters()), allow_unused=True)
    return [y.detach(), *(gradient for gradient in gradients if gradient is not None)]


def _measure(way: str, batch: int, length: int, repeats: int) -> dict[str, object]:
    torch.manual_seed(0)
    make: dict[str, Callable[[], nn.Module]] = {
        "ours": lambda: NeuralMemory(DIM, HEADS, Mlp(2), Surprise(CHUNK)),
        "attention": lambda: Plain(DIM, HEADS),
        "exact": lambda: peer(DIM, HEADS, CHUNK, coarse=False),
        "coarse": lambda: peer(DIM, HEADS, CHUNK, coarse=True),
    }
    layer, x = make[way](), torch.randn(batch, length, DIM)
    if repeats > 1:
        run(layer, x[:, : 2 * CHUNK])
    base = now() if forget_peak() else peak()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(layer, x)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "more": peak() - base}


if __name__ == "__main__":
    name, rows, text, turns, threads = sys.argv[1], *map(int, sys.argv[2:6])
    torch.set_num_threads(threads)
    print(json.dumps(_measure(name, rows, text, turns)))
