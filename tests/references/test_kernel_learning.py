"""Dual rules against their definitions: plain solves, Newton's method unit by unit, and factors made anew."""

import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.learning.kernel import Gram, least_norm
from ammon.learning.kernel_logistic import Logistic
from ammon.learning.kernel_ridge import Ridge, leave_one_out, ridge_path
from ammon.parts.kernels import ExponentialKernel, GaussianKernel, gram


def _patterns(count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return am.random_patterns(count, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# the solvers


@pytest.mark.parametrize(("count", "dim", "gamma"), [(1, 4, 0.1), (37, 20, 0.02), (160, 20, 0.1), (120, 30, 0.001)])
@pytest.mark.parametrize("penalty", [1e-3, 0.01, 1.0, 100.0])
def test_at_the_logistic_solution_the_gradient_is_0_and_alpha_is_the_error_over_lambda(
    count: int, dim: int, gamma: float, penalty: float
) -> None:
    patterns = _patterns(count, dim)
    matrix = gram(GaussianKernel(gamma), patterns)
    dual, fit = Logistic(penalty, tolerance=1e-12).solve(Gram(matrix), patterns)
    assert fit.converged
    targets = (patterns + 1) / 2
    variable = dual.clone().requires_grad_()
    field = matrix @ variable
    loss = torch.nn.functional.binary_cross_entropy_with_logits(field, targets, reduction="sum") + penalty / 2 * (variable * field).sum()
    (gradient,) = torch.autograd.grad(loss, variable)
    assert gradient.abs().max() < 1e-8
    probability = torch.sigmoid(matrix @ dual)
    residual = (targets - probability - penalty * dual).abs().max()
    assert residual <= 1e-12
    assert fit.residual == pytest.approx(float(residual), abs=1e-14)
    torch.testing.assert_close(dual, (targets - probability) / penalty, rtol=0, atol=2e-12 / penalty)


def test_the_logistic_solution_is_that_of_newtons_method_unit_by_unit() -> None:
    patterns, penalty = _patterns(30, 8), 0.01
    matrix = gram(GaussianKernel(0.05), patterns)
    dual, _ = Logistic(penalty, tolerance=1e-13).solve(Gram(matrix), patterns)
    for unit in range(8):
        target, alpha = (patterns[:, unit] + 1) / 2, torch.zeros(30, dtype=torch.float64)
        for _ in range(200):
            p = torch.sigmoid(matrix @ alpha)
            # damped: far from the solution a whole Newton step overshoots
            step = torch.linalg.solve(
                torch.diag(p * (1 - p)) @ matrix + penalty * torch.eye(30, dtype=torch.float64), target - p - penalty * alpha
            )
            alpha = alpha + step * min(1.0, 2.0 / float((matrix @ step).abs().max()))
        torch.testing.assert_close(dual[:, unit], alpha, rtol=1e-9, atol=1e-9)


def test_float32_reaches_its_tolerance_and_says_what_it_reached() -> None:
    patterns = _patterns(400, 50, dtype=torch.float32)
    matrix = gram(GaussianKernel(0.02), patterns)
    dual, fit = Logistic().solve(Gram(matrix), patterns)
    exact = (patterns.double() + 1) / 2 - torch.sigmoid(matrix.double() @ dual.double()) - 0.01 * dual.double()
    assert fit.converged
    assert 1 <= fit.iterations <= 20
    assert float(exact.abs().max()) < 1.5e-5
    # one iteration is not enough, and is not said to be
    stopped = Logistic(iterations=1).solve(Gram(matrix), patterns)[1]
    assert (stopped.iterations, stopped.converged) == (1, False)
    assert stopped.residual > 1e-4


@pytest.mark.parametrize("shape", [(1, 3), (40, 12), (90, 5)])
def test_ridge_is_the_plain_solve(shape: tuple[int, int]) -> None:
    patterns = _patterns(*shape)
    matrix = gram(ExponentialKernel(0.2), patterns)
    dual, fit = Ridge(0.3, tolerance=1e-9).solve(Gram(matrix), patterns)
    plain = torch.linalg.solve(matrix + 0.3 * torch.eye(len(patterns), dtype=torch.float64), patterns)
    torch.testing.assert_close(dual, plain)
    assert fit.converged
    assert fit.residual == pytest.approx(float((patterns - matrix @ dual - 0.3 * dual).abs().max()), abs=1e-14)


def test_one_eigendecomposition_gives_ridge_for_every_lambda() -> None:
    patterns, penalties = _patterns(40, 12), [1e-3, 0.1, 2.0]
    matrix = gram(GaussianKernel(0.03), patterns)
    path = ridge_path(matrix, patterns, penalties)
    for dual, penalty in zip(path, penalties, strict=True):
        torch.testing.assert_close(dual, Ridge(penalty).solve(Gram(matrix), patterns)[0])
    with pytest.raises(ValueError, match="every penalty must be positive"):
        ridge_path(matrix, patterns, [0.1, 0.0])


def test_leaving_one_out_is_refitting_without_it() -> None:
    patterns, penalty = _patterns(15, 6), 0.1
    matrix = gram(GaussianKernel(0.05), patterns)
    left = leave_one_out(matrix, patterns, [penalty])[0]
    for out in range(15):
        others = torch.arange(15) != out
        dual, _ = Ridge(penalty).solve(Gram(matrix[others][:, others]), patterns[others])
        torch.testing.assert_close(left[out], patterns[out] - matrix[out, others] @ dual)


# the factor


@pytest.mark.parametrize("block", [1, 3, 64])
@pytest.mark.parametrize("gone", [[0], [22], [4, 5, 11], list(range(0, 23, 2))])
def test_a_factor_less_some_patterns_is_the_factor_made_anew(gone: list[int], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ammon.learning.kernel.BLOCK", block)
    matrix = gram(GaussianKernel(0.05), _patterns(23, 9))
    whole = Gram(matrix)
    assert whole.factor(0.2)
    held = whole.held
    assert held is not None
    before = held.lower.clone()
    less = held.without(torch.tensor(gone))
    assert torch.equal(held.lower, before)
    if len(gone) > 4 * block:
        assert less is None
        return
    kept = torch.tensor([k for k in range(23) if k not in gone])
    fresh = Gram(matrix[kept][:, kept])
    fresh.factor(0.2)
    assert less is not None
    assert fresh.held is not None
    torch.testing.assert_close(less.lower, fresh.held.lower)


def test_a_factor_that_grows_is_the_factor_made_anew() -> None:
    matrix = gram(GaussianKernel(0.05), _patterns(23, 9))
    first, fresh = Gram(matrix[:10, :10].clone()), Gram(matrix)
    first.factor(0.2)
    fresh.factor(0.2)
    assert first.held is not None
    assert fresh.held is not None
    grown = first.held.grown(matrix[:11, :11])
    assert grown is not None
    grown = grown.grown(matrix)
    assert grown is not None
    torch.testing.assert_close(grown.lower, fresh.held.lower)
    assert grown.grown(matrix) is grown


def test_where_rounding_loses_lambda_ridge_is_the_pseudo_inverse() -> None:
    patterns = _patterns(9, 4)
    matrix = patterns @ patterns.mT
    dual, fit = Ridge(1e-25).solve(Gram(matrix), patterns)
    torch.testing.assert_close(dual, torch.linalg.pinv(matrix) @ patterns)
    torch.testing.assert_close(least_norm(matrix, patterns, 1e-25), dual)
    assert fit.converged
