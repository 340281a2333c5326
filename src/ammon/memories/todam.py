"""TodamMemory: items and associations in one trace, M ← α M + γ₁ f + γ₂ g + γ₃ f ⊛ g (Murdock 1982), as large as a single row.

An item is recognised by its dot product with the trace, and calls up its partner by correlation and clean-up. Cues [batch, dim].
"""

from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue
from ammon.memories.trace import superpose
from ammon.parts.binding import convolve, correlate
from ammon.shapes import Energies, Rows, States, Weights, check_count


class TodamMemory(Memory):
    """Items of random entries with variance 1/dim are meant. Circular convolution, so that the trace keeps its size (Murdock's grows).

    retention: α, what each new pair leaves of the trace. item, partner, association: γ₁, γ₂, γ₃. Without values a pattern is its own
    partner: γ₁ f + γ₃ f ⊛ f. clean_up: an auto-associative memory of the same dim that holds the lexicon: `write` stores the values
    there, and items that were never studied can be written to it. Values of fewer entries than the items are filled up with zeros.
    """

    def __init__(
        self,
        dim: int,
        retention: float = 1.0,
        item: float = 0.5,
        partner: float = 0.5,
        association: float = 1.0,
        clean_up: Memory | None = None,
    ) -> None:
        super().__init__()
        check_count("TodamMemory", "dim", dim)
        if not 0 < retention <= 1:
            raise ValueError(f"TodamMemory: retention must be in (0, 1], got {retention}.")
        for name, weight in (("item", item), ("partner", partner), ("association", association)):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"TodamMemory: {name} must be >= 0 and finite, got {weight}.")
        if clean_up is not None and clean_up.dim != dim:
            raise ValueError(f"TodamMemory: the clean-up has dim {clean_up.dim}, the memory {dim}; give one of the same dim.")
        self.dim, self.retention = dim, float(retention)
        self.item, self.partner, self.association = float(item), float(partner), float(association)
        self.clean_up = clean_up
        self.register_buffer("trace", torch.zeros(dim))
        self.register_buffer("written", torch.zeros(3, dtype=torch.int64))
        self.trace: Tensor
        self.written: Tensor  # pairs, of which with a value of their own, entries of those values

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        def events(items: Tensor, partners: Tensor) -> Tensor:
            found = self.item * items + self.association * convolve(items, partners)
            return found if values is None else found + self.partner * partners

        superpose(self, patterns, values, self.retention, events)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.trace)
        settling = {"steps": 1, **settling}
        if not self._hetero:
            return settle(lambda state, rows: self._read(state), cue, **settling)
        if settling["steps"] != 1:
            raise ValueError(f"TodamMemory.recall: a partner is called up once; got steps={settling['steps']}.")
        return settle(lambda state, rows: self._read(state), cue, read=lambda state: self._read(state)[:, : self._value_dim], **settling)

    def familiarity(self, cue: States) -> Float[Tensor, " batch"]:
        """x·M: γ₁ αʲ |x|² on average for an item with j pairs after it, 0 for one that was not studied."""
        check_cue(self, "familiarity", cue, self.trace)
        return cue @ self.trace

    def unbound(self, cue: States) -> States:
        """What correlation gives before any clean-up: the partner and noise, [batch, dim]."""
        check_cue(self, "unbound", cue, self.trace)
        return correlate(cue, self.trace.expand_as(cue))

    def energy(self, state: States) -> Energies:
        raise TypeError("TodamMemory.energy: correlation descends nothing, so there is no energy; its clean-up may have one.")

    def weights(self, cue: States) -> Weights:
        raise TypeError("TodamMemory.weights: the pairs are superposed in one row, so none has a weight of its own.")

    def __len__(self) -> int:
        return int(self.written[0])

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    @property
    def _value_dim(self) -> int:
        return int(self.written[2])

    def _read(self, cue: Tensor) -> Tensor:
        partner = correlate(cue, self.trace.expand_as(cue))
        return partner if self.clean_up is None else self.clean_up.recall(partner).state

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # a trace in another dtype is no error: it replaces this one
        if prefix + "trace" in state_dict:
            self.trace = torch.empty_like(state_dict[prefix + "trace"])
        super()._load_from_state_dict(state_dict, prefix, *args)


def recognition(dim: int, studied: int, lag: int, retention: float, item: float, partner: float, association: float) -> float:
    """d' of an item f of `studied` independent pairs with `lag` of them after it, against items that were not studied.

    For items with entries N(0, 1/dim): γ₁ α^lag over the standard deviation of a new item's familiarity, whose variance is
    (γ₁² + γ₂² + γ₃²) Σ_j α^2j / dim. Old items scatter more, by their own length and their own binding.
    """
    check_count("recognition", "studied", studied)
    if not 0 <= lag < studied:
        raise ValueError(f"recognition: lag must be from 0 to {studied - 1}, got {lag}.")
    kept = sum(retention ** (2 * j) for j in range(studied))
    variance = (item**2 + partner**2 + association**2) * kept / dim
    return item * retention**lag / float(variance**0.5)
