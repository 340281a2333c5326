"""Log density: how likely a state is under what a denoiser generates, along the flow that turns it into noise.

d log p/dσ along dx/dσ = (x - f(x, σ))/σ is minus its divergence, (tr ∂f/∂x - dim)/σ (Song et al. 2021, eq. 39), for any denoiser whose
noise is Gaussian: a memory's recall or a trained network. -σ² log p_σ is the energy of that denoiser at noise σ.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.dynamics.diffuse import Denoise, Levels
from ammon.shapes import Energies, States


def log_density(
    denoise: Denoise,
    state: States,
    levels: Levels,
    *,
    mean: Float[Tensor, " dim"] | None = None,
    spread: float = 0.0,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Energies:
    """log p of states with noise levels[-1], by Heun's rule in log σ up to levels[0], where p is taken for normal. [batch]

    levels: falling, as for `diffuse`, the last above 0. mean, spread: of the clean data, as far as known; at the highest level the
    density is normal about that mean with variance levels[0]² + spread² in each entry, which errs by the order of (spread/levels[0])².
    probes: the trace by so many random vectors of ±1 (Hutchinson 1989), drawn from the generator; exact, by dim products, if None.
    """
    asked: list[float] = levels.tolist()
    if len(asked) < 2 or not all(0 < low < high < math.inf for high, low in pairwise(asked)):
        raise ValueError("log_density: levels must be at least two falling numbers above 0; see exploding.")
    if probes is not None and generator is None:
        raise ValueError("log_density: random probes need a generator, e.g. torch.Generator().manual_seed(0).")
    vectors = None
    if probes is not None:
        drawn = torch.randint(2, (probes, *state.shape), generator=generator, device=state.device)
        vectors = (2 * drawn - 1).to(state.dtype)
    dim, gained = state.shape[1], torch.zeros_like(state[:, 0])
    for low, high in zip(asked[::-1], asked[-2::-1]):
        step = math.log(high / low)
        velocity, trace = _flow(denoise, state, low, vectors)
        later, trace_later = _flow(denoise, state + step * velocity, high, vectors)
        state = state + step * (velocity + later) / 2
        gained = gained + step * (dim - (trace + trace_later) / 2)
    variance = asked[0] ** 2 + spread**2
    away = state if mean is None else state - mean
    return gained - away.square().sum(-1) / (2 * variance) - dim / 2 * math.log(2 * math.pi * variance)


def _flow(denoise: Denoise, state: Tensor, level: float, vectors: Tensor | None) -> tuple[Tensor, Tensor]:
    """dx/dlog σ and the trace of ∂f/∂x."""
    with torch.enable_grad():
        at = state.detach().requires_grad_()
        clean = denoise(at, level)
        if vectors is None:
            # rows do not see each other, so one product serves the whole batch
            units = range(state.shape[1])
            parts = [torch.autograd.grad(clean[:, unit].sum(), at, retain_graph=True)[0][:, unit] for unit in units]
            trace = torch.stack(parts).sum(0)
        else:
            pulled = [torch.autograd.grad((clean * vector).sum(), at, retain_graph=True)[0] * vector for vector in vectors]
            trace = torch.stack(pulled).sum(-1).mean(0)
    return state - clean.detach(), trace
