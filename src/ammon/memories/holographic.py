"""HolographicMemory: keys bound to values in one superposition, M = Σ key ⊛ value, as large as a single row (Plate 1995).

f(x) = clean-up(activation(M unbound from x)). Cues [batch, dim]; values of fewer entries than the keys are filled up with zeros.
"""

from typing import Literal, Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue
from ammon.memories.trace import superpose
from ammon.parts.binding import convolve, correlate, deconvolve
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.shapes import Energies, Rows, States, Weights, check_count

Unbinding = Literal["correlation", "inverse"]


class HolographicMemory(Memory):
    """Without values each pattern is bound to itself. Keys of random entries with variance 1/dim, or unitary ones, are meant.

    Unbinding from a superposition of k pairs leaves noise of k times the signal's power by correlation with such keys, and of
    k - 1 times with unitary ones; the exact inverse leaves none with k = 1, and more with k > 1.
    unbinding: "correlation" or "inverse". activation: of what was unbound, Sign for items of ±1. forgetting: fraction of the
    superposition lost with each new pair, as in TODAM (Murdock 1982). clean_up: an auto-associative memory of the same dim, asked
    for the item most like what was unbound; `write` stores the values there, and items that were never bound can be written to it.
    """

    def __init__(
        self,
        dim: int,
        unbinding: Unbinding = "correlation",
        activation: Lagrangian | None = None,
        clean_up: Memory | None = None,
        forgetting: float = 0.0,
        steps: int = 1,
    ) -> None:
        super().__init__()
        check_count("HolographicMemory", "dim", dim)
        check_count("HolographicMemory", "steps", steps)
        if unbinding not in ("correlation", "inverse"):
            raise ValueError(f'HolographicMemory: unbinding must be "correlation" or "inverse", got {unbinding!r}.')
        if not 0 <= forgetting < 1:
            raise ValueError(f"HolographicMemory: forgetting must be in [0, 1), got {forgetting}.")
        if clean_up is not None and clean_up.dim != dim:
            raise ValueError(f"HolographicMemory: the clean-up has dim {clean_up.dim}, the memory {dim}; give one of the same dim.")
        self.dim, self.unbinding, self.forgetting, self.steps = dim, unbinding, float(forgetting), steps
        self.activation: Lagrangian = Identity() if activation is None else activation
        self.clean_up = clean_up
        self.register_buffer("trace", torch.zeros(dim))
        self.register_buffer("written", torch.zeros(3, dtype=torch.int64))
        self.trace: Tensor
        self.written: Tensor  # pairs, of which with a value of their own, entries of those values

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        superpose(self, patterns, values, 1 - self.forgetting, convolve)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.trace)
        settling = {"steps": self.steps, **settling}
        if not self._hetero:
            return settle(lambda state, rows: self._read(state), cue, **settling)
        if settling["steps"] != 1:
            raise ValueError(f"HolographicMemory.recall: a value is unbound once; got steps={settling['steps']}.")
        return settle(lambda state, rows: self._read(state), cue, read=lambda state: self._read(state)[:, : self._value_dim], **settling)

    def unbound(self, cue: States) -> States:
        """What one unbinding gives before any clean-up: the item and noise, [batch, dim]."""
        check_cue(self, "unbound", cue, self.trace)
        return self._unbind(cue)

    def energy(self, state: States) -> Energies:
        raise TypeError("HolographicMemory.energy: unbinding descends nothing, so there is no energy; its clean-up may have one.")

    def weights(self, cue: States) -> Weights:
        raise TypeError("HolographicMemory.weights: the pairs are superposed in one row, so none has a weight of its own.")

    def __len__(self) -> int:
        return int(self.written[0])

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    @property
    def _value_dim(self) -> int:
        return int(self.written[2])

    def _unbind(self, cue: Tensor) -> Tensor:
        take = correlate if self.unbinding == "correlation" else deconvolve
        return take(cue, self.trace.expand_as(cue))

    def _read(self, cue: Tensor) -> Tensor:
        item: Tensor = self.activation(self._unbind(cue))
        return item if self.clean_up is None else self.clean_up.recall(item).state

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # a superposition in another dtype is no error: it replaces this one
        if prefix + "trace" in state_dict:
            self.trace = torch.empty_like(state_dict[prefix + "trace"])
        super()._load_from_state_dict(state_dict, prefix, *args)
