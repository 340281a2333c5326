"""Hoover et al. 2025 (Dense Associative Memory with Epanechnikov Energy, arXiv 2506.10801): exact recall and new minima."""

import math

import pytest
import torch

import ammon as am


def uniform_patterns(seed: int, num_patterns: int = 5, dim: int = 8) -> torch.Tensor:
    """Patterns ~ U[0,1]^d as their experiment draws them, in float32; then float64."""
    return torch.rand(num_patterns, dim, generator=torch.Generator().manual_seed(seed)).double()


def remember(patterns: torch.Tensor, beta: float) -> am.AssociativeMemory:
    memory = am.log_sum_relu(patterns.shape[1], beta)
    memory.write(patterns)
    return memory


def betas(patterns: torch.Tensor, count: int = 50) -> list[float]:
    """Log-spaced from 2/d to 2/(r/2)², r the smallest distance between patterns."""
    low, high = 2 / patterns.shape[1], 8 / torch.pdist(patterns).min().item() ** 2
    return torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64).tolist()


def centroids(patterns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of each subset that is not empty, and the size of the subset."""
    count = len(patterns)
    members = (torch.arange(1, 2**count)[:, None] >> torch.arange(count) & 1).double()
    return members @ patterns / members.sum(-1, keepdim=True), members.sum(-1)


def minima(patterns: torch.Tensor, beta: float) -> tuple[int, int]:
    """New minima and kept patterns (LMIN0): a centroid with support where recall stays, which is where the energy has no slope."""
    memory = remember(patterns, beta)
    places, sizes = centroids(patterns)
    supported = memory.weights(places).sum(-1) > 0
    stays = (memory.recall(places, steps=1).state - places).norm(dim=-1) < 1e-9
    places.requires_grad_()
    (slope,) = torch.autograd.grad(memory.energy(places).sum(), places)
    flat = slope.norm(dim=-1) < 5e-6
    assert torch.equal(flat & supported, stays & supported)
    found = stays & supported
    return int((found & (sizes > 1)).sum()), int((found & (sizes == 1)).sum())


@pytest.mark.parametrize("beta", [1.5, 3.0, 6.0, 12.0])
def test_settled_states_are_centroids_of_the_patterns_within_reach(beta: float) -> None:
    """Proposition 2: from random starts within the support, the state is the mean of the patterns within sqrt(2/beta). Rounding: 1e-12."""
    generator = torch.Generator().manual_seed(7)
    patterns = uniform_patterns(7, num_patterns=15)
    direction = torch.randn(300, 8, generator=generator, dtype=torch.float64)
    length = torch.rand(300, 1, generator=generator, dtype=torch.float64) * math.sqrt(2 / beta)
    starts = patterns.repeat(20, 1) + length * direction / direction.norm(dim=-1, keepdim=True)
    found = remember(patterns, beta).recall(starts)
    assert found.converged.all()
    for state in found.state:
        within = [pattern for pattern in patterns if (state - pattern).norm() <= math.sqrt(2 / beta)]
        torch.testing.assert_close(state, torch.stack(within).mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", [0.05, 0.25, 0.45])
def test_one_step_recalls_exactly_within_delta(part: float) -> None:
    """Theorem 1: beta = 2/(r - Delta)², r the smallest distance: every cue within Delta < r/2 of a pattern gives it in one step."""
    generator = torch.Generator().manual_seed(8)
    patterns = uniform_patterns(8, num_patterns=40)
    smallest = torch.pdist(patterns).min().item()
    delta = part * smallest
    direction = torch.randn(400, 8, generator=generator, dtype=torch.float64)
    cue = patterns.repeat(10, 1) + 0.999 * delta * direction / direction.norm(dim=-1, keepdim=True)
    found = remember(patterns, 2 / (smallest - delta) ** 2).recall(cue, steps=1)
    assert torch.equal(found.state, patterns.repeat(10, 1))


def test_up_to_13_new_minima_appear_between_5_patterns() -> None:
    """Section 4, LMIN0: d = 8, M = 5, seed 0, 50 log-spaced betas, all 2^M centroids; the count of an independent run is 13, exactly."""
    counts = [minima(uniform_patterns(0), beta) for beta in betas(uniform_patterns(0))]
    assert max(new for new, _ in counts) == 13
    # the widest kernel holds all patterns at once, the narrowest each alone
    assert counts[0] == (1, 0)
    assert counts[-1] == (0, 5)


@pytest.mark.parametrize("seed", [0, 42, 88])
def test_old_patterns_and_new_minima_stand_together(seed: int) -> None:
    """Global emergence, d = 8, M = 5, their seeds: for many betas all 5 patterns are minima, exactly, and new ones are too."""
    patterns = uniform_patterns(seed)
    counts = [minima(patterns, beta) for beta in betas(patterns)]
    assert sum(kept == 5 and new > 0 for new, kept in counts) >= 10
    # a pattern once alone within reach stays so as the reach shrinks
    assert [kept for _, kept in counts] == sorted(kept for _, kept in counts)


@pytest.mark.parametrize("seed", [0, 42, 88])
def test_log_sum_exp_never_has_new_minima_and_all_patterns(seed: int) -> None:
    """Proposition 1, same patterns with softmax over distances, betas to 1000: patterns are minima (to 1e-9) only when nothing else is."""
    patterns = uniform_patterns(seed)
    starts = torch.cat([centroids(patterns)[0], torch.rand(50, 8, generator=torch.Generator().manual_seed(seed)).double()])
    kept_at_all = False
    for beta in torch.logspace(math.log10(0.25), 3, 25, dtype=torch.float64).tolist():
        memory = am.diffusion(8, beta**-0.5)
        memory.write(patterns)
        moved = (memory.recall(patterns, steps=1).state - patterns).norm(dim=-1)
        if (moved < 1e-9).all():
            kept_at_all = True
            settled = memory.recall(starts, steps=2000)
            # a centroid may lie on a ridge, which it leaves only by rounding: a push decides
            pushed = memory.recall(settled.state + 1e-6 * torch.rand_like(settled.state), steps=2000)
            assert pushed.converged.all()
            assert (torch.cdist(pushed.state, patterns).amin(-1) < 1e-6).all()
    assert kept_at_all


def test_log_sum_exp_may_have_a_new_minimum_beside_shifted_patterns() -> None:
    """The limit of proposition 1 (Carreira-Perpiñán & Williams 2003): at the corners of a triangle of radius 1 and beta = 1.95
    a Gaussian mixture has a fourth mode in the middle; the other three are the patterns moved inwards by .33, none kept exactly.
    """
    corner = torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64) * math.pi / 3
    patterns = torch.stack([corner.cos(), corner.sin()], dim=-1)
    memory = am.diffusion(2, 1.95**-0.5)
    memory.write(patterns)
    starts = torch.cat([patterns, torch.tensor([[0.01, 0.02]], dtype=torch.float64)])
    found = memory.recall(starts, steps=5000)
    assert found.converged.all()
    torch.testing.assert_close(found.state[:3], 0.67097 * patterns, rtol=0, atol=1e-5)
    assert found.state[3].norm() < 1e-9
