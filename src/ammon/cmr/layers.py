"""Layers: the parts of context, each with its own drift, and what items bring into them before anything is learned.

A layer is a block of context units: one start unit, the units below, and fresh units that nothing else shares (distractions).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.cmr.lists import NONE, Lists


@dataclass(frozen=True)
class Pool:
    """A row for each item of a pool, found by the item's name: feature vectors, or scores of similarity with every item of the pool."""

    names: tuple[Hashable, ...]
    rows: Float[Tensor, "item column"]

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or len(self.rows) != len(self.names):
            raise ValueError(f"Pool: one row for each of the {len(self.names)} names is needed, got rows of shape {list(self.rows.shape)}.")
        wrong = ~torch.isfinite(self.rows).all(-1)
        if bool(wrong.any()):
            raise ValueError(f"Pool: the row of item {self.names[int(wrong.nonzero()[0])]!r} holds NaN or infinite entries.")

    def find(self, lists: Lists, where: str) -> Tensor:
        """The row number of every unit of every list, [list, unit]. ValueError that names subject, list and item if one has no row."""
        place = {name: row for row, name in enumerate(self.names)}
        rows = torch.tensor([place.get(name, NONE) for name in lists.names])
        found = torch.where(lists.items == NONE, NONE, rows[lists.items.clamp_min(0)])
        missing = (found == NONE) & (lists.items != NONE)
        if bool(missing.any()):
            row, unit = missing.nonzero()[0].tolist()
            item = lists.names[int(lists.items[row, unit])]
            raise ValueError(f"{where}: {lists.label(row)}: item {item!r} has no row; the pool holds {len(self.names)} other items.")
        return found


def cosine_similarity(names: Sequence[Hashable], vectors: Float[Tensor, "item feature"]) -> Pool:
    """Cosines between the vectors of all items; orthogonal vectors give the identity. ValueError if a vector is 0."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    if bool((length == 0).any()):
        raise ValueError(f"cosine_similarity: the vector of item {names[int((length == 0).nonzero()[0, 0])]!r} is 0; leave the item out.")
    unit = vectors / length
    return Pool(tuple(names), unit @ unit.mT)


@dataclass(frozen=True)
class Items:
    """One context unit for each item of the list: localist, orthonormal."""

    name: str = "temporal"


@dataclass(frozen=True)
class Features:
    """Distributed: what an item brings into context is its vector (of any length; context has length 1)."""

    vectors: Pool
    name: str = "features"


@dataclass(frozen=True)
class Source:
    """One unit for each source (task, voice, category, ...), driven at study; items come to it only by what was learned (Polyn 2009)."""

    name: str = "source"


Layer = Items | Features | Source


@dataclass(frozen=True)
class ContextCue:
    """Similarity inside M^CF before the experiment: context units of an item support its likes (Polyn 2009; Lohnas 2015).

    diagonal: whether an item's similarity with itself counts too.
    """

    similarity: Pool
    diagonal: bool = True

    def __post_init__(self) -> None:
        check_square("ContextCue", self.similarity)


@dataclass(frozen=True)
class ItemCue:
    """Similarity with the item recalled last is added to the support (Morton & Polyn 2016)."""

    similarity: Pool

    def __post_init__(self) -> None:
        check_square("ItemCue", self.similarity)


Semantics = ContextCue | ItemCue


def check_square(where: str, similarity: Pool) -> None:
    """Refuse a pool that does not hold the scores of all items with all."""
    if similarity.rows.shape[0] != similarity.rows.shape[1]:
        raise ValueError(
            f"{where}: the similarity must be [item, item], got rows of shape {list(similarity.rows.shape)}; "
            "cosine_similarity makes one of vectors."
        )


def between(pool: Pool, units: Tensor) -> Float[Tensor, "list unit unit"]:
    """The scores between the units of each list, 0 where a list has no such unit. `units` as `Pool.find` gives them."""
    rows = units.clamp_min(0)
    scores = pool.rows[rows.unsqueeze(-1), rows.unsqueeze(-2)]
    there = units != NONE
    return scores * (there.unsqueeze(-1) & there.unsqueeze(-2))
