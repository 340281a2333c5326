"""Completion: the hidden patches of an image from those that are seen (Hoover et al. 2023, section 4).

Every patch is a token, its position added; a hidden one starts from a learned token that is the same everywhere. A block moves the
tokens, and a linear map reads pixels from them. The block is an `EnergyTransformer` or any module from tokens to tokens.
"""

import torch
from torch import Tensor, nn

from ammon.nn.patches import cut, join
from ammon.shapes import check_count


class Completion(nn.Module):
    """Images of one shape (channel, height, width), in patches of size × size pixels."""

    def __init__(self, block: nn.Module, dim: int, shape: tuple[int, int, int], size: int) -> None:
        super().__init__()
        for name, count in (("dim", dim), ("size", size)):
            check_count("Completion", name, count)
        channels, height, width = shape
        if height % size or width % size:
            raise ValueError(
                f"Completion: images of {height} × {width} pixels do not fall into patches of {size} × {size}; choose another size."
            )
        self.shape, self.size, self.num_patches = (channels, height, width), size, height * width // size**2
        entries = channels * size**2
        self.embed = nn.Linear(entries, dim)
        self.hidden = nn.Parameter(0.02 * torch.randn(dim))
        self.positions = nn.Parameter(0.02 * torch.randn(self.num_patches, dim))
        self.block, self.norm, self.read = block, nn.LayerNorm(dim), nn.Linear(dim, entries)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:
        """All patches [batch, patch, entry] as they are read after the block. hidden [batch, patch]: True where a patch is not shown."""
        read: Tensor = self.read(self.norm(self.block(self.tokens(images, hidden))))
        return read

    def tokens(self, images: Tensor, hidden: Tensor) -> Tensor:
        """What goes into the block [batch, patch, dim]; nothing of a hidden patch is in it."""
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            raise ValueError(f"Completion: images must be [batch, {', '.join(map(str, self.shape))}], got {list(images.shape)}.")
        needed = [len(images), self.num_patches]
        if hidden.dtype != torch.bool or list(hidden.shape) != needed:
            raise ValueError(f"Completion: hidden must be bool [batch, patch] = {needed}, got {hidden.dtype} {list(hidden.shape)}.")
        tokens = torch.where(hidden[..., None], self.hidden, self.embed(cut(images, self.size)))
        return tokens + self.positions

    def complete(self, images: Tensor, hidden: Tensor) -> Tensor:
        """The images, their hidden patches completed; those that are seen stay as they are."""
        patches = torch.where(hidden[..., None], self(images, hidden), cut(images, self.size))
        return join(patches, self.shape, self.size)
