"""What an energy network refuses, in one clear sentence, and what check_lyapunov finds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ammon.analysis.lyapunov import NotLyapunov, check_lyapunov, energies_along
from ammon.dynamics.backtracking import Adaptive
from ammon.dynamics.descend import descend
from ammon.dynamics.integrators import Euler, FixedPoint, Langevin, Momentum
from ammon.energies.attention import Attention
from ammon.energies.base import Synapse
from ammon.energies.convolution import Convolution, Pooling
from ammon.energies.network import EnergyNetwork
from ammon.energies.neurons import Neurons
from ammon.energies.stored import StoredPatterns
from ammon.energies.synapses import Bias, Custom, Dense, LowRank, ManyBody
from ammon.parts.lagrangians import Identity, Lagrangian, Tanh
from ammon.parts.separations import LogSumRelu, Power


def joined(shapes: list[tuple[int, ...]], synapse: Synapse, lagrangian: Lagrangian | None = None, tau: float = 1.0) -> EnergyNetwork:
    neurons = {name: Neurons(shape, lagrangian, tau) for name, shape in zip("abc", shapes)}
    return EnergyNetwork(neurons, {"w": synapse}, [(tuple(neurons), "w")])


TWO = {"a": Neurons(3), "b": Neurons(2)}
W = {"w": Dense(torch.ones(3, 2))}

REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "unknown layer": (
        lambda: EnergyNetwork(TWO, W, [(("a", "c"), "w")]),
        ValueError,
        r"w\(a, c\) names the layer 'c', which is not there; the layers are a, b",
    ),
    "unknown synapse": (
        lambda: EnergyNetwork(TWO, W, [(("a", "b"), "v")]),
        ValueError,
        r"names the synapse 'v', which is not there; the synapses are w",
    ),
    "no layers": (lambda: EnergyNetwork({}, {}, []), ValueError, "at least one layer"),
    "nothing joined": (lambda: EnergyNetwork(TWO, W, [((), "w")]), ValueError, "names no layer"),
    "a name for layers": (lambda: EnergyNetwork(TWO, W, [("ab", "w")]), TypeError, r"names its layers in a tuple, got 'ab'"),
    "named twice": (lambda: EnergyNetwork(TWO, W, [(("a", "b"), "w")] * 2), ValueError, r"w\(a, b\) is there 2 times"),
    "idle synapse": (lambda: EnergyNetwork(TWO, W, []), ValueError, "the synapse 'w' is in no connection"),
    "no neurons": (
        lambda: EnergyNetwork({"a": torch.nn.Linear(1, 1)}, {}, []),
        TypeError,
        r"neurons\['a'\] must be a Neurons, got a Linear",
    ),
    "no synapse": (
        lambda: EnergyNetwork(TWO, {"w": torch.nn.Linear(1, 1)}, []),
        TypeError,
        r"synapses\['w'\] must be a Synapse, got a Linear",
    ),
    "a dot in a name": (lambda: EnergyNetwork({"a.b": Neurons(1)}, {}, []), ValueError, r"'a\.b' cannot be a name in neurons"),
    "torch's own name": (lambda: EnergyNetwork({"keys": Neurons(1)}, {}, []), ValueError, "'keys' cannot be a name in neurons"),
    "both fast": (lambda: joined([(3,), (2,)], Dense(torch.ones(3, 2)), tau=0.0), ValueError, "the layers a, b have tau = 0"),
    "fast and lateral": (
        lambda: EnergyNetwork({"a": Neurons(3, tau=0.0)}, {"w": Dense(torch.ones(3, 3))}, [(("a", "a"), "w")]),
        ValueError,
        "the layers a have tau = 0",
    ),
    "not convex": (lambda: Neurons(3, Power(3)), ValueError, r"Power\(n=3, unit=1\) is not convex"),
    "not convex either": (lambda: Neurons(3, LogSumRelu()), ValueError, "is not convex"),
    "no Lagrangian": (lambda: Neurons(3, torch.tanh), TypeError, "must be an ammon.Lagrangian"),  # type: ignore[arg-type]
    "no shape": (lambda: Neurons(()), ValueError, "one or more whole numbers"),
    "empty layer": (lambda: Neurons((3, 0)), ValueError, "one or more whole numbers"),
    "tau": (lambda: Neurons(3, tau=-1.0), ValueError, "tau must be 0 or more"),
    "axis": (lambda: Neurons((3, 4), axis=2), ValueError, r"axis 2 is none of a layer of shape \[3, 4\]"),
    "dense": (
        lambda: joined([(4,), (2,)], Dense(torch.ones(3, 2))),
        ValueError,
        r"w\(a, b\): the weight is \[3, 2\], the layers have 4 and 2 neurons",
    ),
    "dense of one": (lambda: joined([(3,)], Dense(torch.ones(3, 2))), ValueError, "joins 2 layers, the connection names 1"),
    "dense by shape": (lambda: Dense(torch.ones(3)), ValueError, r"must be \[n1, n2\]"),
    "dense of integers": (lambda: Dense(torch.ones(3, 2, dtype=torch.int64)), TypeError, "weight must be a floating tensor"),
    "dense of NaN": (lambda: Dense(torch.full((3, 2), torch.nan)), ValueError, "weight holds NaN"),
    "low rank": (
        lambda: joined([(3,), (4,)], LowRank(torch.ones(3, 1), torch.ones(2, 1))),
        ValueError,
        "join 3 and 2 neurons, the layers have 3 and 4",
    ),
    "low ranks": (lambda: LowRank(torch.ones(3, 1), torch.ones(2, 2)), ValueError, "left .* and right .* are needed"),
    "bias": (lambda: joined([(3, 2)], Bias(torch.ones(6))), ValueError, r"the bias is \[6\], the layer \[3, 2\]"),
    "many-body": (
        lambda: joined([(3,), (2,), (3,)], ManyBody(torch.ones(3, 2, 2))),
        ValueError,
        r"the tensor is \[3, 2, 2\], the layers have \[3, 2, 3\]",
    ),
    "many bodies": (lambda: joined([(3,), (2,)], ManyBody(torch.ones(3, 2, 2))), ValueError, "joins 3 layers, the connection names 2"),
    "kernel": (
        lambda: joined([(2, 8), (3, 4)], Convolution(torch.ones(3, 2, 3))),
        ValueError,
        r"the kernel makes \[3, 6\] of the first layer, the second is \[3, 4\]",
    ),
    "channels": (
        lambda: joined([(1, 8), (3, 6)], Convolution(torch.ones(3, 2, 3))),
        ValueError,
        "the kernel sees 2 channels, the first layer has 1",
    ),
    "flat image": (lambda: joined([(8,), (3, 6)], Convolution(torch.ones(3, 2, 3))), ValueError, "must have a channel axis and 1 in space"),
    "small image": (lambda: joined([(2, 2), (3, 1)], Convolution(torch.ones(3, 2, 3))), ValueError, "does not fit"),
    "kernel by shape": (lambda: Convolution(torch.ones(3, 2)), ValueError, "the kernel must be"),
    "padding": (lambda: Convolution(torch.ones(3, 2, 3), padding=-1), ValueError, "padding must be"),
    "pooling": (
        lambda: joined([(2, 8), (2, 3)], Pooling(2)),
        ValueError,
        r"pooling makes \[2, 4\] of the first layer, the second is \[2, 3\]",
    ),
    "pooling of a vector": (lambda: joined([(8,), (3,)], Pooling(2)), ValueError, "the first layer must be"),
    "kind of pooling": (lambda: Pooling(2, kind="sum"), ValueError, 'kind must be "mean" or "maximum"'),  # type: ignore[arg-type]
    "patterns": (
        lambda: joined([(3,)], StoredPatterns(torch.ones(4, 2))),
        ValueError,
        r"the patterns are \[2\], which are not the last axes of the layer, \[3\]",
    ),
    "no patterns": (lambda: StoredPatterns(torch.ones(0, 2)), ValueError, "at least one row"),
    "heads": (lambda: Attention(torch.ones(2, 3, 4), torch.ones(1, 3, 4)), ValueError, "the same heads"),
    "tokens": (
        lambda: joined([(5, 3), (5, 2)], Attention(torch.ones(2, 3, 4), torch.ones(2, 3, 4))),
        ValueError,
        r"the keys must be a layer \[token, 3\], got \[5, 2\]",
    ),
    "others": (
        lambda: joined([(5, 3), (6, 3)], Attention(torch.ones(2, 3, 4), torch.ones(2, 3, 4), others=True)),
        ValueError,
        "as many queries as keys, got 5 and 6",
    ),
    "mask": (
        lambda: joined([(5, 3), (6, 3)], Attention(torch.ones(2, 3, 4), torch.ones(2, 3, 4), mask=torch.ones(5, 5, dtype=torch.bool))),
        ValueError,
        r"the mask is \[5, 5\]",
    ),
    "no function": (lambda: Custom(3), TypeError, "a function of activations is needed"),  # type: ignore[arg-type]
    "step": (lambda: Euler(0.0), ValueError, "step must be positive"),
    "infinite step": (lambda: Adaptive(float("inf")), ValueError, "step must be positive and finite"),
    "halvings": (lambda: Adaptive(halvings=0), ValueError, "halvings must be"),
    "momentum": (lambda: Momentum(momentum=1.0), ValueError, r"momentum must be in \[0, 1\)"),
    "temperature": (lambda: Langevin(temperature=-1.0), ValueError, "temperature must be positive"),
    "cooling": (lambda: Langevin(cooling=0), ValueError, "cooling must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence(name: str) -> None:
    make, kind, said = REFUSED[name]
    with pytest.raises(kind, match=said):
        make()


def network() -> EnergyNetwork:
    return EnergyNetwork({"a": Neurons(3, Tanh()), "b": Neurons((1, 2))}, {"w": Dense(torch.ones(3, 2))}, [(("a", "b"), "w")])


def states(**others: Tensor) -> dict[str, Tensor]:
    return {"a": torch.ones(4, 3), "b": torch.zeros(4, 1, 2)} | others


REFUSED_STATES: dict[str, tuple[dict[str, Tensor], type[Exception], str]] = {
    "missing": ({"a": torch.ones(4, 3)}, ValueError, "there is no state for b; the layers are a, b"),
    "unknown": (states(c=torch.ones(4, 2)), ValueError, "states for c, which are no layers"),
    "shape": (states(b=torch.zeros(4, 2)), ValueError, r"the state of 'b' must be \[batch, 1, 2\], got \[4, 2\]"),
    "no batch": (states(a=torch.ones(3)), ValueError, r"must be \[batch, 3\], got \[3\]"),
    "batch": (states(b=torch.zeros(5, 1, 2)), ValueError, "'b' is 5 rows of torch.float32 on cpu, that of 'a' 4 rows"),
    "dtype": (states(b=torch.zeros(4, 1, 2).double()), ValueError, "4 rows of torch.float64"),
    "integers": (states(a=torch.ones(4, 3, dtype=torch.int64)), TypeError, "'a' must be a floating tensor, got a torch.int64 tensor"),
}


@pytest.mark.parametrize("name", REFUSED_STATES)
def test_states_that_do_not_fit_are_refused_where_they_come_in(name: str) -> None:
    given, kind, said = REFUSED_STATES[name]
    with pytest.raises(kind, match=f"EnergyNetwork.energy: .*{said}"):
        network().energy(given)
    with pytest.raises(kind, match=f"descend: .*{said}"):
        descend(network(), given)


def test_descending_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="hold NaN or infinite"):
        descend(network(), states(a=torch.full((4, 3), torch.nan)))
    with pytest.raises(ValueError, match="clamp names 'c', which is no layer; the layers are a, b"):
        descend(network(), states(), clamp={"c": True})
    with pytest.raises(ValueError, match=r"clamp\['a'\] must be True, or a bool tensor of the layer's shape \[3\]"):
        descend(network(), states(), clamp={"a": torch.ones(4, 2, dtype=torch.bool)})
    with pytest.raises(ValueError, match="FixedPoint: order names 'c', which is no layer"):
        descend(network(), states(), integrator=FixedPoint(("c",)))
    with pytest.raises(ValueError, match="Langevin: noise needs a generator"):
        descend(network(), states(), integrator=Langevin())
    with pytest.raises(ValueError, match="steps must be at least 1"):
        descend(network(), states(), steps=0)
    with pytest.raises(ValueError, match="tolerance must be >= 0"):
        descend(network(), states(), tolerance=-1.0)
    with pytest.raises(ValueError, match="keep=True"):
        energies_along(network(), descend(network(), states()))
    with pytest.raises(ValueError, match="batch must be a whole number"):
        network().init_states(0)


def test_a_step_that_diverges_says_where_when_and_what_to_do() -> None:
    stiff = EnergyNetwork({"a": Neurons(2)}, {"w": Dense(-40 * torch.eye(2))}, [(("a", "a"), "w")])
    cue = {"a": torch.tensor([[0.0, 0.0], [1.0, 1.0]])}
    with pytest.raises(
        FloatingPointError, match=r"the state of 'a' is no longer finite in item 1 after step \d+; Euler\(step=1.0\) diverges"
    ) as told:
        descend(stiff, cue, integrator=Euler(1.0), steps=100)
    assert "Adaptive()" in str(told.value)
    assert descend(stiff, cue, integrator=Adaptive(1.0), steps=100).converged.all()


def test_an_energy_without_a_floor_says_so() -> None:
    runaway = EnergyNetwork({"a": Neurons(2)}, {"w": Dense(2 * torch.eye(2))}, [(("a", "a"), "w")])
    with pytest.raises(FloatingPointError, match="the energy of item 0 falls without end"):
        descend(runaway, {"a": torch.ones(1, 2)}, steps=2000)


class Wavy(Lagrangian):
    """L = Σ cos x: convex here and there, and it says it is everywhere."""

    def value(self, x: Tensor) -> Tensor:
        return torch.cos(x).sum(-1)

    def activation(self, x: Tensor) -> Tensor:
        return -torch.sin(x)


class Wrong(Lagrangian):
    """The activation is not the gradient of the value."""

    def value(self, x: Tensor) -> Tensor:
        return x.square().sum(-1)

    def activation(self, x: Tensor) -> Tensor:
        return x


class Mixed(Lagrangian):
    """The activation is a gradient, but of nothing convex: x A x with one negative eigenvalue, along no single neuron."""

    def value(self, x: Tensor) -> Tensor:
        return x.square().sum(-1) / 2 - 0.6 * x.sum(-1).square()

    def activation(self, x: Tensor) -> Tensor:
        return x - 1.2 * x.sum(-1, keepdim=True)


@pytest.mark.parametrize("lagrangian", [Wavy(), Mixed()], ids=lambda it: type(it).__name__)
def test_a_lagrangian_that_is_not_convex_is_found_with_its_witness(lagrangian: Lagrangian) -> None:
    with pytest.raises(NotLyapunov, match=rf"the Lagrangian of 'b', {type(lagrangian).__name__}, is not convex") as told:
        check_lyapunov(EnergyNetwork({"a": Neurons(3), "b": Neurons((2, 4), lagrangian)}, {}, []))
    x, y = told.value.witness["x"], told.value.witness["y"]
    assert x.shape == y.shape == (2, 4)
    assert float(((lagrangian.activation(y) - lagrangian.activation(x)) * (y - x)).sum()) < 0


def test_an_activation_that_is_no_gradient_is_found() -> None:
    with pytest.raises(NotLyapunov, match="the activation of 'a', Wrong, is not the gradient of its value"):
        check_lyapunov(EnergyNetwork({"a": Neurons(3, Wrong())}, {}, []))


class Twisted(Dense):
    """Feeds the second layer twice what it should."""

    def pulls(self, *activations: Tensor, at: Any = None) -> tuple[Tensor, ...]:
        return tuple((1 + place) * pull for place, pull in zip((0, 1) if at is None else at, super().pulls(*activations, at=at)))


def test_pulls_that_are_not_the_gradient_of_the_energy_are_found() -> None:
    with pytest.raises(NotLyapunov, match=r"what w\(a, b\) feeds 'b' is not -dE/dg") as told:
        check_lyapunov(joined([(3,), (2,)], Twisted(torch.ones(3, 2))))
    assert set(told.value.witness) == {"a", "b"}


def test_energies_that_are_not_one_per_item_are_found() -> None:
    with pytest.raises(NotLyapunov, match=r"is \[192, 3\] for a batch of 192"):
        check_lyapunov(joined([(3,)], Custom(lambda g: g.square())))
    with pytest.raises(NotLyapunov, match="depends on the other items of the batch"):
        check_lyapunov(joined([(3,)], Custom(lambda g: (g - g.mean(0)).square().sum(-1))))


def test_the_record_of_a_network_that_holds() -> None:
    found = check_lyapunov(network().double())
    assert set(found.curvature) == {"a", "b"}
    assert found.curvature["b"] == pytest.approx(1)
    assert max(found.activations.values()) < 1e-12
    assert found.pulls["w(a, b)"] < 1e-12
    assert found.rise <= 0
    assert isinstance(network().neurons["b"].lagrangian, Identity)
