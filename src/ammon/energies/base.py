"""The contracts of an energy, a scalar of activations, and of a synapse, an energy that joins layers of neurons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ammon.shapes import Energies

Shape = tuple[int, ...]
Places = Sequence[int] | None


@dataclass(frozen=True)
class Target:
    """Where a pull goes: into ← keep · onto + gain · pull, without gradients. into and onto [batch, *shape], two tensors or one."""

    into: Tensor
    onto: Tensor
    keep: float
    gain: float

    def take(self, pull: Tensor) -> None:
        """A pull that is at hand."""
        torch.add(self.onto if self.keep == 1 else self.keep * self.onto, pull, alpha=self.gain, out=self.into)

    def take_product(self, left: Tensor, right: Tensor) -> None:
        """The pull left @ right [batch, n]: the product adds as it multiplies, so that the pull itself is never held."""
        torch.addmm(self.onto.flatten(1), left, right, beta=self.keep, alpha=self.gain, out=self.into.view(len(left), -1))


class Energy(nn.Module):
    """E(activations) [batch]; `pull` is -dE/dg for each activation, analytic where it is known."""

    def forward(self, *activations: Tensor) -> Energies:
        raise NotImplementedError

    def pull(self, *activations: Tensor) -> Tensor:
        """-dE/dg for the first activation [batch, dim]."""
        raise NotImplementedError


class Synapse(nn.Module):
    """A hypersynapse: E(g1, g2, ...) [batch] of the activations [batch, *shape] of the layers that it joins, one or more.

    A layer may be named twice. Write `forward` alone and the rest follows by autograd; `pulls` in closed form is faster.
    """

    def forward(self, *activations: Tensor) -> Energies:
        """The energy of each item; items never see each other."""
        raise NotImplementedError

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        """-dE/dg for the activations at these places, all by default: what the layers are fed through this synapse.

        By autograd, unless a class says otherwise.
        """
        tracked = torch.is_grad_enabled() and not torch.is_inference_mode_enabled() and self._learns(activations)
        with torch.inference_mode(False), torch.enable_grad():
            # a place of its own for each: a layer named twice is fed at both its places
            own = [_own(g, tracked) for g in activations]
            asked = [own[place] for place in places(at, activations)]
            energy: Tensor = self(*own)
            if not energy.requires_grad:
                return tuple(torch.zeros_like(g) for g in asked)
            gradients = torch.autograd.grad(energy.sum(), asked, create_graph=tracked, allow_unused=True)
        return tuple(torch.zeros_like(g) if gradient is None else -gradient for g, gradient in zip(asked, gradients))

    def relax(self, activations: Sequence[Tensor], targets: Mapping[int, Target]) -> None:
        """Bring the pull at each of these places into its target. Worth a form of its own where a product can add as it multiplies."""
        for target, pull in zip(targets.values(), self.pulls(*activations, at=list(targets))):
            target.take(pull)

    def _learns(self, activations: tuple[Tensor, ...]) -> bool:
        """Whether anything that the energy depends on asks for a gradient, even a tensor that a function has closed over."""
        asked = any(g.requires_grad for g in activations) or any(p.requires_grad for p in self.parameters())
        return asked or bool(self(*activations).requires_grad)

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        """Refuse layers of these shapes, with one clear sentence, if the synapse cannot join them; all are welcome by default."""


def places(at: Places, activations: Sequence[Tensor]) -> Sequence[int]:
    """The places that are asked for."""
    return range(len(activations)) if at is None else at


def _own(activation: Tensor, tracked: bool) -> Tensor:
    if tracked and activation.requires_grad:
        return activation.view_as(activation)
    plain = activation.clone() if activation.is_inference() else activation.detach()
    return plain.requires_grad_()
