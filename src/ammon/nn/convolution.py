"""Short convolution: each channel mixes its own last few tokens. [batch, time, channel], causal; earlier tokens come in as the tail."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        dtype = torch.promote_types(self.weight.dtype, longer.dtype)
        mixed: Tensor = _Mixed.apply(self.weight.to(dtype), longer.to(dtype))  # type: ignore[no-untyped-call]
        return mixed, last(longer, count, self.width - 1, time).to(tail.dtype)


class _Mixed(torch.autograd.Function):
    """y_t = Σ_j weight_j x_{t+j} for weight [width, channel] and x [batch, width - 1 + time, channel]; one pass for each term."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(weight, x)
        time = x.shape[1] - len(weight) + 1
        mixed = weight[0] * x[:, :time]
        for back in range(1, len(weight)):
            mixed.addcmul_(weight[back], x[:, back : back + time])
        return mixed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weight, x = ctx.saved_tensors
        width, time = len(weight), gradient.shape[1]
        to_weight = torch.stack([(gradient * x[:, back : back + time]).sum((0, 1)) for back in range(width)])
        # a token is mixed into those after it: the same sum in the other direction
        wide = functional.pad(gradient, (0, 0, width - 1, width - 1))
        return to_weight, _Mixed.apply(weight.flip(0), wide)  # type: ignore[no-untyped-call]
