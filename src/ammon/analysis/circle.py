"""Circle: the energy of a memory that stores a whole circle, in closed form, and the denoiser that goes with it.

E = (|x|² + r²)/2 - σ² log I₀(|x| r/σ²) is -σ² log of the mean of exp(-|x - ξ|²/2σ²) over the circle (Pham et al. 2025, eq. 13, there with
β = 1/2σ² and twice the energy). Against it the energy of K patterns shows what a memory of few patterns invents. States [batch, 2].
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.shapes import Energies, check_count, check_positive

Plane = Float[Tensor, "batch 2"]


def on_circle(count: int, generator: torch.Generator, radius: float = 1.0) -> Plane:
    """So many places on the circle, each drawn evenly and on its own. float64"""
    check_count("on_circle", "count", count)
    angle = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    return radius * torch.stack([angle.cos(), angle.sin()], -1)


def circle_energy(state: Plane, level: float, radius: float = 1.0) -> Energies:
    """The energy at noise `level`. [batch]"""
    check_positive("circle_energy", "level", level)
    distance: Tensor = torch.linalg.vector_norm(state, dim=-1)
    # I₀ grows as its exponential, which is taken out and given back as (|x| - r)²/2
    share = torch.log(torch.special.i0e(distance * radius / level**2))
    return (distance - radius).square() / 2 - level**2 * share


def circle_denoise(state: Plane, level: float, radius: float = 1.0) -> Plane:
    """The mean of the places of the circle from which a state came by Gaussian noise: x/|x| · r I₁(|x| r/σ²)/I₀(|x| r/σ²). [batch, 2]"""
    check_positive("circle_denoise", "level", level)
    distance: Tensor = torch.linalg.vector_norm(state, dim=-1, keepdim=True)
    scaled = distance * radius / level**2
    share: Tensor = torch.special.i1e(scaled) / torch.special.i0e(scaled)
    return radius * share * torch.nn.functional.normalize(state, dim=-1)
