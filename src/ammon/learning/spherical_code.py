"""Spherical codes: a linear map learned so that the stored patterns, each brought to length 1 after it, lie far from each other.

Φ(x) = W x/|W x|; minimised is log mean exp(-t |Φ(ξ) - Φ(ξ')|²)/t over pairs of patterns (Wu et al. 2024, arXiv 2404.03827, U-Hop) or, as
t → ∞, the same of the nearest pair alone (Hu et al. 2024, arXiv 2410.23126, U-Hop+). Patterns [pattern, dim], W [code, dim].
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.learning.base import wide
from ammon.shapes import Rows, check_count, check_positive

Codes = Float[Tensor, "pattern code"]
Map = Float[Tensor, "code dim"]
Scalar = Float[Tensor, ""]


class Loss(NamedTuple):
    """The separation loss and its gradient."""

    value: Scalar
    gradient: Map


def encode(matrix: Map, rows: Float[Tensor, "*lead dim"]) -> tuple[Float[Tensor, "*lead code"], Float[Tensor, "*lead"]]:
    """Φ(x), of length 1, and the length |W x|; both are 0 where W x is 0."""
    mapped = rows @ matrix.mT
    length = torch.linalg.vector_norm(mapped, dim=-1)
    return mapped / length.clamp_min(torch.finfo(mapped.dtype).tiny).unsqueeze(-1), length


def nearest(codes: Codes) -> Scalar:
    """The largest product of two codes: the cosine of the smallest angle. -1 for fewer than two."""
    if len(codes) < 2:
        return codes.new_tensor(-1.0)
    products = codes @ codes.mT
    return products.fill_diagonal_(-math.inf).amax()


def separation_loss(matrix: Map, rows: Rows, sharpness: float) -> Loss:
    """log mean exp(-t |Φ - Φ'|²)/t over all pairs of two rows, t the sharpness, and its gradient in closed form.

    At t = ∞ minus the least squared distance; pairs that tie share its gradient.
    """
    codes, lengths = encode(matrix, rows)
    products = (codes @ codes.mT).fill_diagonal_(-math.inf)
    largest = products.amax()
    if math.isinf(sharpness):
        share = (products == largest).to(products.dtype)
        value = 2 * largest - 2
    else:
        share = torch.exp(2 * sharpness * (products - largest))
        pairs = len(rows) * (len(rows) - 1)
        value = 2 * largest - 2 + torch.log(share.sum() / pairs) / sharpness
    # each pair stands in the matrix twice
    slope = 4 * (share / share.sum()) @ codes
    along = slope - (slope * codes).sum(-1, keepdim=True) * codes
    safe = torch.where(lengths > 0, lengths, torch.ones_like(lengths)).unsqueeze(-1)
    pulled = torch.where(lengths.unsqueeze(-1) > 0, along / safe, 0)
    return Loss(value, pulled.mT @ rows)


@dataclass(frozen=True)
class SphericalCode:
    """Learned from all patterns together, by Adam, from a random rotation drawn from the seed; the best map met is kept.

    code_dim: entries of a code. sharpness: t; math.inf is U-Hop+. rate: of Adam, falling as a half cosine over the epochs.
    """

    code_dim: int
    sharpness: float = 2.0
    epochs: int = 200
    rate: float = 0.02
    seed: int = 0
    local: ClassVar[bool] = False
    online: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("SphericalCode", "code_dim", self.code_dim)
        if not self.sharpness > 0:
            raise ValueError(f"SphericalCode: sharpness must be positive (math.inf is allowed), got {self.sharpness}.")
        if not isinstance(self.epochs, int) or self.epochs < 0:
            raise ValueError(f"SphericalCode: epochs must be a whole number of at least 0, got {self.epochs!r}.")
        check_positive("SphericalCode", "rate", self.rate)

    def begin(self, dim: int, like: Tensor) -> Map:
        """Rows at right angles (columns, if there are more codes than entries): angles stay as they are, if code_dim is dim."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randn(max(self.code_dim, dim), min(self.code_dim, dim), dtype=torch.float64, generator=generator)
        columns: Tensor = torch.linalg.qr(drawn)[0]
        turned = columns.mT if self.code_dim <= dim else columns
        return turned.to(wide(like))

    def learn(self, matrix: Map, rows: Rows) -> Map:
        """The map after learning; pure. Fewer than two distinct rows leave it as it is. Takes memory for [pattern, pattern] numbers."""
        if len(rows) < 2 or not self.epochs:
            return matrix
        # two copies of one row can never be told apart, and would be the nearest pair for ever
        rows = torch.unique(rows.to(matrix), dim=0)
        if len(rows) < 2:
            return matrix
        weights = matrix.clone()
        optimiser = torch.optim.Adam([weights], lr=self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs)
        best, least = matrix, math.inf
        with torch.no_grad():
            for _ in range(self.epochs):
                value, weights.grad = separation_loss(weights, rows, self.sharpness)
                if float(value) < least:
                    best, least = weights.clone(), float(value)
                optimiser.step()
                schedule.step()
            if float(separation_loss(weights, rows, self.sharpness).value) < least:
                best = weights.clone()
        return best
