"""Corruption: a pattern made into a cue. Flip, swap, mask, noise, blur, and the incomplete encoding of MINERVA 2.

Each is a small frozen object that maps rows [row, dim] to rows of the same shape and draws from the generator it is given.
Images are rows too; `blur` must know their shape.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from ammon.shapes import Rows, check_count


@runtime_checkable
class Corruption(Protocol):
    def __call__(self, rows: Rows, *, generator: torch.Generator) -> Rows: ...


def _check_fraction(name: str, fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"{name}: the fraction must be between 0 and 1, got {fraction}.")


def _ranks(chance: Tensor) -> Tensor:
    """The place of each entry when those of its row are put in order."""
    return chance.argsort(-1).argsort(-1)


def _draw(rows: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(rows.shape, generator=generator, device=generator.device).to(rows.device)


@dataclass(frozen=True)
class Flip:
    """Turn a random `fraction` of each row's entries over, exactly that many: x → low + high - x, the ends of the range of all rows.

    ±1 entries change their sign, pixels in [0, 1] their brightness.
    """

    fraction: float

    def __post_init__(self) -> None:
        _check_fraction("Flip", self.fraction)

    def __call__(self, rows: Rows, *, generator: torch.Generator) -> Rows:
        if not rows.numel():
            return rows
        chosen = _ranks(_draw(rows, generator)) < round(self.fraction * rows.shape[-1])
        return torch.where(chosen, rows.amax() + rows.amin() - rows, rows)


@dataclass(frozen=True)
class Swap:
    """Turn a random `fraction` of each row's active units off, exactly that many, and as many silent ones of the same module on.

    For patterns of 0 and 1; each of `modules` equal modules keeps its number of active units. modules 1: any silent unit may come on.
    """

    fraction: float
    modules: int = 1

    def __post_init__(self) -> None:
        _check_fraction("Swap", self.fraction)
        check_count("Swap", "modules", self.modules)

    def __call__(self, rows: Rows, *, generator: torch.Generator) -> Rows:
        if not bool(((rows == 0) | (rows == 1)).all()):
            raise ValueError("Swap: the rows must hold only 0 and 1; binarise them first, e.g. ammon.prepare(x, 'sparse').")
        if rows.shape[-1] % self.modules:
            raise ValueError(f"Swap: {rows.shape[-1]} units do not make {self.modules} equal modules; choose a divisor.")
        active, apart = rows > 0, (*rows.shape[:-1], self.modules, rows.shape[-1] // self.modules)
        wanted = (self.fraction * active.sum(-1, keepdim=True)).round()
        leaving = _ranks(_draw(rows, generator) + ~active) < wanted
        leave = leaving.reshape(apart).sum(-1, keepdim=True)
        silent = ~active.reshape(apart)
        if bool((leave > silent.sum(-1, keepdim=True)).any()):
            raise ValueError(f"Swap: a module has fewer silent units than fraction={self.fraction} moves; lower it, or use larger modules.")
        # drawn anew, or a unit's chance to leave would tell where the others go
        coming = (_ranks(_draw(rows, generator).reshape(apart) + ~silent) < leave).reshape(rows.shape)
        return torch.where(leaving, torch.zeros_like(rows), torch.where(coming, torch.ones_like(rows), rows))


@dataclass(frozen=True)
class Mask:
    """Set the last `fraction` of the entries (the bottom of an image) to `fill`; or random ones, if `scattered`."""

    fraction: float
    fill: float = 0.0
    scattered: bool = False

    def __post_init__(self) -> None:
        _check_fraction("Mask", self.fraction)

    def __call__(self, rows: Rows, *, generator: torch.Generator) -> Rows:
        return torch.where(self.hidden(rows, generator=generator), torch.full_like(rows, self.fill), rows)

    def hidden(self, rows: Rows, *, generator: torch.Generator) -> Tensor:
        """True where an entry is masked [row, dim]; its opposite is what `recall(clamp=...)` takes."""
        dim = rows.shape[-1]
        if self.scattered:
            return _ranks(_draw(rows, generator)) < round(self.fraction * dim)
        return (torch.arange(dim, device=rows.device) >= dim - round(self.fraction * dim)).expand(rows.shape)


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise of standard deviation `sigma`, in the units of the rows."""

    sigma: float

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"Noise: sigma must be >= 0 and finite, got {self.sigma}.")

    def __call__(self, rows: Rows, *, generator: torch.Generator) -> Rows:
        noise = torch.randn(rows.shape, generator=generator, device=generator.device)
        return rows + self.sigma * noise.to(rows)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur with standard deviation `sigma` in pixels, the edge repeated; `shape` is (height, width) or (height, width, channel).

    Without a shape the rows are taken for square grey images.
    """

    sigma: float
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"Blur: sigma must be positive and finite, got {self.sigma}.")

    def __call__(self, rows: Rows, *, generator: torch.Generator) -> Rows:
        side = math.isqrt(rows.shape[-1])
        shape = self.shape or (side, side)
        if math.prod(shape) != rows.shape[-1]:
            raise ValueError(
                f"Blur: rows of {rows.shape[-1]} entries are no images of shape {shape}; pass Blur(sigma, shape=(height, width))."
            )
        height, width, channels = (*shape, 1)[:3]
        images = rows.reshape(-1, height, width, channels).movedim(-1, 1)
        for axis, length in ((2, height), (3, width)):
            images = images.movedim(axis, -1)
            images = (images @ _gaussian_matrix(length, self.sigma).to(rows).T).movedim(-1, axis)
        return images.movedim(1, -1).reshape(rows.shape)


def _gaussian_matrix(length: int, sigma: float) -> Tensor:
    """The blur of one line as a matrix [length, length], the edge pixel repeated outwards."""
    reach = max(1, math.ceil(4 * sigma))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    source = (torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)).clamp(0, length - 1)
    return functional.one_hot(source, length).to(torch.float64).mul((kernel / kernel.sum())[:, None]).sum(1)


@dataclass(frozen=True)
class Encoding:
    """Keep each feature with probability `chance`, else 0: MINERVA 2's encoding probability L, applied before writing (Hintzman 1984)."""

    chance: float

    def __post_init__(self) -> None:
        _check_fraction("Encoding", self.chance)

    def __call__(self, rows: Rows, *, generator: torch.Generator) -> Rows:
        return torch.where(_draw(rows, generator) < self.chance, rows, torch.zeros_like(rows))
