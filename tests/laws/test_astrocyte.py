"""Neuron–astrocyte memory: T never made, an energy that falls in three layers, the dense memory of power 4 where processes are weak."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ammon as am
from ammon.energies.tripartite import Tripartite, TripartiteEnergy
from ammon.memories.astrocyte import AstrocyteMemory
from ammon.parts.lagrangians import Tanh


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def signs(count: int, dim: int, seed: int = 0) -> Tensor:
    return am.random_patterns(count, dim, generator=generator(seed), dtype=torch.float64)


def symmetric(batch: int, dim: int, seed: int) -> Tensor:
    drawn = torch.randn(batch, dim, dim, dtype=torch.float64, generator=generator(seed))
    return (drawn + drawn.mT) / 2


@pytest.mark.parametrize("dim", [2, 5, 8])
def test_the_factored_tensor_is_the_one_with_four_indices(dim: int) -> None:
    patterns = torch.randn(3, dim, dtype=torch.float64, generator=generator())
    whole = torch.einsum("ma,mb,mc,md->abcd", patterns, patterns, patterns, patterns) / dim**3
    for order in ("cdab", "bacd", "abdc"):
        torch.testing.assert_close(torch.einsum(f"abcd->{order}", whole), whole)
    processes = symmetric(2, dim, 1)
    wanted = torch.einsum("abcd,ncd->nab", whole, processes)
    torch.testing.assert_close(TripartiteEnergy(Tanh(), patterns).spread(processes), wanted)


def network(dim: int = 6, count: int = 4, gain: float = 2.0) -> TripartiteEnergy:
    return TripartiteEnergy(Tanh(gain), signs(count, dim), 1.5, 3.0)


def test_the_rates_are_the_gradients_of_the_energy() -> None:
    energy = network()
    x = torch.randn(3, 6, dtype=torch.float64, generator=generator(2), requires_grad=True)
    s, p = symmetric(3, 6, 3).requires_grad_(), symmetric(3, 6, 4).requires_grad_()
    of_x, of_s, of_p = torch.autograd.grad(energy(x, s, p).sum(), (x, s, p))
    rates = energy.rates(Tripartite(x, s, p))
    slope = torch.autograd.grad(energy.lagrangian.activation(x).sum(), x)[0]
    torch.testing.assert_close(of_x, -slope * rates.neurons)
    torch.testing.assert_close(-2 * of_s, rates.synapses)
    torch.testing.assert_close(-2 * of_p, rates.processes)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 6), st.floats(0.2, 3), st.integers(0, 10**6))
def test_the_energy_of_all_three_layers_never_rises_along_their_rates(dim: int, count: int, gain: float, seed: int) -> None:
    energy = TripartiteEnergy(Tanh(gain), signs(count, dim, seed), 1.0, 2.5)
    start = torch.randn(2, dim, dtype=torch.float64, generator=generator(seed))
    state = Tripartite(start, symmetric(2, dim, seed + 1), symmetric(2, dim, seed + 2))
    before = energy(*state)
    for _ in range(20):
        state = Tripartite(*(layer + 0.002 * rate for layer, rate in zip(state, energy.rates(state))))
        after = energy(*state)
        assert bool((after <= before + 1e-12 * before.abs().clamp_min(1)).all())
        before = after


def test_settled_synapses_and_processes_do_not_move() -> None:
    energy = TripartiteEnergy(Tanh(), signs(3, 7), 1.2, 2.0)
    x = torch.randn(4, 7, dtype=torch.float64, generator=generator(5))
    synapses, processes = energy.settled(energy.lagrangian.activation(x))
    rates = energy.rates(Tripartite(x, synapses, processes))
    assert float(rates.synapses.abs().max()) < 1e-10
    assert float(rates.processes.abs().max()) < 1e-10


def test_without_leaks_the_synapses_at_rest_are_the_tensor_on_pairs_of_neurons() -> None:
    # αs = φφ + p and γp = Tp + s at α = γ = 0: p = -φφ, s = Tφφ, so that sφ = Ξᵀ(Ξφ)³/D³, the force of n = 4
    patterns, g = signs(3, 7), torch.randn(2, 7, dtype=torch.float64, generator=generator(6))
    energy = TripartiteEnergy(Tanh(), patterns)
    outer = g.unsqueeze(-1) * g.unsqueeze(-2)
    force = (energy.spread(outer) @ g.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(force, (g @ patterns.mT) ** 3 @ patterns / 7**3)
    synapses, processes = TripartiteEnergy(Tanh(), patterns, 1e-7, 1e-7).settled(g)
    torch.testing.assert_close(synapses, energy.spread(outer), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(processes, -outer, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("leak", "stable"), [(0.05, False), (3.0, True)])
def test_that_rest_without_leaks_is_not_a_stable_one(leak: float, stable: bool) -> None:
    energy, x = TripartiteEnergy(Tanh(), signs(3, 4), leak, leak), torch.zeros(1, 4, dtype=torch.float64)

    def rate(flat: Tensor) -> Tensor:
        rates = energy.rates(Tripartite(x, *flat.reshape(2, 1, 4, 4)))
        return torch.cat([rates.synapses.flatten(), rates.processes.flatten()])

    grows = torch.linalg.eigvals(torch.autograd.functional.jacobian(rate, torch.zeros(32, dtype=torch.float64))).real.amax()
    assert (float(grows) < 0) == stable


def test_the_energy_is_what_is_left_of_the_networks_when_synapses_and_processes_rest() -> None:
    memory = AstrocyteMemory(7, coupling=0.6)
    memory.write(signs(4, 7))
    states = signs(9, 7, seed=3)
    whole = memory.network()
    synapses, processes = memory.synapses(states), memory.processes(states)
    # the neurons' own part is the same for all states of ±1
    left = whole(states, synapses, processes)
    surplus = whole.synapse_leak * whole.process_leak - 1
    torch.testing.assert_close(left - left[0], (memory.energy(states) - memory.energy(states)[0]) / surplus**2, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("coupling", [0.0, 0.5, 0.9])
def test_a_neuron_flips_as_the_energies_of_both_its_values_say(coupling: float) -> None:
    memory = AstrocyteMemory(7, coupling)
    memory.write(signs(5, 7))
    state = signs(6, 7, seed=8)
    wanted = state.clone()
    for unit in range(7):
        up, down = wanted.clone(), wanted.clone()
        up[:, unit], down[:, unit] = 1, -1
        gap = memory.energy(down) - memory.energy(up)
        # a tie goes up
        wanted[:, unit] = torch.where(gap > -1e-12, 1.0, -1.0).double()
    assert torch.equal(memory.recall(state, steps=1).state, wanted)


def test_without_coupling_it_is_the_dense_memory_of_power_4() -> None:
    patterns, cues = signs(40, 30), signs(50, 30, seed=2)
    memory, dense = AstrocyteMemory(30, coupling=0.0), am.dense(30, n=4)
    memory.write(patterns)
    dense.write(patterns)
    torch.testing.assert_close(memory.energy(cues), dense.energy(cues))
    torch.testing.assert_close(memory.weights(cues), dense.weights(cues))
    assert torch.equal(memory.recall(cues).state, dense.recall(cues).state)


def test_weak_coupling_goes_to_power_4_in_proportion_to_the_coupling() -> None:
    patterns, cues = signs(6, 12), signs(20, 12, seed=2)

    def energies(coupling: float) -> Tensor:
        memory = AstrocyteMemory(12, coupling)
        memory.write(patterns)
        return memory.energy(cues)

    gaps = [float((energies(coupling) - energies(0.0)).abs().max()) for coupling in (0.02, 0.01, 0.005)]
    assert all(1.9 < large / small < 2.2 for large, small in itertools.pairwise(gaps))


def test_the_energy_never_rises_in_recall_and_25_patterns_come_back() -> None:
    # K = 25, r = K/D as small as a tenth, a fifth of the units wrong
    patterns = signs(25, 256)
    memory = am.astrocyte(256)
    memory.write(patterns)
    assert memory.connectivity == 25 / 256
    wrong = torch.where(torch.rand(25, 256, generator=generator(3)) < 0.2, -1.0, 1.0).double()
    found = memory.recall(patterns * wrong, keep=True, generator=generator(4))
    assert torch.equal(found.state, patterns)
    energies = torch.stack([memory.energy(state) for state in found.trajectory])
    assert bool((energies.diff(dim=0) <= 1e-9 * energies.abs().max()).all())


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    memory = AstrocyteMemory(4, coupling=0.0)
    cases = [
        (ValueError, "unstable", lambda: AstrocyteMemory(4, coupling=1.0)),
        (ValueError, "-1 and \\+1", lambda: memory.write(torch.rand(2, 4))),
        (ValueError, "coupling above 0", lambda: memory.network()),
        (ValueError, "empty", lambda: memory.recall(torch.ones(1, 4))),
        (ValueError, "synapse_leak", lambda: TripartiteEnergy(Tanh(), torch.ones(1, 4), synapse_leak=0.0)),
    ]
    for error, said, call in cases:
        with pytest.raises(error, match=said) as refused:
            call()
        assert "\n" not in str(refused.value)
