"""The contract of an energy: a scalar of activations, and its pull on each of them."""

from torch import Tensor, nn

from ammon.shapes import Energies


class Energy(nn.Module):
    """E(activations) [batch]; `pull` is -dE/dg for each activation, analytic where it is known."""

    def forward(self, *activations: Tensor) -> Energies:
        raise NotImplementedError

    def pull(self, *activations: Tensor) -> Tensor:
        """-dE/dg for the first activation [batch, dim]."""
        raise NotImplementedError
