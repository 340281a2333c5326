"""The energy of a memory that keeps its patterns: E(g) = L*_visible(g) - L_hidden(similarity(keys, g)).

Krotov & Hopfield 2021, eq. 2 with the hidden layer eliminated; Ramsauer et al. 2021, eq. 2 for softmax over dot products
(without its constants). States g [batch, dim] and keys [pattern, dim] give energies [batch].
"""

from torch import Tensor

from ammon.energies.base import Energy
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.parts.retrieve import pool
from ammon.parts.similarity import Similarity
from ammon.shapes import Energies


class AssociativeEnergy(Energy):
    """The energy that recall by `similarity`, `separation` and `activation` descends. TypeError where recall is no descent."""

    def __init__(self, similarity: Similarity, separation: Lagrangian, activation: Lagrangian) -> None:
        super().__init__()
        if similarity.potential == "none":
            raise TypeError(
                f"AssociativeEnergy: recall by {type(similarity).__name__} is no gradient step, so it has no energy; use Dot or Euclidean."
            )
        if similarity.potential == "inside" and not isinstance(activation, Identity):
            raise TypeError(
                f"AssociativeEnergy: with {type(similarity).__name__} the activation must be Identity, not {type(activation).__name__}."
            )
        if similarity.potential == "inside" and not separation.normalised:
            raise TypeError(f"AssociativeEnergy: among distances the weights must sum to 1, those of {type(separation).__name__} do not.")
        if similarity.potential == "dual" and separation.compact:
            raise TypeError(
                f"AssociativeEnergy: recall by products and {type(separation).__name__} is no gradient step, so it has no energy."
            )
        self.similarity, self.separation, self.activation = similarity, separation, activation

    def forward(self, *activations: Tensor) -> Energies:
        """E of the states (state, keys), in chunks: no [batch, pattern] matrix is held."""
        state, keys = activations
        stored = -pool(state, keys, self.similarity, self.separation)
        return stored if self.similarity.potential == "inside" else stored + self.activation.dual(state)

    def pull(self, *activations: Tensor) -> Tensor:
        """-dE/dg of (state, keys), for a state that is free to move (Identity)."""
        state, keys = activations
        if not isinstance(self.activation, Identity):
            raise TypeError(f"AssociativeEnergy.pull: the states of {type(self.activation).__name__} are not free to move.")
        scores = self.similarity(state, keys)
        towards = self.similarity.pull(state, keys, self.separation.activation(scores))
        return towards if self.similarity.potential == "inside" else towards - state
