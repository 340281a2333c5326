"""Short convolution: each channel mixes its own last few tokens. [batch, time, channel], causal; earlier tokens come in as the tail."""

from typing import Any

import torch
from torch import Tensor, nn

from ammon.nn.packing import last
from ammon.shapes import check_count

# tokens whose products are summed at a time
BLOCK = 128


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
        time, before = x.shape[1], self.width - 1
        dtype = torch.promote_types(self.weight.dtype, x.dtype)
        weight, first = self.weight.to(dtype), min(before, time)
        # what came before reaches the first tokens only; to join it to all of x would be one more pass over x
        reach = torch.cat([tail.to(dtype), tail.new_zeros(len(x), first, self.channels, dtype=dtype)], 1)
        begun = sum((weight[j] * reach[:, j : j + first] for j in range(before)), start=reach[:, :first] * 0)
        mixed: Tensor = _Mixed.apply(weight, x.to(dtype), begun)  # type: ignore[no-untyped-call]
        # rows may end at any token if they are counted
        recent = x if count is not None else x[:, time - first :]
        after = last(torch.cat([tail.to(x.dtype), recent], 1), count, before, recent.shape[1])
        return mixed, after.to(tail.dtype)


class _Mixed(torch.autograd.Function):
    """y_t = Σ_b weight_{width-1-b} x_{t-b}, weight [width, channel] and x [batch, time, channel], and `begun` on the first tokens.

    One pass for each term.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor, begun: Tensor) -> Tensor:
        ctx.save_for_backward(weight, x)
        ctx.first = begun.shape[1]
        mixed = x * weight[-1]
        mixed[:, : ctx.first] += begun
        for back in _lags(weight, x):
            mixed[:, back:].addcmul_(x[:, :-back], weight[-1 - back])
        return mixed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, x = ctx.saved_tensors
        to_x, to_weight = gradient * weight[-1], [torch.zeros_like(weight[0]) for _ in weight]
        for back in _lags(weight, x):
            to_x[:, :-back].addcmul_(gradient[:, back:], weight[-1 - back])
        # in blocks that stay in the cache
        for start in range(0, x.shape[1], BLOCK):
            end = min(start + BLOCK, x.shape[1])
            for back in (0, *_lags(weight, x[:, :end])):
                first = max(start, back)
                to_weight[-1 - back] = to_weight[-1 - back] + (gradient[:, first:end] * x[:, first - back : end - back]).sum((0, 1))
        return torch.stack(to_weight), to_x, gradient[:, : ctx.first]


def _lags(weight: Tensor, x: Tensor) -> range:
    return range(1, min(len(weight), x.shape[1]))
