"""Laws of descent: the energy never rises, items are alone, networks recall as the memories that they are, and gradients agree."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.analysis.lyapunov import energies_along, never_rose
from ammon.dynamics.backtracking import Adaptive
from ammon.dynamics.descend import Descent, descend
from ammon.dynamics.integrators import Euler, FixedPoint, Integrator, Langevin, Momentum
from ammon.energies.attention import Attention
from ammon.energies.base import Synapse
from ammon.energies.convolution import Convolution, Pooling
from ammon.energies.network import EnergyNetwork
from ammon.energies.neurons import Neurons
from ammon.energies.stored import StoredPatterns
from ammon.energies.synapses import Bias, Custom, Dense, LowRank, ManyBody
from ammon.parts.lagrangians import Identity, Lagrangian, LayerNorm, Sigmoid, Sign, Sphere, Tanh
from ammon.parts.separations import Entmax, Exponential, Maximum, Power, RectifiedPower, Relu, Softmax, Step
from ammon.parts.similarity import Cosine, Dot, Euclidean

EVERY: list[Integrator] = [Euler(0.2), Momentum(0.2, 0.5), Adaptive(), FixedPoint(), Langevin(0.1, 0.01, cooling=30)]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def two_layers(visible: Lagrangian | None = None, hidden: Lagrangian | None = None, tau: float = 1.0, scale: float = 1.0) -> EnergyNetwork:
    neurons = {"v": Neurons(6, visible or Tanh()), "h": Neurons(4, hidden or Softmax(2.0), tau)}
    synapses = {"w": Dense(scale * draw(6, 4)), "b": Bias(0.3 * draw(6, seed=1))}
    return EnergyNetwork(neurons, synapses, [(("v", "h"), "w"), (("v",), "b")]).double()


def states_of(network: EnergyNetwork, batch: int = 5, seed: int = 1) -> dict[str, Tensor]:
    return {name: draw(batch, *shape, seed=seed + number) for number, (name, shape) in enumerate(network.shapes.items())}


LAGRANGIANS: list[Lagrangian] = [
    Identity(), Tanh(1.3), Sigmoid(2.0), Relu(), RectifiedPower(3), Power(4), Softmax(3.0), Sphere(1.5), Sphere(1.0, 0.1), LayerNorm(0.7),
    Entmax(1.5, 2.0), Entmax(2.0), Sign(), Maximum(), Step(0.2), Exponential(0.5),
]  # fmt: skip
# with these no synapse has an energy without a floor
BOUNDED = [it for it in LAGRANGIANS if not isinstance(it, Identity | RectifiedPower | Power | Exponential)]


def pick(options: list[Lagrangian], generator: torch.Generator) -> Lagrangian:
    return options[int(torch.randint(len(options), (), generator=generator))]


def random_network(seed: int) -> EnergyNetwork:
    """Three layers of tokens or neurons, any Lagrangians, and each kind of synapse in turn."""
    generator = torch.Generator().manual_seed(seed)
    strength = float(3 * torch.rand((), generator=generator, dtype=torch.float64)) ** 2

    def weights(*shape: int) -> Tensor:
        return strength * torch.randn(*shape, generator=generator, dtype=torch.float64)

    # an unbounded layer keeps a lowest energy as long as what joins it grows no faster than its activation
    free = seed % 4 == 0
    lagrangians = [pick(LAGRANGIANS if free and name == "a" else BOUNDED, generator) for name in "abc"]
    taus = [float(torch.rand((), generator=generator)) + 0.05 for _ in range(3)]
    # now and then a layer that follows at once; it may not be joined with itself
    taus[1] = 0.0 if seed % 3 == 0 else taus[1]
    axes = [(-1, 0, None)[int(torch.randint(3, (), generator=generator))] for _ in range(3)]
    shapes: list[tuple[int, ...]] = [(2, 6), (2, 3), (5,)]
    neurons = {
        name: Neurons(shape, lagrangian, tau, axis if len(shape) > 1 else -1)
        for name, shape, lagrangian, tau, axis in zip("abc", shapes, lagrangians, taus, axes)
    }
    kinds: list[tuple[tuple[str, ...], Synapse]] = [
        (("a", "b"), Dense(weights(12, 6))),
        (("a", "b"), Convolution(weights(2, 2, 2), stride=2)),
        (("a", "b"), Pooling(2, kind="maximum")),
        (("b", "c"), LowRank(weights(6, 2), weights(5, 2))),
        (("a", "b", "c"), ManyBody(0.3 * weights(12, 6, 5))),
        (("c",), Bias(weights(5))) if free else (("a", "a"), Attention(weights(2, 6, 3), weights(2, 6, 3))),
        (("a",), StoredPatterns(weights(7, 6), separation=pick([Softmax(2.0), Entmax(2.0)] if free else [Relu()], generator))),
        (("c",), StoredPatterns(weights(4, 5), (Dot(), Cosine(), Euclidean())[seed % 3], Softmax(1.5))),
        (("c", "c"), Dense(weights(5, 5))),
        (("c",), Bias(weights(5))),
        (("a", "c"), Custom(lambda g, h: strength * torch.sin(3 * g.flatten(1).sum(-1)) * torch.cos(h.sum(-1)))),
    ]
    first = kinds[seed % len(kinds)]
    others = [kinds[int(torch.randint(len(kinds), (), generator=generator))] for _ in range(2)]
    chosen = [first, *(kind for number, kind in enumerate(others) if kind is not first and kind is not others[number - 1])]
    named = {f"s{number}": synapse for number, (_, synapse) in enumerate(chosen)}
    return EnergyNetwork(neurons, named, [(layers, f"s{number}") for number, (layers, _) in enumerate(chosen)])


def test_adaptive_never_raises_the_energy_of_ten_thousand_random_networks_and_states() -> None:
    # 50 networks, each at 200 states of sizes from 0.3 to 10, with first steps from 0.01 to 1000
    covered = 0
    for seed in range(50):
        network = random_network(seed)
        sizes = 10 ** (1.5 * torch.rand(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5)
        states = {name: x * sizes.reshape(-1, *[1] * (x.ndim - 1)) for name, x in states_of(network, 200, seed).items()}
        with torch.no_grad():
            descent = descend(network, states, integrator=Adaptive((0.01, 1.0, 1000.0)[seed % 3]), steps=6, keep=True)
            trace = energies_along(network, descent)
        assert torch.isfinite(trace).all(), seed
        assert never_rose(trace, 10.0), seed
        covered += len(sizes)
    assert covered == 10_000


def test_a_singular_force_that_throws_states_far_away_excuses_no_rise() -> None:
    # at an activation of 0 an angle has no gradient: the force there is as large as numbers go
    neurons = {"v": Neurons(5, Step(0.2))}
    network = EnergyNetwork(neurons, {"s": StoredPatterns(draw(4, 5), Cosine(), Softmax(1.5))}, [(("v",), "s")])
    descent = descend(network, {"v": 3 * draw(200, 5, seed=1)}, steps=8, keep=True)
    assert never_rose(energies_along(network, descent))


class Gated(Synapse):
    """E = -g1ᵀ W g2 with W the activation of a third layer: held fast there, each item of a batch is a network of its own."""

    def forward(self, *activations: Tensor) -> Tensor:
        return -torch.einsum("bi,bj,bij->b", *activations)


@pytest.mark.parametrize("hidden", [Softmax(3.0), Sigmoid(), Sphere(1.0)], ids=lambda it: type(it).__name__)
@pytest.mark.parametrize("integrator", [Adaptive(100.0), FixedPoint(("h", "v")), Euler(1e-4)], ids=lambda it: type(it).__name__)
def test_the_energy_never_rises_in_ten_thousand_networks_at_once(integrator: Integrator, hidden: Lagrangian) -> None:
    neurons = {"v": Neurons(5, Tanh()), "h": Neurons(4, hidden), "w": Neurons((5, 4))}
    network = EnergyNetwork(neurons, {"gated": Gated()}, [(("v", "h", "w"), "gated")])
    states = states_of(network, 10_000)
    states["w"] *= 10 ** (2 * torch.rand(10_000, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)
    descent = descend(network, states, integrator=integrator, steps=6, clamp={"w": True}, keep=True)
    assert never_rose(energies_along(network, descent))
    assert torch.equal(descent.states["w"], states["w"])
    if not isinstance(integrator, Euler):
        assert (network.energy(descent.states) < network.energy(states) - 0.1).float().mean() > 0.9


def test_layers_that_move_in_turn_never_raise_an_energy_that_is_concave_in_each_of_them() -> None:
    for seed in range(15):
        generator = torch.Generator().manual_seed(seed)
        a, b, c = (pick(BOUNDED, generator) for _ in range(3))
        neurons = {"a": Neurons((2, 6), a), "b": Neurons((2, 3), b, tau=0.0), "c": Neurons(5, c, tau=3.0)}
        synapses: dict[str, Synapse] = {
            "ab": Convolution(2 * draw(2, 2, 2, seed=seed), stride=2),
            "bc": Dense(draw(6, 5, seed=seed)),
            "abc": ManyBody(draw(12, 6, 5, seed=seed)),
            "a": StoredPatterns(draw(4, 2, 6, seed=seed), separation=Relu()),
            "c": Bias(draw(5)),
        }
        connections = [(("a", "b"), "ab"), (("b", "c"), "bc"), (("a", "b", "c"), "abc"), (("a",), "a"), (("c",), "c")]
        network = EnergyNetwork(neurons, synapses, connections)
        descent = descend(network, states_of(network, 50, seed), integrator=FixedPoint(), steps=6, keep=True)
        assert never_rose(energies_along(network, descent), 10.0), seed


@pytest.mark.parametrize("integrator", EVERY, ids=lambda it: type(it).__name__)
def test_every_integrator_comes_to_rest_where_no_force_is_left(integrator: Integrator) -> None:
    network = two_layers()
    generator = torch.Generator().manual_seed(3)
    descent = descend(network, states_of(network), integrator=integrator, steps=3000, generator=generator)
    assert descent.converged.all()
    assert not descent.stalled.any()
    assert (descent.steps < 3000).all()
    forces = network.forces(descent.activations)
    for name, x in descent.states.items():
        torch.testing.assert_close(x, forces[name], rtol=0, atol=1e-10)
        torch.testing.assert_close(descent.activations[name], network.activations(descent.states)[name])
    assert (network.energy(descent.states) < network.energy(states_of(network))).all()


@pytest.mark.parametrize("integrator", EVERY[:4], ids=lambda it: type(it).__name__)
def test_an_item_descends_alone_as_it_does_in_a_batch(integrator: Integrator) -> None:
    network = two_layers(tau=0.3)
    states = states_of(network, 6)
    together = descend(network, states, integrator=integrator, steps=60)
    for item in range(6):
        alone = descend(network, {name: x[item : item + 1] for name, x in states.items()}, integrator=integrator, steps=60)
        assert alone.steps == together.steps[item]
        assert alone.converged == together.converged[item]
        torch.testing.assert_close(alone.states["v"][0], together.states["v"][item], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch", [9, 13, 17])
def test_items_that_go_on_when_others_have_stopped_end_where_they_do_alone(batch: int) -> None:
    # of many items, as many as there are units that are looked at are left at some time
    network = two_layers(scale=0.3)
    states = states_of(network, batch)
    states = {
        name: layer * torch.logspace(-6, 1, batch, dtype=layer.dtype).reshape(-1, *[1] * (layer.ndim - 1)) for name, layer in states.items()
    }
    found = descend(network, states, integrator=Euler(0.5), steps=2000)
    assert len(found.steps.unique()) > 3
    for item in range(batch):
        alone = descend(network, {name: layer[item : item + 1] for name, layer in states.items()}, integrator=Euler(0.5), steps=2000)
        assert found.steps[item] == alone.steps[0]
        for name, layer in alone.states.items():
            torch.testing.assert_close(found.states[name][item], layer[0])


@pytest.mark.parametrize("integrator", EVERY, ids=lambda it: type(it).__name__)
def test_what_is_clamped_stays_to_the_last_bit_and_the_rest_comes_to_rest(integrator: Integrator) -> None:
    network = two_layers(tau=0.5)
    states = states_of(network)
    known = torch.rand(5, 6, generator=torch.Generator().manual_seed(4)) < 0.5
    generator = torch.Generator().manual_seed(3)
    descent = descend(network, states, integrator=integrator, steps=3000, clamp={"v": known}, generator=generator)
    assert torch.equal(descent.states["v"][known], states["v"][known])
    assert descent.converged.all()
    fed = network.forces(descent.activations)
    torch.testing.assert_close(descent.states["v"][~known], fed["v"][~known], rtol=0, atol=1e-10)
    whole = descend(network, states, integrator=integrator, steps=3000, clamp={"v": True}, generator=generator)
    assert torch.equal(whole.states["v"], states["v"])
    torch.testing.assert_close(whole.states["h"], torch.tanh(states["v"]) @ network.synapses["w"].weight, rtol=0, atol=1e-10)
    column = torch.tensor([True, False, False, False, False, False])
    assert torch.equal(descend(network, states, clamp={"v": column}).states["v"][:, 0], states["v"][:, 0])


def test_a_layer_without_a_time_constant_is_at_every_moment_where_its_input_leaves_it() -> None:
    network = two_layers(tau=0.0)
    states = states_of(network)
    weight = network.synapses["w"].weight
    for integrator in (Euler(0.3), Momentum(), Adaptive(), FixedPoint()):
        descent = descend(network, states, integrator=integrator, steps=7, keep=True)
        assert descent.trajectory is not None
        assert torch.equal(descent.trajectory["v"][0], states["v"])
        torch.testing.assert_close(descent.trajectory["h"][0], torch.tanh(states["v"]) @ weight)
        if not isinstance(integrator, FixedPoint):
            torch.testing.assert_close(descent.trajectory["h"], torch.tanh(descent.trajectory["v"]) @ weight)
    # it is the limit of a small one
    begin = {**states, "h": torch.tanh(states["v"]) @ weight}
    limit = descend(network, states, integrator=Euler(0.01), steps=50).states["v"]
    off = []
    for tau in (0.08, 0.02):
        near = descend(two_layers(tau=tau), begin, integrator=Euler(0.01), steps=50).states["v"]
        off.append(float((near - limit).abs().max()))
    assert off[1] < off[0] / 2 < 0.1


MEMORIES = {
    "softmax": (Dot(), Softmax(1.3), Identity()),
    "sparsemax": (Dot(), Entmax(2.0, 1.5), Identity()),
    "distances": (Euclidean(), Softmax(0.9), Identity()),
    "tanh": (Dot(), RectifiedPower(3), Tanh(0.4)),
    "sphere": (Dot(), Power(4), Sphere(1.0)),
    "sign": (Dot(), RectifiedPower(3), Sign()),
}


@pytest.mark.parametrize("name", MEMORIES)
@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_one_layer_with_stored_patterns_recalls_as_the_memory_step_by_step(name: str, tau: float) -> None:
    similarity, separation, activation = MEMORIES[name]
    memory = am.AssociativeMemory(7, similarity, separation, activation)
    patterns, cue = draw(9, 7), draw(4, 7, seed=1)
    if isinstance(activation, Sign):
        patterns, cue = patterns.sign(), cue.sign()
    memory.write(patterns)
    recall = memory.recall(cue, steps=6, tolerance=0.0, keep=True)
    synapse = StoredPatterns(patterns, similarity, separation)
    network = EnergyNetwork({"v": Neurons(7, activation, tau)}, {"memory": synapse}, [(("v",), "memory")])
    # the state of which the cue is the activation
    x = torch.atanh(cue.clamp(-0.9, 0.9)) / 0.4 if name == "tanh" else cue
    if name == "tanh":
        recall = memory.recall(cue.clamp(-0.9, 0.9), steps=6, tolerance=0.0, keep=True)
    if name == "sphere":
        recall = memory.recall(cue / cue.norm(dim=-1, keepdim=True), steps=6, tolerance=0.0, keep=True)
    descent = descend(network, {"v": x}, integrator=Euler(tau), steps=6, tolerance=0.0, keep=True)
    assert descent.trajectory is not None
    assert recall.trajectory is not None
    for moment, state in zip(descent.trajectory["v"], recall.trajectory):
        torch.testing.assert_close(activation.activation(moment), state, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in MEMORIES if name != "distances"])
def test_a_hidden_layer_that_follows_at_once_makes_the_two_layers_the_memory(name: str) -> None:
    similarity, separation, activation = MEMORIES[name]
    patterns, x = draw(9, 7), draw(4, 7, seed=1)
    if isinstance(activation, Sign):
        patterns, x = patterns.sign(), x.sign()
    memory = am.AssociativeMemory(7, similarity, separation, activation)
    memory.write(patterns)
    neurons = {"v": Neurons(7, activation, tau=1.7), "h": Neurons(9, separation, tau=0.0)}
    network = EnergyNetwork(neurons, {"w": Dense(patterns.mT)}, [(("v", "h"), "w")])
    states = {"v": x, "h": torch.zeros(4, 9, dtype=torch.float64)}
    for integrator in (Euler(1.7), FixedPoint(("h", "v"))):
        descent = descend(network, states, integrator=integrator, steps=5, tolerance=0.0)
        recall = memory.recall(activation.activation(x), steps=5, tolerance=0.0)
        torch.testing.assert_close(descent.activations["v"], recall.state, rtol=1e-9, atol=1e-9)


def test_a_chain_of_layers_is_the_chain_of_its_two_layer_energies() -> None:
    """Krotov 2021: feedforward and feedback weights between neighbours only, one energy for all."""
    sizes = [5, 4, 3, 2]
    neurons = {f"l{number}": Neurons(size, Tanh()) for number, size in enumerate(sizes)}
    weights = [draw(*pair, seed=number) for number, pair in enumerate(pairwise(sizes))]
    synapses = {f"w{number}": Dense(weight) for number, weight in enumerate(weights)}
    network = EnergyNetwork(neurons, synapses, [((f"l{number}", f"l{number + 1}"), f"w{number}") for number in range(3)])
    states = states_of(network)
    g = {name: torch.tanh(x) for name, x in states.items()}
    # tau dx_A/dt = W_(A,A-1) g_(A-1) + W_(A,A+1) g_(A+1) - x_A
    for number in range(4):
        fed = torch.zeros_like(g[f"l{number}"])
        if number:
            fed = fed + g[f"l{number - 1}"] @ weights[number - 1]
        if number < 3:
            fed = fed + g[f"l{number + 1}"] @ weights[number].mT
        moved = descend(network, states, integrator=Euler(0.1), steps=1).states[f"l{number}"]
        torch.testing.assert_close(moved, states[f"l{number}"] + 0.1 * (fed - states[f"l{number}"]))
    energy = sum((x * g[name] - torch.log(torch.cosh(x))).sum(-1) for name, x in states.items())
    energy = energy - sum((g[f"l{number + 1}"] * (g[f"l{number}"] @ weight)).sum(-1) for number, weight in enumerate(weights))
    torch.testing.assert_close(network.energy(states), energy)


def learned() -> EnergyNetwork:
    """A network that is drawn together, so that descent has one end that all ways of differentiating share."""
    neurons = {"v": Neurons(6, Tanh(0.9, learnable=True)), "h": Neurons((2, 2), Softmax(2.0, learnable=True), tau=0.7)}
    synapses = {"w": Dense(0.5 * draw(6, 4), learnable=True), "b": Bias(draw(6, seed=1), learnable=True)}
    return EnergyNetwork(neurons, synapses, [(("v", "h"), "w"), (("v",), "b")]).double()


def gradients(integrator: Integrator, differentiate: str, steps: int = 4000) -> dict[str, Tensor]:
    network = learned()
    states = {name: x.requires_grad_() for name, x in states_of(network).items()}
    known = torch.zeros(6, dtype=torch.bool)
    known[:3] = True
    found = descend(network, states, integrator=integrator, steps=steps, tolerance=1e-13, clamp={"v": known}, differentiate=differentiate)  # type: ignore[arg-type]
    if steps > 100:
        assert found.converged.all()
    loss = sum((g * draw(*g.shape, seed=31)).sum() for g in found.activations.values())
    named = {**dict(network.named_parameters()), "cue": states["v"]}
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()))))  # type: ignore[arg-type]


@pytest.mark.parametrize("integrator", [Euler(0.5), Momentum(0.2, 0.5), Adaptive(), FixedPoint()], ids=lambda it: type(it).__name__)
def test_gradients_through_the_fixed_point_are_those_through_all_steps(integrator: Integrator) -> None:
    unrolled, implicit = gradients(integrator, "unroll"), gradients(integrator, "implicit")
    for name, gradient in unrolled.items():
        torch.testing.assert_close(implicit[name], gradient, rtol=1e-6, atol=1e-9, msg=lambda said, name=name: f"{name}: {said}")
    assert float(unrolled["cue"][:, :3].abs().max()) > 1e-3
    assert float(unrolled["neurons.h.lagrangian.beta"].abs()) > 1e-3


@pytest.mark.parametrize("integrator", [Euler(0.5), Momentum(0.2, 0.5), Adaptive(3.0), FixedPoint()], ids=lambda it: type(it).__name__)
def test_truncated_gradients_are_those_of_the_last_step_alone(integrator: Integrator) -> None:
    truncated = gradients(integrator, "truncated", steps=3)
    network = learned()
    states = states_of(network)
    known = torch.zeros(6, dtype=torch.bool)
    known[:3] = True
    if isinstance(integrator, Euler | FixedPoint):
        with torch.no_grad():
            before = descend(network, states, integrator=integrator, steps=2, clamp={"v": known}).states
        last = descend(network, before, integrator=integrator, steps=1, clamp={"v": known})
        loss = sum((g * draw(*g.shape, seed=31)).sum() for g in last.activations.values())
        named = dict(network.named_parameters())
        for name, gradient in zip(named, torch.autograd.grad(loss, list(named.values()))):  # type: ignore[arg-type]
            torch.testing.assert_close(truncated[name], gradient)
    # the answer itself is that of the whole descent
    answers = []
    for way in ("unroll", "truncated"):
        found = descend(network, states, integrator=integrator, steps=3, clamp={"v": known}, differentiate=way)  # type: ignore[arg-type]
        answers.append(found.states["v"])
    torch.testing.assert_close(answers[0], answers[1])
    assert all(torch.isfinite(gradient).all() for gradient in truncated.values())


@pytest.mark.parametrize("integrator", EVERY[:4], ids=lambda it: type(it).__name__)
def test_descent_with_a_graph_is_descent_without(integrator: Integrator) -> None:
    network = learned()
    states = states_of(network)
    with torch.no_grad():
        plain = descend(network, states, integrator=integrator, steps=20)
    tracked = descend(network, states, integrator=integrator, steps=20)
    assert tracked.states["v"].requires_grad
    assert torch.equal(plain.steps, tracked.steps)
    torch.testing.assert_close(plain.states["v"], tracked.states["v"].detach())


def test_noise_brings_identity_neurons_to_their_gibbs_distribution() -> None:
    """E = x²/2 (1 - w): the variance is temperature / (1 - w), and for steps of h larger by 1/(1 - h (1 - w)/2)."""
    network = EnergyNetwork({"v": Neurons(1)}, {"w": Dense(torch.tensor([[0.25]]))}, [(("v", "v"), "w")]).double()
    states = {"v": torch.zeros(40_000, 1, dtype=torch.float64)}
    descent = descend(network, states, integrator=Langevin(0.2, 0.8), steps=80, generator=torch.Generator().manual_seed(0))
    variance, truth = float(descent.states["v"].var()), 0.8 / 0.5 / (1 - 0.2 * 0.5 / 2)
    # 5 standard errors of a variance of 40,000 independent items
    assert abs(variance - truth) < 5 * truth * math.sqrt(2 / 40_000)
    assert not descent.converged.any()


def test_annealing_ends_cold_and_lower_than_a_fall_from_the_same_cue() -> None:
    generator = torch.Generator().manual_seed(0)
    coupling = torch.randn(24, 24, generator=generator, dtype=torch.float64)
    network = EnergyNetwork({"v": Neurons(24, Tanh(4.0))}, {"w": Dense(coupling / 24**0.5)}, [(("v", "v"), "w")])
    states = {"v": 0.1 * torch.randn(200, 24, generator=generator, dtype=torch.float64)}
    cold = descend(network, states, integrator=Euler(0.2), steps=2000)
    hot = descend(network, states, integrator=Langevin(0.2, 0.3, cooling=600), steps=2600, generator=generator)
    assert hot.converged.all()
    assert (hot.steps > 600).all()
    assert network.energy(hot.states).mean() < network.energy(cold.states).mean()
    again = descend(network, states, integrator=Langevin(0.2, 0.3, cooling=5), steps=9, generator=torch.Generator().manual_seed(1))
    same = descend(network, states, integrator=Langevin(0.2, 0.3, cooling=5), steps=9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.states["v"], same.states["v"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("integrator", EVERY, ids=lambda it: type(it).__name__)
def test_dtypes_are_kept_and_the_energy_falls_in_them(integrator: Integrator, dtype: torch.dtype) -> None:
    network = two_layers().to(dtype)
    states = {name: x.to(dtype) for name, x in states_of(network).items()}
    descent = descend(network, states, integrator=integrator, steps=300, keep=True, generator=torch.Generator().manual_seed(0))
    assert descent.states["v"].dtype == descent.activations["h"].dtype == dtype
    trace = energies_along(network, descent)
    assert (trace[-1] < trace[0]).all()
    if isinstance(integrator, Adaptive | FixedPoint):
        assert never_rose(trace, float(10 * max(x.abs().max() for x in states.values())))


def test_the_record_keeps_the_cue_first_and_counts_each_items_steps() -> None:
    network = two_layers()
    states = states_of(network)
    descent: Descent = descend(network, states, steps=40, keep=True)
    assert descent.trajectory is not None
    assert torch.equal(descent.trajectory["v"][0], states["v"])
    assert torch.equal(descent.trajectory["h"][-1], descent.states["h"])
    assert len(descent.trajectory["v"]) == int(descent.steps.max()) + 1
    for item, steps in enumerate(descent.steps.tolist()):
        assert (descent.trajectory["v"][steps:, item] == descent.states["v"][item]).all()
    assert descend(network, states).trajectory is None
    empty = descend(network, {name: x[:0] for name, x in states.items()})
    assert empty.states["v"].shape == (0, 6)


def test_equal_layers_that_go_together_may_swap_for_ever_and_that_is_told() -> None:
    network = EnergyNetwork({"a": Neurons(1), "b": Neurons(1)}, {"w": Dense(torch.ones(1, 1))}, [(("a", "b"), "w")])
    descent = descend(network, {"a": torch.ones(1, 1), "b": -torch.ones(1, 1)}, integrator=Euler(1.0), steps=50)
    assert descent.stalled.all()
    assert not descent.converged.any()
    assert int(descent.steps) < 5


@pytest.mark.parametrize("seed", range(22))
def test_a_step_without_gradients_adds_pulls_in_place_and_leads_where_the_forces_say(seed: int) -> None:
    network = random_network(seed)
    states = states_of(network, 3, seed)
    shares = {name: 0.3 + 0.2 * number for number, name in enumerate(network.shapes) if name != "abc"[seed % 4 : seed % 4 + 1]}
    before = {name: x.clone() for name, x in states.items()}
    forces = network.forces(network.activations(states))
    into = {name: torch.full_like(x, torch.nan) for name, x in states.items()}
    with torch.no_grad():
        network.relax(states, into, shares)
    for name, share in shares.items():
        torch.testing.assert_close(into[name], states[name] + share * (forces[name] - states[name]), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(states[name], before[name]) for name in states)
    assert all(torch.isnan(into[name]).all() for name in states if name not in shares)


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("integrator", [Euler(0.3), Euler(1.0), Langevin(0.1, 0.01, cooling=30)], ids=str)
def test_descent_without_gradients_is_that_with_them_to_the_same_step(integrator: Integrator, clamped: bool) -> None:
    for seed in (0, 3, 4, 7):
        network, generators = random_network(seed), [torch.Generator().manual_seed(seed) for _ in range(2)]
        states = states_of(network, 6, seed)
        clamp = {"a": draw(2, 6, seed=9) > 0} if clamped else None
        plain = descend(network, states, integrator=integrator, steps=60, tolerance=1e-4, clamp=clamp, generator=generators[0])
        with torch.no_grad():
            fast = descend(network, states, integrator=integrator, steps=60, tolerance=1e-4, clamp=clamp, generator=generators[1])
        assert torch.equal(fast.steps, plain.steps)
        assert torch.equal(fast.converged, plain.converged)
        for name in states:
            torch.testing.assert_close(fast.states[name], plain.states[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tau", [1.0, 0.0])
def test_an_item_stops_where_no_free_entry_of_the_slope_is_above_the_tolerance_and_not_before(tau: float) -> None:
    network, tolerance = two_layers(tau=tau, scale=0.4), 1e-3
    states = states_of(network, 40)
    with torch.no_grad():
        found = descend(network, states, integrator=Euler(0.3), steps=200, tolerance=tolerance, keep=True)
        assert found.converged.all()
        assert found.steps.unique().numel() > 1
        assert found.trajectory is not None
        for item, steps in enumerate(found.steps.tolist()):
            along = {name: x[:steps, item] for name, x in found.trajectory.items()}
            forces = network.forces(network.activations(along))
            left = torch.stack([(forces[name] - x).abs().amax(-1) for name, x in along.items() if network.tau[name]]).amax(0)
            assert left[-1] <= tolerance
            assert (left[:-1] > tolerance).all()
