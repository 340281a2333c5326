"""Reduced problems: regression on few features instead of one coefficient per pattern, the patterns passing by in blocks.

Answers are h = f(x)·α with features f [row, feature], penalty λ αᵀGα: landmarks (Nyström, Williams & Seeger 2001) have f = k(x, L) and
G = k(L, L), random features G = I. In coordinates u, α = T u, the penalty is |u|² and the moments Σ zzᵀ of z = Tᵀf are diagonal, so a
solve is a division. Nothing of size pattern² or pattern × feature is held.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Square = Float[Tensor, "feature feature"]
Dual = Float[Tensor, "feature unit"]
Place = Float[Tensor, "direction unit"]
Features = Callable[[Tensor], Tensor]

# patterns that are turned into features together
BLOCK = 2048


class Reduced:
    """The patterns [pattern, dim] and ±1 targets [pattern, unit] of one fit.

    metric: G, or None for I. products: Σ f fᵀ over the patterns.
    """

    def __init__(self, features: Features, rows: Tensor, targets: Tensor, metric: Square | None, products: Square) -> None:
        self.features, self.rows, self.targets = features, rows, targets
        self.count, self.units = targets.shape
        root = torch.eye(len(products)).to(products) if metric is None else _inverse_root(metric.to(products), rows.dtype)
        moments, turn = torch.linalg.eigh(root.mT @ products @ root)
        kept = moments > len(moments) * torch.finfo(rows.dtype).eps * moments[-1]
        self.moments, self.turn = moments[kept], root @ turn[:, kept]

    def gather(self, place: Place | None, error: Callable[[Tensor, Tensor], Tensor]) -> Place:
        """Σ z error(h, target) over the patterns, h being their answers at this place (of 0 if None)."""
        dual = None if place is None else self.dual(place)
        total = torch.zeros(len(self.turn), self.units).to(self.turn)
        for rows, targets in zip(torch.split(self.rows, BLOCK), torch.split(self.targets, BLOCK), strict=True):
            features, targets = self.features(rows), targets.to(rows)
            field = torch.zeros_like(targets) if dual is None else features @ dual
            total += (features.mT @ error(field, targets)).to(total)
        gathered: Tensor = self.turn.mT @ total
        return gathered

    def curve(self, place: Place, way: Place) -> Place:
        """Σ z p(1 - p) z·way over the patterns, p = σ(h) at this place."""
        dual, along = self.dual(place), self.dual(way)
        total = torch.zeros(len(self.turn), self.units).to(self.turn)
        for rows in torch.split(self.rows, BLOCK):
            features = self.features(rows)
            p = torch.sigmoid(features @ dual)
            total += (features.mT @ ((p - p.square()) * (features @ along))).to(total)
        curved: Tensor = self.turn.mT @ total
        return curved

    def dual(self, place: Place) -> Dual:
        """α = T u, in the dtype of the patterns."""
        dual: Tensor = (self.turn @ place).to(self.rows)
        return dual

    def place(self, dual: Dual) -> Place:
        """The u whose T u has the same answers to all patterns as α."""
        place: Tensor = torch.linalg.lstsq(self.turn, dual.to(self.turn)).solution
        return place

    def size(self, left: Float[Tensor, "unit direction"]) -> float:
        """The largest component along any principal direction of the patterns of the error whose sum with z is `left`."""
        return float((left / self.moments.sqrt()).abs().amax()) if left.numel() else 0.0


def second_moments(features: Features, rows: Tensor) -> Square:
    """Σ f fᵀ over rows, in float64."""
    total = None
    for part in torch.split(rows, BLOCK):
        found = features(part)
        square = (found.mT @ found).double()
        total = square if total is None else total + square
    assert total is not None
    return total


def _inverse_root(metric: Tensor, dtype: torch.dtype) -> Tensor:
    """R with Rᵀ G R = I on the span of G, as far as `dtype`, in which G was made, tells it from nothing."""
    values, vectors = torch.linalg.eigh(metric)
    kept = values > 4 * len(metric) * torch.finfo(dtype).eps * values[-1]
    root: Tensor = vectors[:, kept] / values[kept].sqrt()
    return root
