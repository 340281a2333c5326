"""PairwiseMemory: one matrix of weights, made by a learning rule; f(x) = activation(W x).

The correlation matrices of Kohonen and Amari are this class with Hebb's rule. Cues [batch, dim], weights [value_dim, dim].
"""

from dataclasses import replace
from typing import Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle, unsettled
from ammon.energies.quadratic import QuadraticEnergy
from ammon.learning.base import Rule
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.shapes import Energies, Rows, States, Weights, check_count


class PairwiseMemory(Memory):
    """Weights between units, learned pattern by pattern; constant in size, whatever the number of patterns.

    Auto-associative with a symmetric W it has the energy L*(g) - g·W g/2; hetero-associative it has none, and one step is all it does.
    """

    def __init__(self, dim: int, rule: Rule, activation: Lagrangian | None = None, steps: int = 1) -> None:
        super().__init__()
        check_count("PairwiseMemory", "dim", dim)
        check_count("PairwiseMemory", "steps", steps)
        self.dim, self.rule, self.steps = dim, rule, steps
        self.activation: Lagrangian = Identity() if activation is None else activation
        self.register_buffer("matrix", torch.empty(0, dim))
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.matrix: Tensor
        self.written: Tensor  # patterns, of which with a value of their own

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, len(self.matrix) if self._hetero else None)
        post = patterns if values is None else values
        if len(self) == 0:
            self.matrix = self.rule.begin(post.shape[1], self.dim, post)
        self.matrix = self.rule.learn(self.matrix, post.detach().to(self.matrix), patterns.detach().to(self.matrix))
        self.written = self.written + torch.tensor([len(patterns), 0 if values is None else len(values)], device=self.written.device)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.matrix)
        settling = {"steps": self.steps, **settling}
        if not self._hetero:
            return settle(lambda state, rows: self._step(state), cue, **settling)
        if settling["steps"] != 1:
            raise ValueError(f"PairwiseMemory.recall: a hetero-associative matrix is read once; got steps={settling['steps']}.")
        found = unsettled(cue)
        return replace(found, state=self._step(cue), steps=found.steps + 1)

    def energy(self, state: States) -> Energies:
        if self._hetero:
            raise TypeError("PairwiseMemory.energy: hetero-associative recall leaves the space of its cue, so it has no energy.")
        if not torch.equal(self.matrix, self.matrix.mT):
            raise TypeError("PairwiseMemory.energy: the weights are not symmetric, so recall descends no energy.")
        check_cue(self, "energy", state, self.matrix)
        energy: Tensor = QuadraticEnergy(self.activation)(state, self.matrix)
        return energy

    def weights(self, cue: States) -> Weights:
        raise TypeError("PairwiseMemory.weights: the patterns are superposed in one matrix, so none has a weight of its own.")

    def __len__(self) -> int:
        return int(self.written[0])

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    def _step(self, state: Tensor) -> Tensor:
        activated: Tensor = self.activation(state @ self.matrix.mT)
        return activated

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # a matrix for values of another size than this one's is no error: it replaces it
        if prefix + "matrix" in state_dict:
            self.matrix = torch.empty_like(state_dict[prefix + "matrix"])
        super()._load_from_state_dict(state_dict, prefix, *args)
