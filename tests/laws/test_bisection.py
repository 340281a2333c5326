"""The one search behind every capacity: it ends around the truth, asks few counts, and says when a side is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ammon.analysis.bisection import bracket


@given(truth=st.integers(0, 5000), start=st.integers(1, 4000), resolution=st.sampled_from([0.0, 0.02, 0.3]))
def test_the_bracket_holds_the_largest_count_that_holds(truth: int, start: int, resolution: float) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count <= truth

    below, above = bracket(holds, start, 4000, resolution=resolution)
    assert below <= min(truth, 4000) < above
    assert above - below <= max(1, resolution * below)
    assert len(asked) == len(set(asked)) <= 40
    assert all(1 <= count <= 4000 for count in asked)
    assert (below == 4000) == (truth >= 4000)
    assert (below == 0) == (truth == 0)


@pytest.mark.parametrize(("start", "most", "least"), [(0, 5, 1), (6, 5, 1), (2, 5, 3), (1, 5, 0)])
def test_bounds_out_of_order_are_refused(start: int, most: int, least: int) -> None:
    with pytest.raises(ValueError, match="1 <= least <= start <= most"):
        bracket(lambda _: True, start, most, least=least)
