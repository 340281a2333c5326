"""TransitionMemory: one matrix of weights from each state to the next, made by a learning rule; x_{t+1} = activation(W x_t).

With `Regression` it is a temporal predictive-coding network at rest (Tang, Barron & Bogacz 2023), with Hebb's rule an asymmetric Hopfield
network that counts each unit's own vote. States [batch, dim]; constant in size with a rule that is online.
"""

from typing import Any, Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.learning.base import Rule
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.memories.pairwise import PairwiseMemory
from ammon.memories.sequence import End, check_end, transitions
from ammon.parts.lagrangians import Lagrangian, Sign
from ammon.shapes import Energies, Rows, States, Weights, check_bipolar, check_count


class TransitionMemory(Memory):
    """Each `write` without values is one sequence, in the order of its rows; with values it is single transitions pattern → value.

    One step of recall is one transition. activation: Sign for rows of ±1 (the default), Identity for real ones.
    end: of a sequence: "held" keeps its last pattern, "cyclic" goes on with its first, "open" leaves what follows undefined.
    """

    def __init__(self, dim: int, rule: Rule[Any], activation: Lagrangian | None = None, end: End = "held", steps: int = 1) -> None:
        super().__init__()
        check_count("TransitionMemory", "dim", dim)
        check_count("TransitionMemory", "steps", steps)
        check_end("TransitionMemory", end)
        self.dim, self.rule, self.end, self.steps = dim, rule, end, steps
        self.activation = activation or Sign()
        self.network = PairwiseMemory(dim, rule, self.activation)
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.written: Tensor  # patterns, of which with a value of their own

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, len(self.network.matrix) if self.written[1] else None)
        for what, rows in (("pattern", patterns), ("value", values)):
            self._check_signs("write", what, rows)
        keys, nexts = (patterns, values) if values is not None else transitions("TransitionMemory", patterns, self.end)
        self.network.write(keys, nexts)
        self.written = self.written + torch.tensor([len(patterns), 0 if values is None else len(values)], device=self.written.device)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.network.matrix)
        self._check_signs("recall", "cue", cue)
        settling = {"steps": self.steps, **settling}
        if len(self.network.matrix) != self.dim:
            if settling["steps"] != 1:
                raise ValueError(f"TransitionMemory.recall: values of another size are read once; got steps={settling['steps']}.")
            return settle(lambda state, rows: state, cue, read=self._next, **settling)
        return settle(lambda state, rows: self._next(state), cue, **settling)

    def energy(self, state: States) -> Energies:
        raise TypeError("TransitionMemory.energy: a state that moves on to the next descends nothing, so there is no energy.")

    def weights(self, cue: States) -> Weights:
        raise TypeError("TransitionMemory.weights: the transitions are superposed in one matrix, so none has a weight of its own.")

    def __len__(self) -> int:
        return int(self.written[0])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={len(self)}, end={self.end}, steps={self.steps}"

    def _next(self, state: Tensor) -> Tensor:
        return self.network.recall(state).state

    def _check_signs(self, method: str, what: str, rows: Rows | None) -> None:
        if rows is not None and isinstance(self.activation, Sign):
            check_bipolar(f"TransitionMemory.{method}", what, rows)
