"""Surprising: an episodic memory that writes what surprises. How much a token surprises says how strongly it is written, or whether at all.

Surprise [batch, item] → strengths [batch, item]. With `Lowest("strength")` the items of the largest surprise stay in a small bank.
"""

import math

import torch
from torch import Tensor, nn

from ammon.shapes import check_positive

# an item that is written is not weaker than exp of this, so that the logarithm of its strength stays finite
FAINTEST = -60.0


class Surprising(nn.Module):
    """s = σ(slope · (log u - log middle)) = u^slope / (u^slope + middle^slope) of a surprise u; slope and middle are learned.

    Reads add log s to the score of an item, which is what trains slope and middle; which items stay is a choice, and trains nothing.
    least: what surprises no more than that is not written. The surprise is given with the tokens (a norm of a gradient, -log p, or bool:
    True is 1, False 0), or is that of a neural memory in the same block.
    """

    def __init__(self, middle: float = 1.0, slope: float = 1.0, least: float = 0.0) -> None:
        super().__init__()
        check_positive("Surprising", "middle", middle)
        check_positive("Surprising", "slope", slope)
        if not 0 <= least < math.inf:
            raise ValueError(f"Surprising: least must be at least 0 and finite, got {least}.")
        self.least = float(least)
        self.middle, self.slope = nn.Parameter(torch.tensor(math.log(middle))), nn.Parameter(torch.tensor(math.log(slope)))

    def forward(self, surprise: Tensor) -> Tensor:
        """Strengths in (0, 1), larger for what surprises more."""
        level = surprise.clamp_min(torch.finfo(surprise.dtype).tiny).log() - self.middle.to(surprise.dtype)
        return torch.sigmoid((self.slope.to(surprise.dtype).exp() * level).clamp_min(FAINTEST))

    def chosen(self, surprise: Tensor) -> Tensor:
        """Bool: what is written at all."""
        return surprise > self.least

    def extra_repr(self) -> str:
        return f"least={self.least:g}"
