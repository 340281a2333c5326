"""AstrocyteMemory: neurons of ±1 whose synapses talk to each other through astrocyte processes (Kozachkov, Slotine & Krotov 2025).

Synapses and processes are at rest for the neurons at hand, and these descend what is left of the energy, E = -q·M⁻¹q/4D³ with q = (Ξs)²;
M = 1 - c (ΞΞᵀ)²/r, r its largest row sum. c = 0 is the dense memory of power 4: there processes hear each other to first order only.
"""

from typing import Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.dynamics.sweep import sweep
from ammon.energies.process_flips import ProcessFlips
from ammon.energies.tripartite import Pairs, TripartiteEnergy, coupling
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.lagrangians import Sign
from ammon.shapes import Energies, Rows, States, Weights, check_bipolar, check_count


class AstrocyteMemory(Memory):
    """Patterns, cues and states hold only -1 and +1; one step is one sweep over all neurons, and the energy never rises.

    coupling: c, from 0 to below 1, how strongly processes drive each other, in units of what would make them unstable. The tensor between
    processes, of D⁴ entries, is never made: it acts through the K patterns, a share `connectivity` = K/D of what D neurons have room for.
    With values the neurons settle and then read them, sign(Σ value · weight).
    """

    def __init__(self, dim: int, coupling: float = 0.5, steps: int = 50) -> None:
        super().__init__()
        check_count("AstrocyteMemory", "dim", dim)
        check_count("AstrocyteMemory", "steps", steps)
        if not 0 <= coupling < 1:
            raise ValueError(f"AstrocyteMemory: coupling must be from 0 to below 1, where processes become unstable, got {coupling}.")
        self.dim, self.coupling, self.steps = dim, float(coupling), steps
        self.keys, self.values = Bank(dim), Bank()

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self.values.dim if len(self.values) else None)
        check_bipolar("AstrocyteMemory.write", "pattern", patterns)
        if values is not None:
            check_bipolar("AstrocyteMemory.write", "value", values)
            self.values.append(values)
        self.keys.append(patterns)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.keys.rows)
        check_bipolar("AstrocyteMemory.recall", "cue", cue)
        settling = {"steps": self.steps, **settling}
        generator, clamp = settling.get("generator"), settling.get("clamp")
        mixing = self._mixing()
        flips = ProcessFlips(self._wide(), mixing)

        def in_turn(state: Tensor, rows: Tensor) -> Tensor:
            # one order for the whole batch: an item's answer does not depend on its batch mates
            order = None if generator is None else torch.randperm(self.dim, generator=generator, device=generator.device).to(state.device)
            return sweep(flips, state, order, None if clamp is None else ~clamp[rows])

        def read(state: Tensor) -> Tensor:
            return Sign().activation(self._drive(state, mixing) @ self.values.rows.to(mixing)).to(state.dtype)

        return settle(in_turn, cue, read=read if len(self.values) else None, **settling)

    def energy(self, state: States) -> Energies:
        check_cue(self, "energy", state, self.keys.rows)
        check_bipolar("AstrocyteMemory.energy", "state", state)
        squares = self._overlaps(state).square() / self.dim
        return (-((squares @ self._mixing()) * squares).sum(-1) / (4 * self.dim)).to(state.dtype)

    def weights(self, cue: States) -> Weights:
        """The drive of each pattern through the processes, h · M⁻¹h²/D³, of which the dense memory of power 4 has h³/D³."""
        check_cue(self, "weights", cue, self.keys.rows)
        return self._drive(cue, self._mixing()).to(cue.dtype)

    def synapses(self, state: States) -> Pairs:
        """The synapses at rest for these neurons [batch, dim, dim], in a network with leaks 1 and 1 + r/(c D³); needs coupling > 0."""
        return self._settled("synapses", state)[0]

    def processes(self, state: States) -> Pairs:
        """The processes at rest for these neurons [batch, dim, dim], one for each synapse."""
        return self._settled("processes", state)[1]

    def network(self) -> TripartiteEnergy:
        """The whole network of neurons, synapses and processes that this memory is at rest; ValueError without coupling."""
        if len(self) == 0 or not self.coupling:
            raise ValueError("AstrocyteMemory.network: patterns and a coupling above 0 are needed; at 0 processes pass nothing on.")
        surplus = float(self._largest()) / (self.coupling * self.dim**3)
        return TripartiteEnergy(Sign(), self._wide(), 1.0, 1 + surplus)

    @property
    def connectivity(self) -> float:
        """K/D, the share of the connections between processes that the patterns make."""
        return len(self) / self.dim

    def __len__(self) -> int:
        return len(self.keys)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={len(self)}, coupling={self.coupling:g}, steps={self.steps}"

    def _settled(self, method: str, state: States) -> tuple[Pairs, Pairs]:
        check_cue(self, method, state, self.keys.rows)
        return self.network().settled(state.to(self._wide()))

    def _wide(self) -> Tensor:
        # overlaps are whole numbers, which half precision would lose
        return self.keys.rows.to(torch.promote_types(self.keys.rows.dtype, torch.float32))

    def _overlaps(self, state: Tensor) -> Tensor:
        return state.to(self._wide()) @ self._wide().mT

    def _largest(self) -> Tensor:
        """The largest row sum of (ΞΞᵀ)², entry by entry: no eigenvalue is beyond it."""
        return (self._wide() @ self._wide().mT).square().sum(-1).amax()

    def _mixing(self) -> Tensor:
        """M⁻¹."""
        matrix = coupling(self._wide().double(), self.coupling / float(self._largest()))
        inverse: Tensor = torch.linalg.inv(matrix)
        # symmetric but for rounding, and the difference of two energies counts on it
        return ((inverse + inverse.mT) / 2).to(self._wide())

    def _drive(self, state: Tensor, mixing: Tensor) -> Tensor:
        overlaps = self._overlaps(state) / self.dim
        return overlaps * (overlaps.square() @ mixing)
