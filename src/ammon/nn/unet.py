"""UNet: the core of a denoising network for images: convolutions at falling resolutions and back, with bridges across.

Rows [batch, dim] are pictures of a shape (height, width) or (height, width, colour), as `ammon.datasets.images` gives them. Of the family
of Ronneberger et al. (2015) and Ho et al. (2020), kept small: two residual blocks a resolution, no attention.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.nn.denoising import Levels, Sines
from ammon.shapes import Rows, check_count


class UNet(nn.Module):
    """channels: of the full resolution, a multiple of 4; each halving of it doubles them."""

    def __init__(self, shape: tuple[int, ...], channels: int = 16, halvings: int = 1, frequencies: int = 4) -> None:
        super().__init__()
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"UNet: shape must be (height, width) or (height, width, colour), got {tuple(shape)}.")
        check_count("UNet", "channels", channels)
        check_count("UNet", "frequencies", frequencies)
        if channels % 4:
            raise ValueError(f"UNet: channels must be a multiple of 4, since they are normalised in groups, got {channels}.")
        if halvings < 0 or min(shape[:2]) < 2**halvings:
            raise ValueError(f"UNet: {halvings} halvings leave nothing of {shape[0]} × {shape[1]} pixels; take fewer.")
        self.shape = tuple(shape)
        colours = shape[2] if len(shape) == 3 else 1
        told, sizes = 4 * channels, [channels * 2**level for level in range(halvings + 1)]
        self.told = nn.Sequential(Sines(frequencies), nn.Linear(2 * frequencies, told), nn.SiLU())
        self.first = nn.Conv2d(colours, channels, 3, padding=1)
        self.down = nn.ModuleList(Residual(size, size, told) for size in sizes)
        self.shrink = nn.ModuleList(nn.Conv2d(low, high, 3, stride=2, padding=1) for low, high in pairwise(sizes))
        self.up = nn.ModuleList(Residual(2 * size, size, told) for size in sizes)
        self.grow = nn.ModuleList(nn.Conv2d(high, low, 3, padding=1) for low, high in pairwise(sizes))
        self.norm, self.last = nn.GroupNorm(4, channels), nn.Conv2d(channels, colours, 3, padding=1)
        # the first denoiser is the linear one
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Rows, logs: Levels) -> Rows:
        if x.shape[1] != math.prod(self.shape):
            raise ValueError(f"UNet: rows of dim {math.prod(self.shape)} are needed for pictures of {self.shape}, got {x.shape[1]}.")
        told = self.told(logs)
        pixels = x.reshape(len(x), *self.shape)
        pixels = self.first(pixels.unsqueeze(1) if len(self.shape) == 2 else pixels.movedim(-1, 1))
        bridges: list[Tensor] = []
        for level, block in enumerate(self.down):
            pixels = block(pixels, told)
            bridges.append(pixels)
            if level < len(self.shrink):
                pixels = self.shrink[level](pixels)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                # to the size that it had there, which need not be twice this one
                pixels = self.grow[level](functional.interpolate(pixels, bridges[level].shape[2:], mode="nearest"))
            pixels = self.up[level](torch.cat([pixels, bridges[level]], 1), told)
        found: Tensor = self.last(functional.silu(self.norm(pixels)))
        return (found.squeeze(1) if len(self.shape) == 2 else found.movedim(1, -1)).flatten(1)


class Residual(nn.Module):
    """Two convolutions, told the level of noise between them, and the way around them."""

    def __init__(self, before: int, after: int, told: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.GroupNorm(4, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.tell = nn.Linear(told, 2 * after)
        self.norm = nn.GroupNorm(4, after)
        self.leave = nn.Conv2d(after, after, 3, padding=1)
        self.around = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, pixels: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.tell(told)[..., None, None].chunk(2, 1)
        changed = functional.silu(self.norm(self.enter(pixels)) * (1 + scale) + shift)
        found: Tensor = self.around(pixels) + self.leave(changed)
        return found
