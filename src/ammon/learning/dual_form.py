"""Dual form: what every token of a chunk reads and what the chunk leaves, without a copy of the weights per token. The fast way, for `Mlp`.

All gradients of a chunk are outer products of layer inputs a and back-propagated errors δ at its start, so the weights of a layer at
token t are be_t W + f_t S - Σ_i G[t, i] a_i δ_iᵀ with scalars be, f, G that depend on the gates alone. docs/transformer.md derives them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ammon.learning.fast_weights import EPS, Fast, Gates, Held, Mlp, soften


class Spread(NamedTuple):
    """How much of what was there before, and of each token's surprise, is in the weights at each token. [*lead, time (, time)]."""

    weights: Tensor  # be: of the weights before the chunk
    momentum: Tensor  # f: of the momentum before the chunk
    written: Tensor  # G [time, token]: of each token's gradient
    last_momentum: Tensor  # m: of the momentum before the chunk, in the momentum after it
    last_written: Tensor  # N [token]: of each token's gradient, in the momentum after it


class DualForm:
    """Matrix products only: what each layer reads is be · h W + f · h S - (G ∘ h aᵀ) δ."""

    def plan(self, gates: Gates) -> Spread:
        kept, surviving = products(torch.stack([gates.momentum, 1 - gates.decay])).unbind()
        begun = kept[..., 0] * gates.momentum[..., :1]
        each = torch.cat([kept * gates.step.unsqueeze(-2), begun.unsqueeze(-1)], -1)
        spread = surviving @ (gates.valid.unsqueeze(-1) * each)
        return Spread(
            weights=surviving[..., 0] * (1 - gates.decay[..., :1]),
            momentum=spread[..., -1],
            written=spread[..., :-1],
            last_momentum=begun[..., -1],
            last_written=each[..., -1, :-1],
        )

    def part(self, plan: Spread, index: int) -> Spread:
        return Spread(*(scalars[index] for scalars in plan))

    def chunk(
        self, network: Mlp, held: Held, keys: Tensor, values: Tensor, queries: Tensor | None, plan: Spread, limit: float | None
    ) -> tuple[Tensor | None, Fast, Fast]:
        inputs, errors = backward(network, held.anchor, keys, values, limit)
        outputs = None if queries is None else _read(network, held, inputs, errors, queries, plan)
        # last rows: what is left at the end of the chunk
        be, f, m = (s[..., None, None] for s in (plan.weights[..., -1], plan.momentum[..., -1], plan.last_momentum))
        g, n = plan.written[..., -1, :, None], plan.last_written[..., None]
        weights = tuple(be * w + f * s - a.mT @ (g * e) for w, s, a, e in zip(held.weights, held.momentum, inputs, errors))
        momentum = tuple(m * s - a.mT @ (n * e) for s, a, e in zip(held.momentum, inputs, errors))
        return outputs, weights, momentum


def backward(network: Mlp, weights: Fast, keys: Tensor, values: Tensor, limit: float | None) -> tuple[list[Tensor], list[Tensor]]:
    """Layer inputs a and errors δ of each token: its gradient in layer p is the outer product of the two."""
    inputs, slopes = [keys], []
    for matrix in weights[:-1]:
        field = inputs[-1] @ matrix
        gate = torch.sigmoid(field)
        active = field * gate
        slopes.append(gate + active * (1 - gate))
        inputs.append(active)
    last = inputs[-1] @ weights[-1]
    if network.residual:
        scale = torch.rsqrt(last.var(-1, correction=0, keepdim=True) + EPS)
        normed = (last - last.mean(-1, keepdim=True)) * scale
        pull = 2 * (keys + normed - values)
        error = scale * (pull - pull.mean(-1, keepdim=True) - normed * (pull * normed).mean(-1, keepdim=True))
    else:
        error = 2 * (last - values)
    errors = [error]
    for matrix, slope in zip(reversed(weights[1:]), reversed(slopes)):
        error = (error @ matrix.mT) * slope
        errors.insert(0, error)
    if limit is not None:
        # the squared norm of an outer product is the product of the squared norms
        square = sum(
            (a.square().sum(-1, keepdim=True) * e.square().sum(-1, keepdim=True) for a, e in zip(inputs, errors)),
            start=torch.zeros_like(keys[..., :1]),
        )
        errors = [e * soften(square, limit) for e in errors]
    return inputs, errors


def _read(network: Mlp, held: Held, inputs: list[Tensor], errors: list[Tensor], queries: Tensor, plan: Spread) -> Tensor:
    be, f = plan.weights.unsqueeze(-1), plan.momentum.unsqueeze(-1)
    hidden = queries
    for layer, (w, s, a, e) in enumerate(zip(held.weights, held.momentum, inputs, errors)):
        if layer:
            hidden = functional.silu(hidden)
        hidden = be * (hidden @ w) + f * (hidden @ s) - (plan.written * (hidden @ a.mT)) @ e
    if network.residual:
        return queries + functional.layer_norm(hidden, hidden.shape[-1:], eps=EPS)
    return hidden


def products(gates: Tensor) -> Tensor:
    """P[t, i] = Π gates_j over i < j ≤ t, 1 at t = i, 0 above: [*lead, time] → [*lead, time, time]."""
    found: Tensor = _Products.apply(gates)  # type: ignore[no-untyped-call]
    return found


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor) -> Tensor:
        found = _by_halves(gates)
        ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (found,) = ctx.saved_tensors
        # P without gate j is P[t, j] P[j - 1, i], so gate j is owed Σ_{t, i} P[t, j] ∂P[t, i] P[j - 1, i]
        owed = (found[..., 1:] * (gradient @ found.mT)[..., :-1]).sum(-2)
        return functional.pad(owed, (1, 0))


def _by_halves(gates: Tensor) -> Tensor:
    """Never as ratios of running products, which are 0/0 once a gate is closed."""
    size = gates.shape[-1]
    whole = 1 << (size - 1).bit_length()
    gates = functional.pad(gates, (0, whole - size), value=1.0)
    lead = gates.shape[:-1]
    found = torch.eye(whole, dtype=gates.dtype, device=gates.device).repeat(*lead, 1, 1)
    reach = 1
    while reach < whole:
        number = whole // (2 * reach)
        # the blocks on the diagonal, [*lead, t, i, block]: of each, earlier and later half are known, and what leads from one to the other
        block = found.view(*lead, number, 2 * reach, number, 2 * reach).diagonal(dim1=-4, dim2=-2)
        into = gates.view(*lead, number, 2 * reach)[..., None, :, reach] * block[..., reach:, reach, :]
        block[..., reach:, :reach, :] = into.unsqueeze(-2) * block[..., reach - 1, None, :reach, :]
        reach *= 2
    return found[..., :size, :size].contiguous()
