"""Residual: blocks of a transformer around layers that are not blocks yet. Normalise, apply, add. [batch, time, dim]."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ammon.nn.state import State, check_input
from ammon.shapes import check_count


class Residual(nn.Module):
    """x + layer(norm(x)) for a layer of the usual contract, such as attention or a memory. Its state is the layer's."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        dim = getattr(layer, "dim", None)
        if not isinstance(dim, int) or not hasattr(layer, "init_state"):
            raise TypeError(f"Residual: a layer with dim and init_state is needed, got a {type(layer).__name__}.")
        self.dim, self.layer, self.norm = dim, layer, nn.RMSNorm(dim)

    def init_state(self, batch: int) -> State:
        """The state of `batch` rows that have seen nothing."""
        layer: Any = self.layer
        state: State = layer.init_state(batch)
        return state

    def reset(self, state: State, rows: Tensor) -> State:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        layer: Any = self.layer
        fresh: State = layer.reset(state, rows)
        return fresh

    def forward(self, x: Tensor, state: State | None = None, *, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """x + what the layer gives, and its state. mask [batch, time]: True where a token is there; the others give zeros."""
        check_input("Residual", x, mask, self.dim, "read-write")
        x = x if mask is None else x.masked_fill(~mask[..., None], 0)
        y, after = self.layer(self.norm(x), state, mask=mask)
        return x + y, after


class FeedForward(nn.Module):
    """x + W₂ gelu(W₁ norm(x)), each token by itself: a block without a state."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        check_count("FeedForward", "dim", dim)
        check_count("FeedForward", "expansion", expansion)
        self.dim, self.norm = dim, nn.RMSNorm(dim)
        self.wide, self.out = nn.Linear(dim, expansion * dim, bias=False), nn.Linear(expansion * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.out(functional.gelu(self.wide(self.norm(x))))
        return y
