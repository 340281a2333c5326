"""Lyapunov: does the energy of a memory, or of a network, fall along its recall? Energies [step + 1, batch], the cue first."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.dynamics.descend import Descent
from ammon.dynamics.settle import Recall, default_tolerance
from ammon.energies.base import Synapse
from ammon.energies.network import EnergyNetwork
from ammon.energies.neurons import Neurons
from ammon.memories.base import Memory
from ammon.shapes import check_count

Trace = Float[Tensor, "step batch"]


def energies(memory: Memory, recall: Recall) -> Trace | None:
    """The energy of each state that a recall with `keep=True` went through, or None if the memory has no energy.

    Hetero-association settles among the keys, and so does its trajectory: the energy is that of the keys.
    """
    if recall.trajectory is None:
        raise ValueError("energies: the recall kept no trajectory; recall with keep=True.")
    try:
        return torch.stack([memory.energy(state) for state in recall.trajectory])
    except TypeError:
        return None


def never_rose(energies: Trace, scale: float = 0.0) -> bool:
    """Whether no item's energy rose in any step by more than rounding: eps^(3/4) of the size of its energies, or of `scale` if larger.

    eps^(3/4) is 6e-6 in float32 and 2e-12 in float64. scale: the size of the terms that the energy sums, |x|²/2 for dot products and
    distances; near a stored pattern they can cancel to almost 0 and leave nothing but their rounding.
    NaN counts as risen, and so does a step from a finite energy to infinity.
    """
    if energies.ndim != 2:
        raise ValueError(f"never_rose: energies must be [step, batch], got {list(energies.shape)}; ask `energies(memory, recall)`.")
    finite = torch.where(torch.isfinite(energies), energies.abs(), torch.zeros_like(energies))
    # a sum of dim terms is rounded by some sqrt(dim) eps of their size: below eps^(3/4) of it up to thousands of terms in float32
    allowed = default_tolerance(energies.dtype) * finite.amax(0).clamp_min(scale)
    return bool((energies[1:] <= energies[:-1] + allowed).all())


def energies_along(network: EnergyNetwork, descent: Descent) -> Trace:
    """The energy of each state that a descent with `keep=True` went through [step + 1, batch]."""
    if descent.trajectory is None:
        raise ValueError("energies_along: the descent kept no trajectory; descend with keep=True.")
    names, moments = list(descent.trajectory), zip(*descent.trajectory.values())
    return torch.stack([network.energy(dict(zip(names, moment))) for moment in moments])


class NotLyapunov(ValueError):
    """A network whose energy can rise, or is not what its forces descend. `witness`: the states that show it, without a batch."""

    def __init__(self, message: str, witness: dict[str, Tensor]) -> None:
        super().__init__(message)
        self.witness = witness


@dataclass(frozen=True)
class Lyapunov:
    """What `check_lyapunov` measured."""

    curvature: dict[str, float]  # per layer, the least <Δg, Δx>/|Δx|² found; 0 or more where the Lagrangian is convex
    activations: dict[str, float]  # per layer, the largest difference of g from the gradient of L, relative to the largest entry
    pulls: dict[str, float]  # per connection, the largest difference of the pulls from -dE/dg by autograd, likewise
    rise: float  # the largest dE/dt relative to the size of its terms; 0 or less if the energy falls


def check_lyapunov(network: EnergyNetwork, *, samples: int = 64, generator: torch.Generator | None = None) -> Lyapunov:
    """Whether the energy of a network is one that its neurons descend, tried at random states of sizes from 0.1 to 10.

    Each Lagrangian is convex, and its activation its gradient; each synapse gives one energy per item, which no other item changes, and its
    pulls are -dE/dg of autograd; dE/dt is never above 0. In the network's own dtype: use `network.double()` for the sharpest answer.
    A search, no proof. NotLyapunov, a ValueError with the witness, at the first that fails.
    """
    check_count("check_lyapunov", "samples", samples)
    generator = generator or torch.Generator().manual_seed(0)
    like = next(iter(network.init_states(1).values()))
    sizes = torch.tensor([0.1, 1.0, 10.0]).repeat_interleave(samples)

    def draw(shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(len(sizes), *shape, generator=generator, device=generator.device)
        return (drawn * sizes.reshape(-1, *[1] * len(shape)).to(drawn)).to(like)

    states = {name: draw(shape) for name, shape in network.shapes.items()}
    allowed = 64 * torch.finfo(like.dtype).eps ** 0.75
    curvature, activations = {}, {}
    for name, layer in network.neurons.items():
        assert isinstance(layer, Neurons)
        curvature[name] = _check_convex(name, layer, states[name], draw, allowed)
        activations[name] = _check_activation(name, layer, states[name], allowed)
    with torch.no_grad():
        g = network.activations(states)
    pulls = {}
    for layers, synapse in network.connections:
        title = f"{synapse}({', '.join(layers)})"
        module = network.synapses[synapse]
        assert isinstance(module, Synapse)
        pulls[title] = _check_pulls(title, module, {name: g[name] for name in layers}, layers, allowed)
    return Lyapunov(curvature, activations, pulls, _check_descent(network, states, allowed))


def _check_convex(name: str, layer: Neurons, x: Tensor, draw: Callable[[tuple[int, ...]], Tensor], allowed: float) -> float:
    least = math.inf
    one = torch.zeros_like(x).flatten(1)
    one[torch.arange(len(one)), torch.arange(len(one)) % one.shape[1]] = 1
    away = draw(layer.shape)
    # far and near, along a random direction and along one neuron
    for step in (away, 0.01 * away, away.abs() * one.reshape(x.shape), -away.abs() * one.reshape(x.shape)):
        y = x + step
        moved, turned = (y - x).flatten(1), (layer.activation(y) - layer.activation(x)).detach().flatten(1)
        along, size = (moved * turned).sum(-1), moved.norm(dim=-1)
        reach = layer.activation(x).detach().flatten(1).norm(dim=-1) + turned.norm(dim=-1)
        bad = ~(along >= -allowed * size * reach)
        if bool(bad.any()):
            item = int(bad.nonzero()[0])
            raise NotLyapunov(
                f"check_lyapunov: the Lagrangian of {name!r}, {type(layer.lagrangian).__name__}, is not convex: from x to y its activation "
                f"turns against the step, <g(y) - g(x), y - x> = {float(along[item]):.3g}, so the energy can rise; see the witness.",
                {"x": x[item], "y": y[item]},
            )
        least = min(least, float((along / size.square().clamp_min(torch.finfo(x.dtype).tiny))[size > 0].amin()))
    return least


def _check_activation(name: str, layer: Neurons, x: Tensor, allowed: float) -> float:
    with torch.enable_grad():
        place = x.clone().requires_grad_()
        # -L(x): what is left of the energy where g is 0
        (gradient,) = torch.autograd.grad(-layer.energy(place, torch.zeros_like(place)).sum(), place)
    g = layer.activation(x).detach()
    error, size = _apart(g, gradient)
    worst = error / size
    if not bool((worst <= allowed).all()):
        item = int((~(worst <= allowed)).nonzero()[0])
        raise NotLyapunov(
            f"check_lyapunov: the activation of {name!r}, {type(layer.lagrangian).__name__}, is not the gradient of its value: they "
            f"differ by {float(error[item]):.3g} at the witness x.",
            {"x": x[item]},
        )
    return float(worst.max())


def _check_pulls(title: str, synapse: Synapse, g: dict[str, Tensor], layers: tuple[str, ...], allowed: float) -> float:
    given = [g[name] for name in layers]
    energy = synapse(*given).detach()
    if tuple(energy.shape) != (len(given[0]),):
        raise NotLyapunov(
            f"check_lyapunov: the energy of {title} is {list(energy.shape)} for a batch of {len(given[0])}; one energy per item is needed.",
            {name: x[0] for name, x in g.items()},
        )
    half = len(energy) // 2
    alone = torch.cat([synapse(*(x[:half] for x in given)), synapse(*(x[half:] for x in given))]).detach()
    mixed = ~((alone - energy).abs() <= allowed * energy.abs().clamp_min(1))
    if bool(mixed.any()):
        item = int(mixed.nonzero()[0])
        raise NotLyapunov(
            f"check_lyapunov: the energy of {title} depends on the other items of the batch ({float(energy[item]):.6g} in the whole batch, "
            f"{float(alone[item]):.6g} in half of it), or is not finite.",
            {name: x[item] for name, x in g.items()},
        )
    worst = 0.0
    for name, pull, truth in zip(layers, synapse.pulls(*given), Synapse.pulls(synapse, *given)):
        error, size = _apart(pull.detach(), truth.detach())
        relative = error / size
        if not bool((relative <= allowed).all()):
            item = int((~(relative <= allowed)).nonzero()[0])
            raise NotLyapunov(
                f"check_lyapunov: what {title} feeds {name!r} is not -dE/dg: it differs from autograd by {float(error[item]):.3g} at the "
                "activations of the witness.",
                {name: x[item] for name, x in g.items()},
            )
        worst = max(worst, float(relative.max()))
    return worst


def _check_descent(network: EnergyNetwork, states: dict[str, Tensor], allowed: float) -> float:
    with torch.enable_grad():
        places = {name: x.clone().requires_grad_() for name, x in states.items()}
        slopes = torch.autograd.grad(network.energy(places).sum(), list(places.values()))
    with torch.no_grad():
        fed = network.forces(network.activations(states))
        drifts = [(fed[name] - x) / (network.tau[name] or 1.0) for name, x in states.items()]
    terms = [(slope * drift).flatten(1) for slope, drift in zip(slopes, drifts)]
    change = torch.stack([term.sum(-1) for term in terms]).sum(0)
    size = torch.stack([slope.flatten(1).norm(dim=-1) * drift.flatten(1).norm(dim=-1) for slope, drift in zip(slopes, drifts)]).sum(0)
    rise = change / size.clamp_min(torch.finfo(change.dtype).tiny)
    if not bool((rise <= allowed).all()):
        item = int((~(rise <= allowed)).nonzero()[0])
        raise NotLyapunov(
            f"check_lyapunov: along the flow the energy rises, dE/dt = {float(change[item]):.3g} at the witness.",
            {name: x[item] for name, x in states.items()},
        )
    return float(rise.max())


def _apart(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The largest difference of each item, and the size that it is to be compared with."""
    size = torch.maximum(one.abs(), other.abs()).flatten(1).amax(-1)
    return (one - other).abs().flatten(1).amax(-1), size.clamp_min(1)
