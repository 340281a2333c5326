"""Reductions: a kernel by few features, so that many patterns need no Gram matrix. Rows [pattern, dim], features [pattern, feature]."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ammon.parts.features import FeatureMap, SinCos
from ammon.parts.kernels import GaussianKernel, Kernel, gram
from ammon.parts.similarity import Similarity
from ammon.shapes import Rows, check_count, check_positive

Chosen = Float[Tensor, "landmark dim"]
# patterns that are looked at together
BLOCK = 2048


class Landmarks:
    """Nyström's method: features k(x, L) of landmarks L, drawn among the patterns as they are first written (Williams & Seeger 2001).

    The kernel is then approximated by k(x, L) k(L, L)⁻¹ k(L, y), exact among landmarks: with all patterns as landmarks nothing is lost.
    accuracy: the mean of k(x, x) less its approximation over the patterns, in units of k(x, x), that is asked for; with fewer
    landmarks than that takes, `write` warns with their number.
    """

    def __init__(self, count: int, accuracy: float | None = None, seed: int = 0) -> None:
        check_count("Landmarks", "count", count)
        if accuracy is not None:
            check_positive("Landmarks", "accuracy", accuracy)
        self.count, self.accuracy, self.seed = count, accuracy, seed

    def check(self, kernel: Similarity, dim: int, update: str) -> None:
        """Any kernel, size and order will do."""

    def draw(self, rows: Rows, held: int) -> Chosen:
        """The rows that become landmarks beside those held, in their own order of writing."""
        room = min(self.count - held, len(rows))
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))[:room]
        return rows[chosen.sort().values.to(rows.device)]

    def wanting(self, kernel: Kernel, rows: Rows, features: Callable[[Tensor], Tensor], metric: Tensor | None) -> str | None:
        """What to do about too few landmarks; None where they are enough, or nothing was asked for."""
        if self.accuracy is None or metric is None:
            return None
        error = residue(kernel, rows, features, metric)
        if error <= self.accuracy:
            return None
        needed = self._needed(kernel, rows)
        return (
            f"{len(metric)} landmarks leave {error:.2g} of the kernel of a pattern with itself, {self.accuracy:g} is asked for; that takes "
            f"about {needed} of them, or less accuracy."
        )

    def _needed(self, kernel: Kernel, rows: Rows) -> int:
        """The number that will do, looked for among four times as many landmarks, and beyond them by their trend.

        The squared pivot of pattern k in the Gram matrix of patterns in random order is what k - 1 landmarks leave of it.
        """
        assert self.accuracy is not None
        most = len(rows)
        chosen = torch.randperm(most, generator=torch.Generator().manual_seed(self.seed))[: 4 * self.count]
        matrix = gram(kernel, rows[chosen.to(rows.device)]).double()
        own = float(matrix.diagonal().mean())
        matrix.diagonal().add_(1e-6 * own)
        left = torch.linalg.cholesky(matrix).diagonal().square() / own
        # the patterns that are landmarks leave nothing
        left = left * (1 - torch.arange(len(left)).to(left) / most)
        number = torch.arange(1, len(left) + 1).to(left)
        # single pivots scatter: their mean over a fifth of what there is
        width = max(1, len(left) // 5)
        smooth = left.unfold(0, width, 1).mean(-1)
        reached = torch.nonzero(smooth <= self.accuracy)
        if len(reached):
            return min(most, max(self.count + 1, int(reached[0]) + width))
        half = smooth[len(smooth) // 2 :].clamp_min(1e-12).log()
        number = number[len(number) - len(half) :].log()
        centred = number - number.mean()
        slope = float((centred * half).sum() / centred.square().sum().clamp_min(1e-12))
        if slope >= 0:
            return most
        guess = float(number.mean()) + (math.log(self.accuracy) - float(half.mean())) / slope
        return min(most, max(len(left) + 1, math.ceil(math.exp(min(guess, 40.0)))))


class RandomFeatures(nn.Module):
    """Random features of a Gaussian kernel, γ = β/2 of the map. They read nothing from the patterns, which are then never kept in weights.

    accuracy: the standard error of one kernel value that is asked for; with fewer frequencies than that takes `write` warns.
    """

    def __init__(self, features: FeatureMap, accuracy: float | None = None) -> None:
        super().__init__()
        if accuracy is not None:
            check_positive("RandomFeatures", "accuracy", accuracy)
        self.features, self.accuracy = features, accuracy

    def check(self, kernel: Similarity, dim: int, update: str) -> None:
        """Refuse a map of another kernel or size, and units that go one by one, for which overlaps with landmarks are carried."""
        if not isinstance(kernel, GaussianKernel) or not math.isclose(2 * kernel.gamma, self.features.beta, rel_tol=1e-6):
            raise ValueError(
                f"RandomFeatures: these are features of GaussianKernel(gamma={self.features.beta / 2:g}), the kernel is {kernel}; "
                "make the map with beta = 2 gamma."
            )
        if self.features.dim != dim:
            raise ValueError(f"RandomFeatures: the map takes rows of dim {self.features.dim}, the memory has {dim}; make one of that size.")
        if update != "synchronous":
            raise ValueError("RandomFeatures: units that go one by one need patterns or Landmarks; take update='synchronous'.")

    def draw(self, rows: Rows, held: int) -> Chosen:
        """None: no pattern is a landmark."""
        return rows[:0]

    def wanting(self, kernel: Kernel, rows: Rows, features: Callable[[Tensor], Tensor], metric: Tensor | None) -> str | None:
        """What to do about too few frequencies; None where they are enough, or nothing was asked for."""
        if self.accuracy is None:
            return None
        needed = self.features.needed(1, self.accuracy, rows)
        if needed <= self.features.num_frequencies:
            return None
        return (
            f"a standard error of {self.accuracy:g} of the kernel takes {needed} frequencies, this map has "
            f"{self.features.num_frequencies}; make a larger map, or ask for less accuracy."
        )


def random_features(dim: int, gamma: float, num_frequencies: int, accuracy: float | None = None, seed: int = 0) -> RandomFeatures:
    """Sine and cosine features of GaussianKernel(gamma) (Rahimi & Recht 2007)."""
    return RandomFeatures(SinCos(dim, num_frequencies, 2 * gamma, seed=seed), accuracy)


def residue(kernel: Kernel, rows: Rows, features: Callable[[Tensor], Tensor], metric: Float[Tensor, "landmark landmark"]) -> float:
    """The mean over the rows of k(x, x) - k(x, L) k(L, L)⁻¹ k(L, x), over the mean of k(x, x)."""
    values, vectors = torch.linalg.eigh(metric.double())
    kept = values > 4 * len(metric) * torch.finfo(metric.dtype).eps * values[-1]
    root = (vectors[:, kept] / values[kept].sqrt()).to(rows)
    own = held = 0.0
    for part in torch.split(rows, BLOCK):
        square = part.square().sum(-1)
        # a kernel that shifts is a function of the distance, 1 at none
        own += float(len(part)) if kernel.shifts else float(kernel.of(square.unsqueeze(-1), 0.0, 0.0).sum())
        held += float((features(part) @ root).square().sum())
    return (own - held) / own
