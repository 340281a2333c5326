"""Expansions for ±1 units beside the feature maps: odd features, and threshold units in a random sparse code.

Rows [*lead, dim] give features [*lead, feature]; φ(x)·φ(y) estimates a kernel of the overlap x·y/dim alone. Nothing is learned.
"""

import math

import torch
from torch import Tensor

from ammon.parts.features import Expansion, Features, Overlap, frequencies, phases
from ammon.shapes import Units, check_count, check_positive


class Sine(Expansion):
    """φ = sqrt(2/Y) sin h, h = sqrt(β) ω·x: the odd half of the random features, φ(-x) = -φ(x), Y features.

    The kernel is exp(-β/2 |x - y|²) - exp(-β/2 |x + y|²); for ±1 rows a sinh of their product. Two unrelated rows have a product of 0
    in the mean, so that small β is of use: the kernel is then that of a correlation matrix, and the larger β, the denser the memory.
    """

    def __init__(self, dim: int, num_frequencies: int, beta: float = 1.0, orthogonal: bool = False, seed: int = 0) -> None:
        super().__init__()
        check_count("Sine", "dim", dim)
        check_count("Sine", "num_frequencies", num_frequencies)
        check_positive("Sine", "beta", beta)
        self.dim, self.num_frequencies, self.beta, self.orthogonal, self.seed = dim, num_frequencies, float(beta), orthogonal, seed
        self.num_features = num_frequencies
        self.register_buffer("directions", frequencies(dim, num_frequencies, orthogonal, torch.Generator().manual_seed(seed)))
        self.directions: Tensor

    def forward(self, x: Units) -> Features:
        return torch.sin(phases(x, self.directions, self.beta)) * math.sqrt(2 / self.num_frequencies)

    def kernel(self, overlap: Overlap) -> Overlap:
        gain = self.beta * self.dim
        return torch.exp(-gain * (1 - overlap)) - torch.exp(-gain * (1 + overlap))


class Threshold(Expansion):
    """Units with random ±1 inputs that fire above a threshold: φ = (fires - baseline)/scale; Kanerva's hard locations are such units.

    activity: the fraction of units that a random row of ±1 makes fire, at least; the threshold is the largest with which it does.
    centred: the baseline is the mean activity (the covariance rule's), and unrelated rows have a product of 0 in the mean; else it
    is 0. scale: such that the kernel is 1 where the rows are equal.
    """

    def __init__(self, dim: int, num_units: int, activity: float = 0.1, centred: bool = True, seed: int = 0) -> None:
        super().__init__()
        check_count("Threshold", "dim", dim)
        check_count("Threshold", "num_units", num_units)
        if not 0 < activity < 1:
            raise ValueError(f"Threshold: activity must be between 0 and 1, got {activity}.")
        self.dim, self.num_units, self.activity, self.centred, self.seed = dim, num_units, float(activity), centred, seed
        self.num_features = num_units
        chances, sums = _signs(dim)
        above = chances.flip(0).cumsum(0).flip(0)
        first = int((above >= activity).nonzero()[-1])
        self.threshold, self.fires = float(sums[first]), float(above[first])
        if self.fires > 1 - 1e-12:
            raise ValueError(f"Threshold: no threshold among {dim} inputs makes a fraction of {activity} fire; take a smaller activity.")
        self.baseline = self.fires if centred else 0.0
        self.scale = math.sqrt(num_units * (self.fires * (1 - self.fires) if centred else self.fires))
        bits = torch.randint(2, (num_units, dim), generator=torch.Generator().manual_seed(seed))
        self.register_buffer("directions", 2.0 * bits - 1)
        self.directions: Tensor

    def forward(self, x: Units) -> Features:
        fires = phases(x, self.directions, 1.0) >= self.threshold
        return (fires.to(torch.promote_types(x.dtype, torch.float32)) - self.baseline) / self.scale

    def kernel(self, overlap: Overlap) -> Overlap:
        together = torch.stack([self._together(float(m)) for m in overlap.flatten()]).reshape(overlap.shape).to(overlap)
        return (together - self.baseline**2) * self.num_units / self.scale**2

    def _together(self, overlap: float) -> Tensor:
        """The chance that a unit fires for both of two rows: their common part says a, the rest b for one and -b for the other."""
        common = round(self.dim * (1 + overlap) / 2)
        chances, sums = _signs(common)
        others, rest = _signs(self.dim - common)
        reached = sums.unsqueeze(0) >= (self.threshold + rest.abs()).unsqueeze(1)
        return (others * (reached * chances).sum(1)).sum()


def _signs(count: int) -> tuple[Tensor, Tensor]:
    """The sum of `count` random signs: its chances and its values, in float64."""
    k = torch.arange(count + 1, dtype=torch.float64)
    n = torch.tensor(float(count), dtype=torch.float64)
    chances = torch.exp(torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1) - n * math.log(2))
    return chances, 2 * k - n
