"""Predictive coding: moments of patterns, gathered as they come, and the local loops that learn from errors what moments give at once.

Recurrent (Tang et al. 2023): each unit is predicted from the others, x̂ = W(x - μ) + μ with no unit predicting itself; ΔW = ε xᵀ summed over
patterns, Δμ = ε, and a cue settles by Δx = -ε on the entries that are not known. Temporal (Tang, Barron & Bogacz 2023): x̂_{t+1} = W x_t.
Rows [pattern, unit], W [unit, unit].
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ammon.shapes import Rows, States

Mean = Float[Tensor, " unit"]
Square = Float[Tensor, "unit unit"]


class Moments(NamedTuple):
    """What was seen: how many rows, their mean, and Σ (x - μ)(x - μ)ᵀ."""

    rows: int
    mean: Mean
    scatter: Square


class Predictions(NamedTuple):
    """W, of diagonal 0, and μ."""

    matrix: Square
    mean: Mean


def gather(held: Moments | None, rows: Rows) -> Moments:
    """The moments with these rows too; no earlier row is needed (Chan, Golub & LeVeque 1983)."""
    mean = rows.mean(0)
    centred = rows - mean
    new = Moments(len(rows), mean, centred.mT @ centred)
    if held is None:
        return new
    total, apart = held.rows + new.rows, new.mean - held.mean
    scatter = held.scatter + new.scatter + held.rows * new.rows / total * torch.outer(apart, apart)
    return Moments(total, held.mean + new.rows / total * apart, scatter)


def learn_predictions(rows: Rows, epochs: int, rate: float, ridge: float = 0.0) -> Predictions:
    """W and μ by the local rule, from 0: so many epochs over all rows, ΔW the mean of ε (x - μ)ᵀ less ridge · W, Δμ the mean of ε.

    At rest row i of W is the ridge regression of unit i on the others, and μ the mean. The rate must be below 2 over the largest
    eigenvalue of the covariance with the ridge added, and below 2.
    """
    matrix, mean = rows.new_zeros(rows.shape[1], rows.shape[1]), torch.zeros_like(rows[0])
    for _ in range(epochs):
        centred = rows - mean
        errors = centred - centred @ matrix.mT
        change = errors.mT @ centred / len(rows) - ridge * matrix
        matrix = (matrix + rate * change).fill_diagonal_(0)
        mean = mean + rate * centred.mean(0)
    return Predictions(matrix, mean)


def infer(
    learned: Predictions, cue: States, known: Bool[Tensor, "batch unit"], steps: int, rate: float
) -> Float[Tensor, "step batch unit"]:
    """The states on the way to rest, the cue first: Δx = -rate · ε on the entries that are not known, the dendritic form."""
    seen = [cue]
    for _ in range(steps):
        centred = seen[-1] - learned.mean
        errors = centred - centred @ learned.matrix.mT
        seen.append(torch.where(known, seen[-1], seen[-1] - rate * errors))
    return torch.stack(seen)


def explicit(covariance: Square, mean: Mean, cue: States, known: Bool[Tensor, "batch unit"], steps: int, rate: float) -> States:
    """The explicit form: Δx = -rate · S⁻¹(x - μ) on the entries that are not known. [batch, unit]"""
    precision = torch.linalg.inv(covariance)
    state = cue
    for _ in range(steps):
        state = torch.where(known, state, state - rate * (state - mean) @ precision)
    return state


def learn_transitions(rows: Rows, epochs: int, rate: float) -> Square:
    """W of a temporal network by its local rule, from 0: ΔW the mean over the sequence of ε_{t+1} x_tᵀ, ε = x_{t+1} - W x_t.

    At rest, and from 0, it is the asymmetric pseudo-inverse X₁ᵀ (X₀ᵀ)⁺, which has each transition of independent rows exactly.
    """
    before, after = rows[:-1], rows[1:]
    matrix = rows.new_zeros(rows.shape[1], rows.shape[1])
    for _ in range(epochs):
        errors = after - before @ matrix.mT
        matrix = matrix + rate * errors.mT @ before / len(before)
    return matrix
