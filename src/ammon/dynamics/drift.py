"""Drift: a context of unit length that moves towards each input and stays of unit length.

c' = ρ c + β c_in with ρ = sqrt(1 + β²((c·c_in)² - 1)) - β c·c_in (Howard & Kahana 2002, eq. 6; Polyn, Norman & Kahana 2009, eq. 1-2).
β = 0 stays, β = 1 forgets. Contexts [*lead, dim]; β is a number or [*lead]. An input of length 0 leaves the context as it is.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Context = Float[Tensor, "*lead dim"]
Overlap = Float[Tensor, "*lead"]


def drift(context: Context, inputs: Context, beta: float | Tensor) -> Context:
    """The context after one input, of which only the direction counts: [*lead, dim], of unit length if `context` is."""
    inputs = direction(inputs)
    beta = torch.as_tensor(beta, dtype=context.dtype, device=context.device)
    beta = beta * (inputs != 0).any(-1)
    keep = retention((context * inputs).sum(-1), beta)
    # the formula keeps the length but for rounding, which would add up over thousands of inputs
    return direction(keep.unsqueeze(-1) * context + beta.unsqueeze(-1) * inputs)


def drift_along(context: Context, inputs: Float[Tensor, "*lead step dim"], beta: float | Tensor) -> Float[Tensor, "*lead step dim"]:
    """The contexts after each of a sequence of inputs; β is a number or [*lead, step]."""
    beta = torch.as_tensor(beta, dtype=context.dtype, device=context.device).expand(inputs.shape[:-1])
    contexts = []
    for step in range(inputs.shape[-2]):
        context = drift(context, inputs[..., step, :], beta[..., step])
        contexts.append(context)
    return torch.stack(contexts, -2) if contexts else inputs


def retention(overlap: Overlap, beta: float | Tensor) -> Overlap:
    """ρ, the part of the context that is kept, from its overlap c·c_in with a unit input. Its gradient is finite at β = 1 too."""
    beta = torch.as_tensor(beta, dtype=overlap.dtype, device=overlap.device)
    # 1 - β² as a product, and the clamp: at β = 1 rounding must not give a negative number, nor the root an infinite slope
    along = beta * overlap
    inside = (1 - beta) * (1 + beta) + along.square()
    return inside.clamp_min(torch.finfo(inside.dtype).tiny).sqrt() - along


def fading(beta: Float[Tensor, "*lead"], steps: int) -> Float[Tensor, "*lead step input"]:
    """ρ^(step - input) where input ≤ step, else 0, ρ = sqrt(1 - β²): what is left of each of `steps` orthonormal inputs after each step.

    So for orthonormal inputs the whole sequence of contexts is β · fading @ inputs, and ρ^(step + 1) times the context before it.
    """
    return decay(retention(torch.zeros_like(beta), beta), steps)


def decay(keep: Float[Tensor, "*lead"], steps: int) -> Float[Tensor, "*lead step input"]:
    """keep^(step - input) where input ≤ step, else 0."""
    age = torch.arange(steps, device=keep.device)
    age = age.unsqueeze(-1) - age
    powers = keep[..., None, None].pow(age.clamp_min(0))
    return torch.where(age >= 0, powers, torch.zeros_like(powers))


def direction(rows: Context) -> Context:
    """The rows at unit length; a row of length 0 stays 0, with a gradient of 0."""
    square = rows.square().sum(-1, keepdim=True)
    there = square > 0
    return torch.where(there, rows / torch.where(there, square, torch.ones_like(square)).sqrt(), torch.zeros_like(rows))
