"""Attend: softmax over products or distances, mixed as the scores come, so that they are never held.

Two ways to the same numbers: torch's fused kernel, which also differentiates, and running sums over blocks of patterns, which take any
width and give the logarithm of the sum as well. Cues [query, dim], keys [pattern, dim] and values [pattern, value_dim] after leading axes.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ammon.parts.similarity import Euclidean, Similarity

# scores of one block: they stay in the processor's cache
BLOCK = 2**19
# from this width on the matrix products dominate, and running sums keep them free of denormal numbers
WIDE = 512


def fused(
    cues: Tensor, keys: Tensor, values: Tensor, similarity: Similarity, beta: Tensor | float, mask: Tensor | None, bias: Tensor | None
) -> Tensor:
    """The mixed values by torch's kernel. mask: True where a pattern may be recalled; a row that hides all gives zeros."""
    if isinstance(similarity, Euclidean):
        # -|x - ξ|²/2 = x·ξ - |ξ|²/2 up to a term that softmax ignores
        origin = keys.mean(-2, keepdim=True)
        cues, keys = cues - origin, keys - origin
        own = -keys.square().sum(-1).unsqueeze(-2) / 2
        bias = own if bias is None else bias + own
    if bias is not None:
        bias = beta * bias
    if mask is not None:
        hidden = ~mask & mask.any(-1, keepdim=True)
        bias = torch.zeros((), dtype=cues.dtype, device=cues.device) if bias is None else bias
        bias = torch.where(hidden, torch.full_like(bias, -torch.inf), bias)
    if bias is not None:
        bias = _four(bias.to(cues.dtype).expand(*cues.shape[:-2], *bias.shape[-2:]))
    mixed = functional.scaled_dot_product_attention(_four(beta * cues), _four(keys), _four(values), attn_mask=bias, scale=1.0)
    mixed = mixed.reshape(*cues.shape[:-1], values.shape[-1])
    return mixed if mask is None else torch.where(mask.any(-1, keepdim=True), mixed, torch.zeros_like(mixed))


def fusable(cues: Tensor, values: Tensor, learned_bias: bool) -> bool:
    """Whether torch runs this attention in one kernel; where it would not, it would hold all scores at once."""
    if values.shape[-1] != cues.shape[-1] or cues.shape[-2] == 0 or learned_bias:
        return False
    return cues.device.type == "cpu" or cues.shape[-1] <= 256


@torch.no_grad()
def running(cues: Tensor, keys: Tensor, values: Tensor | None, similarity: Similarity, beta: float) -> tuple[Tensor | None, Tensor]:
    """The mixed values [query, value_dim], if any are given, and log Σ exp(β score) [query]: no leading axes, no gradient."""
    parts = [_run(part, keys, values, similarity, beta) for part in cues.split(1024)]  # type: ignore[no-untyped-call]
    mixed = None if values is None else torch.cat([part[0] for part in parts])
    return mixed, torch.cat([part[1] for part in parts])


def _run(cues: Tensor, keys: Tensor, values: Tensor | None, similarity: Similarity, beta: float) -> tuple[Tensor, Tensor]:
    distances = isinstance(similarity, Euclidean)
    # far from the origin |x|² - 2x·ξ + |ξ|² loses its digits; distances don't change with the origin
    origin = keys.mean(0) if distances else None
    centred = cues if origin is None else cues - origin
    scaled = beta * centred
    # smaller weights count for nothing in any sum, but as denormal numbers they would slow the products down several times
    least = 0.8 * math.log(torch.finfo(cues.dtype).tiny)
    largest = cues.new_full((len(cues), 1), -torch.inf)
    total = cues.new_zeros(len(cues), 1)
    mixed = cues.new_zeros(len(cues), 0 if values is None else values.shape[1])
    size = max(256, BLOCK // max(1, len(cues)))
    for start in range(0, len(keys), size):
        some = keys[start : start + size] if origin is None else keys[start : start + size] - origin
        scores = scaled @ some.mT
        if distances:
            scores -= (beta / 2) * some.square().sum(-1)
        top = torch.maximum(largest, scores.amax(-1, keepdim=True))
        weights = scores.sub_(top).clamp_(min=least).exp_()
        decay = (largest - top).exp_()
        total.mul_(decay).add_(weights.sum(-1, keepdim=True))
        if values is not None:
            mixed.mul_(decay).addmm_(weights, values[start : start + size])
        largest = top
    logarithm = largest + total.log()
    if distances:
        logarithm = logarithm - (beta / 2) * centred.square().sum(-1, keepdim=True)
    return mixed.div_(total), logarithm.squeeze(-1)


def _four(rows: Tensor) -> Tensor:
    """[*lead, row, entry] as [lead, 1, row, entry]: the shape for which torch fuses attention. Two leading axes stay, uncopied."""
    return rows if rows.ndim == 4 else rows.reshape(-1, 1, *rows.shape[-2:])
