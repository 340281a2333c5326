"""Short convolution: each channel mixes its own last few tokens. [batch, time, channel], causal; earlier tokens come in as the tail."""

import torch
from torch import Tensor, nn

from ammon.nn.packing import last
from ammon.shapes import check_count


class ShortConvolution(nn.Module):
    """Depthwise, without bias; y_t = Σ_j w_j x_{t-width+1+j}. The tail [batch, width - 1, channel] is what came before, zeros at first."""

    def __init__(self, channels: int, width: int = 4) -> None:
        super().__init__()
        check_count("ShortConvolution", "channels", channels)
        check_count("ShortConvolution", "width", width)
        self.channels, self.width = channels, width
        # as torch's convolutions begin: uniform within 1/sqrt(width)
        self.weight = nn.Parameter(torch.empty(width, channels).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, x: Tensor, tail: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The mixed tokens and the tail after them. count [batch]: tokens that are there, the first ones of each row; None: all."""
        time = x.shape[1]
        longer = torch.cat([tail.to(x.dtype), x], 1)
        mixed = self.weight[0] * longer[:, :time]
        for back in range(1, self.width):
            mixed = mixed + self.weight[back] * longer[:, back : back + time]
        return mixed, last(longer, count, self.width - 1, time).to(tail.dtype)
