"""Token descent: steps x ← x - α dE/dg of attention and patterns on one energy, and their gradient, in few passes.

All weights stand in one matrix W = [queries; keys; patterns]. A step is then two products and three small ones: u = g Wᵀ holds queries,
keys and overlaps, v holds in their places A k, Aᵀ q and relu of the overlaps (A the attention), and -dE/dg = v W. The backward pass of
a step is a product of the energy's Hessian with a vector, which goes the same way, and the gradient of W two products more.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """What does not change along the steps. Sizes of attention: heads × entries of a head."""

    heads: int
    entries: int
    beta: float
    step: float
    steps: int
    eps: float
    there: Tensor | None  # bool [batch, token]
    seen: Tensor | None  # bool [batch or 1, 1, query, key]


def descend(x: Tensor, matrix: Tensor, scale: Tensor | None, shift: Tensor | None, plan: Plan) -> Tensor:
    """x [batch, token, dim] after the steps; matrix [2 · heads · entries + memories, dim]; g = scale · normalised x + shift, each [dim]."""
    inputs = (x, matrix, scale, shift)
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in inputs):
        found: Tensor = _Descent.apply(*inputs, plan)  # type: ignore[no-untyped-call]
        return found
    return _forward(x, matrix, scale, shift, plan, None)


class _Descent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, scale: Tensor | None, shift: Tensor | None, plan: Plan) -> Tensor:
        kept: list[Tensor] = []
        y = _forward(x, matrix, scale, shift, plan, kept)
        ctx.save_for_backward(matrix, scale, shift, *kept)
        ctx.plan = plan
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("EnergyTransformer: the fast form has no second derivatives; make the layer with fast=False.")
        matrix, scale, shift, *kept = ctx.saved_tensors
        return (*_backward(gradient, matrix, scale, shift, ctx.plan, kept), None)


# tensors of each step that the backward pass needs
KEPT = 7


def _forward(x: Tensor, matrix: Tensor, scale: Tensor | None, shift: Tensor | None, plan: Plan, kept: list[Tensor] | None) -> Tensor:
    batch, tokens, dim = x.shape
    x = x.reshape(-1, dim).clone()
    width = 2 * plan.heads * plan.entries
    v = x.new_empty(len(x), len(matrix))
    hidden = None if plan.seen is None else ~plan.seen
    for step in range(plan.steps):
        g, mean, rstd = torch.native_layer_norm(x, [dim], scale, shift, plan.eps)
        if plan.there is not None:
            g.masked_fill_(~plan.there.reshape(-1, 1), 0)
        if kept is not None:
            kept += [x, g, mean, rstd]
            v = v if not step else torch.empty_like(v)
        torch.mm(g, matrix.mT, out=v)
        queries, keys = apart = _apart(v[:, :width], batch, plan)
        scores = torch.bmm(queries, keys.mT).mul_(plan.beta)
        attention = _softmax(scores, hidden, batch)
        both = torch.empty_like(apart)
        torch.bmm(attention, keys, out=both[0])
        torch.bmm(attention.mT, queries, out=both[1])
        _together(both, v[:, :width], batch, plan)
        v[:, width:].relu_()
        if kept is None:
            x.addmm_(v, matrix, alpha=plan.step)
        else:
            x = torch.addmm(x, v, matrix, alpha=plan.step)
            kept += [v, apart, attention]
    return x.view(batch, tokens, dim)


def _backward(
    gradient: Tensor, matrix: Tensor, scale: Tensor | None, shift: Tensor | None, plan: Plan, kept: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    batch, _, dim = gradient.shape
    width = 2 * plan.heads * plan.entries
    # of tokens that are not there nothing flows back
    gradient = gradient if plan.there is None else gradient.masked_fill(~plan.there[..., None], 0)
    flow = gradient.reshape(-1, dim).clone()
    # transposed: so its product is faster
    of_matrix = matrix.new_zeros(dim, len(matrix))
    of_scale = None if scale is None else torch.zeros_like(scale)
    of_shift = None if shift is None else torch.zeros_like(shift)
    # vᵀ of_pull + duᵀ g is one product of stacked factors
    left, right = flow.new_empty(2, len(flow), dim), flow.new_empty(2, len(flow), len(matrix))
    of_pull, du = left[0], right[1]
    for start in range(len(kept) - KEPT, -1, -KEPT):
        x, g, mean, rstd, v, apart, attention = kept[start : start + KEPT]
        queries, keys = apart
        torch.mul(flow, plan.step, out=of_pull)
        torch.mm(of_pull, matrix.mT, out=du)
        # through A k and Aᵀ q: to both, and to A, then through its softmax to the scores
        of_asked, of_asks = apart_flow = _apart(du[:, :width], batch, plan)
        of_attention = torch.bmm(of_asked, keys.mT).baddbmm_(queries, of_asks.mT).mul_(attention)
        total = of_attention.sum(-1, keepdim=True)
        of_scores = of_attention.addcmul_(attention, total, value=-1).mul_(plan.beta)
        both = torch.empty_like(apart_flow)
        torch.bmm(attention, of_asks, out=both[0])
        both[0].baddbmm_(of_scores, keys)
        torch.bmm(attention.mT, of_asked, out=both[1])
        both[1].baddbmm_(of_scores.mT, queries)
        _together(both, du[:, :width], batch, plan)
        # through relu
        torch.ops.aten.threshold_backward.grad_input(du[:, width:], v[:, width:], 0, grad_input=du[:, width:])
        left[1], right[0] = g, v
        of_matrix.addmm_(left.view(-1, dim).mT, right.view(-1, len(matrix)))
        of_g = du @ matrix
        through, more_scale, more_shift = torch.ops.aten.native_layer_norm_backward(
            of_g, x, [dim], mean, rstd, scale, shift, [True, of_scale is not None, of_shift is not None]
        )
        flow += through
        if of_scale is not None:
            of_scale += more_scale
        if of_shift is not None:
            of_shift += more_shift
    return flow.view(gradient.shape), of_matrix.mT, of_scale, of_shift


def _apart(rows: Tensor, batch: int, plan: Plan) -> Tensor:
    """[batch · token, 2 · head · entry] as [2, batch · head, token, entry]."""
    parts = rows.view(batch, -1, 2, plan.heads, plan.entries).permute(2, 0, 3, 1, 4)
    return parts.contiguous().view(2, batch * plan.heads, -1, plan.entries)


def _together(parts: Tensor, rows: Tensor, batch: int, plan: Plan) -> None:
    """The way back, into `rows`."""
    tokens = parts.shape[2]
    rows.view(batch, tokens, 2, plan.heads, plan.entries).copy_(
        parts.view(2, batch, plan.heads, tokens, plan.entries).permute(1, 3, 0, 2, 4)
    )


def _softmax(scores: Tensor, hidden: Tensor | None, batch: int) -> Tensor:
    if hidden is None:
        return torch.softmax(scores, -1)
    apart = scores.view(batch, -1, *scores.shape[1:])
    apart.masked_fill_(hidden, -torch.inf)
    # a row that sees nothing comes out as NaN, and all of it is hidden
    return torch.softmax(apart, -1).masked_fill_(hidden, 0).view(scores.shape)
