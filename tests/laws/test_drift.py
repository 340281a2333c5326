"""Laws of the drifting context: its length stays 1, its limits, its closed form, its gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ammon.dynamics.drift import direction, drift, drift_along, fading, retention


def _rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@given(st.floats(0, 1), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_length_of_the_context_stays_1(beta: float, seed: int) -> None:
    context, inputs = direction(_rows(3, 5, seed=seed)), _rows(3, 5, seed=seed + 1)
    torch.testing.assert_close(drift(context, inputs, beta).norm(dim=-1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_length_is_still_1_after_thousands_of_inputs_in_every_dtype(dtype: torch.dtype) -> None:
    contexts = drift_along(direction(_rows(8, dtype=dtype)), _rows(3000, 8, seed=1, dtype=dtype), 0.3)
    assert contexts.dtype == dtype
    # entries are rounded to eps/2 each, and so is the sum
    assert float((contexts.double().norm(dim=-1) - 1).abs().max()) < 8 * torch.finfo(dtype).eps


def test_beta_0_stays_and_beta_1_forgets() -> None:
    context, inputs = direction(_rows(4, 6)), direction(_rows(4, 6, seed=1))
    torch.testing.assert_close(drift(context, inputs, 0.0), context, rtol=0, atol=1e-15)
    inputs = inputs * (context * inputs).sum(-1, keepdim=True).sign()  # towards the side where c·c_in >= 0, ρ is 0
    torch.testing.assert_close(drift(context, inputs, 1.0), inputs, rtol=0, atol=1e-14)


def test_an_input_along_the_context_changes_nothing_and_an_empty_one_neither() -> None:
    context = direction(_rows(4, 6))
    torch.testing.assert_close(drift(context, 3 * context, 0.7), context, rtol=0, atol=1e-15)
    torch.testing.assert_close(drift(context, -3 * context, 0.7), context, rtol=0, atol=1e-15)
    torch.testing.assert_close(drift(context, torch.zeros_like(context), 0.7), context, rtol=0, atol=1e-15)


def test_by_hand_at_3_5ths() -> None:
    # β = 3/5, orthogonal: ρ = 4/5; then c·c_in = 3/5 for the same input: ρ = sqrt(1 - .36 (1 - .36)) - .36
    start, item = torch.eye(2, dtype=torch.float64)
    once = drift(start, item, 0.6)
    torch.testing.assert_close(once, torch.tensor([0.8, 0.6], dtype=torch.float64), rtol=0, atol=1e-15)
    keep = math.sqrt(1 - 0.36 * (1 - 0.36)) - 0.36
    expected = torch.tensor([0.8 * keep, 0.6 * keep + 0.6], dtype=torch.float64)
    torch.testing.assert_close(drift(once, item, 0.6), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_orthonormal_inputs_fade_in_closed_form(beta: float) -> None:
    units = torch.eye(7, dtype=torch.float64)
    contexts = drift_along(units[0], units[1:], beta)
    rates = torch.tensor(beta, dtype=torch.float64)
    keep = retention(torch.zeros((), dtype=torch.float64), rates)
    closed = torch.cat([keep ** torch.arange(1, 7).unsqueeze(-1), beta * fading(rates, 6)], -1)
    torch.testing.assert_close(contexts, closed, rtol=0, atol=1e-14)


@pytest.mark.parametrize("beta", [0.2, 0.9])
def test_the_gradient_is_that_of_finite_differences(beta: float) -> None:
    context, inputs = direction(_rows(2, 4)).requires_grad_(), direction(_rows(2, 4, seed=1)).requires_grad_()
    rate = torch.full((2,), beta, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(drift, (context, inputs, rate))


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_gradients_are_finite_at_the_ends(beta: float) -> None:
    context, inputs = torch.eye(3, dtype=torch.float64)[:2].clone().requires_grad_()
    rate = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    drift(context, inputs, rate).sum().backward()
    assert rate.grad is not None
    assert torch.isfinite(rate.grad)
    blank = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    drift(torch.eye(3, dtype=torch.float64)[0], blank, rate).sum().backward()
    assert blank.grad is not None
    assert torch.isfinite(blank.grad).all()


def test_each_row_has_its_own_beta() -> None:
    context, inputs = direction(_rows(3, 5)), _rows(3, 5, seed=1)
    rates = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    together = drift(context, inputs, rates)
    for row in range(3):
        torch.testing.assert_close(together[row], drift(context[row], inputs[row], float(rates[row])), rtol=0, atol=1e-15)
