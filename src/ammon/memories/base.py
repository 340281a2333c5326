"""The contract of a memory: write, recall, energy, weights."""

from typing import Unpack

from jaxtyping import Float
from torch import Tensor, nn

from ammon.dynamics.settle import Recall, Settling
from ammon.shapes import Energies, Rows, States, Weights


class Memory(nn.Module):
    """Batch first; `write` changes and returns nothing, `recall` returns a record and changes nothing."""

    dim: int

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        """Store rows [pattern, dim], each with its value [pattern, value_dim] or, if none are given, as its own value."""
        raise NotImplementedError

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        """Settle from each cue [batch, dim]; the state of the record is [batch, dim], or [batch, value_dim] if values were written."""
        raise NotImplementedError

    def energy(self, state: States) -> Energies:
        """The energy that recall descends, of states in the space of the keys [batch, dim]. TypeError if there is none."""
        raise NotImplementedError

    def weights(self, cue: States) -> Weights:
        """How strongly one step of recall mixes each stored pattern. TypeError if patterns are not kept apart."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Patterns written."""
        raise NotImplementedError


Patterns = Float[Tensor, "pattern dim"]
