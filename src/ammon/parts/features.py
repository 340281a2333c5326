"""Feature maps: φ(x)·φ(y) ≈ exp(-(β/2)|x - y|²) by random frequencies, so that a sum over patterns is one fixed row.

Rows [*lead, dim] give features [*lead, feature]. With frequencies ω ~ N(0, 1) per entry and h = sqrt(β) ω·x (Rahimi & Recht 2007;
Choromanski et al. 2021; Hoover et al. 2024). Nothing is learned: what is drawn from the seed is kept as buffers.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ammon.shapes import Units, check_count, check_positive

Features = Float[Tensor, "*lead feature"]
Directions = Float[Tensor, "frequency dim"]
Overlap = Float[Tensor, "*lead"]


class Expansion(nn.Module):
    """The contract of a fixed expansion, rows to features. What is drawn is drawn once, from a seed; nothing is learned."""

    dim: int
    num_features: int

    def forward(self, x: Units) -> Features:
        """φ(x)."""
        raise NotImplementedError

    def kernel(self, overlap: Overlap) -> Overlap:
        """The mean of φ(x)·φ(y) over what is drawn, for rows of ±1 with x·y = dim · overlap."""
        raise NotImplementedError


class FeatureMap(Expansion):
    """The contract of a feature map: an expansion with a gradient, whose products estimate the Gaussian kernel of width 1/sqrt(beta)."""

    num_frequencies: int
    beta: float

    def kernel(self, overlap: Overlap) -> Overlap:
        return torch.exp(-self.beta * self.dim * (1 - overlap))

    def pull(self, x: Units, weights: Features) -> Units:
        """Jᵀ weights, J = dφ/dx: the gradient of weights·φ(x), one product and no Jacobian."""
        raise NotImplementedError

    def needed(self, num_patterns: int, accuracy: float, rows: Units) -> int:
        """Frequencies at which the standard error of Σ_μ φ(x)·φ(ξ^μ) at a pattern is at most `accuracy`, one pattern's own term being 1.

        The error is a sum of num_patterns estimates, each with the variance that the class states. rows: patterns, where it
        depends on them.
        """
        raise NotImplementedError


def frequencies(dim: int, num_frequencies: int, orthogonal: bool, generator: torch.Generator) -> Directions:
    """Rows ω ~ N(0, 1). orthogonal: blocks of `dim` rows at right angles, with lengths drawn as before (Yu et al. 2016)."""
    drawn = torch.randn(num_frequencies, dim, generator=generator)
    if not orthogonal:
        return drawn
    lengths = torch.linalg.vector_norm(torch.randn(num_frequencies, dim, generator=generator), dim=-1, keepdim=True)
    blocks = []
    for block in torch.split(drawn, dim):
        q, r = torch.linalg.qr(block.mT)
        # the sign that makes q uniform among all rotations
        blocks.append((q * torch.where(r.diagonal() >= 0, 1.0, -1.0)).mT)
    rotated: Tensor = torch.cat(blocks) * lengths
    return rotated


class SinCos(FeatureMap):
    """φ = Y^(-1/2) [cos h, sin h], 2Y features. Variance of one estimate 1/(2Y) far from the pattern, 0 at it."""

    def __init__(self, dim: int, num_frequencies: int, beta: float = 1.0, orthogonal: bool = False, seed: int = 0) -> None:
        super().__init__()
        _check(self, dim, num_frequencies, beta)
        self.dim, self.num_frequencies, self.beta, self.orthogonal, self.seed = dim, num_frequencies, float(beta), orthogonal, seed
        self.num_features = 2 * num_frequencies
        self.register_buffer("directions", frequencies(dim, num_frequencies, orthogonal, torch.Generator().manual_seed(seed)))
        self.directions: Tensor

    def forward(self, x: Units) -> Features:
        h = phases(x, self.directions, self.beta)
        return torch.cat([torch.cos(h), torch.sin(h)], -1) / math.sqrt(self.num_frequencies)

    def pull(self, x: Units, weights: Features) -> Units:
        h = phases(x, self.directions, self.beta)
        of_cos, of_sin = torch.split(weights, self.num_frequencies, -1)
        return (of_sin * torch.cos(h) - of_cos * torch.sin(h)) @ self.directions.to(h.dtype) * math.sqrt(self.beta / self.num_frequencies)

    def needed(self, num_patterns: int, accuracy: float, rows: Units) -> int:
        return math.ceil(num_patterns / (2 * accuracy**2))


class Cos(FeatureMap):
    """φ = sqrt(2/Y) cos(h + b), b uniform in [0, 2π), Y features. Variance of one estimate 1/Y far from the pattern, 1/(2Y) at it."""

    def __init__(self, dim: int, num_frequencies: int, beta: float = 1.0, orthogonal: bool = False, seed: int = 0) -> None:
        super().__init__()
        _check(self, dim, num_frequencies, beta)
        self.dim, self.num_frequencies, self.beta, self.orthogonal, self.seed = dim, num_frequencies, float(beta), orthogonal, seed
        self.num_features = num_frequencies
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("directions", frequencies(dim, num_frequencies, orthogonal, generator))
        self.register_buffer("offsets", 2 * math.pi * torch.rand(num_frequencies, generator=generator))
        self.directions: Tensor
        self.offsets: Tensor

    def forward(self, x: Units) -> Features:
        h = phases(x, self.directions, self.beta)
        return torch.cos(h + self.offsets.to(h.dtype)) * math.sqrt(2 / self.num_frequencies)

    def pull(self, x: Units, weights: Features) -> Units:
        h = phases(x, self.directions, self.beta)
        slope = -math.sqrt(2 * self.beta / self.num_frequencies) * torch.sin(h + self.offsets.to(h.dtype))
        return (weights * slope) @ self.directions.to(h.dtype)

    def needed(self, num_patterns: int, accuracy: float, rows: Units) -> int:
        return math.ceil(num_patterns / accuracy**2)


class Exp(FeatureMap):
    """φ = Y^(-1/2) exp(h - β|x|²), Y positive features (Performer). Variance of one estimate at x = y: (exp(4β|x|²) - 1)/Y.

    Never negative, but of use only where β|x|² is small: the variance is that of a log-normal number.
    """

    def __init__(self, dim: int, num_frequencies: int, beta: float = 1.0, orthogonal: bool = False, seed: int = 0) -> None:
        super().__init__()
        _check(self, dim, num_frequencies, beta)
        self.dim, self.num_frequencies, self.beta, self.orthogonal, self.seed = dim, num_frequencies, float(beta), orthogonal, seed
        self.num_features = num_frequencies
        self.register_buffer("directions", frequencies(dim, num_frequencies, orthogonal, torch.Generator().manual_seed(seed)))
        self.directions: Tensor

    def forward(self, x: Units) -> Features:
        h = phases(x, self.directions, self.beta)
        length = x.to(h.dtype).square().sum(-1, keepdim=True)
        return torch.exp(h - self.beta * length) / math.sqrt(self.num_frequencies)

    def pull(self, x: Units, weights: Features) -> Units:
        weighted = weights * self.forward(x)
        along = weighted @ self.directions.to(weighted.dtype) * math.sqrt(self.beta)
        return along - 2 * self.beta * weighted.sum(-1, keepdim=True) * x.to(weighted.dtype)

    def needed(self, num_patterns: int, accuracy: float, rows: Units) -> int:
        exponent = 4 * self.beta * float(rows.double().square().sum(-1).amax())
        # each estimate at its largest variance; past the reach of a float the number is as good as infinite
        return math.ceil(num_patterns * math.expm1(min(exponent, 600.0)) / accuracy**2)


def phases(x: Tensor, directions: Tensor, beta: float) -> Tensor:
    """h = sqrt(β) ω·x, at least in float32: a phase of many turns has no digits left in half precision."""
    wide = torch.promote_types(torch.promote_types(x.dtype, torch.float32), directions.dtype)
    return x.to(wide) @ directions.to(wide).mT * math.sqrt(beta)


def _check(made: FeatureMap, dim: int, num_frequencies: int, beta: float) -> None:
    where = type(made).__name__
    check_count(where, "dim", dim)
    check_count(where, "num_frequencies", num_frequencies)
    check_positive(where, "beta", beta)
