"""Generative predictive coding: a hierarchy that learns to predict its patterns from above, by local errors (Salvatori et al. 2021).

Layers x_0 (the pattern), x_1, ..., x_L; each is predicted, μ_l = W_l f(x_{l+1}) + b_l and μ_L = b_L, with errors ε_l = x_l - μ_l. Inference
and learning go down the one energy E = ½ Σ_l |ε_l|²: Δx_l = -ε_l + f'(x_l) ∘ (W_{l-1}ᵀ ε_{l-1}), and ΔW_l = ε_l f(x_{l+1})ᵀ, Δb_l = ε_l.
f is tanh: where relu bends, E may be least without being flat, and states would never come to rest. Rows [pattern, unit].
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ammon.shapes import Rows, check_count, check_positive

# of a step: halved so often at most, and the least share of what the slope promises that it must bring
HALVINGS, ENOUGH = 30, 1e-4
# Adam's: of the mean gradient, of its square, and what keeps a quotient finite
MEAN, SQUARE, FLOOR = 0.9, 0.999, 1e-8


class Hierarchy(NamedTuple):
    """Weights W_l [unit below, unit above] from the patterns up, biases b_l [unit] of all layers, and the energy per pattern at the end."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    energy: Tensor


@dataclass(frozen=True)
class Generative:
    """Epochs over all patterns together: `inferences` steps of the hidden states, which go on from epoch to epoch, then one of W and b.

    hidden: units of each layer, from the patterns up. A step of W and b is Adam's (Kingma & Ba 2015), each weight its own, at this `rate`;
    a step of x_l is 1/(1 + |W_{l-1}|²) down its slope, the inverse of the largest curvature that it meets.
    """

    hidden: tuple[int, ...] = (256, 256)
    epochs: int = 100
    inferences: int = 10
    rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, tuple) or not self.hidden:
            raise ValueError(f"Generative: hidden must name the units of one layer or more, e.g. (256, 256), got {self.hidden!r}.")
        for units in self.hidden:
            check_count("Generative", "hidden", units)
        for name in ("epochs", "inferences"):
            check_count("Generative", name, getattr(self, name))
        check_positive("Generative", "rate", self.rate)

    @torch.no_grad()
    def learn(self, rows: Rows) -> Hierarchy:
        """The hierarchy that has learned these rows, from its start."""
        generator = torch.Generator(rows.device).manual_seed(self.seed)
        sizes = [rows.shape[1], *self.hidden]

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=rows.dtype, device=rows.device)

        weights = [draw(below, above) / above**0.5 for below, above in pairwise(sizes)]
        biases = [rows.mean(0), *(rows.new_zeros(size) for size in self.hidden)]
        states = [rows, *(0.1 * draw(len(rows), size) for size in self.hidden)]
        learned = [*weights, *biases]
        means, squares = ([torch.zeros_like(part) for part in learned] for _ in range(2))
        # one step of the power method an epoch keeps up with weights that change slowly
        directions = [draw(size) for size in self.hidden]
        for epoch in range(1, self.epochs + 1):
            directions = [_grown(weight, direction) for weight, direction in zip(weights, directions, strict=True)]
            steps = [1 / (1 + direction.norm()) for direction in directions]
            for _ in range(self.inferences):
                states = infer(weights, biases, states, steps)
            errors = errors_of(weights, biases, states)
            falls = [error.mT @ above.tanh() / len(rows) for error, above in zip(errors, states[1:])]
            falls += [error.mean(0) for error in errors]
            for part, mean, square, fall in zip(learned, means, squares, falls, strict=True):
                mean.lerp_(fall, 1 - MEAN)
                square.lerp_(fall.square(), 1 - SQUARE)
                size = (square / (1 - SQUARE**epoch)).sqrt_().add_(FLOOR)
                part.addcdiv_(mean, size, value=self.rate / (1 - MEAN**epoch))
        energy = sum(error.square().sum() for error in errors_of(weights, biases, states)) / (2 * len(rows))
        return Hierarchy(tuple(weights), tuple(biases), torch.as_tensor(energy))


def errors_of(weights: list[Tensor], biases: list[Tensor], states: list[Tensor]) -> list[Tensor]:
    """ε_l = x_l - μ_l of every layer, from the patterns up."""
    predictions = [above.tanh() @ weight.mT + bias for weight, bias, above in zip(weights, biases, states[1:])]
    return [state - prediction for state, prediction in zip(states, [*predictions, biases[-1]], strict=True)]


def infer(weights: list[Tensor], biases: list[Tensor], states: list[Tensor], steps: list[Tensor]) -> list[Tensor]:
    """One step of all hidden states down the energy, each layer by its own step; the patterns stay."""
    errors = errors_of(weights, biases, states)
    moved = [states[0]]
    for place, step in enumerate(steps):
        state = states[place + 1]
        fed = (errors[place] @ weights[place]) * (1 - state.tanh().square())
        moved.append(state + step * (fed - errors[place + 1]))
    return moved


@dataclass(frozen=True)
class Rest:
    """Where the hidden layers of each item rest on what is known of its pattern."""

    states: list[Tensor]  # the hidden layers [batch, unit], from below
    energy: Tensor  # [batch], entries that are not known at their predictions
    converged: Tensor  # [batch], no slope is left


@torch.no_grad()
def rest(weights: list[Tensor], biases: list[Tensor], rows: Rows, known: Tensor, steps: int, tolerance: float | None = None) -> Rest:
    """Inference by Gauss & Newton's steps, halved until the energy does not rise; rows and known (1 or 0) [batch, unit].

    What is not known lies at its prediction and costs nothing. Begun where the top layer predicts. Items never see each other.
    tolerance: the largest slope that counts as none; eps^(3/4) of the dtype by default.
    """
    tolerance = torch.finfo(rows.dtype).eps ** 0.75 if tolerance is None else tolerance
    states = [biases[-1].expand(len(rows), -1)]
    for weight, bias in zip(weights[:0:-1], biases[-2:0:-1], strict=True):
        states.insert(0, states[0].tanh() @ weight.mT + bias)
    z, sizes = torch.cat(states, -1), [state.shape[1] for state in states]
    left = torch.arange(len(rows), device=rows.device)
    converged = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    # of patterns only what is known counts: W₀ᵀ W₀ over its entries, once for all items that know the same
    masks, which = torch.unique(known, dim=0, return_inverse=True)
    lowest = torch.stack([(weights[0].mT * mask) @ weights[0] for mask in masks]) if len(masks) else known.new_zeros(0, sizes[0], sizes[0])
    products = [weight.mT @ weight for weight in weights[1:]]

    def look(hidden: Tensor, items: Tensor) -> tuple[list[Tensor], Tensor]:
        errors = errors_of(weights, biases, [rows[items], *torch.split(hidden, sizes, -1)])
        errors[0] = errors[0] * known[items]
        return errors, sum((error.square().sum(-1) / 2 for error in errors), hidden.new_zeros(len(items)))

    for _ in range(steps):
        errors, before = look(z[left], left)
        slope, system = _curved(weights, errors, torch.split(z[left], sizes, -1), [lowest[which[left]], *products])
        still = slope.abs().amax(-1) <= tolerance
        converged[left[still]] = True
        left, slope, system, before = left[~still], slope[~still], system[~still], before[~still]
        if not len(left):
            break
        down = -torch.cholesky_solve(slope.unsqueeze(-1), torch.linalg.cholesky(system)).squeeze(-1)
        promised, length = (down * slope).sum(-1), torch.ones_like(before)
        for _ in range(HALVINGS):
            tried = z[left] + length.unsqueeze(-1) * down
            # what is within rounding is no rise: near rest no energy tells one state from the next
            lower = look(tried, left)[1] <= before + ENOUGH * length * promised + 4 * torch.finfo(rows.dtype).eps * before
            if bool(lower.all()):
                break
            length = torch.where(lower, length, length / 2)
        # who is led down by no step stays
        z[left[lower]] = tried[lower]
        left = left[lower]
    energy = look(z, torch.arange(len(rows), device=rows.device))[1]
    return Rest(list(torch.split(z, sizes, -1)), energy, converged)


def _curved(weights: list[Tensor], errors: list[Tensor], states: tuple[Tensor, ...], products: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The slope of E by all hidden states [batch, n], and JᵀJ [batch, n, n] of the errors by them; products: each Wᵀ W."""
    slopes, gains = [], [1 - state.tanh().square() for state in states]
    sizes = [state.shape[1] for state in states]
    system = torch.diag_embed(torch.ones_like(torch.cat(states, -1)))
    start = 0
    for place, (weight, gain, size) in enumerate(zip(weights, gains, sizes, strict=True)):
        here = slice(start, start + size)
        slopes.append(errors[place + 1] - gain * (errors[place] @ weight))
        system[:, here, here] += gain.unsqueeze(-1) * products[place] * gain.unsqueeze(-2)
        if place:
            under = slice(start - sizes[place - 1], start)
            system[:, under, here] = -weight * gain.unsqueeze(-2)
            system[:, here, under] = system[:, under, here].mT
        start += size
    return torch.cat(slopes, -1), system


def _grown(weight: Tensor, direction: Tensor) -> Tensor:
    """Wᵀ W of a direction of length 1: its length comes to |W|²."""
    grown: Tensor = weight.mT @ (weight @ (direction / direction.norm()))
    return grown
