"""New minima and boundaries between attractors through the laboratory's own runs.

Hoover et al. 2025 (arXiv 2506.10801), LMIN0; Tamamori 2026, morphing (arXiv 2605.00366) and phase diagram (2609.16827); Pham et al. 2025.
"""

import math
from typing import Any

import pytest
import torch
from scipy.special import i0

import ammon as am
from ammon.experiments.base import Grid
from ammon.experiments.emergence import betas, divide, find, means
from ammon.experiments.energy_landscape import arrange, planar_memory


def rows(name: str, grid: Grid, trials: int, memory: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = getattr(am.experiments, name).run(grid, memories=[memory], trials=trials, workers=1).to_pylist()
    return found


def test_up_to_13_new_minima_of_5_patterns_in_8_dimensions() -> None:
    """Their draw of seed 0, 50 log-spaced β, all subsets: an independent run counts 13, exactly."""
    patterns = torch.rand(5, 8, generator=torch.Generator().manual_seed(0)).double()
    counts = []
    for beta in betas(patterns, 50):
        kept, new = divide(find("log_sum_relu", patterns, beta, means(patterns)), patterns)
        counts.append((len(new), int(kept.sum())))
    assert max(new for new, _ in counts) == 13
    assert (counts[0], counts[-1]) == ((1, 0), (0, 5))


def test_log_sum_relu_keeps_all_patterns_beside_new_minima_and_log_sum_exp_never_does() -> None:
    """d = 8, M = 5 through `run`: global emergence in every draw at some β; by proposition 1 in none for log-sum-exp. Counts are exact."""
    grid: Grid = {"data": ("uniform",), "betas": (13,)}
    relu, smooth = (rows("emergence", grid, 2, memory) for memory in ("log_sum_relu", "diffusion"))
    assert (relu[0]["new"], relu[0]["kept"]) == (1, 0)
    assert relu[-1]["kept"] == 5
    assert max(row["emergent"] for row in relu) == 1
    # kept once, kept for ever
    kept = [row["kept"] for row in relu]
    assert kept == sorted(kept)
    assert all(row["emergent"] == 0 for row in smooth)
    # 31 means of subsets are all there can be; less the 5 patterns
    assert 5 <= max(row["most_new"] for row in relu) <= 26


def test_the_boundary_between_two_patterns_sharpens_as_the_network_grows() -> None:
    """Load .08, 10 draws of 20 pairs, paths of 61 states: its spread, D = 100 against 400; Student's 95 % intervals apart.

    Crosstalk moves the boundary by some sqrt(K)/D, so it should halve; at the load of .05 it falls to .57 from D = 200 to 800.
    """
    grid: Grid = {"dim": (100, 400), "load": (0.08,), "pairs": (20,), "places": (61,)}
    found = {row["dim"]: row for row in rows("morphing", grid, 10, "hopfield")}
    assert found[400]["spread_high"] < found[100]["spread_low"]
    assert 1 / 3 < found[400]["spread"] / found[100]["spread"] < 3 / 4


def test_recall_slows_down_at_the_boundary_and_more_so_near_the_capacity() -> None:
    """Critical slowing down: steps at the middle of the path against its ends, and at load .1 against .02; 95 % intervals apart."""
    grid: Grid = {"dim": (200,), "load": (0.02, 0.1), "pairs": (20,), "places": (11,)}
    found = {(row["load"], round(row["position"], 1)): row for row in rows("morphing", grid, 6, "hopfield")}
    assert found[0.1, 0.5]["steps_low"] > found[0.1, 0.1]["steps_high"]
    assert found[0.1, 0.5]["steps_low"] > found[0.02, 0.5]["steps_high"]
    assert found[0.1, 0.5]["second"] < 0.5 < found[0.1, 0.9]["second"]


def test_the_phase_diagram_of_kernel_memories_has_the_cells_of_an_independent_run() -> None:
    """N = 50, P/N = 2, 20 % flipped: nothing recalled at γ = .02, all at γ = .1; the Hessian is nearly of rank 1 for γ << 1/N."""
    grid: Grid = {"load": (2.0,), "gamma": (1e-4, 0.02, 0.1), "cues": (100,)}
    collapsed, ridge, local = rows("ridge", grid, 1, "kernel_logistic")
    assert collapsed["concentration"] > 0.99 > 0.1 > local["concentration"]
    assert (ridge["recalled"], local["recalled"]) == (0, 1)
    assert max(row["residual"] for row in (collapsed, ridge, local)) < 1e-5


def test_the_largest_curvature_of_exact_fits_falls_with_gamma_and_has_no_ridge() -> None:
    """Against 2609.16827, where λ₁ of G has a local maximum near γ = .02, P/N = 2: at the exact minimum, λ = .01, it only falls."""
    grid: Grid = {"load": (2.0,), "gamma": ("1e-4:0.2:12:log",), "cues": (1,)}
    curvatures = [row["curvature"] for row in rows("ridge", grid, 1, "kernel_logistic")]
    assert curvatures == sorted(curvatures, reverse=True)


@pytest.mark.parametrize("beta", [2.0, 10.0])
def test_the_energy_of_many_patterns_on_a_circle_is_that_of_the_limit(beta: float) -> None:
    """Pham et al. 2025: E = R² + 1 - log I₀(2βR)/β for K → ∞ on the unit circle. Theirs has β d², ours β d²/2: β is doubled, E halved."""
    memory = planar_memory({"memory": "diffusion", "beta": 2 * beta})
    patterns = arrange("regular", 200, torch.Generator())
    memory.write(patterns)
    radius = torch.tensor([0.0, 0.3, 1.0, 1.4], dtype=torch.float64)
    states = torch.stack([radius * math.cos(0.7), radius * math.sin(0.7)], -1)
    limit = radius**2 + 1 - torch.from_numpy(i0((2 * beta * radius).numpy())).log() / beta
    # theirs divides the sum by K
    torch.testing.assert_close(2 * memory.energy(states) + math.log(200) / beta, limit, rtol=0, atol=1e-9)
