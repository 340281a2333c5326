"""Ramsauer et al. 2021 (Hopfield Networks is All You Need, arXiv 2008.02217): theorems 3 to 5 and the range of the energy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw

import ammon as am

# every draw: patterns on a sphere of radius M, in float64
DRAWS = {
    "seed": st.integers(0, 2**31),
    "num_patterns": st.integers(2, 12),
    "dim": st.integers(2, 24),
    "beta": st.floats(0.05, 20),
    "radius": st.floats(0.2, 5),
}
draws = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def on_sphere(rows: int, dim: int, radius: float, generator: torch.Generator) -> torch.Tensor:
    rows_ = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    return radius * rows_ / rows_.norm(dim=-1, keepdim=True)


def remember(patterns: torch.Tensor, beta: float) -> am.AssociativeMemory:
    memory = am.modern_hopfield(patterns.shape[1], beta)
    memory.write(patterns)
    return memory


def separation_of(patterns: torch.Tensor) -> torch.Tensor:
    """Delta_i = x_i·x_i - max_j x_i·x_j."""
    products = patterns @ patterns.T
    return products.diagonal() - products.clone().fill_diagonal_(-math.inf).amax(-1)


@draws
@given(**DRAWS)
def test_energy_lies_between_0_and_2_m_squared(seed: int, num_patterns: int, dim: int, beta: float, radius: float) -> None:
    """Section 2, eq. 2: with its constants ln(N)/beta + M²/2 the energy of states within the sphere is in [0, 2M²]. Rounding: 1e-12 M²."""
    generator = torch.Generator().manual_seed(seed)
    patterns = on_sphere(num_patterns, dim, radius, generator)
    states = on_sphere(50, dim, radius, generator) * torch.rand(50, 1, generator=generator, dtype=torch.float64)
    states = torch.cat([states, patterns, -patterns])
    energy = remember(patterns, beta).energy(states) + math.log(num_patterns) / beta + radius**2 / 2
    assert (energy >= -1e-12 * radius**2).all()
    assert (energy <= (2 + 1e-12) * radius**2).all()


@draws
@given(**DRAWS)
def test_one_update_comes_closer_to_the_fixed_point_as_theorem_4_says(
    seed: int, num_patterns: int, dim: int, beta: float, radius: float
) -> None:
    """Theorem 4: |f(ξ) - x*| <= 2 beta N M² (N-1) exp(-beta (Delta_i - 2 max(|ξ - x_i|, |x* - x_i|) M)) |ξ - x*|.

    Tolerance: 1e-9 M, the fixed point being known only to the tolerance of recall.
    """
    generator = torch.Generator().manual_seed(seed)
    patterns = on_sphere(num_patterns, dim, radius, generator)
    memory = remember(patterns, beta)
    settled = memory.recall(patterns, steps=5000)
    step = torch.rand(num_patterns, 1, generator=generator, dtype=torch.float64) ** 3
    cue = patterns + step * on_sphere(num_patterns, dim, radius, generator)
    away = torch.maximum((cue - patterns).norm(dim=-1), (settled.state - patterns).norm(dim=-1))
    decay = torch.exp(-beta * (separation_of(patterns) - 2 * away * radius))
    bound = 2 * beta * num_patterns * radius**2 * (num_patterns - 1) * decay * (cue - settled.state).norm(dim=-1)
    error = (memory.recall(cue, steps=1).state - settled.state).norm(dim=-1)
    assert (error <= bound + 1e-9 * radius)[settled.converged].all()


@draws
@given(**DRAWS)
def test_one_update_retrieves_a_pattern_as_theorem_5_says(seed: int, num_patterns: int, dim: int, beta: float, radius: float) -> None:
    """Theorem 5: |f(ξ) - x_i| <= 2 (N-1) exp(-beta (Delta_i - 2 max(|ξ - x_i|, |x* - x_i|) M)) M; and
    <= 2e (N-1) M exp(-beta Delta_i) where both distances are at most 1/(2 beta M). Rounding: 1e-12 M.
    """
    generator = torch.Generator().manual_seed(seed)
    patterns = on_sphere(num_patterns, dim, radius, generator)
    memory = remember(patterns, beta)
    settled = memory.recall(patterns, steps=5000)
    near = 1 / (2 * beta * radius)
    cue = patterns + on_sphere(num_patterns, dim, near * (1 - 1e-9), generator)
    away = torch.maximum((cue - patterns).norm(dim=-1), (settled.state - patterns).norm(dim=-1))
    error = (memory.recall(cue, steps=1).state - patterns).norm(dim=-1)
    scale = 2 * (num_patterns - 1) * radius
    bound = scale * torch.exp(-beta * (separation_of(patterns) - 2 * away * radius))
    assert (error <= bound + 1e-12 * radius)[settled.converged].all()
    both_near = settled.converged & (away <= near)
    assert (error <= math.e * scale * torch.exp(-beta * separation_of(patterns)) + 1e-12 * radius)[both_near].all()


def test_the_bounds_of_theorems_4_and_5_say_something() -> None:
    """At 5 well separated patterns the bounds are far below the distances they bound, so that the laws above are not empty."""
    generator = torch.Generator().manual_seed(0)
    patterns = on_sphere(5, 30, 3.0, generator)
    gap = separation_of(patterns).min().item()
    assert 2 * math.e * 4 * 3.0 * math.exp(-4.0 * gap) < 1e-3 * 3.0
    assert 2 * 4.0 * 5 * 9.0 * 4 * math.exp(-4.0 * gap + 1) < 0.1
    assert (remember(patterns, 4.0).recall(patterns).state - patterns).norm(dim=-1).max() < 1e-3 * 3.0


def base_of_capacity(beta: float, k: float, dim: int, chance: float) -> float:
    """Theorem 3, eq. 5: c = b / W_0(exp(a + ln b)), a = 2/(d-1) (1 + ln(2 beta K² p (d-1))), b = 2 K² beta / 5."""
    a = 2 / (dim - 1) * (1 + math.log(2 * beta * k**2 * chance * (dim - 1)))
    b = 2 * k**2 * beta / 5
    return b / lambertw(math.exp(a + math.log(b))).real


@pytest.mark.parametrize(("k", "dim", "printed"), [(3.0, 20, 3.1546), (1.0, 75, 1.3718)])
def test_the_promised_number_of_random_patterns_is_stored(k: float, dim: int, printed: float) -> None:
    """Theorem 3, instances beta = 1, p = .001: c >= 3.1546 (K = 3, d = 20) and c >= 1.3718 (K = 1, d = 75).

    N = sqrt(p) c^((d-1)/4) patterns on the sphere of radius M = K sqrt(d-1): each of 40 draws settles within 1/(beta N M) of
    its pattern; at a chance of .999 or more each, all do with .96.
    """
    c = base_of_capacity(1.0, k, dim, 0.001)
    assert printed <= c < printed + 1e-4
    num_patterns = math.ceil(0.001**0.5 * c ** ((dim - 1) / 4))
    radius = k * math.sqrt(dim - 1)
    generator = torch.Generator().manual_seed(dim)
    for _ in range(40):
        patterns = on_sphere(num_patterns, dim, radius, generator)
        found = remember(patterns, 1.0).recall(patterns)
        assert found.converged.all()
        assert (found.state - patterns).norm(dim=-1).max() <= 1 / (num_patterns * radius)
