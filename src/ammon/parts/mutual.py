"""Mutual attention: what queries and keys are worth to each other, Σ L(keys · query), and where that draws both (Hoover et al. 2023).

Tokens [batch, token, dim] meet through weights [head, dim, entry], one for queries and one for keys. seen, broadcast to
[batch, head, query, key]: True where a query sees a key; None: everywhere. A query that sees none is worth 0 and weighs none.
L is a separation; all operations are plain ones, which differentiate any number of times.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ammon.parts.lagrangians import Lagrangian

Tokens = Float[Tensor, "batch _token dim"]
Weight = Float[Tensor, "head _dim entry"]
Seen = Bool[Tensor, "#batch #head #query #key"] | None
BOTH = (0, 1)


def worth(queries: Tokens, keys: Tokens, query: Weight, key: Weight, separation: Lagrangian, seen: Seen = None) -> Float[Tensor, " batch"]:
    """Σ_head Σ_query L(keys · query), in at least float32: minus the energy."""
    scores: Tensor = project(queries, query) @ project(keys, key).mT
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if not scores.shape[-1]:
        return scores.sum((1, 2, 3))
    values = separation.value(scores if seen is None else separation.hide(scores, seen))
    return (values if seen is None else torch.where(seen.any(-1), values, 0.0)).sum((1, 2))


def pulls(
    queries: Tokens, keys: Tokens, query: Weight, key: Weight, separation: Lagrangian, seen: Seen = None, at: Sequence[int] = BOTH
) -> tuple[Tensor, ...]:
    """The gradient of the worth by the queries' tokens (0) and by the keys' tokens (1), those that are asked for.

    The first is attention, back through the weights of its queries; the second is what ordinary attention lacks.
    """
    asking, asked = project(queries, query), project(keys, key)
    weights = weigh(asking, asked, separation, seen)
    drawn = ((weights, asked, query), (weights.mT, asking, key))
    return tuple(torch.einsum("bhty,hdy->btd", mixing @ mixed, weight) for mixing, mixed, weight in (drawn[place] for place in at))


def weigh(
    queries: Float[Tensor, "batch head _query entry"],
    keys: Float[Tensor, "batch head _key entry"],
    separation: Lagrangian,
    seen: Seen = None,
) -> Float[Tensor, "batch head _query _key"]:
    """∂L/∂scores [batch, head, query, key] of tokens that were projected, all 0 where a query sees nothing."""
    scores = queries @ keys.mT
    if not scores.shape[-1]:
        return scores
    weights: Tensor = separation.activation(scores if seen is None else separation.hide(scores, seen))
    return weights if seen is None else weights.masked_fill(~seen, 0.0)


def project(tokens: Tokens, weight: Weight) -> Float[Tensor, "batch head _token entry"]:
    """Tokens as the heads see them."""
    return torch.einsum("btd,hdy->bhty", tokens, weight)
