"""Hierarchical predictive coding: one energy of squared errors, its slopes, its closed form where it is linear, and a memory that falls."""

import numpy as np
import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.dynamics.descend import descend
from ammon.energies.network import EnergyNetwork
from ammon.energies.neurons import Neurons
from ammon.energies.prediction import Prediction
from ammon.energies.synapses import Bias
from ammon.learning.generative import Generative, errors_of, infer
from ammon.memories.generative import GenerativeMemory
from ammon.parts.lagrangians import Lagrangian, Tanh
from ammon.parts.separations import RectifiedPower

SMALL = Generative((6, 5), epochs=30, inferences=5)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rows(count: int = 6, dim: int = 9, seed: int = 0) -> Tensor:
    return torch.rand(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(count: int = 6, **how: int) -> GenerativeMemory:
    memory = GenerativeMemory(9, SMALL, **how)
    memory.write(rows(count))
    return memory


@pytest.mark.parametrize("activation", [None, Tanh(1.5), RectifiedPower(2)], ids=["identity", "tanh", "relu"])
def test_a_predicted_layer_has_the_energy_of_its_squared_error_and_pulls_are_its_gradient(activation: Lagrangian | None) -> None:
    synapse = Prediction(draw(4, 3), draw(4, seed=1), activation)
    below, above = draw(5, 4, seed=2).requires_grad_(), draw(5, 3, seed=3).requires_grad_()
    shown = above if activation is None else activation.activation(above)
    error = below - shown @ synapse.weight.mT - synapse.bias
    energy = synapse(below, above)
    torch.testing.assert_close(energy + below.square().sum(-1) / 2, error.square().sum(-1) / 2, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad(energy.sum(), (below, above))
    for pull, slope in zip(synapse.pulls(below, above), wanted, strict=True):
        torch.testing.assert_close(pull, -slope, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(synapse.pulls(below, above, at=[1])[0], -wanted[1], rtol=1e-12, atol=1e-12)


def test_gradients_pass_through_pulls_to_states_and_weights() -> None:
    synapse = Prediction(draw(3, 2), draw(3, seed=1), Tanh(), learnable=True)

    below, above = draw(2, 3, seed=2).requires_grad_(), draw(2, 2, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda b, a: synapse.pulls(b, a), (below, above))
    (synapse.pulls(below, above)[1].square().sum()).backward()
    assert synapse.weight.grad is not None
    step = 1e-6
    with torch.no_grad():
        sums = []
        for sign in (1, -1):
            synapse.weight[0, 0] += sign * step
            sums.append(float(synapse.pulls(below, above)[1].square().sum()))
            synapse.weight[0, 0] -= sign * step
    assert float(synapse.weight.grad[0, 0]) == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=1e-6)


def test_with_linear_layers_rest_is_the_conditional_mean_of_a_normal_distribution() -> None:
    """x = W h + b + noise, h ~ N(m, 1): known entries predict the others and h, as in factor analysis with unit noise."""
    weight, bias, prior = draw(5, 3), draw(5, seed=1), draw(3, seed=2)
    network = EnergyNetwork(
        {"x": Neurons(5), "h": Neurons(3)},
        {"predict": Prediction(weight, bias), "prior": Bias(prior)},
        [(("x", "h"), "predict"), (("h",), "prior")],
    )
    am.check_lyapunov(network)
    cue, known = draw(4, 5, seed=3), torch.tensor([True, True, False, True, False])
    found = descend(network, network.init_states(4) | {"x": cue}, clamp={"x": known}, steps=1000, keep=True)
    assert bool(found.converged.all())
    energies = torch.stack([network.energy({name: states[step] for name, states in found.trajectory.items()}) for step in range(100)])
    # gradients are on here: the energy must not rise then either
    assert float(energies.diff(dim=0).max()) < 1e-13
    w, k = weight.numpy(), known.numpy()
    mean, covariance = w @ prior.numpy() + bias.numpy(), w @ w.T + np.eye(5)
    wanted = mean[~k] + (cue.numpy()[:, k] - mean[k]) @ np.linalg.solve(covariance[np.ix_(k, k)], covariance[np.ix_(k, ~k)])
    np.testing.assert_allclose(found.states["x"].numpy()[:, ~k], wanted, atol=1e-6)


def test_the_rules_steps_are_the_slopes_of_the_one_energy() -> None:
    weights, biases = [draw(4, 3), draw(3, 2, seed=1)], [draw(4, seed=2), draw(3, seed=3), draw(2, seed=4)]
    states = [draw(5, 4, seed=5), draw(5, 3, seed=6).requires_grad_(), draw(5, 2, seed=7).requires_grad_()]
    for part in (*weights, *biases):
        part.requires_grad_()
    errors = errors_of(weights, biases, states)
    slopes = torch.autograd.grad(sum(error.square().sum() / 2 for error in errors), [*states[1:], *weights, *biases])
    steps = [torch.tensor(size, dtype=torch.float64) for size in (0.1, 0.2)]
    moved = infer(weights, biases, states, steps)
    assert moved[0] is states[0]
    for new, old, slope, step in zip(moved[1:], states[1:], slopes[:2], steps, strict=True):
        torch.testing.assert_close(new, old - step * slope, rtol=1e-12, atol=1e-12)
    for error, above, slope in zip(errors[:2], states[1:], slopes[2:4], strict=True):
        torch.testing.assert_close(error.mT @ above.tanh(), -slope, rtol=1e-12, atol=1e-12)
    for error, slope in zip(errors, slopes[4:], strict=True):
        torch.testing.assert_close(error.sum(0), -slope, rtol=1e-12, atol=1e-12)


def test_at_rest_no_force_of_the_energy_network_is_left_and_the_energies_are_one() -> None:
    memory, cue = filled(), rows(7, seed=3)
    found = memory.settled(cue, torch.ones_like(cue))
    assert bool(found.converged.all())
    network = memory.network()
    am.check_lyapunov(network)
    states = {"x0": cue, **{f"x{place + 1}": state for place, state in enumerate(found.states)}}
    forces = network.forces(network.activations(states))
    for name in ("x1", "x2"):
        torch.testing.assert_close(forces[name], states[name], rtol=0, atol=1e-10)
    torch.testing.assert_close(network.energy(states) + memory.bias_2.square().sum() / 2, found.energy, rtol=0, atol=1e-10)
    # and a descent of that network from anywhere near comes there
    begun = {"x0": cue, **{name: states[name] + 1e-2 * draw(*states[name].shape, seed=8) for name in ("x1", "x2")}}
    descended = descend(network, begun, clamp={"x0": True}, steps=100)
    assert float((network.energy(descended.states) - network.energy(states)).min()) > -1e-10
    assert bool((network.energy(descended.states) <= network.energy(begun)).all())


def test_learning_lowers_the_energy_of_the_patterns() -> None:
    short, long = (Generative((6, 5), epochs=epochs).learn(rows()) for epochs in (5, 200))
    assert float(long.energy) < 0.2 * float(short.energy)
    assert all(
        torch.equal(one, other) for one, other in zip(long.weights, Generative((6, 5), epochs=200).learn(rows()).weights, strict=True)
    )


def test_the_energy_never_rises_while_a_noisy_cue_is_cleaned() -> None:
    memory = filled()
    found = memory.recall(rows() + 0.3 * draw(6, 9, seed=9), steps=20, keep=True)
    energies = memory.energy(found.trajectory.flatten(0, 1)).unflatten(0, (-1, 6))
    assert float(energies.diff(dim=0).max()) < 1e-12
    assert float((energies[0] - energies[-1]).min()) > 0


def test_recall_steps_down_the_slope_of_the_energy_by_one() -> None:
    memory, cue = filled(), rows(2, seed=3)
    step = 1e-5
    moved = cue + step * torch.eye(9, dtype=torch.float64)[:, None]
    above, below = memory.energy(torch.cat([moved, 2 * cue - moved]).flatten(0, 1)).unflatten(0, (2, 9, 2))
    slopes = ((above - below) / (2 * step)).mT
    torch.testing.assert_close(memory.recall(cue, steps=1).state, cue - slopes, rtol=0, atol=1e-8)


def test_known_entries_stay_and_the_others_have_no_slope_left() -> None:
    memory, cue = filled(), rows(5, seed=4)
    known = torch.rand(5, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    found = memory.recall(cue, clamp=known, steps=5)
    assert torch.equal(found.state[known], cue[known])
    assert bool(found.converged.all())
    # where the others are at rest, recall of the whole leaves them there
    moved = memory.recall(found.state, steps=1).state
    assert float((moved - found.state)[~known].abs().max()) < 1e-9


def test_what_was_seen_is_remembered() -> None:
    memory = GenerativeMemory(64, Generative((64, 64), epochs=150))
    images = rows(8, 64).float()
    memory.write(images)
    known = (torch.arange(64) < 32).expand(8, 64)
    completed = memory.recall(torch.where(known, images, 0.0), clamp=known).state
    # of the variance of entries even in [0, 1], 1/12, what is left
    assert float((completed - images)[:, 32:].square().mean()) < 0.05 / 12


def test_values_are_read_once_from_what_predicts_both() -> None:
    memory, values = GenerativeMemory(40, Generative((64, 64), epochs=150), inferences=200), torch.eye(5)
    memory.write(rows(5, 40).float(), values)
    assert memory.recall(rows(5, 40).float()).state.argmax(-1).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="values are read once; got steps=2"):
        memory.recall(rows(5, 40).float(), steps=2)
    with pytest.raises(TypeError, match="values are read once"):
        memory.energy(rows(5, 40).float())


def test_it_keeps_the_contract_of_memories(tmp_path) -> None:  # type: ignore[no-untyped-def]
    memory, cue = filled(), rows(4, seed=2)
    whole = memory.recall(cue, steps=2)
    alone = memory.recall(cue[1:2], steps=2)
    torch.testing.assert_close(alone.state[0], whole.state[1], rtol=1e-9, atol=1e-12)
    pieces = GenerativeMemory(9, SMALL)
    for piece in rows().split([1, 2, 3]):
        pieces.write(piece)
    torch.testing.assert_close(pieces.recall(cue, steps=2).state, whole.state)
    am.save(memory, tmp_path / "memory.safetensors")
    loaded = am.load(tmp_path / "memory.safetensors")
    assert repr(loaded) == repr(memory)
    assert torch.equal(loaded.recall(cue, steps=2).state, whole.state)
    loaded.write(rows(2, seed=5))
    assert len(loaded) == 8
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        half = GenerativeMemory(9, SMALL)
        half.write(rows().to(dtype))
        assert half.recall(cue.to(dtype), steps=1).state.dtype == half.energy(cue.to(dtype)).dtype == dtype
    single = GenerativeMemory(1, SMALL)
    single.write(torch.zeros(1, 1))
    assert torch.isfinite(single.recall(torch.ones(2, 1)).state).all()
    assert memory.recall(cue[:0]).state.shape == (0, 9)


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"Prediction: weight \[n1, n2\] and bias \[n1\] are needed"):
        Prediction(torch.zeros(3, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="hidden must name the units of one layer or more"):
        Generative(())
    with pytest.raises(ValueError, match="rate must be positive"):
        Generative(rate=0.0)
    with pytest.raises(ValueError, match="the memory is empty; write patterns first"):
        GenerativeMemory(4).recall(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="steps"):
        GenerativeMemory(4, steps=0)
    with pytest.raises(ValueError, match="the layers have 4 and 3 neurons"):
        EnergyNetwork({"a": Neurons(4), "b": Neurons(3)}, {"p": Prediction(torch.zeros(3, 3), torch.zeros(3))}, [(("a", "b"), "p")])
    with pytest.raises(TypeError, match="superposed"):
        filled().weights(rows(1))
