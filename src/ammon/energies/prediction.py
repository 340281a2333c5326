"""Prediction: a layer predicted from the one above, as in predictive coding (Rao & Ballard 1999; Salvatori et al. 2021).

With neurons of the identity below, whose own energy is ½|x|², it makes ½|x - μ|² of it, μ = W f(above) + b: the squared error.
"""

import torch
from torch import Tensor

from ammon.energies.base import Places, Shape, Synapse, places
from ammon.energies.synapses import check_joined, count, hold
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.shapes import Energies


class Prediction(Synapse):
    """E = ½|μ|² - g₁·μ of the layers (below, above), μ = W f(g₂) + b; weight [n1, n2], bias [n1]. Layers of any shape are taken flat.

    activation: the Lagrangian whose gradient is f; the identity by default.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, activation: Lagrangian | None = None, learnable: bool = False) -> None:
        super().__init__()
        hold(self, "weight", weight, learnable)
        hold(self, "bias", bias, learnable)
        self.activation, self.learnable = activation or Identity(), learnable
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(f"Prediction: weight [n1, n2] and bias [n1] are needed, got {list(weight.shape)} and {list(bias.shape)}.")

    def predicted(self, above: Tensor) -> Tensor:
        """μ [batch, n1]."""
        shown: Tensor = self.activation.activation(above.flatten(1))
        return shown @ self.weight.mT + self.bias

    def forward(self, *activations: Tensor) -> Energies:
        below, prediction = activations[0].flatten(1), self.predicted(activations[1])
        return ((prediction / 2 - below) * prediction).sum(-1)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        below, above = (g.flatten(1) for g in activations)
        prediction = self.predicted(above)
        fed = (lambda: prediction, lambda: self._back(above, (below - prediction) @ self.weight))
        return tuple(fed[place]().reshape(activations[place].shape) for place in places(at, activations))

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, 2)
        got = [count(shape) for shape in shapes]
        if got != list(self.weight.shape):
            raise ValueError(f"{where}: the weight is {list(self.weight.shape)}, the layers have {got[0]} and {got[1]} neurons.")

    def extra_repr(self) -> str:
        return f"{list(self.weight.shape)}"

    def _back(self, above: Tensor, errors: Tensor) -> Tensor:
        """∇²L(above) errors: what f passes back, as a product with a vector."""
        if isinstance(self.activation, Identity):
            return errors
        tracked = torch.is_grad_enabled() and (above.requires_grad or errors.requires_grad)
        with torch.inference_mode(False), torch.enable_grad():
            own = above.view_as(above) if tracked and above.requires_grad else above.clone().detach().requires_grad_()
            shown = self.activation.activation(own)
            if not shown.requires_grad:
                return torch.zeros_like(errors)
            (passed,) = torch.autograd.grad(shown, own, errors if tracked else errors.clone(), create_graph=tracked)
        return passed
