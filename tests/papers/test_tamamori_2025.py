"""Tamamori 2025 (arXiv 2504.07633, 2504.12561, 2505.01218, 2605.05978): Hopfield networks by kernel logistic and kernel ridge regression.

The cells are those of an independent run: random ±1 patterns, float64, λ = .01, logistic by an exact solver (residual below 1e-5), ridge
by Cholesky; the fraction of up to 200 patterns that come back without an error after at most 30 synchronous steps from 0, 10, 20 and 30 %
flipped entries. Each cell is one draw there and one here, compared by Fisher's exact test, p > .001.
"""

import math
from functools import cache

import pytest
import torch
from scipy.stats import fisher_exact
from torch import Tensor

import ammon as am
from ammon.learning.kernel import DualRule
from ammon.learning.kernel_logistic import Logistic
from ammon.learning.kernel_ridge import Ridge
from ammon.memories.kernel import KernelMemory
from ammon.parts.corruption import Flip
from ammon.parts.kernels import GaussianKernel, gram

FLIPS = (0.0, 0.1, 0.2, 0.3)
# dim, γ, patterns per entry: logistic, ridge
CELLS = {
    (50, 0.02, 2): ((1, 0.13, 0, 0), (1, 0.20, 0, 0)),
    (50, 0.02, 4): ((1, 0, 0, 0), (1, 0, 0, 0)),
    (50, 0.02, 8): ((1, 0, 0, 0), (1, 0, 0, 0)),
    (50, 0.02, 16): ((1, 0, 0, 0), (1, 0, 0, 0)),
    (50, 0.1, 2): ((1, 1, 1, 0.74), (1, 1, 1, 0.72)),
    (50, 0.1, 4): ((1, 1, 1, 0.56), (1, 1, 1, 0.51)),
    (50, 0.1, 8): ((1, 1, 1, 0.23), (1, 1, 0.99, 0.23)),
    (50, 0.1, 16): ((1, 1, 0.97, 0), (1, 1, 0.96, 0.01)),
    (50, 0.1, 30): ((1, 1, 0.28, 0), (1, 1, 0.26, 0)),
    (100, 0.02, 2): ((1, 1, 1, 0.45), (1, 1, 1, 0.51)),
    (100, 0.02, 8): ((1, 0, 0, 0), (1, 0, 0, 0)),
    (100, 0.02, 16): ((1, 0, 0, 0), (1, 0, 0, 0)),
    (100, 0.1, 8): ((1, 1, 1, 0.97), (1, 1, 1, 1)),
    (100, 0.1, 16): ((1, 1, 1, 0.95), (1, 1, 1, 0.95)),
}
FAST = [(50, 0.02, 2), (50, 0.1, 2), (50, 0.1, 4), (50, 0.1, 8), (100, 0.02, 2), (50, 0.1, 16)]
Cell = tuple[int, float, int]
cells = pytest.mark.parametrize("cell", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CELLS], ids=str)


def _patterns(cell: Cell) -> Tensor:
    dim, _, load = cell
    return am.random_patterns(load * dim, dim, generator=torch.Generator().manual_seed(42), dtype=torch.float64)


def _recalled(cell: Cell, dual: Tensor | None, rule: DualRule | None) -> list[Tensor]:
    """For each fraction of flips, which of the patterns came back."""
    patterns = _patterns(cell)
    memory = KernelMemory(cell[0], GaussianKernel(cell[1]), rule or Ridge())
    memory.write(patterns)
    assert memory.fit is not None
    assert memory.fit.converged
    if dual is not None:
        memory.dual = dual
    generator, some = torch.Generator().manual_seed(1), patterns[:200]
    cues = [Flip(flips)(some, generator=generator) for flips in FLIPS]
    return [(memory.recall(cue, steps=30).state == some).all(-1) for cue in cues]


@cache
def _of_both(cell: Cell) -> tuple[list[Tensor], list[Tensor]]:
    return _recalled(cell, None, Logistic(0.01)), _recalled(cell, None, Ridge(0.01))


@cells
def test_exact_recall_against_load_and_noise_is_that_of_an_independent_run(cell: Cell) -> None:
    """Two rules, four noise levels. Note that recall without noise is 1 everywhere: it measures no capacity."""
    for ours, theirs in zip(_of_both(cell), CELLS[cell], strict=True):
        for found, rate in zip(ours, theirs, strict=True):
            count, right = len(found), int(found.sum())
            printed = round(rate * count)
            assert fisher_exact([[right, count - right], [printed, count - printed]]).pvalue > 0.001


@cells
def test_ridge_recalls_as_logistic_regression_does(cell: Cell) -> None:
    """2504.12561: ridge has about the capacity and the noise tolerance of logistic regression.

    Tolerance: .07, the largest difference in the independent run, and 3.3 standard errors of the patterns on which the two differ.
    """
    for logistic, ridge in zip(*_of_both(cell), strict=True):
        differ = int((logistic != ridge).sum())
        assert abs(int(logistic.sum()) - int(ridge.sum())) <= 0.07 * len(ridge) + 3.3 * math.sqrt(differ)


def _descent(patterns: Tensor, matrix: Tensor, rate: float, epochs: int) -> Tensor:
    """The papers' full-batch gradient descent from 0: α ← α - η K(p - y + λα), the loss a sum over patterns."""
    dual, targets = torch.zeros_like(patterns), (patterns + 1) / 2
    for _ in range(epochs):
        dual = dual - rate * matrix @ (torch.sigmoid(matrix @ dual) - targets + 0.01 * dual)
    return dual


def test_the_papers_descent_does_not_converge_where_its_rate_is_above_the_stable_one() -> None:
    """η = .1, 300 epochs (2609.16827), N = 50, γ = .02, P/N = 16: above 8/λ_max(K)², and nothing is recalled in the independent run."""
    cell = (50, 0.02, 16)
    patterns = _patterns(cell)
    matrix = gram(GaussianKernel(0.02), patterns)
    assert 8 / float(torch.linalg.eigvalsh(matrix)[-1]) ** 2 < 0.1 / 100
    dual = _descent(patterns, matrix, 0.1, 300)
    residual = ((patterns + 1) / 2 - torch.sigmoid(matrix @ dual) - 0.01 * dual).abs().max()
    assert residual > 0.1
    for found in _recalled(cell, dual, None):
        assert not found.any()
    assert _recalled(cell, None, Logistic(0.01))[0].all()


@pytest.mark.parametrize("load", [2, 8])
def test_where_the_descent_is_stable_it_goes_to_the_exact_solution(load: int) -> None:
    """The same descent at γ = .1, long enough: the minimum of a convex loss is one."""
    patterns = _patterns((50, 0.1, load))
    matrix = gram(GaussianKernel(0.1), patterns)
    exact = KernelMemory(50, GaussianKernel(0.1), Logistic(0.01, tolerance=1e-10))
    exact.write(patterns)
    torch.testing.assert_close(_descent(patterns, matrix, 0.5, 2000), exact.dual, rtol=0, atol=1e-3)


def test_asynchronous_recall_ends_where_synchronous_does_and_flips_about_as_many_units_as_are_wrong() -> None:
    """2605.05978 (as summarised): N = 50, P/N = 3, γ = .1, 20 % noise: both orders agree, events are about the initial Hamming distance."""
    patterns = _patterns((50, 0.1, 3))
    cue = Flip(0.2)(patterns, generator=torch.Generator().manual_seed(1))
    at_once = KernelMemory(50, GaussianKernel(0.1), Logistic())
    at_once.write(patterns)
    in_turn = KernelMemory(50, GaussianKernel(0.1), Logistic(), update="asynchronous")
    in_turn.write(patterns)
    found = in_turn.recall(cue, generator=torch.Generator().manual_seed(2), keep=True)
    assert torch.equal(found.state, at_once.recall(cue).state)
    assert (found.state == patterns).all(-1).double().mean() > 0.97
    assert found.trajectory is not None
    events = (found.trajectory[1:] != found.trajectory[:-1]).sum((0, 2)).double()
    wrong = (cue != patterns).sum(-1).double()
    assert 1 <= float(events.mean() / wrong.mean()) < 1.05
