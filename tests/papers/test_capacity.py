"""Capacities through the laboratory's own runs: Amit et al. 1985, Krotov & Hopfield 2016, Storkey 1999, Personnaz 1985, Tamamori 2025.

Protocol: that of `ammon run capacity`. Networks are the independent units; intervals are Wilson's with the design effect of networks.
"""

import math
from typing import Any

import pytest

import ammon as am
from ammon.analysis.statistics import growth
from ammon.experiments.base import Grid


def rows(memory: str, grid: Grid, trials: int, seed: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = am.experiments.capacity.run(grid, memories=[memory], trials=trials, seed=seed, workers=1).to_pylist()
    return found


def criticals(found: list[dict[str, Any]]) -> dict[int, tuple[float, float, float]]:
    """K_c and its ends, by size."""
    return {row["dim"]: (row["critical"], row["critical_low"], row["critical_high"]) for row in found}


def extrapolated(loads: dict[int, float], power: float) -> float:
    """The load at D → ∞ of a straight line over D^-power."""
    across = {dim: dim**-power for dim in loads}
    mean_x, mean_y = sum(across.values()) / len(across), sum(loads.values()) / len(loads)
    slope = sum((across[dim] - mean_x) * (loads[dim] - mean_y) for dim in loads) / sum((x - mean_x) ** 2 for x in across.values())
    return mean_y - slope * mean_x


HEBB = [
    pytest.param((250, 500, 1000), 20, id="up to 1000"),
    pytest.param((1000, 2000, 4000), 10, id="from 1000", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("dims", "trials"), HEBB)
def test_hebbs_critical_load_extrapolates_to_0138_by_overlap(dims: tuple[int, ...], trials: int) -> None:
    """Amit, Gutfreund & Sompolinsky 1985: .138. Start at the pattern, settle unit by unit, overlap at least .9 in half of the cues.

    The transition is rounded: K_c/D falls with D. The load is read off a straight line over D^(-1/2), the size of fluctuations between
    networks, and over D^(-2/3), by which noise of that size shifts a saddle-node bifurcation. Both must lie within the .01 asked for.
    """
    found = criticals(rows("hopfield", {"dim": dims, "flips": (0.0,), "cues": (20,)}, trials))
    loads = {dim: value / dim for dim, (value, _, _) in found.items()}
    assert sorted(loads.values(), reverse=True) == [loads[dim] for dim in dims]
    for power in (1 / 2, 2 / 3):
        assert abs(extrapolated(loads, power) - 0.138) <= 0.01


CUBIC = [pytest.param((50, 71, 100), id="up to 100"), pytest.param((50, 71, 100, 141), id="up to 141", marks=pytest.mark.slow)]


@pytest.mark.parametrize("dims", CUBIC)
def test_a_dense_memory_of_power_3_grows_as_the_square_of_its_size(dims: tuple[int, ...]) -> None:
    """Krotov & Hopfield 2016: K_max = α D^(n-1) at a given error. Overlap at least .9 in half of the cues, from the pattern itself.

    Below 50 units the growth is slower, an exponent of 1.76 from 28 to 57.
    """
    found = criticals(rows("dense", {"dim": dims, "flips": (0.0,), "n": (3,)}, 10))
    law = growth(list(found), [value for value, _, _ in found.values()], "power")
    assert abs(law.exponent.value - 2) <= 0.15


def agrees(row: dict[str, Any], rate: float, cues: int) -> bool:
    """Whether a rate, measured once on so many cues, is another measurement of the same. Normal approximation, p > .001, both uncertain."""
    ours = (row["rate_high"] - row["rate_low"]) / 2 / 1.96
    # the other rate as if one cue of each kind had come on top, so that 0 and 1 are uncertain too
    theirs = (rate * cues + 1) / (cues + 2)
    return abs(row["rate"] - rate) <= 3.29 * math.sqrt(ours**2 + theirs * (1 - theirs) / cues)


# load and flips: exact recall in an independent plain run at D = 200 (numpy), all patterns of one draw
STORKEY = {(0.2, 0.0): 1.0, (0.2, 0.1): 1.0, (0.3, 0.0): 1.0, (0.3, 0.1): 0.98}


def test_storkeys_rule_holds_300_patterns_in_1000_units_and_half_as_many_more_no_longer() -> None:
    """Storkey & Valabregue 1999: D/sqrt(2 ln D) = .307 D at D = 200."""
    grid: Grid = {"dim": (200,), "load": (0.2, 0.3, 0.5), "flips": (0.0, 0.1), "criterion": ("exact",), "cues": (20,)}
    found = {(row["load"], row["flips"]): row for row in rows("storkey", grid, 8)}
    for place, rate in STORKEY.items():
        assert agrees(found[place], rate, round(200 * place[0])), place
    assert found[0.5, 0.0]["rate_high"] < 0.7
    assert found[0.5, 0.1]["rate_high"] < 0.4


def test_the_pseudo_inverse_holds_as_many_patterns_as_are_independent() -> None:
    """Personnaz et al. 1985: D - 1 without self-connections. At K = D the weights are the identity, so only the own vote is left."""
    found = rows("pseudo_inverse", {"dim": (40,), "flips": (0.0,), "criterion": ("exact",), "cues": (40,), "resolution": (1e-4,)}, 5)
    by_count = {row["patterns"]: row["rate"] for row in found}
    assert by_count[40] < 0.1
    assert all(rate == 1 for count, rate in by_count.items() if count < 38)
    assert 37 < found[0]["critical"] < 40


# N = 50, γ = .1: load, flips, and exact recall in an independent run, 200 patterns of one draw
KERNEL = {
    "kernel_logistic": {(2, 0.3): 0.74, (4, 0.3): 0.56, (8, 0.3): 0.23, (16, 0.2): 0.97, (30, 0.2): 0.28, (16, 0.1): 1.0, (16, 0.3): 0.0},
    "kernel_ridge": {(2, 0.3): 0.72, (4, 0.3): 0.51, (8, 0.3): 0.23, (16, 0.2): 0.96, (30, 0.2): 0.26, (16, 0.1): 1.0, (16, 0.3): 0.01},
}


@pytest.mark.parametrize("memory", KERNEL)
def test_kernel_memories_recall_at_stated_noise_as_an_independent_run(memory: str) -> None:
    """Tamamori 2025: D = 50, γ = .1, λ = .01, exact recall within 30 synchronous steps. Without noise every load is stored."""
    grid: Grid = {
        "dim": (50,),
        "load": (2, 4, 8, 16, 30),
        "flips": (0.0, 0.1, 0.2, 0.3),
        "criterion": ("exact",),
        "gamma": (0.1,),
        "cues": (20,),
    }
    found = {(row["load"], row["flips"]): row for row in rows(memory, grid, 8)}
    assert all(found[load, 0.0]["rate"] == 1 for load in (2, 4, 8, 16, 30))
    for place, rate in KERNEL[memory].items():
        assert agrees(found[place], rate, 100 if place[0] == 2 else 200), place
