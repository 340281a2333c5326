"""Tripartite: neurons, the synapses between them and the astrocyte processes that wrap the synapses, with one energy.

E = Σ(xφ - L_n(x)) + α Σs²/4 + γ Σp²/4 - φ·sφ/2 - Σ s p/2 - Σ p Tp/4 for linear synapses s and processes p, symmetric [unit, unit] (after
Kozachkov, Slotine & Krotov 2025). T = Σ ξξξξ/D³ has D⁴ entries and is never made: T p = Ξᵀ diag(ξ·pξ) Ξ/D³.
Neurons x [batch, dim] with activations φ, s and p [batch, dim, dim], patterns [pattern, dim].
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.energies.base import Energy
from ammon.parts.lagrangians import Lagrangian
from ammon.shapes import Energies, Rows, States, check_positive

Pairs = Float[Tensor, "batch dim dim"]


class Tripartite(NamedTuple):
    """A state of the network, or its rate of change."""

    neurons: States
    synapses: Pairs
    processes: Pairs


class TripartiteEnergy(Energy):
    """leak: α of synapses, γ of processes. In s and p the energy is bounded below while α(γ - T) > 1 in every direction."""

    def __init__(self, lagrangian: Lagrangian, patterns: Rows, synapse_leak: float = 1.0, process_leak: float = 2.0) -> None:
        super().__init__()
        check_positive("TripartiteEnergy", "synapse_leak", synapse_leak)
        check_positive("TripartiteEnergy", "process_leak", process_leak)
        self.lagrangian, self.synapse_leak, self.process_leak = lagrangian, synapse_leak, process_leak
        self.register_buffer("patterns", patterns)
        self.patterns: Tensor

    def forward(self, *activations: Tensor) -> Energies:
        """E of (neurons, synapses, processes)."""
        x, s, p = activations
        g = self.lagrangian.activation(x)
        own = (x * g).sum(-1) - self.lagrangian.value(x) + (self.synapse_leak * _sum(s, s) + self.process_leak * _sum(p, p)) / 4
        total: Tensor = own - _sum(s, _outer(g)) / 2 - _sum(s, p) / 2 - _sum(p, self.spread(p)) / 4
        return total

    def pull(self, *activations: Tensor) -> Tensor:
        """-dE/dφ: what the synapses bring to the neurons, less x."""
        x, s, _ = activations
        return (s @ self.lagrangian.activation(x).unsqueeze(-1)).squeeze(-1) - x

    def rates(self, state: Tripartite) -> Tripartite:
        """τ dx/dt of each layer: -dE/dφ, and -2 dE/ds, -2 dE/dp. Along them E never rises, as L_n is convex."""
        g = self.lagrangian.activation(state.neurons)
        return Tripartite(
            self.pull(*state),
            _outer(g) + state.processes - self.synapse_leak * state.synapses,
            state.synapses + self.spread(state.processes) - self.process_leak * state.processes,
        )

    def spread(self, processes: Pairs) -> Pairs:
        """T p: what processes pass on to each other, at the cost of 4 K D² an item."""
        drive = torch.einsum("ki,bij,kj->bk", self.patterns, processes, self.patterns)
        return self._bundle(drive)

    def settled(self, g: States) -> tuple[Pairs, Pairs]:
        """Synapses and processes at rest for neurons with these activations: p = (αγ - 1 - αT)⁻¹ φφᵀ, s = (φφᵀ + p)/α."""
        surplus = self.synapse_leak * self.process_leak - 1
        share = self.synapse_leak / (surplus * g.shape[-1] ** 3)
        mixed = (g @ self.patterns.mT).square() @ torch.linalg.inv(coupling(self.patterns, share))
        outer = _outer(g)
        p = outer / surplus + self.synapse_leak / surplus**2 * self._bundle(mixed)
        return (outer + p) / self.synapse_leak, p

    def _bundle(self, weights: Float[Tensor, "batch pattern"]) -> Pairs:
        return torch.einsum("bk,ki,kj->bij", weights, self.patterns, self.patterns) / self.patterns.shape[1] ** 3


def coupling(patterns: Rows, share: float) -> Float[Tensor, "pattern pattern"]:
    """1 - share · (ΞΞᵀ)², entry by entry: what is left of T between the directions ξξᵀ. Positive while processes are stable."""
    products = (patterns @ patterns.mT).square()
    return torch.eye(len(patterns), dtype=patterns.dtype, device=patterns.device) - share * products


def _outer(g: Tensor) -> Tensor:
    return g.unsqueeze(-1) * g.unsqueeze(-2)


def _sum(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((-2, -1))
