"""Diffuse: from noise to data, by a denoiser asked at falling levels of noise.

A denoiser f(x, σ) gives the mean of the clean states from which x = clean + σ · noise may have come; f is a memory's recall or a trained
network. States [batch, dim] keep the units of the data; levels of noise [step + 1] fall, and the last may be 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.shapes import States, check_count, check_positive

# (states [batch, dim], level of noise) -> mean of the clean states [batch, dim]
Denoise = Callable[[Tensor, float], Tensor]
Levels = Float[Tensor, " level"]


@dataclass(frozen=True)
class Sample:
    """What diffusion gives."""

    state: Tensor  # [batch, dim]
    trajectory: Tensor | None = None  # [step + 1, batch, dim], the start first, if asked for


def exploding(high: float, low: float, steps: int, bend: float = 7.0) -> Levels:
    """Levels of a variance-exploding diffusion, x = clean + σ noise, [steps + 1] in float64: σ^(1/bend) falls evenly (Karras 2022, eq. 5).

    bend = 2 is Brownian motion in even steps of its standard deviation's root; math.inf is the geometric ladder of Song & Ermon (2019).
    """
    check_count("exploding", "steps", steps)
    check_positive("exploding", "low", low)
    if not low < high < math.inf:
        raise ValueError(f"exploding: noise falls from high to low, so high must be finite and above low = {low}, got {high}.")
    if not bend >= 1:
        raise ValueError(f"exploding: bend must be at least 1 (math.inf is allowed), got {bend}.")
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if math.isinf(bend):
        levels = torch.exp((1 - share) * math.log(high) + share * math.log(low))
    else:
        levels = ((1 - share) * high ** (1 / bend) + share * low ** (1 / bend)) ** bend
    # the ends are what was asked for, whatever rounding does
    levels[0], levels[-1] = high, low
    return levels


def preserving(steps: int, beta_low: float = 0.1, beta_high: float = 20.0, first: float = 1e-3) -> Levels:
    """Levels of a variance-preserving diffusion, x = a clean + sqrt(1 - a²) noise, [steps + 1] in float64 (Song et al. 2021, eq. 33).

    log a(t) = -t² (beta_high - beta_low)/4 - t beta_low/2, t falling evenly from 1 to `first`. x/a is the clean state with noise
    σ = sqrt(1 - a²)/a, so in units in which the data keep their size it is the same diffusion at these levels, and a = 1/sqrt(1 + σ²).
    """
    check_count("preserving", "steps", steps)
    if not 0 < beta_low <= beta_high < math.inf:
        raise ValueError(f"preserving: 0 < beta_low <= beta_high is needed, got {beta_low} and {beta_high}.")
    if not 0 < first < 1:
        raise ValueError(f"preserving: first must be between 0 and 1, got {first}.")
    time = torch.linspace(1, first, steps + 1, dtype=torch.float64)
    # σ² = 1/a² - 1
    return torch.expm1(time.square() * (beta_high - beta_low) / 2 + time * beta_low).sqrt()


def diffuse(
    denoise: Denoise,
    start: States,
    levels: Levels,
    *,
    noise: float = 0.0,
    order: int = 1,
    generator: torch.Generator | None = None,
    keep: bool = False,
) -> Sample:
    """From states with noise levels[0] to states with noise levels[-1].

    noise: 0 follows the flow dx/dσ = (x - f(x, σ))/σ, which has the states of each level whatever the noise is made of, and in steps is
    DDIM (Song, Meng & Ermon 2021); 1 is the reverse stochastic equation of Gaussian noise, in steps the ancestral sampling of DDPM (Ho
    et al. 2020, eq. 7); between them a share of the fresh noise. order: 2 follows the flow by Heun's rule, asking twice a step.
    The generator's noise is drawn for the whole batch at once.
    """
    levels_asked = _check(levels, noise, order, generator)
    state, seen = start, [start]
    for high, low in pairwise(levels_asked):
        clean = denoise(state, high)
        fresh = noise * low * math.sqrt(1 - (low / high) ** 2)
        rest = math.sqrt(low**2 - fresh**2)
        new = clean + rest / high * (state - clean)
        if order == 2 and low > 0:
            slope = ((state - clean) / high + (new - denoise(new, low)) / low) / 2
            new = state + (low - high) * slope
        if fresh > 0:
            drawn = torch.randn(state.shape, generator=generator, dtype=state.dtype, device=state.device)
            new = new + fresh * drawn
        state = new
        if keep:
            seen.append(state)
    return Sample(state, torch.stack(seen) if keep else None)


def _check(levels: Tensor, noise: float, order: int, generator: torch.Generator | None) -> list[float]:
    if levels.ndim != 1 or len(levels) < 2:
        raise ValueError(f"diffuse: levels must be at least two falling numbers [level], got shape {list(levels.shape)}.")
    asked: list[float] = levels.tolist()
    if not all(low < high < math.inf for high, low in pairwise(asked)) or asked[-1] < 0:
        raise ValueError("diffuse: levels must fall, be finite and not below 0; see exploding and preserving.")
    if not 0 <= noise <= 1:
        raise ValueError(f"diffuse: noise must be from 0 (flow) to 1 (ancestral), got {noise}.")
    if order not in (1, 2) or (order == 2 and noise):
        raise ValueError(f"diffuse: order must be 1, or 2 without noise, got order {order} with noise {noise}.")
    if noise and generator is None:
        raise ValueError("diffuse: with noise a generator is needed, e.g. torch.Generator().manual_seed(0).")
    return asked
