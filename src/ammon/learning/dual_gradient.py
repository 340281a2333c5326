"""The gradient of `dual_pass.run`, chunk after chunk from the last to the first. Axes and names as there."""

from typing import NamedTuple

import torch
from torch import Tensor

from ammon.learning.dual_pass import Given, Kept, Shares, add_product, apart, double, merge, once, slope, squares, turn, weights_of
from ammon.learning.fast_weights import soften


class Gradient(NamedTuple):
    """Of everything that `run` takes."""

    keys: Tensor
    values: Tensor
    queries: Tensor | None
    share: Shares
    anchor: list[Tensor]
    held: list[Tensor]


class Owed(NamedTuple):
    """The gradient of one chunk: of everything that `step` takes."""

    keys: Tensor
    values: Tensor
    queries: Tensor | None
    share: Shares
    base: list[Tensor]
    held: list[Tensor]


def differentiate(
    given: Given,
    stored: list[list[Tensor]],
    kept: list[Kept],
    to_read: Tensor | None,
    to_last: list[Tensor] | None,
    to_held: list[Tensor] | None,
) -> Gradient:
    """stored, kept: what `run` noted. to_read, to_last, to_held: gradients of its read, its last anchor and what it holds; None: zeros."""
    keys, _, queries, share, anchor, held, flips, full, least, limit, compiled = given
    chunks, found, to_anchor = len(keys), list[Owed](), list[Tensor]()
    ends = to_held
    if ends is None and (to_last is not None or compiled):
        ends = [torch.zeros_like(both) for both in held]
    if to_last is not None and to_held is not None:
        ends = [both.clone() for both in to_held]
    if to_last is not None and ends is not None:
        _toward(ends, to_last, full == chunks)
    take = once(step_back, compiled)
    for chunk in reversed(range(chunks)):
        here = stored[chunk - 1] if chunk else held
        base = [weights_of(both) for both in here] if chunk else anchor
        some = None if queries is None else queries[chunk]
        to_some = None if to_read is None else to_read[chunk]
        owed = take(keys[chunk], some, share.of(chunk), base, here, flips, limit, kept[chunk], to_some, ends)
        ends, to_anchor = owed.held, owed.base
        if chunk:
            for both, part in zip(ends, to_anchor):
                weights_of(both).add_(part)
            if to_last is not None and chunk >= least:
                _toward(ends, to_last, full == chunk)
        # what has been passed on need not be held
        found.append(owed._replace(held=[], base=[]))
    if to_last is not None:
        to_anchor = [part + torch.where((full == 0)[:, None, None], other, 0) for part, other in zip(to_anchor, to_last)]
    found.reverse()

    def joined(parts: list[Tensor]) -> Tensor:
        # as they lie in the text, so that chunks need not be put together
        return torch.stack(parts, 1).transpose(0, 1)

    return Gradient(
        joined([owed.keys for owed in found]),
        joined([owed.values for owed in found]),
        None if queries is None else joined([owed.queries for owed in found if owed.queries is not None]),
        Shares(*(torch.stack(parts) for parts in zip(*(owed.share for owed in found)))),
        to_anchor,
        ends or [],
    )


def step_back(
    keys: Tensor,
    queries: Tensor | None,
    share: Shares,
    base: list[Tensor],
    here: list[Tensor],
    flips: list[bool],
    limit: float | None,
    kept: Kept,
    to_read: Tensor | None,
    ends: list[Tensor] | None,
) -> Owed:
    """The gradient of `step`. ends: of the weights and momentum after the chunk, None for zeros."""
    depth = len(here)
    inputs, gates, slopes = [keys], [], []
    for field in kept.fields:
        gates.append(torch.sigmoid(field))
        inputs.append(field * gates[-1])
        slopes.append(slope(inputs[-1], gates[-1]))
    errors = [pull * s for pull, s in zip(kept.pulled, slopes)] + [kept.pulled[-1]]
    plain, factor = errors, None
    if limit is not None:
        factor = soften(squares(inputs, errors), limit)
        errors = [error * factor for error in errors]
    to_inputs, to_errors, to_left, to_mixing, to_held = _of_writing(inputs, errors, here, share, flips, ends)
    to_queries, to_both, to_written = None, torch.zeros_like(share.both), torch.zeros_like(share.written)
    if queries is not None:
        to_queries = torch.zeros_like(queries)
        if to_read is not None:
            to_queries = _of_reading(
                queries, to_read, inputs, errors, here, share, flips, kept, to_inputs, to_errors, to_held, to_both, to_written
            )
    if limit is not None and factor is not None:
        to_errors = _of_limit(inputs, plain, to_inputs, to_errors, factor, limit)
    bends: list[Tensor] = []
    to_base: list[Tensor] = []
    for layer in range(depth - 1):
        # the error of this layer is (that of the next times its matrix) times the slope
        flip = flips[layer + 1]
        bend = torch.sub(slopes[layer], inputs[layer + 1], alpha=0.5)
        bends.append(bend.addcmul_(gates[layer], bend, value=-1).mul_(kept.pulled[layer]).mul_(to_errors[layer]))
        to_pull = to_errors[layer] * slopes[layer]
        to_errors[layer + 1] = add_product(to_errors[layer + 1], to_pull, turn(base[layer + 1], flip))
        one, other = (plain[layer + 1], to_pull) if flip else (to_pull, plain[layer + 1])
        to_base.append(torch.bmm(one.mT, other))
    to_field = 2 * to_errors[-1]
    to_values = -to_field
    for layer in reversed(range(depth)):
        to_inputs[layer] = add_product(to_inputs[layer], to_field, turn(base[layer], not flips[layer]))
        one, other = (to_field, inputs[layer]) if flips[layer] else (inputs[layer], to_field)
        if layer:
            to_base[layer - 1] = add_product(to_base[layer - 1], one.mT, other)
            # silu'' = 2 (1 - σ) (silu' - silu / 2)
            to_field = torch.mul(to_inputs[layer], slopes[layer - 1]).add_(bends[layer - 1], alpha=2)
        else:
            to_base.insert(0, torch.bmm(one.mT, other))
    return Owed(to_inputs[0], to_values, to_queries, Shares(to_both, to_written, to_left, to_mixing), to_base, to_held)


def _toward(held: list[Tensor], last: list[Tensor], rows: Tensor) -> None:
    for both, part in zip(held, last):
        weights_of(both).add_(torch.where(rows[:, None, None], part, 0))


def _of_writing(
    inputs: list[Tensor], errors: list[Tensor], here: list[Tensor], share: Shares, flips: list[bool], ends: list[Tensor] | None
) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor, list[Tensor]]:
    """What weights and momentum after the chunk owe to inputs, errors, the shares left and mixing, and to those before it."""
    to_left, to_mixing = torch.zeros_like(share.left), torch.zeros_like(share.mixing)
    if ends is None:
        zeros = ([torch.zeros_like(part) for part in parts] for parts in (inputs, errors, here))
        to_inputs, to_errors, to_held = zeros
        return to_inputs, to_errors, to_left, to_mixing, to_held
    to_inputs, to_errors, to_held = [], [], []
    for a, e, both, end, flip in zip(inputs, errors, here, ends, flips):
        small, large = (e, a) if flip else (a, e)
        lead = torch.bmm(large, end.mT)
        to_left.sub_(apart(small, lead))
        to_small = merge(lead, share.left).neg_()
        to_large = torch.bmm(double(small, share.left), end).neg_()
        to_inputs.append(to_large if flip else to_small)
        to_errors.append(to_small if flip else to_large)
        flat = end.reshape(len(end), 2, -1)
        to_mixing = add_product(to_mixing, flat, both.reshape(len(both), 2, -1).mT)
        to_held.append(torch.bmm(share.mixing.mT, flat).reshape(end.shape))
    return to_inputs, to_errors, to_left, to_mixing, to_held


def _of_reading(
    queries: Tensor,
    to_out: Tensor,
    inputs: list[Tensor],
    errors: list[Tensor],
    here: list[Tensor],
    share: Shares,
    flips: list[bool],
    kept: Kept,
    to_inputs: list[Tensor],
    to_errors: list[Tensor],
    to_held: list[Tensor],
    to_both: Tensor,
    to_written: Tensor,
) -> Tensor:
    """What the reads owe to all that is added to, and to the queries, which comes back."""
    hidden = [queries] + [torch.nn.functional.silu(asked) for asked in kept.asked]
    halves = list(kept.halves)
    for layer in reversed(range(len(flips))):
        h, overlap = hidden[layer], kept.overlaps[layer]
        to_weight = torch.bmm(to_out, errors[layer].mT).neg_()
        to_written.addcmul_(to_weight, overlap)
        to_errors[layer] = add_product(to_errors[layer], (overlap * share.written).mT, to_out, -1)
        to_overlap = to_weight.mul_(share.written)
        if flips[layer]:
            to_both.add_(apart(to_out, halves.pop()))
            to_half = double(to_out, share.both)
            to_hidden = torch.bmm(to_half, here[layer])
            to_held[layer] = add_product(to_held[layer], to_half.mT, h)
        else:
            lead = torch.bmm(to_out, here[layer].mT)
            to_both.add_(apart(h, lead))
            to_hidden = merge(lead, share.both)
            to_held[layer] = add_product(to_held[layer], double(h, share.both).mT, to_out)
        to_hidden = add_product(to_hidden, to_overlap, inputs[layer])
        to_inputs[layer] = add_product(to_inputs[layer], to_overlap.mT, h)
        to_out = torch.ops.aten.silu_backward(to_hidden, kept.asked[layer - 1]) if layer else to_hidden
    return to_out


def _of_limit(
    inputs: list[Tensor], plain: list[Tensor], to_inputs: list[Tensor], to_errors: list[Tensor], factor: Tensor, limit: float
) -> list[Tensor]:
    """Through the factor (1 + square/limit²)^(-1/2): what the errors before it are owed; what the inputs are is added."""
    to_factor = torch.stack([(d * e).sum(-1, keepdim=True) for d, e in zip(to_errors, plain)]).sum(0)
    to_square = to_factor * factor**3 * (-0.5 / limit**2)
    found = []
    for a, e, to_a, to_e in zip(inputs, plain, to_inputs, to_errors):
        to_a.addcmul_(a, 2 * to_square * e.square().sum(-1, keepdim=True))
        found.append((to_e * factor).addcmul_(e, 2 * to_square * a.square().sum(-1, keepdim=True)))
    return found
