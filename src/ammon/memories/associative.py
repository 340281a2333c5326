"""AssociativeMemory: f(x) = activation(valuesᵀ · separation(similarity(keys, x))), one step or until it settles.

Modern Hopfield networks, sparse ones, log-sum-ReLU, MINERVA 2, universal Hopfield networks and any other pair of a similarity
and a separation are this class with other parts. Cues [batch, dim].
"""

from typing import Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.energies.associative import AssociativeEnergy
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.lagrangians import Identity, Lagrangian, Sign
from ammon.parts.retrieve import retrieve, weigh
from ammon.parts.similarity import Similarity
from ammon.shapes import Energies, Rows, States, Weights, check_bipolar, check_count


class AssociativeMemory(Memory):
    """A memory of any similarity × separation (Millidge et al. 2022), all units updated at once.

    With values it settles among the keys and reads the values in its last step, so with the keys as values it gives the same.
    With distances and no pattern within reach (log-sum-ReLU) the state stays where it is, and a value reads as 0.
    With sign units patterns, values and cues hold only -1 and +1.
    steps: updates per recall at most, unless the call says otherwise.
    """

    def __init__(
        self, dim: int, similarity: Similarity, separation: Lagrangian, activation: Lagrangian | None = None, steps: int = 1
    ) -> None:
        super().__init__()
        check_count("AssociativeMemory", "dim", dim)
        check_count("AssociativeMemory", "steps", steps)
        self.dim, self.steps = dim, steps
        self.similarity, self.separation = similarity, separation
        self.activation: Lagrangian = Identity() if activation is None else activation
        self.keys, self.values = Bank(dim), Bank()

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self.values.dim if len(self.values) else None)
        self._check_signs("write", "pattern", patterns)
        if values is not None:
            self._check_signs("write", "value", values)
            self.values.append(values)
        self.keys.append(patterns)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.keys.rows)
        self._check_signs("recall", "cue", cue)
        settling = {"steps": self.steps, **settling}
        read = (lambda state: self._mix(state, self.values.rows)) if len(self.values) else None
        return settle(lambda state, rows: self._step(state), cue, read=read, **settling)

    def energy(self, state: States) -> Energies:
        check_cue(self, "energy", state, self.keys.rows)
        energy: Tensor = AssociativeEnergy(self.similarity, self.separation, self.activation)(state, self.keys.rows)
        return energy

    def weights(self, cue: States) -> Weights:
        check_cue(self, "weights", cue, self.keys.rows)
        return weigh(cue, self.keys.rows, self.similarity, self.separation)

    def intensity(self, cue: States) -> Energies:
        """The sum of the weights: MINERVA 2's echo intensity, the familiarity of the cue (Hintzman 1984); 1 for softmax. [batch]"""
        check_cue(self, "intensity", cue, self.keys.rows)
        ones = torch.ones_like(self.keys.rows[:, :1])
        return retrieve(cue, self.keys.rows, ones, self.similarity, self.separation).squeeze(-1)

    def __len__(self) -> int:
        return len(self.keys)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={len(self)}, steps={self.steps}"

    def _check_signs(self, method: str, what: str, rows: Tensor) -> None:
        if isinstance(self.activation, Sign):
            check_bipolar(f"AssociativeMemory.{method}", what, rows)

    def _step(self, state: Tensor) -> Tensor:
        # among distances, nothing within reach pulls nowhere
        stays = self.separation.compact and self.similarity.potential == "inside"
        return self._mix(state, self.keys.rows, state if stays else None)

    def _mix(self, state: Tensor, contents: Tensor, empty: Tensor | None = None) -> Tensor:
        scale_free = self.activation.scale_free
        mixed = retrieve(state, self.keys.rows, contents, self.similarity, self.separation, scale_free=scale_free, empty=empty)
        activated: Tensor = self.activation(mixed)
        return activated
