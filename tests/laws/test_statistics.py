"""Intervals, critical counts, laws of growth, and criteria of recall, against their definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student_t

from ammon.analysis.criteria import CRITERIA, meaning, recalled
from ammon.analysis.critical import critical
from ammon.analysis.statistics import Interval, growth, student, wilson


@given(st.integers(0, 50), st.integers(1, 50))
def test_one_group_has_wilsons_interval(right: int, more: int) -> None:
    asked = right + more
    ours, theirs = wilson([right], [asked]), binomtest(right, asked).proportion_ci(method="wilson")
    assert ours == pytest.approx((right / asked, theirs.low, theirs.high), abs=1e-12)


def test_groups_that_vary_as_independent_items_do_count_fully_and_identical_items_once() -> None:
    alike = wilson([5] * 10, [10] * 10)
    assert alike == pytest.approx(wilson([50], [100]))
    # ten groups of ten copies of one item each are ten items; the variance over groups is that of a sample
    copies = wilson([10] * 5 + [0] * 5, [10] * 10)
    items = wilson([5], [10 * 0.9])  # type: ignore[list-item]
    assert copies == pytest.approx(wilson([50], [100]), abs=0.3)
    assert (copies.high - copies.low) > 2.8 * (alike.high - alike.low)
    assert items.low < items.value


def test_95_percent_of_the_intervals_of_clustered_items_hold_the_true_rate() -> None:
    """20 groups of 10 items whose chance differs from group to group.

    Tolerance: the 99.9 % interval of 400 draws, and 2 % since 20 groups are few.
    """
    generator, held = torch.Generator().manual_seed(0), 0
    for _ in range(400):
        chance = torch.where(torch.rand(20, generator=generator) < 0.5, 0.3, 0.9)
        right = (torch.rand(20, 10, generator=generator) < chance.unsqueeze(-1)).sum(-1).tolist()
        _, low, high = wilson(right, [10] * 20)
        held += low <= 0.6 <= high
    assert held / 400 >= 0.95 - norm.isf(0.0005) * math.sqrt(0.95 * 0.05 / 400) - 0.02


def test_nothing_asked_has_no_rate_and_more_right_than_asked_is_refused() -> None:
    assert all(math.isnan(number) for number in wilson([], []))
    with pytest.raises(ValueError, match="none larger"):
        wilson([3], [2])


def test_a_mean_has_students_interval() -> None:
    values = [1.0, 2.0, 4.0]
    found = student(values)
    low, high = student_t.interval(0.95, 2, loc=7 / 3, scale=torch.tensor(values).double().std().item() / math.sqrt(3))
    assert found == pytest.approx((7 / 3, low, high))
    assert math.isnan(student([1.0]).low)


def test_laws_of_growth_are_found_and_say_how_sure_they_are() -> None:
    dims = [10.0, 20.0, 40.0, 80.0]
    power = growth(dims, [0.05 * dim**2 for dim in dims], "power")
    assert power.exponent == pytest.approx((2, 2, 2))
    assert power(100) == pytest.approx(500)
    exponential = growth(dims, [3 * math.exp(0.35 * dim) for dim in dims], "exponential")
    assert exponential.exponent.value == pytest.approx(0.35)
    assert exponential.factor == pytest.approx(3)
    assert growth(dims, [dim**2 for dim in dims], "exponential").residual > 0.1
    assert math.isnan(growth([1.0, 2.0], [1.0, 2.0], "power").exponent.low)
    with pytest.raises(ValueError, match="positive"):
        growth([1.0, 2.0], [0.0, 2.0], "power")


@pytest.mark.parametrize("start", [1, 7, 60, 500])
@pytest.mark.parametrize("edge", [2.5, 37.4, 300.2])
def test_bisection_finds_the_edge_of_a_sharp_rate_from_anywhere(edge: float, start: int) -> None:
    def probe(count: int) -> Interval:
        return wilson([100 if count < edge else 0], [100])

    found = critical(probe, start, 1000, resolution=1e-9)
    assert (found.low, found.high) == (math.floor(edge), math.floor(edge) + 1)
    assert found.low <= found.value <= found.high
    assert len(found.probed) < 25


def test_bisection_says_between_which_counts_a_noisy_rate_leaves_no_doubt() -> None:
    generator = torch.Generator().manual_seed(0)

    def probe(count: int) -> Interval:
        chance = 1 / (1 + math.exp((count - 80) / 6))
        return wilson([int((torch.rand(200, generator=generator) < chance).sum())], [200])

    found = critical(probe, 10, 1000)
    assert found.low < 80 < found.high
    assert abs(found.value - 80) < 5
    assert all(found.probed[count].low > 0.5 for count in found.probed if count <= found.low)
    assert all(found.probed[count].high < 0.5 for count in found.probed if count >= found.high)


def test_a_rate_that_never_crosses_has_no_critical_count() -> None:
    always = critical(lambda count: wilson([10], [10]), 5, 64)
    assert math.isnan(always.value)
    assert always.low == 64
    never = critical(lambda count: wilson([0], [10]), 5, 64)
    assert math.isnan(never.value)
    assert never.high == 1


def test_criteria_are_what_they_say() -> None:
    target = torch.ones(4, 100)
    wrong = torch.tensor([0, 1, 2, 6])
    state = torch.where(torch.arange(100) < wrong.unsqueeze(-1), -1.0, 1.0)
    assert recalled(state, target, "exact").tolist() == [True, False, False, False]
    # at most .01 of 100 entries
    assert recalled(state * torch.tensor([1.0, -1.0]).repeat(50), target * torch.tensor([1.0, -1.0]).repeat(50), "bits").tolist() == [
        True,
        True,
        False,
        False,
    ]
    # m = 1 - 2 wrong/D
    assert recalled(state, target, "overlap").tolist() == [True, True, True, False]
    assert recalled(state, target, "overlap", 0.87).tolist() == [True] * 4
    # |x - ξ|²/|ξ|² = 4 wrong/D
    assert recalled(state, target, "squared", 0.081).tolist() == [True, True, True, False]
    assert all(meaning(name) for name in CRITERIA)
    sparse = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    assert recalled(sparse, sparse, "bits", 0.0).tolist() == [True]
    assert recalled(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), sparse, "bits", 0.2).tolist() == [False]
