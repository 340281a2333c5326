"""GenerativeMemory: a hierarchical generative predictive-coding network as a memory (Salvatori et al. 2021).

E(x) is the least energy ½ Σ_l |ε_l|² over the hidden layers, the cue x [batch, dim] held below. Where they rest, -dE/dx is what is
predicted of x less x, so a step x ← μ_0 never raises it. `network` gives it as an energy network.
"""

from itertools import pairwise
from typing import Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.energies.network import EnergyNetwork
from ammon.energies.neurons import Neurons
from ammon.energies.prediction import Prediction
from ammon.energies.synapses import Bias
from ammon.learning.generative import Generative, Hierarchy, Rest, rest
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.lagrangians import Tanh
from ammon.shapes import Energies, Rows, States, Weights, check_count


class GenerativeMemory(Memory):
    """All patterns are kept and learned anew, from the same start, at each write, by the rule.

    With `clamp` the known entries stay, and those that are not known settle with the hidden layers. Without, every entry may be wrong: each
    step lets the hidden layers settle on the state and puts what they predict in its place. Values are more units, never known: they are
    read once. inferences: steps of the hidden layers at most in each of the memory's steps, until no slope is left.
    """

    def __init__(self, dim: int, rule: Generative | None = None, steps: int = 30, inferences: int = 50) -> None:
        super().__init__()
        check_count("GenerativeMemory", "dim", dim)
        check_count("GenerativeMemory", "steps", steps)
        check_count("GenerativeMemory", "inferences", inferences)
        self.dim, self.rule, self.steps, self.inferences = dim, rule or Generative(), steps, inferences
        sizes = [dim, *self.rule.hidden]
        for place, (below, above) in enumerate(pairwise(sizes)):
            self.register_buffer(f"weight_{place}", torch.zeros(below, above))
        for place, size in enumerate(sizes):
            self.register_buffer(f"bias_{place}", torch.zeros(size))
        self.register_buffer("learned_energy", torch.zeros(()))
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.bias_0: Tensor
        self.learned_energy: Tensor  # per pattern, at the end of the last fit
        self.written: Tensor  # patterns, of which with a value of their own
        self.keys, self.values = Bank(dim), Bank()

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self.values.dim if self._hetero else None)
        if not len(patterns):
            return
        self.keys.append(patterns)
        if values is not None:
            self.values.append(values.to(self.keys.rows))
        rows = torch.cat([self.keys.rows, self.values.rows], -1) if values is not None else self.keys.rows
        # learned in at least float32
        learned = self.rule.learn(rows.to(torch.promote_types(rows.dtype, torch.float32)))
        for name, tensor in _named(learned).items():
            setattr(self, name, tensor)
        self.written = self.written + torch.tensor([len(patterns), 0 if values is None else len(values)], device=self.written.device)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.keys.rows)
        settling = {"steps": 1 if self._hetero else self.steps, **settling}
        clamp = settling.get("clamp")
        if self._hetero:
            if settling["steps"] != 1:
                raise ValueError(f"GenerativeMemory.recall: values are read once; got steps={settling['steps']}.")

            def read(state: Tensor) -> Tensor:
                return self._predicted(state, torch.ones_like(state))[:, self.dim :]

            return settle(lambda state, rows: state, cue, read=read, **settling)
        if clamp is None or clamp.shape != cue.shape:
            return settle(lambda state, rows: self._predicted(state, torch.ones_like(state)), cue, **settling)
        # what is clamped stays by itself
        return settle(lambda state, rows: self._predicted(state, clamp[rows].to(state.dtype)), cue, **settling)

    def energy(self, state: States) -> Energies:
        """The least ½ Σ_l |ε_l|² over the hidden layers, as far as `inferences` steps go. [batch]"""
        if self._hetero:
            raise TypeError("GenerativeMemory.energy: values are read once, which descends nothing, so there is no energy.")
        check_cue(self, "energy", state, self.keys.rows)
        return self.settled(state, torch.ones_like(state)).energy.to(state.dtype)

    def weights(self, cue: States) -> Weights:
        raise TypeError("GenerativeMemory.weights: the patterns are superposed in the weights, so none has a weight of its own.")

    def settled(self, state: States, known: States) -> Rest:
        """The hidden layers at rest on the entries that are known (1; others 0) of patterns; values are not."""
        weights, biases = self._learned
        rows = torch.cat([state.to(weights[0]), biases[0][self.dim :].expand(len(state), -1)], -1)
        seen = torch.cat([known.to(rows), torch.zeros_like(rows[:, self.dim :])], -1)
        return rest(weights, biases, rows, seen, self.inferences)

    def network(self) -> EnergyNetwork:
        """What was learned, as an energy network: layers x0 (patterns, and values beside them), x1, ...

        Its energy is ½ Σ_l |ε_l|², less ½ |b_L|², which no state changes.
        """
        weights, biases = self._learned
        names = [f"x{place}" for place in range(len(biases))]
        synapses = {f"predict{place}": Prediction(weight, biases[place], Tanh()) for place, weight in enumerate(weights)}
        connections = [(pair, f"predict{place}") for place, pair in enumerate(pairwise(names))]
        return EnergyNetwork(
            {name: Neurons(len(bias)) for name, bias in zip(names, biases, strict=True)},
            {**synapses, "prior": Bias(biases[-1])},
            [*connections, ((names[-1],), "prior")],
        )

    def __len__(self) -> int:
        return int(self.written[0])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={len(self)}, hidden={self.rule.hidden}, steps={self.steps}"

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    @property
    def _learned(self) -> tuple[list[Tensor], list[Tensor]]:
        layers = len(self.rule.hidden)
        return [getattr(self, f"weight_{place}") for place in range(layers)], [
            getattr(self, f"bias_{place}") for place in range(layers + 1)
        ]

    def _predicted(self, state: Tensor, known: Tensor) -> Tensor:
        """μ_0, patterns and values, the hidden layers at rest on what is known."""
        weights, biases = self._learned
        prediction = self.settled(state, known).states[0].tanh() @ weights[0].mT + biases[0]
        return prediction.to(state.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # weights for more units, or in another dtype, are no error: they replace these
        for name in list(self._buffers):
            if name != "written" and prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _named(learned: Hierarchy) -> dict[str, Tensor]:
    weights = {f"weight_{place}": weight for place, weight in enumerate(learned.weights)}
    return {**weights, **{f"bias_{place}": bias for place, bias in enumerate(learned.biases)}, "learned_energy": learned.energy}
