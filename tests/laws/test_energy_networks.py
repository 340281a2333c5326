"""Laws of energy networks: one energy, the sum of its tree; its gradients; and the memories that networks are."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import ammon as am
from ammon.analysis.lyapunov import check_lyapunov
from ammon.energies.associative import AssociativeEnergy
from ammon.energies.attention import Attention
from ammon.energies.base import Synapse
from ammon.energies.convolution import Convolution, Pooling
from ammon.energies.network import EnergyNetwork
from ammon.energies.neurons import Neurons
from ammon.energies.stored import StoredPatterns
from ammon.energies.synapses import Bias, Custom, Dense, LowRank, ManyBody
from ammon.parts.lagrangians import Identity, Lagrangian, LayerNorm, Sigmoid, Sphere, Tanh
from ammon.parts.separations import Entmax, Exponential, LogSumRelu, Power, RectifiedPower, Relu, Softmax
from ammon.parts.similarity import Cosine, Dot, Euclidean, Manhattan


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def joined(shapes: list[tuple[int, ...]], synapse: Synapse, lagrangian: Lagrangian | None = None) -> EnergyNetwork:
    """One synapse that joins layers of these shapes."""
    neurons = {f"layer{number}": Neurons(shape, lagrangian) for number, shape in enumerate(shapes)}
    return EnergyNetwork(neurons, {"synapse": synapse}, [(tuple(neurons), "synapse")]).double()


def states_of(network: EnergyNetwork, batch: int = 3, seed: int = 1) -> dict[str, Tensor]:
    return {name: draw(batch, *shape, seed=seed + number) for number, (name, shape) in enumerate(network.shapes.items())}


# name: the synapse, the layers it joins, and its energy of one item as a plain sum
SYNAPSES: dict[str, tuple[Synapse, list[tuple[int, ...]]]] = {
    "dense": (Dense(draw(6, 4)), [(2, 3), (4,)]),
    "low_rank": (LowRank(draw(6, 2), draw(4, 2, seed=3)), [(6,), (4,)]),
    "bias": (Bias(draw(2, 3)), [(2, 3)]),
    "many_body_2": (ManyBody(draw(3, 4)), [(3,), (4,)]),
    "many_body_3": (ManyBody(draw(3, 4, 2)), [(3,), (4,), (2,)]),
    "convolution_1d": (Convolution(draw(3, 2, 3), stride=2, padding=1), [(2, 8), (3, 4)]),
    "convolution_2d": (Convolution(draw(3, 2, 3, 2), stride=2), [(2, 7, 6), (3, 3, 3)]),
    "mean_pooling_1d": (Pooling(3, 2), [(2, 8), (2, 3)]),
    "mean_pooling_2d": (Pooling(2), [(2, 5, 4), (2, 2, 2)]),
    "maximum_pooling_1d": (Pooling(3, 2, "maximum"), [(2, 8), (2, 3)]),
    "maximum_pooling_2d": (Pooling(3, 1, "maximum"), [(2, 5, 4), (2, 3, 2)]),
    "attention": (Attention(draw(2, 4, 3), draw(2, 5, 3, seed=2)), [(6, 4), (7, 5)]),
    "masked_attention": (Attention(draw(2, 4, 3), draw(2, 4, 3, seed=2), Entmax(1.5), True, draw(6, 6) > 0), [(6, 4), (6, 4)]),
    "stored": (StoredPatterns(draw(5, 4)), [(4,)]),
    "stored_in_tokens": (StoredPatterns(draw(5, 4), separation=Relu()), [(3, 4)]),
    "stored_images": (StoredPatterns(draw(5, 3, 4), separation=RectifiedPower(3)), [(3, 4)]),
    "stored_by_distance": (StoredPatterns(draw(5, 4), Euclidean(), Softmax(0.7)), [(4,)]),
    "stored_within_reach": (StoredPatterns(draw(5, 4), Euclidean(), LogSumRelu(0.2)), [(4,)]),
    "stored_by_angle": (StoredPatterns(draw(5, 4), Cosine(), Power(3)), [(4,)]),
    "stored_by_blocks": (StoredPatterns(draw(5, 4), Manhattan(), Entmax(2.0)), [(4,)]),
    "custom": (Custom(lambda g, h: (g.square().sum(-1) - 1).square() + torch.sin(h).sum(-1) * g[:, 0]), [(4,), (2,)]),
}


@pytest.mark.parametrize("name", SYNAPSES)
def test_what_a_synapse_feeds_is_minus_the_gradient_of_its_energy(name: str) -> None:
    synapse, shapes = SYNAPSES[name]
    synapse = synapse.double()
    given = [draw(3, *shape, seed=7 + number).requires_grad_() for number, shape in enumerate(shapes)]
    gradients = torch.autograd.grad(synapse(*given).sum(), given)
    for pull, gradient in zip(synapse.pulls(*given), gradients, strict=True):
        torch.testing.assert_close(pull, -gradient, rtol=1e-11, atol=1e-11)
    for place in range(len(shapes)):
        (alone,) = synapse.pulls(*given, at=[place])
        torch.testing.assert_close(alone, -gradients[place], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", SYNAPSES)
def test_what_a_synapse_feeds_can_be_differentiated_again(name: str) -> None:
    synapse, shapes = SYNAPSES[name]
    synapse = synapse.double()
    given = [draw(2, *shape, seed=7 + number).requires_grad_() for number, shape in enumerate(shapes)]
    weights, ways = ([draw(2, *shape, seed=seed + number) for number, shape in enumerate(shapes)] for seed in (17, 27))

    def total(step: float) -> Tensor:
        moved = [g + step * way for g, way in zip(given, ways)]
        return torch.stack([(pull * weight).sum() for pull, weight in zip(synapse.pulls(*moved), weights)]).sum()

    here = total(0.0)
    gradients = torch.autograd.grad(here, given, allow_unused=True) if here.requires_grad else [None] * len(given)
    along = sum(float((gradient * way).sum().detach()) for gradient, way in zip(gradients, ways) if gradient is not None)
    assert along == pytest.approx(float((total(1e-6) - total(-1e-6)).detach()) / 2e-6, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", SYNAPSES)
def test_items_never_see_each_other_and_every_network_passes_its_own_check(name: str) -> None:
    synapse, shapes = SYNAPSES[name]
    network = joined(shapes, synapse, Tanh())
    found = check_lyapunov(network, samples=16)
    assert min(found.curvature.values()) >= 0
    assert found.rise <= 0
    states = states_of(network)
    alone = torch.cat([network.energy({layer: x[item : item + 1] for layer, x in states.items()}) for item in range(3)])
    torch.testing.assert_close(alone, network.energy(states))


def test_convolution_pooling_many_body_and_attention_are_their_plain_sums() -> None:
    g, h = draw(2, 2, 8), draw(2, 3, 4, seed=1)
    kernel = SYNAPSES["convolution_1d"][0].kernel.double()
    padded, plain = functional.pad(g, (1, 1)), torch.zeros(2, dtype=torch.float64)
    for out in range(3):
        for place in range(4):
            seen = (kernel[out] * padded[:, :, 2 * place : 2 * place + 3]).sum((-1, -2))
            plain -= h[:, out, place] * seen
    torch.testing.assert_close(SYNAPSES["convolution_1d"][0](g, h), plain)

    g, h = draw(2, 2, 5, 4), draw(2, 2, 2, 2, seed=1)
    windows = g[:, :, :4].reshape(2, 2, 2, 2, 2, 2)
    torch.testing.assert_close(SYNAPSES["mean_pooling_2d"][0](g, h), -(h * windows.mean((3, 5))).sum((1, 2, 3)))
    torch.testing.assert_close(Pooling(2, kind="maximum")(g, h), -(h * windows.amax((3, 5))).sum((1, 2, 3)))

    tensor = SYNAPSES["many_body_3"][0].tensor.double()
    one, two, three = draw(2, 3), draw(2, 4, seed=1), draw(2, 2, seed=2)
    plain = -torch.stack(
        [sum(tensor[i, j, k] * one[b, i] * two[b, j] * three[b, k] for i in range(3) for j in range(4) for k in range(2)) for b in range(2)]
    )  # type: ignore[misc]
    torch.testing.assert_close(SYNAPSES["many_body_3"][0](one, two, three), plain)

    attention = Attention(draw(2, 4, 3), draw(2, 4, 3, seed=2), others=True)
    tokens, beta = draw(2, 5, 4, seed=5), 3**-0.5
    for item in range(2):
        total = 0.0
        for head in range(2):
            for query in range(5):
                q = tokens[item, query] @ attention.query[head]
                terms = [math.exp(beta * float(q @ (tokens[item, key] @ attention.key[head]))) for key in range(5) if key != query]
                total -= math.log(sum(terms)) / beta
        assert float(attention(tokens, tokens)[item]) == pytest.approx(total, rel=1e-12)


def test_a_query_that_may_attend_to_nobody_has_no_energy_and_feeds_nothing() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[1] = False
    attention, tokens = Attention(draw(2, 3, 2), draw(2, 3, 2, seed=1), mask=mask).double(), draw(2, 4, 3, seed=2).requires_grad_()
    energy = attention(tokens, tokens)
    (gradient,) = torch.autograd.grad(energy.sum(), tokens)
    assert torch.isfinite(energy).all()
    assert torch.isfinite(gradient).all()
    fed, _ = attention.pulls(tokens, tokens)
    assert (fed[:, 1] == 0).all()
    alone = Attention(draw(2, 3, 2), draw(2, 3, 2, seed=1), others=True).double()
    assert (alone(tokens[:, :1], tokens[:, :1]) == 0).all()


def rich() -> EnergyNetwork:
    """Layers of many shapes and Lagrangians, joined by all kinds of synapses, one of them used twice and one layer named twice."""
    generator = torch.Generator().manual_seed(5)
    neurons = {
        "image": Neurons((2, 4, 4), Tanh(0.8)),
        "features": Neurons((3, 2, 2), Sigmoid(), tau=0.5, axis=0),
        "tokens": Neurons((4, 6), LayerNorm(0.9, delta=draw(6))),
        "context": Neurons((4, 6), Sphere(1.3, eps=1e-3)),
        "label": Neurons(5, Softmax(2.0), tau=2.0),
        "hidden": Neurons(7, Exponential(0.3)),
        "memory": Neurons(3, Softmax(1.5, learnable=True), axis=None),
    }
    synapses: dict[str, Synapse] = {
        "kernel": Convolution(draw(3, 2, 2, 2, seed=3), stride=2, learnable=True),
        "attention": Attention.drawn(6, 2, 3, generator=generator, others=True),
        "read": Dense.drawn(24, 5, generator=generator),
        "patterns": StoredPatterns(draw(8, 6, seed=4), separation=Relu()),
        "triple": ManyBody(0.1 * draw(5, 7, 3, seed=6), learnable=True),
        "lateral": Dense.drawn(7, 7, generator=generator),
        "bias": Bias(draw(5, seed=8)),
        "own": Custom(lambda g: g.pow(4).flatten(1).sum(-1)),
    }
    connections = [
        (("image", "features"), "kernel"),
        (("tokens", "tokens"), "attention"),
        (("tokens", "label"), "read"),
        (("context", "label"), "read"),
        (("tokens",), "patterns"),
        (("label", "hidden", "memory"), "triple"),
        (("hidden", "hidden"), "lateral"),
        (("label",), "bias"),
        (("features",), "own"),
    ]
    return EnergyNetwork(neurons, synapses, connections).double()


def test_the_energy_tree_sums_to_the_total_and_names_every_component() -> None:
    network = rich()
    states = states_of(network)
    tree = network.energy_tree(states)
    assert list(tree["neurons"]) == list(network.shapes)
    assert list(tree["connections"])[:4] == [
        "kernel(image, features)",
        "attention(tokens, tokens)",
        "read(tokens, label)",
        "read(context, label)",
    ]
    total = torch.stack([*tree["neurons"].values(), *tree["connections"].values()]).sum(0)
    torch.testing.assert_close(network.energy(states), total)
    assert network(states).shape == (3,)


def test_forces_are_the_gradient_of_the_energy_by_the_activations_less_the_states() -> None:
    network = rich()
    states = states_of(network)
    g = {name: value.detach().requires_grad_() for name, value in network.activations(states).items()}
    gradients = torch.autograd.grad(network.energy(states, g).sum(), list(g.values()))
    forces = network.forces(g)
    for (name, x), gradient in zip(states.items(), gradients):
        torch.testing.assert_close(gradient, x - forces[name], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(network.forces(g, [name])[name], forces[name])


def test_the_energy_does_not_change_with_the_states_at_their_own_activations() -> None:
    # ∂E/∂x = g - dL/dx at fixed g: hamux-torch gives g itself
    network = rich()
    states = {name: x.requires_grad_() for name, x in states_of(network).items()}
    g = {name: value.detach() for name, value in network.activations(states).items()}
    for gradient in torch.autograd.grad(network.energy(states, g).sum(), list(states.values())):
        assert float(gradient.abs().max()) < 1e-12
    other = {name: value + 0.1 for name, value in g.items()}
    for gradient in torch.autograd.grad(network.energy(states, other).sum(), list(states.values())):
        torch.testing.assert_close(gradient, torch.full_like(gradient, 0.1))


def test_every_parameter_has_the_gradient_of_finite_differences() -> None:
    # hamux cannot differentiate a learnable beta through its energy
    network = rich()
    states = states_of(network)
    weights = draw(3, seed=9)
    (network.energy(states) * weights).sum().backward()
    parameters = dict(network.named_parameters())
    assert "neurons.memory.lagrangian.beta" in parameters
    for name, parameter in parameters.items():
        direction = draw(*parameter.shape, seed=11)
        with torch.no_grad():
            ends = []
            for step in (1e-5, -1e-5):
                parameter += step * direction
                ends.append(float((network.energy(states) * weights).sum()))
                parameter -= step * direction
        assert float((parameter.grad * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-6), name


LEARNED = [
    Sigmoid(2.0, True),
    Tanh(0.7, True),
    Softmax(1.7, True),
    Entmax(1.5, 2.0, True),
    Exponential(0.5, True),
    Sphere(1.5, 0.1, True),
    LayerNorm(1.3, delta=torch.linspace(-1, 1, 4), learnable=True),
]
CONVEX = [Softmax(1.7), Power(2), Power(4), RectifiedPower(3), Exponential(0.4), Entmax(1.5, 2.0), Identity()]


@pytest.mark.parametrize("learned", LEARNED, ids=lambda it: type(it).__name__)
def test_every_parameter_of_a_lagrangian_has_the_gradient_of_finite_differences(learned: Lagrangian) -> None:
    network = EnergyNetwork({"layer": Neurons((3, 4), learned)}, {"w": Dense(draw(12, 12))}, [(("layer", "layer"), "w")]).double()
    states = states_of(network)
    names = dict(network.named_parameters())
    assert names
    for name, parameter in names.items():
        (gradient,) = torch.autograd.grad(network.energy(states).sum(), parameter)
        direction = draw(*parameter.shape, seed=11)
        with torch.no_grad():
            ends = []
            for step in (1e-5, -1e-5):
                parameter += step * direction
                ends.append(float(network.energy(states).sum()))
                parameter -= step * direction
        assert float((gradient * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_energies_stay_finite_and_right_in_float32_far_from_the_origin(size: float) -> None:
    # hamux: log cosh and softplus overflow at 100. The energy of a layer is 0 for a saturated tanh or sigmoid, but for log 2
    x = size * torch.tensor([[1.0, -1.0]])
    for lagrangian, truth in ((Tanh(), 2 * math.log(2)), (Sigmoid(), 0.0), (Softmax(), 0.0)):
        layer = Neurons(2, lagrangian)
        assert float(layer.energy(x, layer.activation(x))) == pytest.approx(truth, abs=1e-6 * size)


def test_layer_norm_with_a_bias_over_many_tokens_counts_it_once_per_token() -> None:
    # hamux counts it as often as there are tokens; energy-transformer-jax is right for one token only
    delta = draw(5)
    layer = Neurons((7, 5), LayerNorm(1.4, delta=delta)).double()
    x = draw(3, 7, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(-layer.energy(x, torch.zeros_like(x)).sum(), x)
    torch.testing.assert_close(gradient, functional.layer_norm(x, (5,), torch.full((5,), 1.4).double(), delta))
    torch.testing.assert_close(gradient, layer.activation(x))


def test_an_axis_chooses_which_neurons_compete() -> None:
    x = draw(3, 4, 5)
    torch.testing.assert_close(Neurons((4, 5), Softmax(2.0)).activation(x), torch.softmax(2 * x, -1))
    torch.testing.assert_close(Neurons((4, 5), Softmax(2.0), axis=0).activation(x), torch.softmax(2 * x, 1))
    torch.testing.assert_close(Neurons((4, 5), Softmax(2.0), axis=None).activation(x), torch.softmax(2 * x.flatten(1), -1).reshape(3, 4, 5))
    for axis in (-1, 0, 1, None):
        layer = Neurons((4, 5), Softmax(2.0), axis=axis)
        place = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(-layer.energy(place, torch.zeros_like(place)).sum(), place)
        torch.testing.assert_close(gradient, layer.activation(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_are_kept_and_energies_agree_with_float64(dtype: torch.dtype) -> None:
    network = rich()
    states = states_of(network)
    truth, size = network.energy(states), sum(term.abs() for part in network.energy_tree(states).values() for term in part.values())  # type: ignore[attr-defined]
    half = rich().to(dtype)
    found = half.energy({name: x.to(dtype) for name, x in states.items()})
    assert found.dtype == dtype
    assert ((found.double() - truth).abs() <= 8 * torch.finfo(dtype).eps * size).all()
    assert half.forces(half.activations({name: x.to(dtype) for name, x in states.items()}))["tokens"].dtype == dtype


def test_an_energy_that_is_written_alone_works_under_no_grad_and_inference_mode() -> None:
    network = joined(*reversed(SYNAPSES["custom"]))  # type: ignore[arg-type]
    states = states_of(network)
    truth = {name: pull.detach() for name, pull in network.forces(network.activations(states)).items()}
    with torch.no_grad():
        for name, pull in network.forces(network.activations(states)).items():
            assert not pull.requires_grad
            torch.testing.assert_close(pull, truth[name])
    with torch.inference_mode():
        for name, pull in network.forces(network.activations({name: x.clone() for name, x in states.items()})).items():
            torch.testing.assert_close(pull, truth[name])


class Quartic(Synapse):
    """An energy of one's own."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, *activations: Tensor) -> Tensor:
        return self.strength * activations[0].pow(4).flatten(1).sum(-1)


def test_saved_and_loaded_it_is_the_same_network(tmp_path: Path) -> None:
    whole = rich()
    synapses = {name: synapse for name, synapse in whole.synapses.items() if name != "own"} | {"own": Quartic(0.5)}
    synapses |= {
        "masked": Attention(draw(2, 6, 3), draw(2, 6, 3), mask=draw(4, 4) > 0),
        "pool": Pooling(2),
        "low": LowRank(draw(5, 2), draw(7, 2)),
    }
    connections = [*whole.connections, (("tokens", "context"), "masked"), (("image", "pooled"), "pool"), (("label", "hidden"), "low")]
    neurons = {**whole.neurons, "pooled": Neurons((2, 2, 2), tau=0.0)}
    network = EnergyNetwork(neurons, synapses, connections).double()  # type: ignore[arg-type]
    am.save(network, tmp_path / "network")
    loaded = am.load(tmp_path / "network", classes=[Quartic])
    assert isinstance(loaded, EnergyNetwork)
    assert repr(loaded) == repr(network)
    assert loaded.connections == network.connections
    states = states_of(network)
    assert torch.equal(loaded.energy(states), network.energy(states))
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in network.named_parameters()]
    with pytest.raises(ValueError, match=r"pass it as load\(path, classes=\[...\]\)"):
        am.load(tmp_path / "network")
    with pytest.raises(TypeError, match=r"the function .*<lambda> cannot be saved; write it as a class"):
        am.save(whole, tmp_path / "network")


def test_no_items_are_an_empty_answer() -> None:
    for synapse, shapes in SYNAPSES.values():
        network = joined(shapes, synapse)
        states = {name: x[:0] for name, x in states_of(network).items()}
        assert network.energy(states).shape == (0,)
        for name, force in network.forces(network.activations(states)).items():
            assert force.shape == (0, *network.shapes[name])


@pytest.mark.parametrize("separation", CONVEX, ids=lambda it: type(it).__name__)
@pytest.mark.parametrize("visible", [Identity(), Tanh(0.8), Sphere(1.2)], ids=lambda it: type(it).__name__)
def test_without_its_hidden_layer_a_network_has_the_energy_of_the_memory(visible: Lagrangian, separation: Lagrangian) -> None:
    """Krotov & Hopfield 2021: at h = Ξ g the hidden energy <h, f> - L(h) and the synapse -<f, Ξ g> leave -L(Ξ g)."""
    patterns, hidden_of = draw(9, 5), Neurons(9, separation)
    network = EnergyNetwork({"v": Neurons(5, visible), "h": hidden_of}, {"w": Dense(patterns.mT)}, [(("v", "h"), "w")]).double()
    x = draw(4, 5, seed=3)
    g = visible.activation(x)
    states = {"v": x, "h": g @ patterns.mT}
    stored = joined([(5,)], StoredPatterns(patterns, separation=separation), visible)
    torch.testing.assert_close(network.energy(states), stored.energy({"layer0": x}))
    if not isinstance(visible, Sphere):
        memory = AssociativeEnergy(Dot(), separation, visible).double()
        torch.testing.assert_close(network.energy(states), memory(g, patterns))
    # and the visible layer is fed what it would be without
    fed = network.forces(network.activations(states))
    torch.testing.assert_close(fed["h"], states["h"])
    torch.testing.assert_close(fed["v"], stored.forces({"layer0": g})["layer0"])


def test_a_dense_memory_of_power_n_is_a_network_without_its_hidden_layer() -> None:
    for n in (2, 3, 4):
        memory = am.rectified_dense(24, n)
        patterns = am.random_patterns(6, 24, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        memory.write(patterns)
        spins = am.random_patterns(5, 24, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        network = joined([(24,)], StoredPatterns(patterns, separation=memory.separation))
        # identity neurons at ±1 have the energy 12, which ±1 units do not
        torch.testing.assert_close(network.energy({"layer0": spins}) - 12, memory.energy(spins))


@pytest.mark.parametrize("similarity", [Dot(), Euclidean()], ids=lambda it: type(it).__name__)
def test_one_layer_with_stored_patterns_has_the_energy_of_the_memory(similarity: am.Similarity) -> None:
    memory = am.AssociativeMemory(5, similarity, Softmax(1.3))
    memory.write(patterns := draw(9, 5))
    network = joined([(5,)], StoredPatterns(patterns, similarity, Softmax(1.3)))
    x = draw(4, 5, seed=2)
    torch.testing.assert_close(network.energy({"layer0": x}), memory.energy(x))
    torch.testing.assert_close(network.forces({"layer0": x})["layer0"], memory.recall(x, steps=1).state)
