"""Traces: the mean activities of two sets of units and of each pair of them, from which rules for sparse patterns make their weights.

A weight made of them changes by what its own two units did, so such rules are local; means can be kept up one pattern at a time.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ammon.learning.base import Post, Pre, wide
from ammon.shapes import check_positive


class Means(NamedTuple):
    """Weights, and the activities they are made of."""

    matrix: Tensor
    post: Tensor  # mean activity of the receiving units [post]
    pre: Tensor  # of the sending units [pre]
    pair: Tensor  # of both together [post, pre]
    seen: Tensor  # patterns so far


class Traces(NamedTuple):
    """The same with a bias [post]."""

    matrix: Tensor
    bias: Tensor
    post: Tensor
    pre: Tensor
    pair: Tensor
    seen: Tensor


def no_means(post: int, pre: int, like: Tensor) -> Means:
    """What is known before the first pattern; the means in at least float32."""
    none = wide(like.new_zeros(post, pre))
    return Means(like.new_zeros(post, pre), none.new_zeros(post), none.new_zeros(pre), none, none.new_zeros(()))


def no_traces(post: int, pre: int, like: Tensor, bias: float) -> Traces:
    """The same with one bias for all units."""
    begun = no_means(post, pre, like)
    return Traces(begun.matrix, like.new_full((post,), bias), *begun[1:])


def follow(state: Means | Traces, post: Post, pre: Pre, horizon: float | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The means post, pre, pair and the number seen after these patterns.

    horizon None: each pattern counts alike. A number: each moves the means by 1/horizon, so the old ones fade (Sandberg et al. 2002).
    """
    x, y = pre.to(state.pair), post.to(state.pair)
    age = torch.arange(len(x) - 1, -1, -1, dtype=x.dtype, device=x.device)
    seen = state.seen + len(x)
    if horizon is None:
        kept, share = state.seen / seen, torch.ones_like(age) / seen
    else:
        fade = 1 - 1 / horizon
        kept, share = torch.as_tensor(fade ** len(x)).to(seen), fade**age / horizon
    pair = kept * state.pair + (share.unsqueeze(-1) * y).mT @ x
    return kept * state.post + share @ y, kept * state.pre + share @ x, pair, seen


def check_activities(where: str, post: Tensor, pre: Tensor) -> None:
    """Refuse activities outside [0, 1]."""
    for what, rows in (("pattern", pre), ("value", post)):
        if bool(((rows < 0) | (rows > 1)).any()):
            raise ValueError(f"{where}: the {what} must hold activities between 0 and 1; scale or binarise it first.")


def check_horizon(where: str, horizon: float | None) -> None:
    """Refuse a horizon shorter than one pattern."""
    if horizon is not None and not 1 <= horizon < float("inf"):
        raise ValueError(f"{where}: horizon must be at least 1 and finite, or None, got {horizon}.")


def check_share(where: str, name: str, value: float) -> None:
    """Refuse what is not strictly between 0 and 1."""
    check_positive(where, name, value)
    if value >= 1:
        raise ValueError(f"{where}: {name} must be below 1, got {value}.")
