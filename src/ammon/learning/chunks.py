"""Chunks: a memory that learns by surprise carried through all chunks of a text, by autograd or by a pass with a gradient of its own.

Keys, values and queries [chunk, batch, head, time, dim], a plan as its form makes it of gates [chunk, batch, head, time].
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ammon.learning.dual_form import DualForm, Spread, backward
from ammon.learning.dual_gradient import differentiate
from ammon.learning.dual_pass import Given, Kept, Pass, Shares, run, shares, squares, turn, turned
from ammon.learning.fast_weights import Fast, Form, Held, Mlp, surprise

Carried = tuple[Tensor | None, Fast, Fast, Fast]


def one_by_one(
    form: Form,
    network: Any,
    held: Held,
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None,
    plan: Any,
    full: Tensor,
    limit: float | None,
    noted: list[Tensor] | None = None,
) -> Carried:
    """What the queries read [chunk, batch, head, time, value_dim], then the last anchor, weights and momentum.

    full [batch]: how many of the chunks each row fills; what it holds after them is its last anchor. noted: takes the norm of each token's
    gradient [batch, head, time], chunk after chunk.
    """
    read, (anchor, weights, momentum, _) = [], held
    for index in range(len(keys)):
        some = None if queries is None else queries[index]
        # the surprise of a chunk that begins here is measured here
        start = anchor if not index else weights
        if noted is not None:
            noted.append(norms(network, start, keys[index], values[index]))
        found, weights, momentum = form.chunk(
            network, Held(start, weights, momentum, held.filled), keys[index], values[index], some, form.part(plan, index), limit
        )
        if found is not None:
            read.append(found)
        ended = full == index + 1
        anchor = tuple(torch.where(ended.reshape(-1, *[1] * (w.ndim - 1)), w, a) for w, a in zip(weights, anchor))
    return (torch.stack(read) if read else None), anchor, weights, momentum


def norms(network: Any, anchor: Fast, keys: Tensor, values: Tensor) -> Tensor:
    """The norm of each token's gradient, before any limit; in closed form for `Mlp`."""
    if isinstance(network, Mlp):
        return squares(*backward(network, anchor, keys, values, None)).squeeze(-1).sqrt()
    parts = surprise(network, anchor, keys, values, None)
    return torch.stack([part.flatten(3).square().sum(-1) for part in parts]).sum(0).sqrt()


def together(
    held: Held,
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None,
    plan: Spread,
    full: Tensor,
    least: int,
    limit: float | None,
    compiled: bool,
) -> Carried:
    """The same as `one_by_one(DualForm(), ...)`, for a network that is not residual, by the pass with a gradient of its own.

    least: chunks that every row is known to fill. compiled: whether the work of a chunk is compiled.
    """
    batch, heads = keys.shape[1:3]
    depth, flips = len(held.weights), [turned(matrix) for matrix in held.weights]
    keys, values = keys.flatten(1, 2), values.flatten(1, 2)
    queries = None if queries is None else queries.flatten(1, 2)
    share = shares(Spread(*(part.flatten(1, 2) for part in plan)))
    anchor, weights, momentum = ([turn(w.flatten(0, 1), flip) for w, flip in zip(part, flips)] for part in held[:3])
    both = [torch.cat(pair, 1) for pair in zip(weights, momentum)]
    tensors = (*share, *(part.contiguous() for part in anchor), *both)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (keys, values, queries, *tensors) if tensor is not None)
    full = full.repeat_interleave(heads)
    read, *rest = _Together.apply(flips, least, limit, compiled, keep, full, keys, values, queries, *tensors)  # type: ignore[no-untyped-call]

    def apart(parts: list[Tensor]) -> Fast:
        return tuple(turn(part.reshape(batch, heads, *part.shape[1:]), flip) for part, flip in zip(parts, flips))

    halves = [part.chunk(2, 1) for part in rest[depth:]]
    found = None if queries is None else read.reshape(len(read), batch, heads, *read.shape[2:])
    return found, apart(rest[:depth]), apart([half[0] for half in halves]), apart([half[1] for half in halves])


class _Together(torch.autograd.Function):
    """What `dual_pass.run` reads, its last anchor and what it holds at the end; four shares, anchors and what is held come as `tensors`."""

    @staticmethod
    def forward(
        ctx: Any,
        flips: list[bool],
        least: int,
        limit: float | None,
        compiled: bool,
        keep: bool,
        full: Tensor,
        keys: Tensor,
        values: Tensor,
        queries: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        depth, compiling = len(flips), torch.compiler.is_compiling()
        forward = torch.ops.ammon.dual_pass if compiling else _forward
        parts = tensors[:4], tensors[4 : 4 + depth], tensors[4 + depth :]
        made = forward(keys, values, queries, *parts, flips, full, least, limit, keep, compiled)
        ctx.flips, ctx.least, ctx.limit, ctx.compiled, ctx.asked = flips, least, limit, compiled, queries is not None
        if keep:
            ctx.save_for_backward(full, keys, values, *([] if queries is None else [queries]), *tensors, *made[1 + 2 * depth :])
        if not compiling:
            # what nobody asks for, often the last state, then costs nothing
            ctx.set_materialize_grads(False)
        return tuple(made[: 1 + 2 * depth])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        depth, compiling = len(ctx.flips), torch.compiler.is_compiling()
        full, keys, values, *saved = ctx.saved_tensors
        queries = saved.pop(0) if ctx.asked else None
        tensors, kept = saved[: 4 + 2 * depth], saved[4 + 2 * depth :]
        none = [None] * 6
        if torch.is_grad_enabled() and not compiling:
            return *none, *_by_autograd(full, keys, values, queries, tensors, ctx.flips, ctx.limit, gradients)
        some: list[list[Tensor]] = []
        for part, like in ((gradients[1 : 1 + depth], tensors[4 : 4 + depth]), (gradients[1 + depth :], tensors[4 + depth :])):
            filled = [torch.zeros_like(t) if g is None else g for g, t in zip(part, like)]
            some.append([] if all(g is None for g in part) else filled)
        backward = torch.ops.ammon.dual_gradient if compiling else _backward
        parts = tensors[:4], tensors[4 : 4 + depth], tensors[4 + depth :]
        found = backward(keys, values, queries, *parts, ctx.flips, full, ctx.least, ctx.limit, ctx.compiled, kept, gradients[0], *some)
        return *none, found[0], found[1], found[2] if ctx.asked else None, *found[3:]


def _by_autograd(
    full: Tensor,
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None,
    tensors: list[Tensor],
    flips: list[bool],
    limit: float | None,
    gradients: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """The gradient as something that has a gradient itself: the pass again, chunk by chunk."""
    depth = len(flips)
    both, written, left, mixing = tensors[:4]
    spread = Spread(both[..., 0], both[..., 1], written, mixing[..., 1, 1], left[..., 1])
    halves = [part.chunk(2, 1) for part in tensors[4 + depth :]]
    anchor = tuple(turn(part, flip) for part, flip in zip(tensors[4 : 4 + depth], flips))
    weights, momentum = (tuple(turn(half[which], flip) for half, flip in zip(halves, flips)) for which in (0, 1))
    read, *ends = one_by_one(DualForm(), Mlp(depth), Held(anchor, weights, momentum, full), keys, values, queries, spread, full, limit)
    made = [read, *(turn(part, flip) for part, flip in zip(ends[0], flips))]
    made += [torch.cat([turn(w, flip), turn(s, flip)], 1) for w, s, flip in zip(ends[1], ends[2], flips)]
    leaves = [keys, values, queries, *tensors]
    some = [(one, other) for one, other in zip(made, gradients) if one is not None and other is not None]
    asked = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
    found = iter(torch.autograd.grad([one for one, _ in some], asked, [other for _, other in some], create_graph=True, allow_unused=True))
    return [next(found) if leaf is not None and leaf.requires_grad else None for leaf in leaves]


def _forward(
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None,
    share: Sequence[Tensor],
    anchor: Sequence[Tensor],
    held: Sequence[Tensor],
    flips: Sequence[bool],
    full: Tensor,
    least: int,
    limit: float | None,
    keep: bool,
    compiled: bool,
) -> list[Tensor]:
    given = Given(keys, values, queries, Shares(*share), list(anchor), list(held), list(flips), full, least, limit, compiled)
    return _flat(run(given, keep), keys)


def _backward(
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None,
    share: Sequence[Tensor],
    anchor: Sequence[Tensor],
    held: Sequence[Tensor],
    flips: Sequence[bool],
    full: Tensor,
    least: int,
    limit: float | None,
    compiled: bool,
    kept: Sequence[Tensor],
    read: Tensor | None,
    last: Sequence[Tensor],
    end: Sequence[Tensor],
) -> list[Tensor]:
    stored, steps = _unflat(kept, len(keys), list(flips), queries is not None)
    given = Given(keys, values, queries, Shares(*share), list(anchor), list(held), list(flips), full, least, limit, compiled)
    found = differentiate(given, stored, steps, read, list(last) or None, list(end) or None)
    asked = keys.new_empty(0) if found.queries is None else found.queries
    return [found.keys, found.values, asked, *found.share, *found.anchor, *found.held]


def _flat(made: Pass, keys: Tensor) -> list[Tensor]:
    read = keys.new_empty(0) if made.read is None else made.read
    stored = [tensor for both in made.stored for tensor in both]
    return [read, *made.anchor, *made.held, *stored, *(tensor for step in made.kept for part in step for tensor in part)]


def _unflat(flat: Sequence[Tensor], chunks: int, flips: list[bool], asked: bool) -> tuple[list[list[Tensor]], list[Kept]]:
    depth, left = len(flips), iter(flat)
    counts = (depth - 1, depth, *((depth - 1, depth, sum(flips)) if asked else (0, 0, 0)))
    stored = [[next(left) for _ in range(depth)] for _ in range(chunks - 1)]
    return stored, [Kept(*([next(left) for _ in range(count)] for count in counts)) for _ in range(chunks)]


# the compiler takes the loop over chunks as one step, whatever the length of the text
_forward_step = torch.library.custom_op("ammon::dual_pass", _forward, mutates_args=())
_backward_step = torch.library.custom_op("ammon::dual_gradient", _backward, mutates_args=())


@_forward_step.register_fake
def _(keys, values, queries, share, anchor, held, flips, full, least, limit, keep, compiled):  # type: ignore[no-untyped-def]
    chunks, rows, time = keys.shape[:3]
    empty, asked = keys.new_empty, queries is not None
    sizes = [tuple(turn(both[:, : both.shape[1] // 2], flip).shape[1:]) for both, flip in zip(held, flips)]
    states = [torch.empty_like(both) for _ in range(chunks - 1 if keep else 0) for both in held]
    fields = [empty(rows, time, out) for _, out in sizes[:-1]]
    steps = fields + [empty(rows, time, out) for _, out in sizes]
    if asked:
        steps += fields + [empty(rows, time, time) for _ in sizes]
        steps += [empty(rows, time, 2 * out) for (_, out), flip in zip(sizes, flips) if flip]
    read = empty(rows, chunks, time, sizes[-1][1]).transpose(0, 1) if asked else empty(0)
    ends = [torch.empty_like(part) for part in (*anchor, *held)]
    return [read, *ends, *states, *(torch.empty_like(part) for _ in range(chunks if keep else 0) for part in steps)]


@_backward_step.register_fake
def _(keys, values, queries, share, anchor, held, flips, full, least, limit, compiled, kept, read, last, end):  # type: ignore[no-untyped-def]
    def joined(like: Tensor) -> Tensor:
        return like.new_empty(like.shape[1], like.shape[0], *like.shape[2:]).transpose(0, 1)

    asked = keys.new_empty(0) if queries is None else joined(queries)
    return [joined(keys), joined(values), asked, *(torch.empty_like(part) for part in (*share, *anchor, *held))]
