"""Millidge et al. 2022 (Universal Hopfield Networks, arXiv 2202.04557), Figs. 2-5 on MNIST: similarity × maximum.

Protocol of their code: N test images written; a cue is clamp(|x + noise|, 0, 1) or an image with its bottom set to 0; correct if
|out - x|² <= 60. "Dot" there divides each stored image by its sum. The paper prints curves only: the numbers are those of an
independent run of that protocol, a mean over `blocks` disjoint blocks of N images.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import t

import ammon as am
from ammon.parts.corruption import Mask, Noise
from ammon.parts.separations import Maximum
from ammon.parts.similarity import Dot, Euclidean, Manhattan

Corrupt = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
DATA = Path(os.environ.get("AMMON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    path = DATA / "images" / "mnist.npz"
    if not path.exists():
        pytest.skip("MNIST is not here: put images/mnist.npz (array test_images) under the folder AMMON_DATA")
    with np.load(path) as arrays:
        return torch.from_numpy(arrays["test_images"]).reshape(-1, 784).float() / 255


def noise(sigma: float) -> Corrupt:
    return lambda rows, generator: Noise(sigma)(rows, generator=generator).abs().clamp(0, 1)


def mask(fraction: float) -> Corrupt:
    return lambda rows, generator: Mask(fraction)(rows, generator=generator)


def block_scores(images: torch.Tensor, similarity: str, num_patterns: int, corrupt: Corrupt, blocks: int) -> torch.Tensor:
    """The fraction of correct answers in each of `blocks` disjoint blocks."""
    generator = torch.Generator().manual_seed(2022)
    scores = []
    for stored in images.split(num_patterns)[:blocks]:
        keys = stored / stored.sum(-1, keepdim=True) if similarity == "dot" else stored
        parts = {"euclidean": Euclidean(), "manhattan": Manhattan(), "dot": Dot(), "raw dot": Dot()}
        memory = am.universal(784, parts[similarity], Maximum())
        memory.write(keys, values=stored)
        distance = (memory.recall(corrupt(stored, generator)).state - stored).square().sum(-1)
        scores.append((distance <= 60).double().mean())
    return torch.stack(scores)


TABLE = {
    # name: (N, corruption, blocks they averaged, rounding, euclidean, manhattan, dot)
    "capacity 100": (100, noise(0.5), 3, 0.005, 1.00, 0.997, 0.970),
    "capacity 1000": (1000, noise(0.5), 3, 0.0005, 0.998, 0.996, 0.929),
    "noise .8": (100, noise(0.8), 5, 0.005, 0.33, 0.32, 0.79),
    "noise 1.0": (100, noise(1.0), 5, 0.005, 0.10, 0.09, 0.49),
    "mask .3": (50, mask(0.3), 5, 0.005, 1.0, 1.0, 0.98),
    "mask .5": (50, mask(0.5), 5, 0.005, 0.67, 0.85, 0.92),
    "mask .7": (50, mask(0.7), 5, 0.005, 0.22, 0.20, 0.56),
}


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan", "dot"])
@pytest.mark.parametrize("cell", TABLE)
def test_mnist_cells_are_those_of_an_independent_run(images: torch.Tensor, cell: str, similarity: str) -> None:
    """Tolerance: Student's t, 99.9 %, for the difference of two means of blocks, the scatter between blocks being at least binomial."""
    num_patterns, corrupt, blocks, rounding, *printed = TABLE[cell]
    measured = printed[["euclidean", "manhattan", "dot"].index(similarity)]
    scores = block_scores(images, similarity, num_patterns, corrupt, blocks=len(images) // num_patterns)
    ours = scores.mean().item()
    scatter = max(scores.var().item(), ours * (1 - ours) / num_patterns)
    reach = t.ppf(0.9995, len(scores) - 1) * math.sqrt(scatter * (1 / len(scores) + 1 / blocks))
    assert abs(ours - measured) <= reach + rounding


def test_no_similarity_is_best_in_every_regime(images: torch.Tensor) -> None:
    """Against Fig. 4's "Manhattan is best": it wins at sigma = .5, N = 500, and dot at sigma = .8, N = 100, by over 3 standard errors."""
    for num_patterns, sigma, better, worse in ((500, 0.5, "manhattan", "dot"), (100, 0.8, "dot", "manhattan")):
        scores = [block_scores(images, similarity, num_patterns, noise(sigma), 5) for similarity in (better, worse)]
        gain = scores[0] - scores[1]
        assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5


def test_without_dividing_by_their_sums_the_brightest_image_wins(images: torch.Tensor) -> None:
    """The trap in "dot": |x + noise| lights all pixels, so with plain products fewer than a third is right at N = 100, sigma = .5."""
    assert block_scores(images, "raw dot", 100, noise(0.5), 20).mean() < 1 / 3
