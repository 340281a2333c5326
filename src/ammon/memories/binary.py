"""BinaryMemory: ±1 states that descend E(s) = -L(Ξs) flip by flip, by the exact energy difference of each flip.

Hopfield 1982 (L = |x|²/2), dense memories (powers, Krotov & Hopfield 2016) and exponential ones (Demircigil et al. 2017) are this
class with other separations. A unit never votes for itself: the energy difference leaves its own part out. sign(0) = +1.
"""

from dataclasses import replace
from typing import Literal, Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.dynamics.sweep import sweep
from ammon.energies.associative import AssociativeEnergy
from ammon.energies.flips import PatternFlips
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.lagrangians import Lagrangian, Sign
from ammon.parts.retrieve import weigh
from ammon.parts.similarity import Dot
from ammon.shapes import Energies, Rows, States, Weights, check_bipolar, check_count

Order = Literal["asynchronous", "synchronous"]


class BinaryMemory(Memory):
    """Patterns, cues and states hold only -1 and +1.

    "asynchronous": one step is one sweep over all units, in turn or in an order drawn from `generator`; the energy never rises.
    "synchronous": all units flip at once by the same fields; the energy may rise and a 2-cycle may come, which the record reports.
    With values it settles among the keys and then reads the values, sign(Σ value · odd part of the energy difference);
    once settled, with the keys as values, that is the key.
    """

    def __init__(self, dim: int, separation: Lagrangian, update: Order = "asynchronous", steps: int = 50) -> None:
        super().__init__()
        check_count("BinaryMemory", "dim", dim)
        check_count("BinaryMemory", "steps", steps)
        if update not in ("asynchronous", "synchronous"):
            raise ValueError(f'BinaryMemory: update must be "asynchronous" or "synchronous", got {update!r}.')
        self.dim, self.update, self.steps = dim, update, steps
        self.separation = separation
        self.keys, self.values = Bank(dim), Bank()
        self._made: tuple[Tensor, PatternFlips] | None = None

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self.values.dim if len(self.values) else None)
        check_bipolar("BinaryMemory.write", "pattern", patterns)
        if values is not None:
            check_bipolar("BinaryMemory.write", "value", values)
            self.values.append(values)
        self.keys.append(patterns)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.keys.rows)
        check_bipolar("BinaryMemory.recall", "cue", cue)
        settling = {"steps": self.steps, **settling}
        generator, clamp = settling.get("generator"), settling.get("clamp")
        flips = self._flips()

        def in_turn(state: Tensor, rows: Tensor) -> Tensor:
            # one order for the whole batch: an item's answer does not depend on its batch mates
            order = None if generator is None else torch.randperm(self.dim, generator=generator, device=generator.device).to(state.device)
            return sweep(flips, state, order, None if clamp is None else ~clamp[rows])

        def at_once(state: Tensor, rows: Tensor) -> Tensor:
            return Sign().activation(flips.field(flips.begin(state), state, slice(None))).to(state.dtype)

        found = settle(in_turn if self.update == "asynchronous" else at_once, cue, **settling)
        if not len(self.values):
            return found
        return replace(found, state=Sign().activation(flips.content(found.state, self.values.rows)).to(cue.dtype))

    def energy(self, state: States) -> Energies:
        check_cue(self, "energy", state, self.keys.rows)
        check_bipolar("BinaryMemory.energy", "state", state)
        energy: Tensor = AssociativeEnergy(Dot(), self.separation, Sign())(state, self.keys.rows)
        return energy

    def weights(self, cue: States) -> Weights:
        check_cue(self, "weights", cue, self.keys.rows)
        return weigh(cue, self.keys.rows, Dot(), self.separation)

    def __len__(self) -> int:
        return len(self.keys)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={len(self)}, update={self.update}, steps={self.steps}"

    def _flips(self) -> PatternFlips:
        """The patterns unit by unit, made anew only when they have changed."""
        rows, made = self.keys.rows, self._made
        # the rows it was made of are kept, so that no others can come to lie where they do
        if made is None or made[0].data_ptr() != rows.data_ptr() or made[0].shape != rows.shape or made[0].dtype != rows.dtype:
            made = self._made = rows, PatternFlips(rows, self.separation)
        return made[1]
