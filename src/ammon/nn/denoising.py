"""Denoising: networks that learn f(x, σ), the mean of the clean states from which x = clean + σ noise may have come.

D(x, σ) = c_skip x + c_out F(c_in x, log σ), scaled so that F always reads and gives numbers of size 1 (Karras et al. 2022, table 1).
States [batch, dim]; σ is one number, or [batch]. `ammon.dynamics.diffuse` generates with D, `log_density` gives its energy.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ammon.shapes import Rows, States, check_count, check_positive, check_rows

Levels = Float[Tensor, " batch"]


class DenoisingNetwork(nn.Module):
    """A denoiser of rows [batch, dim].

    core: (x [batch, dim], log σ [batch]) -> [batch, dim], e.g. `Perceptron` or `ammon.nn.unet.UNet`. spread: the standard deviation of an
    entry of the data; mean: of all entries.
    """

    def __init__(self, core: nn.Module, spread: float, mean: float = 0.0) -> None:
        super().__init__()
        check_positive("DenoisingNetwork", "spread", spread)
        self.core, self.spread, self.mean = core, spread, mean

    def forward(self, state: States, level: float | Levels) -> States:
        """The clean mean of each state. [batch, dim]"""
        check_rows("DenoisingNetwork", "state", state, None)
        levels = torch.as_tensor(level, dtype=state.dtype, device=state.device).expand(len(state))
        total = (levels.square() + self.spread**2).unsqueeze(-1)
        centred = state - self.mean
        corrected: Tensor = self.core(centred / total.sqrt(), levels.log())
        return self.mean + self.spread**2 / total * centred + levels.unsqueeze(-1) * self.spread / total.sqrt() * corrected

    def loss(self, clean: Rows, low: float, high: float, generator: torch.Generator) -> Float[Tensor, ""]:
        """The mean squared error of the network's own output on the rows with noise even in log σ from low to high (Karras 2022, eq. 8)."""
        if not 0 < low < high < math.inf:
            raise ValueError(f"DenoisingNetwork.loss: 0 < low < high is needed, got {low} and {high}.")
        drawn = torch.empty_like(clean[:, 0]).uniform_(generator=generator)
        levels = torch.exp(math.log(low) + drawn * math.log(high / low))
        noise = torch.empty_like(clean).normal_(generator=generator)
        found = self(clean + levels.unsqueeze(-1) * noise, levels)
        # in units of c_out, so that all levels count alike
        weight = (levels.square() + self.spread**2) / (levels * self.spread).square()
        total: Tensor = (weight * (found - clean).square().mean(-1)).mean()
        return total


class Perceptron(nn.Module):
    """A few layers of equal width over rows, told log σ by sines and cosines of it."""

    def __init__(self, dim: int, width: int = 128, depth: int = 3, frequencies: int = 4) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("width", width), ("depth", depth), ("frequencies", frequencies)):
            check_count("Perceptron", name, value)
        self.sines = Sines(frequencies)
        sizes = [dim + 2 * frequencies] + [width] * depth
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.SiLU()]
        last = nn.Linear(width, dim)
        # the first denoiser is the linear one
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Rows, logs: Levels) -> Rows:
        found: Tensor = self.layers(torch.cat([x, self.sines(logs)], -1))
        return found


class Sines(nn.Module):
    """Sines and cosines of a number per row, of frequencies in equal ratios from 1/4 to 2. [batch, 2 · frequencies]"""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-2, 1, frequencies, base=2))
        self.frequencies: Tensor

    def forward(self, numbers: Levels) -> Float[Tensor, "batch wave"]:
        phase = numbers.unsqueeze(-1) * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], -1)
