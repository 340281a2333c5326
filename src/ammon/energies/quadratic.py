"""The energy of pairwise weights: E(g) = L*(g) - g·W g/2, L* the dual of the state's own Lagrangian (0 on ±1).

Hopfield 1982; Hopfield 1984 for graded states. States g [batch, dim] and symmetric weights W [dim, dim] give energies [batch].
"""

from torch import Tensor

from ammon.energies.base import Energy
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.shapes import Energies


class QuadraticEnergy(Energy):
    """The energy that g → activation(W g) descends when W is symmetric and has no negative eigenvalue."""

    def __init__(self, activation: Lagrangian) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, *activations: Tensor) -> Energies:
        state, weights = activations
        return self.activation.dual(state) - (state * (state @ weights.mT)).sum(-1) / 2

    def pull(self, *activations: Tensor) -> Tensor:
        """-dE/dg of (state, weights), for a state that is free to move (Identity)."""
        state, weights = activations
        if not isinstance(self.activation, Identity):
            raise TypeError(f"QuadraticEnergy.pull: the states of {type(self.activation).__name__} are not free to move.")
        return state @ weights.mT - state
