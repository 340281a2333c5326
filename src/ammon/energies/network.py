"""EnergyNetwork: layers of neurons joined by hypersynapses, with one energy E = Σ_layers [<x, g> - L(x)] + Σ_synapses E_s(g, ...).

The neurons move as tau dx/dt = -dE/dg = -x - dE_s/dg, and the energy never rises, as each L is convex (Krotov & Hopfield 2021;
Hoover et al. 2022). States x and activations g: a dict of [batch, *shape], layer by layer.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypedDict, cast

import torch
from torch import Tensor, nn

from ammon.energies.base import Shape, Synapse, Target
from ammon.energies.neurons import Neurons
from ammon.shapes import Energies, check_count

Layers = Mapping[str, Tensor]
Connection = tuple[tuple[str, ...], str]


class EnergyTree(TypedDict):
    """The energy [batch] of each component; all of them sum to the energy of the network."""

    neurons: dict[str, Energies]
    connections: dict[str, Energies]  # by name, e.g. "weights(visible, hidden)"


class EnergyNetwork(nn.Module):
    """Any associative memory as a graph. Always batched: every state is [batch, *shape].

    connections: ((layer, layer, ...), synapse), as many layers as the synapse joins. A synapse may stand in several connections, which
    then share its weights, and a layer may be named twice in one. Recall is `ammon.descend`.
    """

    def __init__(
        self, neurons: Mapping[str, Neurons], synapses: Mapping[str, Synapse], connections: Iterable[tuple[Sequence[str], str]]
    ) -> None:
        super().__init__()
        self.neurons, self.synapses = _named("neurons", neurons, Neurons), _named("synapses", synapses, Synapse)
        if not len(self.neurons):
            raise ValueError("EnergyNetwork: there must be at least one layer of neurons.")
        self.connections: tuple[Connection, ...] = tuple(self._checked(layers, synapse) for layers, synapse in connections)
        names = [_title(connection) for connection in self.connections]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"EnergyNetwork: the connection {name} is there {names.count(name)} times; name it once.")
        idle = [name for name in self.synapses if name not in {synapse for _, synapse in self.connections}]
        if idle:
            raise ValueError(f"EnergyNetwork: the synapse {idle[0]!r} is in no connection; connect it or leave it out.")
        for layers, _ in self.connections:
            fast = [name for name in dict.fromkeys(layers) if not self.tau[name]]
            if len(fast) > 1 or (fast and layers.count(fast[0]) > 1):
                raise ValueError(
                    f"EnergyNetwork: the layers {', '.join(fast)} have tau = 0 and are joined with each other or with themselves, "
                    "so there is no input that they could follow at once; give one of them a time constant."
                )

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each layer, without the batch."""
        return {name: layer.shape for name, layer in self._layers.items()}

    @property
    def tau(self) -> dict[str, float]:
        """The time constant of each layer."""
        return {name: layer.tau for name, layer in self._layers.items()}

    def init_states(self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """States at 0, on the device and in the dtype of the network's tensors unless others are named."""
        check_count("EnergyNetwork.init_states", "batch", batch)
        like = next((t for t in [*self.parameters(), *self.buffers()] if t.is_floating_point()), torch.empty(0))
        return {name: like.new_zeros(batch, *shape, device=device, dtype=dtype) for name, shape in self.shapes.items()}

    def activations(self, states: Layers) -> dict[str, Tensor]:
        """g = dL/dx of each layer."""
        return {name: layer.activation(states[name]) for name, layer in self._layers.items()}

    def forces(self, activations: Layers, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        """What synapses feed these layers (all by default), -dE_s/dg; -dE/dg is this less x."""
        asked = [name for name in self.shapes if layers is None or name in layers]
        fed: dict[str, Tensor] = {}
        for joined, synapse in self.connections:
            at = [place for place, name in enumerate(joined) if name in asked]
            if at:
                pulls = self._synapse(synapse).pulls(*(activations[name] for name in joined), at=at)
                for place, pull in zip(at, pulls):
                    name = joined[place]
                    fed[name] = fed[name] + pull if name in fed else pull
        return {name: fed[name] if name in fed else torch.zeros_like(activations[name]) for name in asked}

    def relax(self, states: Layers, into: Layers, shares: Mapping[str, float]) -> None:
        """into ← states + share · (force - states) for the layers that have a share, without gradients and forces that are held."""
        activations, begun = self.activations(states), set[str]()
        for joined, synapse in self.connections:
            targets = {}
            for place, name in enumerate(joined):
                if name in shares:
                    first = name not in begun
                    onto, keep = (states[name], 1 - shares[name]) if first else (into[name], 1.0)
                    targets[place] = Target(into[name], onto, keep, shares[name])
                    begun.add(name)
            if targets:
                self._synapse(synapse).relax([activations[name] for name in joined], targets)
        for name, share in shares.items():
            if name not in begun:
                torch.mul(states[name], 1 - share, out=into[name])

    def energy(self, states: Layers, activations: Layers | None = None) -> Energies:
        """E [batch] of states, and of activations if they are to be others than those of the states."""
        self.check_states("EnergyNetwork.energy", states)
        tree = self.energy_tree(states, activations)
        terms = [*tree["neurons"].values(), *tree["connections"].values()]
        return sum(terms[1:], start=terms[0])

    def energy_tree(self, states: Layers, activations: Layers | None = None) -> EnergyTree:
        """The energy, component by component."""
        g = self.activations(states) if activations is None else activations
        return {
            "neurons": {name: layer.energy(states[name], g[name]) for name, layer in self._layers.items()},
            "connections": {
                _title((layers, synapse)): self._synapse(synapse)(*(g[name] for name in layers)) for layers, synapse in self.connections
            },
        }

    def forward(self, states: Layers) -> Energies:
        """The energy, so that a network serves as a module."""
        return self.energy(states)

    def check_states(self, where: str, states: Layers) -> None:
        """Refuse what is not one floating tensor [batch, *shape] for each layer, all of one batch, dtype and device."""
        missing, unknown = [name for name in self.shapes if name not in states], [name for name in states if name not in self.shapes]
        if missing or unknown:
            told = f"no state for {', '.join(missing)}" if missing else f"states for {', '.join(unknown)}, which are no layers"
            raise ValueError(f"{where}: there is {told}; the layers are {', '.join(self.shapes)}. Begin with init_states(batch).")
        first = next(iter(states.values()))
        for name, shape in self.shapes.items():
            x = states[name]
            if not isinstance(x, Tensor) or not x.is_floating_point():
                got = f"{x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__
                raise TypeError(f"{where}: the state of {name!r} must be a floating tensor, got a {got}.")
            if tuple(x.shape[1:]) != shape or x.ndim != len(shape) + 1:
                raise ValueError(f"{where}: the state of {name!r} must be [batch, {', '.join(map(str, shape))}], got {list(x.shape)}.")
            if (len(x), x.dtype, x.device) != (len(first), first.dtype, first.device):
                raise ValueError(
                    f"{where}: the state of {name!r} is {len(x)} rows of {x.dtype} on {x.device}, that of {next(iter(states))!r} "
                    f"{len(first)} rows of {first.dtype} on {first.device}; give all layers one batch, dtype and device."
                )

    def _checked(self, layers: Sequence[str], synapse: str) -> Connection:
        """A connection, or one clear sentence on what is wrong with it."""
        if isinstance(layers, str):
            raise TypeError(f"EnergyNetwork: a connection names its layers in a tuple, got {layers!r}; write (({layers!r},), {synapse!r}).")
        where = f"EnergyNetwork: the connection {_title((tuple(layers), synapse))}"
        for name in layers:
            if name not in self.neurons:
                raise ValueError(f"{where} names the layer {name!r}, which is not there; the layers are {', '.join(self.neurons)}.")
        if synapse not in self.synapses:
            raise ValueError(
                f"{where} names the synapse {synapse!r}, which is not there; the synapses are {', '.join(self.synapses) or 'none'}."
            )
        if not layers:
            raise ValueError(f"{where} names no layer; name one at least.")
        self._synapse(synapse).check(where, tuple(self.shapes[name] for name in layers))
        return tuple(layers), synapse

    @property
    def _layers(self) -> dict[str, Neurons]:
        return cast(dict[str, Neurons], dict(self.neurons.items()))

    def _synapse(self, name: str) -> Synapse:
        return cast(Synapse, self.synapses[name])


def _named(what: str, modules: Mapping[str, nn.Module], kind: type[nn.Module]) -> nn.ModuleDict:
    named = nn.ModuleDict()
    for name, module in modules.items():
        if not isinstance(module, kind):
            raise TypeError(f"EnergyNetwork: {what}[{name!r}] must be a {kind.__name__}, got a {type(module).__name__}.")
        try:
            named[name] = module
        except (KeyError, TypeError) as error:
            raise ValueError(f"EnergyNetwork: {name!r} cannot be a name in {what} ({error}); torch keeps it for itself.") from error
    return named


def _title(connection: Connection) -> str:
    layers, synapse = connection
    return f"{synapse}({', '.join(layers)})"
