"""Patches: images [batch, channel, height, width] as rows [batch, patch, entry] of size × size squares, row by row, and back."""

import torch
from torch import Tensor
from torch.nn import functional


def cut(images: Tensor, size: int) -> Tensor:
    """The patches of the images; entries go channel by channel. ValueError if the sides are no multiples of the size."""
    if images.ndim != 4 or any(side % size or not side for side in images.shape[2:]):
        raise ValueError(f"cut: images must be [batch, channel, height, width], both sides multiples of {size}, got {list(images.shape)}.")
    return functional.unfold(images, size, stride=size).mT


def join(patches: Tensor, shape: tuple[int, int, int], size: int) -> Tensor:
    """The images of this shape (channel, height, width) that `cut` would cut so."""
    return functional.fold(patches.mT, shape[1:], size, stride=size)


def hide(batch: int, count: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """bool [batch, patch]: True for as many patches of each image as come nearest to the share, drawn anew for each, at least one."""
    if not 0 < share <= 1:
        raise ValueError(f"hide: the share must be above 0 and at most 1, got {share}.")
    order = torch.rand(batch, count, generator=generator).argsort(-1)
    return order < max(1, round(share * count))
