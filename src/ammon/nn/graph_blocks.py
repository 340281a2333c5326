"""Graph blocks: what an Energy Transformer is held against on graphs, called as it is: tokens [batch, node, dim] in and out.

edges [batch, node, node]: True where the first node sees the second, None: everywhere; mask [batch, node]: True where a node is. Each has
about as many parameters as it is told to have; one that cannot be so small has as few as it can.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.shapes import check_count


class GraphBlock(Protocol):
    """A module from the tokens of nodes to others, e.g. `EnergyTransformer`."""

    dim: int

    def __call__(self, x: Tensor, *, mask: Tensor | None = None, edges: Tensor | None = None) -> Tensor: ...


class GraphAttention(nn.Module):
    """A standard transformer block whose attention goes along edges: attention, then a network of one hidden layer, after layer norms."""

    def __init__(self, dim: int, heads: int, budget: int) -> None:
        super().__init__()
        for name, count in (("dim", dim), ("heads", heads), ("budget", budget)):
            check_count("GraphAttention", name, count)
        if dim % heads:
            raise ValueError(f"GraphAttention: dim must be a multiple of the heads, got {dim} and {heads}.")
        self.dim, self.heads = dim, heads
        # 4 dim² + 4 dim of attention, 4 dim of norms, dim of the last bias
        hidden = _hidden(budget - 4 * dim * dim - 9 * dim, 2 * dim + 1)
        self.norm, self.asks, self.gives = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.each = _network(dim, hidden)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, edges: Tensor | None = None) -> Tensor:
        """Tokens after the block; a node that sees none keeps what it is."""
        x, seen = _admit(x, mask, edges)
        queries, keys, values = self.asks(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        allowed = None if seen is None else seen[:, None]
        mixed = functional.scaled_dot_product_attention(queries, keys, values, allowed)
        if allowed is not None:
            mixed = torch.where(allowed.any(-1, keepdim=True), mixed, torch.zeros_like(mixed))
        x = x + self.gives(mixed.transpose(1, 2).flatten(2))
        return _only(x + self.each(x), mask)


class GraphConvolution(nn.Module):
    """Two graph convolutions, Â relu(Â norm(x) W₁ + b₁) W₂ + b₂ with Â = D^(-½) A D^(-½) (Kipf & Welling 2017), beside what a node is."""

    def __init__(self, dim: int, budget: int) -> None:
        super().__init__()
        for name, count in (("dim", dim), ("budget", budget)):
            check_count("GraphConvolution", name, count)
        self.dim = dim
        hidden = _hidden(budget - 3 * dim, 2 * dim + 1)
        self.norm, self.first, self.second = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, edges: Tensor | None = None) -> Tensor:
        """Tokens after the block."""
        x, seen = _admit(x, mask, edges)
        links = x.new_ones(len(x), x.shape[1], x.shape[1]) if seen is None else seen.to(x.dtype)
        scale = links.sum(-1).clamp_min(1).rsqrt()
        links = scale[:, :, None] * links * scale[:, None]
        hidden = torch.relu(links @ self.first(self.norm(x)))
        return _only(x + links @ self.second(hidden), mask)


class NodesAlone(nn.Module):
    """A network of one hidden layer on each node, which sees no other: what can be told without the graph."""

    def __init__(self, dim: int, budget: int) -> None:
        super().__init__()
        for name, count in (("dim", dim), ("budget", budget)):
            check_count("NodesAlone", name, count)
        self.dim = dim
        self.each = _network(dim, _hidden(budget - 3 * dim, 2 * dim + 1))

    def forward(self, x: Tensor, *, mask: Tensor | None = None, edges: Tensor | None = None) -> Tensor:
        """Tokens after the block."""
        x, _ = _admit(x, mask, edges)
        return _only(x + self.each(x), mask)


def _hidden(left: int, each: int) -> int:
    return max(1, round(left / each))


def _network(dim: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


def _admit(x: Tensor, mask: Tensor | None, edges: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """x, zero where no node is, and which node sees which."""
    if mask is None:
        return x, edges
    both = mask[:, :, None] & mask[:, None]
    return _only(x, mask), both if edges is None else edges & both


def _only(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else torch.where(mask[..., None], x, torch.zeros_like(x))
