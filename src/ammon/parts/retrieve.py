"""Retrieve: compare cues with keys, sharpen the scores, mix the values. The one mixing path of the library.

Cues [*lead, query, dim], keys [*lead, pattern, dim] and values [*lead, pattern, value_dim] give [*lead, query, value_dim].
Softmax over products or distances mixes as the scores come (`attend`), all else in chunks of queries, so no [query, pattern]
matrix larger than a chunk exists, forward or backward. Of a long list `TopK` mixes the values of its k best alone.
"""

from collections.abc import Callable, Iterator
from typing import TypeGuard

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ammon.parts.attend import WIDE, fusable, fused, running
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot, Euclidean, Similarity
from ammon.parts.top_k import TopK
from ammon.shapes import Cues, Keys, Mixed, Scores, Values

# scores that one chunk may hold: 32 MB in float32, large enough that the matrix products run at full speed
CHUNK = 2**23
# with so many patterns to each of the k best, it takes longer to mix all values than to bring k of them together
SPARSE = 64


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
    if _attends(separation, similarity) and not scale_free and empty is None:
        mixed = _attend(cues, keys, values, similarity, separation, mask, bias)
        if mixed is not None:
            return mixed

    if isinstance(separation, TopK) and gathers(separation.k, keys.shape[-2]) and not scale_free and empty is None:

        def few(part: slice) -> Tensor:
            shown = _part(mask, part)
            scores = _scores(cues[..., part, :], keys, similarity, separation, shown, _part(bias, part))
            weights, index = separation.best(scores)
            if shown is not None:
                weights = torch.where(shown.expand_as(scores).gather(-1, index), weights, 0)
            return (weights.unsqueeze(-2) @ rows_at(values, index)).squeeze(-2)

        return _by_chunks(few, cues, keys, (cues, keys, values, *separation.parameters()), separation.k * values.shape[-1])

    def mix(part: slice) -> Tensor:
        chosen = weigh(cues[..., part, :], keys, similarity, separation, _part(mask, part), _part(bias, part), scale_free)
        mixed = chosen @ values
        if empty is None:
            return mixed
        return torch.where((chosen == 0).all(-1, keepdim=True), empty[..., part, :], mixed)

    return _by_chunks(mix, cues, keys, (cues, keys, values, *separation.parameters()))


def gathers(top: int, patterns: int) -> bool:
    """Whether a read of the `top` best of so many patterns brings their values together, instead of mixing all values."""
    return top * SPARSE <= patterns


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """The values [*lead, pattern, entry] at [*lead, query, k], as [*lead, query, k, entry]."""
    # axes as they lie in memory: values whose axes were only exchanged are not copied
    order = sorted(range(values.ndim - 1), key=values.stride, reverse=True)
    step, place = 1, torch.zeros_like(index)
    for axis in reversed(order):
        along = index
        if axis < values.ndim - 2:
            along = torch.arange(values.shape[axis], device=index.device).reshape(-1, *[1] * (index.ndim - 1 - axis))
        place = place + step * along
        step *= values.shape[axis]
    # as a table of rows: of torch's ways to choose rows the one with a fast gradient
    return functional.embedding(place, values.permute(*order, -1).flatten(0, -2))


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
    """The value L(similarity) of the separation: the hidden part of the energy, for each cue, its scores never held whole."""
    if _attends(separation, similarity) and _runs(cues, keys, *separation.parameters()):
        beta = float(separation.beta)
        return running(cues, keys, None, similarity, beta)[1] / beta

    def value(part: slice) -> Tensor:
        return separation.value(similarity(cues[..., part, :], keys)).unsqueeze(-1)

    return _by_chunks(value, cues, keys, (cues, keys, *separation.parameters())).squeeze(-1)


def _scores(cues: Tensor, keys: Tensor, similarity: Similarity, separation: Lagrangian, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    scores: Tensor = similarity(cues, keys)
    if bias is not None:
        scores = scores + bias
    # the weights of a row that hides everything are 0 after
    return scores if mask is None else separation.hide(scores, mask)


def _attends(separation: Lagrangian, similarity: Similarity) -> TypeGuard[Softmax]:
    return isinstance(separation, Softmax) and isinstance(similarity, Dot | Euclidean)


def _attend(
    cues: Tensor, keys: Tensor, values: Tensor, similarity: Similarity, separation: Softmax, mask: Tensor | None, bias: Tensor | None
) -> Tensor | None:
    """Softmax over products or distances without its scores; None where neither way of doing so applies."""
    plain = mask is None and bias is None and _runs(cues, keys, values, *separation.parameters())
    learned = isinstance(separation.beta, Tensor) and separation.beta.requires_grad and isinstance(similarity, Euclidean)
    learned = learned or (bias is not None and bias.requires_grad)
    fits = fusable(cues, values, learned and torch.is_grad_enabled())
    if plain and (not fits or cues.shape[-1] >= WIDE):
        return running(cues, keys, values, similarity, float(separation.beta))[0]
    return fused(cues, keys, values, similarity, separation.beta, mask, bias) if fits else None


def _runs(cues: Tensor, *others: Tensor) -> bool:
    """Whether running sums apply: no leading axes, no gradient asked for, and a dtype that can hold a small weight."""
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in (cues, *others))
    return not tracked and cues.ndim == 2 and cues.dtype in (torch.float32, torch.float64)


def _part(whole: Tensor | None, part: slice) -> Tensor | None:
    return whole if whole is None or whole.shape[-2] == 1 else whole[..., part, :]


def _by_chunks(function: Callable[[slice], Tensor], cues: Tensor, keys: Tensor, inputs: tuple[Tensor, ...], width: int = 0) -> Tensor:
    """function of parts of the queries, each of which holds its scores or `width` numbers."""
    parts = list(_chunks(cues, keys, width))
    if len(parts) == 1:
        return function(parts[0])
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        # recomputed in the backward pass: else all chunks' scores would be kept at once
        return torch.cat([checkpoint(function, part, use_reentrant=False) for part in parts], dim=-2)
    first = function(parts[0])
    # one result filled part by part: small results between freed chunks would keep the allocator from reusing them
    whole = first.new_empty(*first.shape[:-2], cues.shape[-2], first.shape[-1])
    whole[..., parts[0], :] = first
    for part in parts[1:]:
        whole[..., part, :] = function(part)
    return whole


def _chunks(cues: Tensor, keys: Tensor, width: int) -> Iterator[slice]:
    lead, queries = cues.shape[:-2].numel(), cues.shape[-2]
    size = max(1, CHUNK // max(1, lead * max(keys.shape[-2], width)))
    return (slice(start, start + size) for start in range(0, max(queries, 1), size))
