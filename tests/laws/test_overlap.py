"""Laws of the relative error and of the energy along a recall."""

import inspect
import math

import pytest
import torch

from ammon.analysis.lyapunov import energies, never_rose
from ammon.analysis.overlap import exact, overlap, relative_error
from ammon.catalog import hopfield, minerva2, modern_hopfield
from ammon.dynamics.settle import Recall
from ammon.parts.patterns import random_patterns


def rows(num: int, dim: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def test_relative_error_is_the_distance_at_the_best_scale() -> None:
    state, target = rows(14, 7)[:7], rows(14, 7)[7:]
    scales = torch.linspace(0, 5, 50_001, dtype=torch.float64)
    distances = torch.linalg.vector_norm(scales[:, None, None] * state - target, dim=-1) / torch.linalg.vector_norm(target, dim=-1)
    torch.testing.assert_close(relative_error(state, target), distances.amin(0), atol=1e-6, rtol=0)


def test_relative_error_does_not_change_with_a_positive_factor() -> None:
    state, target = rows(10, 9)[:5], rows(10, 9)[5:]
    for factor in (1e-200, 1e-3, 7.0, 1e200):
        torch.testing.assert_close(relative_error(factor * state, target), relative_error(state, target))


def test_relative_error_of_the_opposite_is_one() -> None:
    target = rows(4, 5)
    assert relative_error(-target, target).tolist() == [1.0] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_relative_errors_keep_their_digits(dtype: torch.dtype) -> None:
    target = torch.zeros(1, 50, dtype=dtype)
    target[0, 0] = 1
    away = torch.zeros_like(target)
    away[0, 1] = 1e-5
    # 1 - cos² is 1e-10 here, which float32 would round to 0
    assert relative_error(target + away, target).item() == pytest.approx(1e-5, rel=1e-4)


def test_one_wrong_sign_among_d_gives_two_over_root_d() -> None:
    for dim in (64, 1000):
        target = torch.ones(1, dim)
        state = target.clone()
        state[0, 3] = -1
        cosine = 1 - 2 / dim
        assert relative_error(state, target).item() == pytest.approx(math.sqrt(1 - cosine**2), rel=1e-5)
        assert overlap(state, target).item() == pytest.approx(cosine, rel=1e-6)
        assert not exact(state, target).item()


def test_nothing_recalled_is_an_error_of_one_and_never_nan() -> None:
    target = torch.tensor([[1.0, 2.0]] * 4 + [[0.0, 0.0]] * 2)
    state = torch.tensor([[0.0, 0.0], [torch.nan, 1.0], [torch.inf, 1.0], [2.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(relative_error(state, target), torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 1.0]))
    assert exact(state, target).tolist() == [False, False, False, True, True, False]
    torch.testing.assert_close(overlap(state, target), torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0]))


def test_half_precision_is_judged_in_float32() -> None:
    target = rows(3, 200, torch.bfloat16)
    assert relative_error(target, target).dtype == torch.float32
    assert exact(target, target, tolerance=1e-6).all()


def test_relative_error_refuses_what_does_not_match() -> None:
    # undecorated: the tests check shape annotations before the function gets to say what is wrong
    with pytest.raises(ValueError, match="of one shape"):
        inspect.unwrap(relative_error)(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="target holds NaN"):
        relative_error(torch.ones(1, 2), torch.tensor([[torch.nan, 1.0]]))


def test_energies_are_those_of_the_trajectory() -> None:
    memory = modern_hopfield(16, beta=4.0)
    memory.write(rows(5, 16, torch.float32))
    found = memory.recall(rows(3, 16, torch.float32) + 0.3, keep=True)
    trace = energies(memory, found)
    assert trace is not None
    assert found.trajectory is not None
    assert trace.shape == found.trajectory.shape[:2]
    for step, state in enumerate(found.trajectory):
        torch.testing.assert_close(trace[step], memory.energy(state))


def test_the_energy_of_hopfield_never_rises_and_its_reverse_does() -> None:
    generator = torch.Generator().manual_seed(1)
    memory = hopfield(60)
    memory.write(random_patterns(8, 60, generator=generator))
    trace = energies(memory, memory.recall(random_patterns(10, 60, generator=generator), keep=True))
    assert trace is not None
    assert never_rose(trace)
    assert not never_rose(trace.flip(0))


def test_a_memory_without_an_energy_has_no_energies() -> None:
    memory = minerva2(6)
    memory.write(torch.ones(2, 6))
    assert energies(memory, memory.recall(torch.ones(1, 6), keep=True)) is None


def test_energies_need_a_trajectory() -> None:
    memory = minerva2(6)
    memory.write(torch.ones(2, 6))
    found: Recall = memory.recall(torch.ones(1, 6))
    with pytest.raises(ValueError, match="keep=True"):
        energies(memory, found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_never_rose_forgives_rounding_and_nothing_more(dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    assert never_rose(torch.tensor([[-100.0], [-100.0 * (1 - eps)]], dtype=dtype))
    assert not never_rose(torch.tensor([[-100.0], [-100.0 * (1 - 2 * eps**0.75)]], dtype=dtype))


def test_one_item_that_rises_is_enough() -> None:
    assert not never_rose(torch.tensor([[0.0, -1.0], [-1.0, -0.9]]))


def test_rounding_of_terms_that_cancel_is_forgiven_only_with_their_scale() -> None:
    near_zero = torch.tensor([[0.0], [1e-6]])
    assert not never_rose(near_zero)
    assert never_rose(near_zero, scale=10.0)


def test_infinite_and_missing_energies_are_judged() -> None:
    inf, nan = torch.inf, torch.nan
    assert never_rose(torch.tensor([[inf, inf], [inf, 3.0]]))
    assert not never_rose(torch.tensor([[3.0], [inf]]))
    assert not never_rose(torch.tensor([[nan], [1.0]]))
