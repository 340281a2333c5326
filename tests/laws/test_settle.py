"""Laws of settling: items stop alone, cycles are told, known entries stay, and three ways to differentiate agree."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ammon.dynamics.implicit import gmres
from ammon.dynamics.settle import settle
from ammon.parts.retrieve import retrieve
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot, Euclidean


def _towards(target: Tensor, rate: Tensor) -> object:
    return lambda x, rows: x + rate[rows].unsqueeze(-1) * (target - x)


def test_each_item_stops_by_itself_and_is_left_alone_from_then_on() -> None:
    target, cue = torch.ones(3), torch.zeros(4, 3)
    rate = torch.tensor([1.0, 0.5, 0.9, 0.0])
    found = settle(_towards(target, rate), cue, steps=100, tolerance=1e-3, keep=True)
    assert found.steps.tolist() == [2, 10, 4, 1]
    assert found.converged.all()
    for item in range(4):
        alone = settle(_towards(target, rate[item : item + 1]), cue[item : item + 1], steps=100, tolerance=1e-3)
        assert torch.equal(alone.state[0], found.state[item])
        assert (found.trajectory[found.steps[item] :, item] == found.state[item]).all()


def test_the_record_counts_steps_and_says_what_did_not_converge() -> None:
    found = settle(lambda x, rows: x + 1, torch.zeros(2, 3), steps=5, keep=True)
    assert found.steps.tolist() == [5, 5]
    assert not found.converged.any()
    assert not found.cycled.any()
    assert found.trajectory.shape == (6, 2, 3)
    assert settle(lambda x, rows: x + 1, torch.zeros(2, 3), steps=5).trajectory is None


def test_a_2_cycle_is_told_and_stops_only_its_own_item() -> None:
    cue = torch.tensor([[1.0, -1.0], [8.0, 8.0]])
    found = settle(lambda x, rows: torch.where(rows.unsqueeze(-1) == 0, -x, x / 2), cue, steps=50)
    assert found.cycled.tolist() == [True, False]
    assert found.converged.tolist() == [False, True]
    assert found.steps[0] == 2


def test_known_entries_stay_as_in_the_cue() -> None:
    cue = torch.randn(3, 4)
    clamp = torch.rand(3, 4) < 0.5
    found = settle(lambda x, rows: torch.zeros_like(x), cue, steps=9, clamp=clamp)
    torch.testing.assert_close(found.state, torch.where(clamp, cue, torch.zeros_like(cue)))


def test_recall_changes_neither_the_cue_nor_the_order_of_rows() -> None:
    cue = torch.randn(5, 3)
    before = cue.clone()
    settle(_towards(torch.ones(3), torch.rand(5)), cue, steps=7)
    assert torch.equal(cue, before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"tolerance": float("nan")}, "tolerance must be"),
        ({"clamp": torch.ones(2, 2, dtype=torch.bool)}, "clamp must be a bool tensor"),
        ({"clamp": torch.ones(2, 3)}, "clamp must be a bool tensor"),
        ({"differentiate": "backprop"}, "differentiate must be"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settle(lambda x, rows: x, torch.zeros(2, 3), **{"steps": 3, **wrong})  # type: ignore[arg-type]


@given(seed=st.integers(0, 10_000), patterns=st.integers(2, 9), dim=st.integers(1, 8), clamped=st.booleans())
@settings(max_examples=40, deadline=None)
def test_gradients_unrolled_truncated_and_implicit_agree_at_the_fixed_point(seed: int, patterns: int, dim: int, clamped: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys0 = torch.randn(patterns, dim, dtype=torch.float64, generator=generator)
    cue0 = torch.randn(3, dim, dtype=torch.float64, generator=generator)
    clamp = (torch.rand(3, dim, generator=generator) < 0.4) if clamped else None
    towards = torch.randn(3, dim, dtype=torch.float64, generator=generator)
    gradients, states = {}, {}
    for way in ("unroll", "truncated", "implicit"):
        keys, cue = keys0.clone().requires_grad_(), cue0.clone().requires_grad_()
        separation = Softmax(0.5, learnable=True).double()
        # 0.5 is below the transition at which patterns of this size get minima of their own, so J is well inside the unit circle
        update = lambda x, rows: retrieve(x, 0.7 * keys, 0.7 * keys, Dot(), separation)  # noqa: B023, E731
        found = settle(update, cue, steps=2000, tolerance=1e-15, clamp=clamp, differentiate=way)  # type: ignore[arg-type]
        assert found.converged.all()
        (found.state * towards).sum().backward()
        gradients[way], states[way] = (keys.grad, cue.grad, separation.beta.grad), found.state.detach()
    torch.testing.assert_close(states["unroll"], states["implicit"], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(states["unroll"], states["truncated"], rtol=1e-10, atol=1e-12)
    for unrolled, implicit in zip(gradients["unroll"], gradients["implicit"], strict=True):
        torch.testing.assert_close(implicit if implicit is not None else torch.zeros_like(unrolled), unrolled, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("way", ["unroll", "truncated", "implicit"])
def test_the_last_step_may_read_instead_of_updating(way: str) -> None:
    cue = torch.ones(3, 2, requires_grad=True)
    halve, read = (lambda x, rows: x / 2), (lambda x: torch.cat([x, -x], -1))
    for steps in (1, 2, 5):
        found = settle(halve, cue, read=read, steps=steps, tolerance=0.0, keep=True, differentiate="unroll")
        torch.testing.assert_close(found.state, torch.full((3, 4), 0.5 ** (steps - 1)) * torch.tensor([1.0, 1, -1, -1]))
        assert found.steps.tolist() == [steps] * 3
        assert found.trajectory.shape == (steps, 3, 2)
    one = settle(halve, cue, read=read, steps=1, differentiate=way)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.autograd.grad(one.state[:, :2].sum(), cue)[0], torch.ones(3, 2))


def test_a_truncated_gradient_is_that_of_the_last_step() -> None:
    keys = torch.randn(5, 3, dtype=torch.float64).requires_grad_()
    cue = torch.randn(2, 3, dtype=torch.float64)
    update = lambda x, rows: retrieve(x, keys, keys, Euclidean(), Softmax(2.0))  # noqa: E731
    found = settle(update, cue, steps=4, tolerance=0.0, differentiate="truncated")
    with torch.no_grad():
        before_last = settle(update, cue, steps=3, tolerance=0.0).state
    last = update(before_last, None)
    torch.testing.assert_close(found.state, last)
    for a, b in zip(torch.autograd.grad(found.state.sum(), keys), torch.autograd.grad(last.sum(), keys), strict=True):
        torch.testing.assert_close(a, b)


def test_an_implicit_gradient_where_nothing_converged_is_warned_of() -> None:
    weights = torch.tensor(2.0, requires_grad=True)
    with pytest.warns(UserWarning, match="did not converge"):
        settle(lambda x, rows: weights * x + 1, torch.ones(2, 3), steps=3, differentiate="implicit")


def test_an_unstable_fixed_point_is_warned_of_in_the_backward_pass() -> None:
    weight = torch.tensor(1.0, requires_grad=True)
    found = settle(lambda x, rows: weight * x, torch.ones(2, 3), steps=3, differentiate="implicit")
    with pytest.warns(UserWarning, match="nearly unstable"):
        found.state.sum().backward()


def test_the_linear_solver_takes_gradients_whose_squares_vanish() -> None:
    matrix = torch.eye(6) + 0.2 * torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    target = torch.rand(3, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1e-30], [1.0], [1e30]])
    solution, _ = gmres(lambda v: torch.einsum("bij,bj->bi", matrix, v), target, 64)
    truth = torch.linalg.solve(matrix.double(), target.double())
    torch.testing.assert_close((solution.double() / truth), torch.ones_like(truth), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dim", [1, 2, 5, 30])
def test_the_linear_solver_equals_a_direct_solve_for_each_item(dim: int) -> None:
    generator = torch.Generator().manual_seed(dim)
    matrix = torch.eye(dim, dtype=torch.float64) + 0.3 * torch.randn(4, dim, dim, dtype=torch.float64, generator=generator) / dim**0.5
    # one item for which the answer is 0 and one that needs a single direction
    target = torch.randn(4, dim, dtype=torch.float64, generator=generator)
    target[1] = 0
    matrix[2] = torch.eye(dim, dtype=torch.float64)
    solution, residual = gmres(lambda v: torch.einsum("bij,bj->bi", matrix, v), target, 64)
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, target))
    assert residual.max() < 1e-10
