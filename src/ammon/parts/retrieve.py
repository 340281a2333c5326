"""Retrieve: compare cues with keys, sharpen the scores, mix the values. The one mixing path of the library.

Cues [*lead, query, dim], keys [*lead, pattern, dim] and values [*lead, pattern, value_dim] give [*lead, query, value_dim].
Softmax over dot products or distances runs in torch's fused attention, all else in chunks of queries, so no
[query, pattern] matrix larger than a chunk exists, forward or backward.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ammon.parts.lagrangians import Lagrangian
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot, Euclidean, Similarity
from ammon.shapes import Cues, Keys, Mixed, Scores, Values

# scores that one chunk may hold: 32 MB in float32, large enough that the matrix products run at full speed
CHUNK = 2**23


def retrieve(
    cues: Cues,
    keys: Keys,
    values: Values,
    similarity: Similarity,
    separation: Lagrangian,
    *,
    mask: Bool[Tensor, "*#lead #query pattern"] | None = None,
    bias: Float[Tensor, "*#lead #query pattern"] | None = None,
    scale_free: bool = False,
    empty: Mixed | None = None,
) -> Mixed:
    """Mix the values by the separated similarity of their keys to each cue.

    mask: True where a pattern may be recalled. bias: added to the scores. scale_free: the answer is needed only up to one
    positive factor per row (then large powers and exponentials cannot overflow). empty: the answer where no pattern has
    any weight; zeros by default, never NaN.
    """
    if not scale_free and empty is None and isinstance(separation, Softmax) and _fusable(cues, values, similarity, separation, bias):
        return _fused(cues, keys, values, similarity, separation, mask, bias)

    def mix(part: slice) -> Tensor:
        chosen = weigh(cues[..., part, :], keys, similarity, separation, _part(mask, part), _part(bias, part), scale_free)
        mixed = chosen @ values
        if empty is None:
            return mixed
        return torch.where((chosen == 0).all(-1, keepdim=True), empty[..., part, :], mixed)

    return _by_chunks(mix, cues, keys, (cues, keys, values, *separation.parameters()))


def weigh(
    cues: Cues,
    keys: Keys,
    similarity: Similarity,
    separation: Lagrangian,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale_free: bool = False,
) -> Scores:
    """The weights by which `retrieve` mixes, whole: [*lead, query, pattern]. A fully masked row is all 0."""
    scores = _scores(cues, keys, similarity, separation, mask, bias)
    weights = separation.direction(scores) if scale_free else separation.weights(scores)
    return weights if mask is None else torch.where(mask, weights, torch.zeros_like(weights))


def pool(
    cues: Cues,
    keys: Keys,
    similarity: Similarity,
    separation: Lagrangian,
) -> Float[Tensor, "*lead query"]:
    """The value L(similarity) of the separation: the hidden part of the energy, for each cue, in chunks of queries."""

    def value(part: slice) -> Tensor:
        return separation.value(similarity(cues[..., part, :], keys)).unsqueeze(-1)

    return _by_chunks(value, cues, keys, (cues, keys, *separation.parameters())).squeeze(-1)


def _scores(cues: Tensor, keys: Tensor, similarity: Similarity, separation: Lagrangian, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    scores: Tensor = similarity(cues, keys)
    if bias is not None:
        scores = scores + bias
    if mask is None:
        return scores
    # a row that hides everything is compared as if it hid nothing, so that nothing infinite enters; its weights are 0 after
    hidden = ~mask & mask.any(-1, keepdim=True)
    return torch.where(hidden, torch.full_like(scores, separation.null), scores)


def _fusable(cues: Tensor, values: Tensor, similarity: Similarity, separation: Softmax, bias: Tensor | None) -> bool:
    """Whether torch runs this attention in one fused kernel; where it would not, it would hold all scores at once."""
    if not isinstance(similarity, Dot | Euclidean) or values.shape[-1] != cues.shape[-1] or cues.shape[-2] == 0:
        return False
    learned = isinstance(separation.beta, Tensor) and separation.beta.requires_grad and isinstance(similarity, Euclidean)
    learned = learned or (bias is not None and bias.requires_grad)
    return not (learned and torch.is_grad_enabled()) and (cues.device.type == "cpu" or cues.shape[-1] <= 256)


def _fused(
    cues: Tensor, keys: Tensor, values: Tensor, similarity: Similarity, separation: Softmax, mask: Tensor | None, bias: Tensor | None
) -> Tensor:
    if isinstance(similarity, Euclidean):
        # -|x - ξ|²/2 = x·ξ - |ξ|²/2 up to a term that softmax ignores
        origin = keys.mean(-2, keepdim=True)
        cues, keys = cues - origin, keys - origin
        own = -keys.square().sum(-1).unsqueeze(-2) / 2
        bias = own if bias is None else bias + own
    if bias is not None:
        bias = separation.beta * bias
    if mask is not None:
        hidden = ~mask & mask.any(-1, keepdim=True)
        bias = torch.zeros((), dtype=cues.dtype, device=cues.device) if bias is None else bias
        bias = torch.where(hidden, torch.full_like(bias, -torch.inf), bias)
    if bias is not None:
        bias = _four(bias.to(cues.dtype).expand(*cues.shape[:-2], *bias.shape[-2:]))
    mixed = functional.scaled_dot_product_attention(_four(separation.beta * cues), _four(keys), _four(values), attn_mask=bias, scale=1.0)
    mixed = mixed.reshape(*cues.shape[:-1], values.shape[-1])
    return mixed if mask is None else torch.where(mask.any(-1, keepdim=True), mixed, torch.zeros_like(mixed))


def _four(rows: Tensor) -> Tensor:
    """[*lead, row, entry] as [lead, 1, row, entry]: the shape for which torch fuses attention."""
    return rows.reshape(-1, 1, *rows.shape[-2:])


def _part(whole: Tensor | None, part: slice) -> Tensor | None:
    return whole if whole is None or whole.shape[-2] == 1 else whole[..., part, :]


def _by_chunks(function: Callable[[slice], Tensor], cues: Tensor, keys: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    parts = list(_chunks(cues, keys))
    if len(parts) == 1:
        return function(parts[0])
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        # recomputed in the backward pass: else all chunks' scores would be kept at once
        return torch.cat([checkpoint(function, part, use_reentrant=False) for part in parts], dim=-2)
    return torch.cat([function(part) for part in parts], dim=-2)


def _chunks(cues: Tensor, keys: Tensor) -> Iterator[slice]:
    lead, queries = cues.shape[:-2].numel(), cues.shape[-2]
    size = max(1, CHUNK // max(1, lead * keys.shape[-2]))
    return (slice(start, start + size) for start in range(0, max(queries, 1), size))
