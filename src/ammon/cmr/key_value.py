"""Attention: CMR's two reads as those of two key-value memories (Ji-An, Zhou, Benna & Mattar 2024).

An item from a context: keys are contexts, values items, each as strong as it was learned. A context from an item: keys are items, values
contexts. The softmax choice is then attention over items, with those recalled masked and similarity as its bias.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ammon.dynamics.drift import direction, drift, drift_along
from ammon.memories.associative import AssociativeMemory
from ammon.parts.lagrangians import Identity
from ammon.parts.retrieve import weigh
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot


@dataclass(frozen=True)
class Circuit:
    """The memories that the study of one list leaves behind, and the context after it. Items are one-hot [unit]."""

    to_item: AssociativeMemory
    to_context: AssociativeMemory
    context: Float[Tensor, " context"]
    temperature: float

    def supports(self, context: Float[Tensor, "batch context"]) -> Float[Tensor, "batch unit"]:
        """M^CF c: one linear read with contexts as keys."""
        return self.to_item.recall(context, steps=1).state

    def brought(self, items: Float[Tensor, "batch unit"]) -> Float[Tensor, "batch context"]:
        """c_in: one linear read with items as keys, at unit length."""
        return direction(self.to_context.recall(items, steps=1).state)

    def attention(
        self, context: Float[Tensor, "batch context"], left: Bool[Tensor, "batch unit"], bias: Float[Tensor, "batch unit"] | None = None
    ) -> Float[Tensor, "batch unit"]:
        """How likely each item is next: softmax attention with the context as query and each item's row of M^CF as its key."""
        units = left.shape[-1]
        rows = self.to_item.values.rows.mT @ self.to_item.keys.rows
        assert rows.shape[0] == units
        return weigh(context, rows, Dot(), Softmax(2 / self.temperature), mask=left, bias=bias)


def circuit(
    length: int, *, beta_enc: float, beta_start: float, learn_fc: float, learn_cf: float, primacy_scale: float, primacy_decay: float,
    temperature: float, previous: bool = False,
) -> Circuit:  # fmt: skip
    """Write the study of a list of orthonormal items into the two memories. previous: items are bound to the context before them."""
    units = torch.eye(1 + length, dtype=torch.float64)
    items, own = torch.eye(length, dtype=torch.float64), units[1:]
    contexts = drift_along(units[0], own, beta_enc)
    bound = torch.cat([units[:1], contexts[:-1]]) if previous else contexts
    strength = learn_cf + primacy_scale * torch.exp(-primacy_decay * torch.arange(length, dtype=torch.float64))
    to_item = AssociativeMemory(1 + length, Dot(), Identity())
    # what was known before the experiment is written first, then what was studied
    to_item.write(own, values=(1 - learn_cf) * items)
    to_item.write(bound, values=strength.unsqueeze(-1) * items)
    to_context = AssociativeMemory(length, Dot(), Identity())
    to_context.write(items, values=(1 - learn_fc) * own)
    to_context.write(items, values=learn_fc * bound)
    return Circuit(to_item, to_context, drift(contexts[-1], units[0], beta_start), temperature)
