"""Predictive coding: loops of local errors come to closed forms, a cue is completed to the mean given what is known, no energy rises."""

import numpy as np
import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.learning.predictive import Predictions, explicit, gather, infer, learn_predictions, learn_transitions
from ammon.memories.predictive import PredictiveMemory


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, dim: int, seed: int = 0) -> Tensor:
    """Correlated rows about a mean that is not 0."""
    mixed = torch.randn(count, dim, dtype=torch.float64, generator=generator(seed)) @ _mixer(dim)
    return mixed + torch.linspace(-1, 2, dim, dtype=torch.float64)


def _mixer(dim: int) -> Tensor:
    return torch.eye(dim, dtype=torch.float64) + 0.4 * torch.randn(dim, dim, dtype=torch.float64, generator=generator(99)) / dim**0.5


def filled(count: int = 40, dim: int = 6, ridge: float = 0.05) -> PredictiveMemory:
    memory = PredictiveMemory(dim, ridge)
    memory.write(rows(count, dim))
    return memory


def half_known(batch: int, dim: int) -> Tensor:
    known = torch.rand(batch, dim, generator=generator(5)) < 0.5
    known[0], known[1] = False, True
    return known


def test_moments_gathered_in_pieces_are_those_of_numpy() -> None:
    data, held = rows(23, 5), None
    for piece in data.split([1, 4, 2, 16]):
        held = gather(held, piece)
    assert held is not None
    np.testing.assert_allclose(held.mean.numpy(), data.numpy().mean(0))
    np.testing.assert_allclose(held.scatter.numpy() / 23, np.cov(data.numpy().T, bias=True))


def test_a_cue_is_completed_to_the_conditional_mean_of_the_normal_distribution() -> None:
    memory, cue = filled(), rows(8, 6, seed=3)
    known = half_known(8, 6)
    covariance = np.cov(rows(40, 6).numpy().T, bias=True)
    covariance += 0.05 * covariance.diagonal().mean() * np.eye(6)
    mean = rows(40, 6).numpy().mean(0)
    found = memory.recall(cue, clamp=known, steps=5)
    for item in range(8):
        k, m = known[item].numpy(), ~known[item].numpy()
        wanted = cue[item].numpy().copy()
        wanted[m] = mean[m] + covariance[np.ix_(m, k)] @ np.linalg.solve(covariance[np.ix_(k, k)], (wanted - mean)[k])
        np.testing.assert_allclose(found.state[item].numpy(), wanted, atol=1e-10)
    assert bool(found.converged.all())


def test_the_completion_is_where_the_energy_has_no_slope_and_the_least_there_is() -> None:
    memory, cue, known = filled(), rows(8, 6, seed=3), half_known(8, 6)
    state = memory.recall(cue, clamp=known).state.requires_grad_()
    energy = memory.energy(state)
    (slope,) = torch.autograd.grad(energy.sum(), state)
    assert float(slope[~known].abs().max()) < 1e-9
    moved = torch.where(known, state, state + torch.randn(8, 6, dtype=torch.float64, generator=generator(6))).detach()
    assert bool((memory.energy(moved) >= energy.detach()).all())


def test_row_by_row_predictions_are_regressions_on_the_other_units() -> None:
    memory, data = filled(), rows(40, 6)
    centred = (data - data.mean(0)).numpy()
    noise = 0.05 * centred.var(0).mean()
    for unit in range(6):
        others = np.delete(np.arange(6), unit)
        system = centred[:, others].T @ centred[:, others] / 40 + noise * np.eye(5)
        wanted = np.linalg.solve(system, centred[:, others].T @ centred[:, unit] / 40)
        np.testing.assert_allclose(memory.predictions()[unit, others].numpy(), wanted, atol=1e-10)


def test_the_loop_of_local_errors_comes_to_the_closed_form() -> None:
    memory, data = filled(), rows(40, 6)
    noise = 0.05 * float(data.var(0, correction=0).mean())
    learned = learn_predictions(data, epochs=4000, rate=0.3, ridge=noise)
    torch.testing.assert_close(learned.matrix, memory.predictions(), atol=1e-8, rtol=0)
    torch.testing.assert_close(learned.mean, data.mean(0), atol=1e-10, rtol=0)


def test_inference_by_errors_comes_to_the_completion_and_its_energy_never_rises() -> None:
    memory, cue, known = filled(), rows(8, 6, seed=3), half_known(8, 6)
    wanted = memory.recall(cue, clamp=known).state
    learned = Predictions(memory.predictions(), rows(40, 6).mean(0))
    states = infer(learned, cue, known, steps=3000, rate=0.2)
    torch.testing.assert_close(states[-1], wanted, atol=1e-8, rtol=0)
    energies = torch.stack([memory.energy(state) for state in states[:200]])
    assert bool((energies.diff(dim=0) <= 1e-12 * energies[0]).all())
    found = explicit(memory.covariance(), learned.mean, cue, known, steps=6000, rate=0.05)
    torch.testing.assert_close(found, wanted, atol=1e-8, rtol=0)


def test_without_known_entries_recall_is_the_mean_given_noise_and_lowers_the_energy() -> None:
    memory, cue, data = filled(), rows(8, 6, seed=3), rows(40, 6)
    covariance = torch.cov(data.mT, correction=0)
    noise = 0.05 * covariance.diagonal().mean()
    wanted = data.mean(0) + torch.linalg.solve(covariance + noise * torch.eye(6), covariance @ (cue - data.mean(0)).mT).mT
    recall = memory.recall(cue, steps=20, keep=True)
    torch.testing.assert_close(recall.trajectory[1], wanted)
    energies = torch.stack([memory.energy(state) for state in recall.trajectory])
    assert bool((energies.diff(dim=0) <= 0).all())


def test_fewer_patterns_than_units_are_completed_from_half_their_entries() -> None:
    # 12 rows span a plane of 11 dimensions: 20 known entries of 40 fix a state in it
    patterns = torch.rand(12, 40, dtype=torch.float64, generator=generator(1))
    memory = am.predictive(40, ridge=1e-8)
    memory.write(patterns)
    known = torch.arange(40).expand(12, 40) < 20
    found = memory.recall(torch.where(known, patterns, 0.5), clamp=known)
    torch.testing.assert_close(found.state, patterns, atol=1e-4, rtol=0)


def test_values_are_predicted_as_by_ridge_regression() -> None:
    keys, values = rows(40, 6), rows(40, 3, seed=8)
    memory = PredictiveMemory(6, 0.05)
    memory.write(keys[:15], values[:15])
    memory.write(keys[15:], values[15:])
    centred, noise = keys - keys.mean(0), 0.05 * keys.var(0, correction=0).mean()
    slope = torch.linalg.solve(centred.mT @ centred / 40 + noise * torch.eye(6), centred.mT @ (values - values.mean(0)) / 40)
    cue = rows(5, 6, seed=4)
    torch.testing.assert_close(memory.recall(cue).state, values.mean(0) + (cue - keys.mean(0)) @ slope)


def test_a_temporal_network_learns_the_asymmetric_pseudo_inverse() -> None:
    sequence = am.random_patterns(8, 20, generator=generator(2), dtype=torch.float64)
    learned = learn_transitions(sequence, epochs=20_000, rate=0.3)
    wanted = sequence[1:].mT @ torch.linalg.pinv(sequence[:-1].mT)
    torch.testing.assert_close(learned, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(sequence[:-1] @ learned.mT, sequence[1:], atol=1e-6, rtol=0)


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    memory = filled()
    cases = [
        (ValueError, "ridge", lambda: PredictiveMemory(3, ridge=0.0)),
        (ValueError, "dim", lambda: memory.recall(torch.zeros(1, 5, dtype=torch.float64))),
        (ValueError, "clamp", lambda: memory.recall(rows(2, 6), clamp=torch.ones(1, 6, dtype=torch.bool))),
        (ValueError, "empty", lambda: PredictiveMemory(3).energy(torch.zeros(1, 3))),
        (TypeError, "superposed", lambda: memory.weights(rows(2, 6))),
    ]
    for error, said, call in cases:
        with pytest.raises(error, match=said) as refused:
            call()
        assert "\n" not in str(refused.value)
