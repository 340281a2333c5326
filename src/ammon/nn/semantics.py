"""Semantics: associations between items from before the experiment, as a bias on the scores by which an episodic memory reads.

Which item a token is, [batch, time], gives rows [batch, time, feature]: what it asks with, and what is stored of it.
"""

import torch
from torch import Tensor, nn


class Semantics(nn.Module):
    """An item i that stands in a slot gains weight · association[asked, i]; of a segment's summary, the mean over its items.

    association: [item, item], e.g. similarities of word vectors, rows are those that ask. The tables are fixed; the weight, one a head,
    is learned by the memory that reads. `Semantics.of(vectors)` has the cosines of vectors [item, feature], and stores only those.
    """

    def __init__(self, association: Tensor, weight: float = 1.0) -> None:
        super().__init__()
        _check("association", association, square=True)
        self.weight = float(weight)
        self.register_buffer("asks", association.clone())
        self.register_buffer("holds", torch.eye(len(association), dtype=association.dtype, device=association.device))
        self.asks: Tensor
        self.holds: Tensor

    @classmethod
    def of(cls, vectors: Tensor, weight: float = 1.0) -> "Semantics":
        """The cosines of vectors [item, feature]; a vector of zeros is associated with nothing."""
        _check("vectors", vectors, square=False)
        length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        made = cls(vectors.new_zeros(1, 1), weight)
        made.asks = made.holds = torch.where(length > 0, vectors / length, torch.zeros_like(vectors))
        return made

    @property
    def size(self) -> int:
        """Entries of a row."""
        return self.asks.shape[1]

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """What tokens ask with and what is stored of them; zeros for -1."""
        if items.numel() and items.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = (int(extreme) for extreme in torch.aminmax(items))
            if low < -1 or high >= len(self.asks):
                wrong = low if low < -1 else high
                raise ValueError(f"Semantics: items must be from 0 to {len(self.asks) - 1}, or -1 for none, got {wrong}.")
        known = (items >= 0)[..., None]
        found = items.clamp_min(0)
        return torch.where(known, self.asks[found], 0), torch.where(known, self.holds[found], 0)

    def extra_repr(self) -> str:
        return f"items={len(self.asks)}, weight={self.weight:g}"


def _check(name: str, rows: Tensor, square: bool) -> None:
    shape = "[item, item]" if square else "[item, feature]"
    if not isinstance(rows, Tensor) or not rows.is_floating_point() or rows.ndim != 2 or not rows.numel():
        got = f"{rows.dtype} {list(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise ValueError(f"Semantics: the {name} must be floating {shape}, got {got}.")
    if square and rows.shape[0] != rows.shape[1]:
        raise ValueError(f"Semantics: the {name} must be {shape}, got {list(rows.shape)}; for vectors use Semantics.of.")
    if not bool(rows.isfinite().all()):
        raise ValueError(f"Semantics: the {name} must be finite, and holds NaN or infinite entries.")
