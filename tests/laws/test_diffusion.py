"""Diffusion: recall is the denoiser of what is stored, its flow has the states of each level, and the circle's energy is in closed form."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import Tensor

import ammon as am
from ammon.analysis.circle import circle_denoise, circle_energy, on_circle
from ammon.analysis.memorization import KINDS, Nearest, classify, fractions, nearest
from ammon.dynamics.diffuse import diffuse, exploding, preserving
from ammon.dynamics.log_density import log_density
from ammon.memories.denoiser import Denoiser
from ammon.parts.similarity import Cosine

KINDS_OF_NOISE = {"gaussian": am.diffusion, "ball": am.log_sum_relu, "laplace": am.universal}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def patterns(count: int = 6, dim: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(count, dim, dtype=torch.float64, generator=generator(seed))


def denoiser(kind: str, rows: Tensor) -> Denoiser:
    memory = KINDS_OF_NOISE[kind](rows.shape[1])
    memory.write(rows)
    return Denoiser(memory)


def mixture(x: Tensor, rows: Tensor, level: float) -> Tensor:
    """log p of equal Gaussians about the rows, from torch's own normal density."""
    normal = torch.distributions.Normal(rows, level)
    return torch.logsumexp(normal.log_prob(x.unsqueeze(-2)).sum(-1), -1) - math.log(len(rows))


@pytest.mark.parametrize("level", [0.05, 0.4, 3.0])
def test_the_score_of_the_gaussian_mixture_is_recall_less_the_state(level: float) -> None:
    rows = patterns()
    x = (rows[:4] + level * patterns(4, seed=2)).requires_grad_()
    (score,) = torch.autograd.grad(mixture(x, rows, level).sum(), x)
    memory = am.diffusion(3, sigma=level)
    memory.write(rows)
    x = x.detach()
    torch.testing.assert_close((memory.recall(x, steps=1).state - x) / level**2, score, rtol=1e-9, atol=1e-9 / level**2)
    exact = denoiser("gaussian", rows)
    torch.testing.assert_close(exact.score(x, level), score, rtol=1e-9, atol=1e-9 / level**2)
    torch.testing.assert_close(exact.log_density(x, level), mixture(x, rows, level), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(exact.energy(x, level), memory.energy(x))


@pytest.mark.parametrize("kind", KINDS_OF_NOISE)
def test_recall_is_the_mean_of_the_patterns_given_the_noise_by_bayes_rule(kind: str) -> None:
    rows, level = patterns(), 0.9
    exact = denoiser(kind, rows)
    x = exact.corrupt(rows, level, generator(3))
    for state, found in zip(x, exact(x, level)):
        if kind == "gaussian":
            chances = [math.exp(-float((state - row).square().sum()) / (2 * level**2)) for row in rows]
        elif kind == "laplace":
            chances = [math.exp(-float((state - row).abs().sum()) / (level / math.sqrt(2))) for row in rows]
        else:
            chances = [float((state - row).norm() <= level * math.sqrt(5)) for row in rows]
        wanted = sum(chance * row for chance, row in zip(chances, rows)) / sum(chances)
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("kind", KINDS_OF_NOISE)
def test_noise_of_every_kind_has_the_variance_that_it_is_said_to_have(kind: str) -> None:
    clean = torch.zeros(20_000, 3, dtype=torch.float64)
    noise = denoiser(kind, patterns()).corrupt(clean, 0.7, generator(4))
    squares = noise.square()
    error = squares.std(0) / math.sqrt(len(noise))
    # six standard errors, three entries
    assert bool(((squares.mean(0) - 0.49).abs() < 6 * error).all())
    assert bool((noise.mean(0).abs() < 6 * 0.7 / math.sqrt(len(noise))).all())


@pytest.mark.parametrize("kind", KINDS_OF_NOISE)
def test_the_flow_has_at_each_level_the_patterns_with_noise_of_that_level(kind: str) -> None:
    rows = patterns(4, 2)
    exact = denoiser(kind, rows)
    low = 0.35
    flowed = exact.generate(4000, exploding(6.0, low, 200), generator=generator(5)).state
    drawn = exact.corrupt(rows[torch.randint(4, (4000,), generator=generator(6))], low, generator(7))
    for direction in (torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])):
        one, other = (states @ direction.double() for states in (flowed, drawn))
        assert stats.ks_2samp(one.numpy(), other.numpy()).pvalue > 0.001


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_with_fresh_noise_the_states_of_each_level_are_the_same(noise: float) -> None:
    rows = patterns(4, 2)
    exact = denoiser("gaussian", rows)
    sampled = exact.generate(4000, exploding(6.0, 0.35, 400), generator=generator(5), noise=noise).state
    drawn = exact.corrupt(rows[torch.randint(4, (4000,), generator=generator(6))], 0.35, generator(7))
    assert stats.ks_2samp(sampled[:, 0].numpy(), drawn[:, 0].numpy()).pvalue > 0.001


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_without_noise_left_all_states_are_patterns_each_as_often(noise: float) -> None:
    rows = 2 * patterns(5, 4)
    levels = torch.cat([exploding(20.0, 0.02, 60), torch.zeros(1)])
    states = denoiser("gaussian", rows).generate(1000, levels, generator=generator(8), noise=noise).state
    distances = torch.cdist(states, rows)
    torch.testing.assert_close(distances.amin(-1), torch.zeros(1000, dtype=torch.float64), atol=1e-6, rtol=0)
    counts = torch.bincount(distances.argmin(-1), minlength=5)
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


def test_a_step_with_all_its_noise_is_the_posterior_of_ddpm() -> None:
    # Ho et al. 2020, eq. 6-7, in x = a (clean + σ noise), against our step in x/a
    levels, clean = preserving(10), torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    high, low = float(levels[4]), float(levels[5])
    kept, before = 1 / (1 + high**2), 1 / (1 + low**2)
    alpha = kept / before
    state = torch.tensor([[0.7, 0.1]], dtype=torch.float64)
    x = math.sqrt(kept) * state
    beta = 1 - alpha
    mean = (math.sqrt(before) * beta * clean + math.sqrt(alpha) * (1 - before) * x) / (1 - kept)
    variance = (1 - before) / (1 - kept) * beta
    asked = torch.tensor([high, low], dtype=torch.float64)
    many = diffuse(lambda s, level: clean.expand_as(s), state.expand(40_000, 2), asked, noise=1.0, generator=generator(9)).state
    found = many * math.sqrt(before)
    error = math.sqrt(variance / len(found))
    assert bool(((found.mean(0) - mean[0]).abs() < 5 * error).all())
    assert bool((found.var(0) / variance - 1).abs().max() < 5 * math.sqrt(2 / len(found)))
    # without noise: DDIM, eq. 12 with σ = 0
    still = diffuse(lambda s, level: clean.expand_as(s), state, asked).state * math.sqrt(before)
    direction = (x - math.sqrt(kept) * clean) / math.sqrt(1 - kept)
    torch.testing.assert_close(still, math.sqrt(before) * clean + math.sqrt(1 - before) * direction)


def test_levels_of_a_preserving_diffusion_keep_the_variance_and_those_of_song_2021() -> None:
    levels = preserving(1000)
    # x = a (clean + σ noise) has variance 1 for data of variance 1, and a² = exp(-∫β)
    kept = 1 / (1 + levels.square())
    time = torch.linspace(1, 1e-3, 1001, dtype=torch.float64)
    betas = 0.1 + time * 19.9
    integral = torch.cumulative_trapezoid(betas.flip(0), time.flip(0)).flip(0) + 0.1 * 1e-3 + 19.9 * 1e-6 / 2
    torch.testing.assert_close(kept[:-1], torch.exp(-integral), rtol=1e-6, atol=1e-9)
    assert all(low < high for high, low in pairwise(levels.tolist()))


def test_heuns_rule_errs_by_the_square_of_the_step() -> None:
    rows = patterns(3, 2)
    exact = denoiser("gaussian", rows)
    start = 5 * patterns(20, 2, seed=11)

    def gaps(order: int) -> list[float]:
        fine = diffuse(exact, start, exploding(5.0, 0.3, 640), order=2).state
        return [float((diffuse(exact, start, exploding(5.0, 0.3, steps), order=order).state - fine).abs().max()) for steps in (20, 40, 80)]

    first, second = gaps(1), gaps(2)
    assert all(1.6 < large / small < 2.5 for large, small in pairwise(first))
    assert all(3.2 < large / small < 5.0 for large, small in pairwise(second))


def test_the_log_density_along_the_flow_is_that_of_the_mixture() -> None:
    rows, level = patterns(5, 2), 0.3
    exact = denoiser("gaussian", rows)
    x = exact.corrupt(rows, level, generator(12))
    known = {"mean": rows.mean(0), "spread": float(rows.var(0, correction=0).mean().sqrt())}
    gaps = [
        float((log_density(exact, x, exploding(100.0, level, steps), **known) - mixture(x, rows, level)).abs().max()) for steps in (60, 120)
    ]
    # Heun's rule: twice the steps, a quarter of the error
    assert 3.2 < gaps[0] / gaps[1] < 5
    assert gaps[1] < 0.01
    # random vectors of ±1 give the trace on average
    few = exploding(100.0, level, 40)
    true = log_density(exact, x, few, **known)
    estimates = torch.stack([log_density(exact, x, few, probes=2, generator=generator(seed), **known) for seed in range(20)])
    assert bool(((estimates.mean(0) - true).abs() < stats.t.ppf(1 - 1e-4, 19) * estimates.std(0) / math.sqrt(20)).all())
    assert bool((estimates.std(0) > 0).all())


@pytest.mark.parametrize("level", [0.1, 0.5, 2.0])
def test_the_energy_of_the_circle_is_its_integral_and_its_slope_the_denoiser(level: float) -> None:
    x = torch.tensor([[0.0, 0.2], [0.7, -0.7], [1.5, 0.4]], dtype=torch.float64, requires_grad=True)
    energy = circle_energy(x, level)
    # the trapezoidal rule over a whole turn converges exponentially
    angle = 2 * math.pi * torch.arange(4000, dtype=torch.float64) / 4000
    squares = (x.detach()[:, :1] - angle.cos()).square() + (x.detach()[:, 1:] - angle.sin()).square()
    mean = torch.logsumexp(-squares / (2 * level**2), -1) - math.log(4000)
    torch.testing.assert_close(energy.detach(), -(level**2) * mean, rtol=1e-9, atol=1e-12)
    (slope,) = torch.autograd.grad(energy.sum(), x)
    torch.testing.assert_close(circle_denoise(x.detach(), level), x.detach() - slope)
    assert torch.equal(circle_denoise(torch.zeros(1, 2, dtype=torch.float64), level), torch.zeros(1, 2, dtype=torch.float64))


def test_many_patterns_on_the_circle_have_the_energy_of_the_circle() -> None:
    angle = 2 * math.pi * torch.arange(64, dtype=torch.float64) / 64
    exact = denoiser("gaussian", torch.stack([angle.cos(), angle.sin()], -1))
    x = 1.2 * patterns(20, 2)
    # a mean in place of a sum; evenly spaced patterns are a trapezoidal rule, which converges exponentially
    torch.testing.assert_close(exact.energy(x, 0.3) + 0.09 * math.log(64), circle_energy(x, 0.3), atol=1e-10, rtol=0)
    torch.testing.assert_close(exact(x, 0.3), circle_denoise(x, 0.3), atol=1e-9, rtol=0)


def test_places_on_the_circle_have_its_radius_and_are_even() -> None:
    places = on_circle(2000, generator(13), radius=3.0)
    torch.testing.assert_close(places.norm(dim=-1), torch.full((2000,), 3.0, dtype=torch.float64))
    angle = torch.atan2(places[:, 1], places[:, 0]) / (2 * math.pi) + 0.5
    assert stats.kstest(angle.numpy(), "uniform").pvalue > 0.001


def test_states_are_told_apart_as_by_the_plain_loop() -> None:
    training, generated = patterns(7, 2), torch.cat([patterns(7, 2)[:3] + 0.01, patterns(20, 2, seed=14)])
    found = nearest(generated, training)
    for number, state in enumerate(generated):
        others = [float((state - other).norm()) for place, other in enumerate(generated) if place != number]
        assert float(found.generated[number]) == pytest.approx(min(others))
        assert float(found.training[number]) == pytest.approx(min(float((state - row).norm()) for row in training))
    kinds = classify(Nearest(torch.tensor([0.1, 0.5, 0.5, 0.2]), torch.tensor([9.0, 0.1, 0.4, 0.0])), 0.2, 0.3)
    assert [KINDS[kind] for kind in kinds] == ["memorised", "spurious", "generalised", "memorised"]
    assert fractions(kinds) == {"memorised": 0.5, "spurious": 0.25, "generalised": 0.25}
    assert bool(torch.isinf(nearest(generated[:1], training).generated).all())


def test_states_out_of_reach_stay_with_noise_in_a_ball() -> None:
    exact = denoiser("ball", patterns())
    far = torch.full((1, 3), 50.0, dtype=torch.float64)
    assert torch.equal(exact(far, 0.5), far)


def test_diffusion_keeps_the_trajectory_and_the_dtype() -> None:
    exact = denoiser("gaussian", patterns().float())
    sample = exact.generate(3, exploding(3.0, 0.1, 7), generator=generator(), keep=True)
    assert sample.trajectory is not None
    assert sample.trajectory.shape == (8, 3, 3)
    assert torch.equal(sample.trajectory[-1], sample.state)
    assert sample.state.dtype == torch.float32
    torch.testing.assert_close(exploding(3.0, 0.1, 10, bend=math.inf).log().diff(), torch.full((10,), math.log(0.1 / 3) / 10).double())


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    exact, levels, x = denoiser("gaussian", patterns()), exploding(3.0, 0.1, 5), patterns()
    cases = [
        (ValueError, "above low", lambda: exploding(0.1, 3.0, 5)),
        (ValueError, "bend", lambda: exploding(3.0, 0.1, 5, bend=0.5)),
        (ValueError, "steps", lambda: exploding(3.0, 0.1, 0)),
        (ValueError, "beta_low", lambda: preserving(5, 2.0, 1.0)),
        (ValueError, "first", lambda: preserving(5, first=2.0)),
        (ValueError, "must fall", lambda: diffuse(exact, x, levels.flip(0))),
        (ValueError, "at least two", lambda: diffuse(exact, x, levels[:1])),
        (ValueError, "generator", lambda: diffuse(exact, x, levels, noise=1.0)),
        (ValueError, "order", lambda: diffuse(exact, x, levels, noise=1.0, order=2, generator=generator())),
        (ValueError, "noise must be", lambda: diffuse(exact, x, levels, noise=2.0, generator=generator())),
        (ValueError, "above 0", lambda: log_density(exact, x, torch.tensor([1.0, 0.0]))),
        (ValueError, "probes", lambda: log_density(exact, x, levels, probes=3)),
        (ValueError, "level of noise", lambda: exact(x, 0.0)),
        (ValueError, "dim", lambda: exact(x[:, :2], 1.0)),
        (ValueError, "empty", lambda: Denoiser(am.diffusion(3)).generate(2, levels, generator=generator())),
        (ValueError, "Gaussian", lambda: denoiser("ball", x).generate(2, levels, generator=generator(), noise=1.0)),
        (TypeError, "score", lambda: denoiser("ball", x).score(x, 1.0)),
        (TypeError, "closed form", lambda: denoiser("laplace", x).log_density(x, 1.0)),
        (TypeError, "denoises nothing", lambda: Denoiser(am.modern_hopfield(3))),
        (TypeError, "denoises nothing", lambda: Denoiser(am.universal(3, Cosine()))),
        (ValueError, "memorised", lambda: classify(nearest(x, x), 0.0, 1.0)),
        (ValueError, "level", lambda: circle_energy(x[:, :2], -1.0)),
    ]
    for error, said, call in cases:
        with pytest.raises(error, match=said) as refused:
            call()
        assert "\n" not in str(refused.value)
