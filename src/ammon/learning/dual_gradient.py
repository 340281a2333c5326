"""The gradient of `dual_pass.run`, chunk after chunk from the last to the first. Axes and names as there."""

from typing import NamedTuple

import torch
from torch import Tensor

from ammon.learning.dual_pass import Kept, Shares, add_product, apart, double, merge, slope, squares, turn
from ammon.learning.fast_weights import soften


class Gradient(NamedTuple):
    """Of everything that `run` takes."""

    keys: Tensor
    values: Tensor
    queries: Tensor | None
    share: Shares
    anchor: list[Tensor]
    held: list[Tensor]


def differentiate(
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None,
    share: Shares,
    anchor: list[Tensor],
    flips: list[bool],
    full: Tensor,
    least: int,
    limit: float | None,
    kept: Kept,
    read: Tensor | None,
    last: list[Tensor] | None,
    held: list[Tensor] | None,
) -> Gradient:
    """read, last, held: gradients of what the pass read, of its last anchor and of what it holds at the end; None: zeros."""
    chunks, depth = len(keys), len(flips)
    found = Gradient(
        torch.empty_like(keys),
        torch.empty_like(values),
        None if queries is None else torch.zeros_like(queries) if read is None else torch.empty_like(queries),
        Shares(*(torch.zeros_like(part) for part in share)),
        [torch.zeros_like(part) for part in anchor],
        [],
    )
    ends = held
    if last is not None:
        ends = [torch.zeros_like(both[0]) for both in kept.stored] if ends is None else [both.clone() for both in ends]
        _toward(ends, last, full == chunks)
    for chunk in reversed(range(chunks)):
        here = [both[chunk] for both in kept.stored]
        base = anchor if not chunk else [both[:, : both.shape[1] // 2] for both in here]
        inputs, gates, slopes = [keys[chunk]], [], []
        for field in kept.fields:
            gates.append(torch.sigmoid(field[chunk]))
            inputs.append(field[chunk] * gates[-1])
            slopes.append(slope(inputs[-1], gates[-1]))
        errors = [pull[chunk] * s for pull, s in zip(kept.pulled, slopes)] + [kept.pulled[-1][chunk]]
        plain, factor, square = errors, None, None
        if limit is not None:
            square = squares(inputs, errors)
            factor = soften(square, limit)
            errors = [error * factor for error in errors]
        to_inputs, to_errors, to_held = _of_writing(chunk, inputs, errors, here, share, flips, ends, found.share)
        if read is not None and queries is not None:
            to_hidden = _of_reading(
                chunk, queries[chunk], read[chunk], inputs, errors, here, share, flips, kept, to_inputs, to_errors, to_held, found.share
            )
            assert found.queries is not None
            found.queries[chunk] = to_hidden
        if limit is not None and factor is not None:
            to_errors = _of_limit(inputs, plain, to_inputs, to_errors, factor, limit)
        to_base = [both[:, : both.shape[1] // 2] for both in to_held] if chunk else found.anchor
        of_base: list[Tensor | None] = [None] * depth
        for layer in range(depth - 1):
            # the error of this layer is (that of the next times its matrix) times the slope
            next_error, flip = plain[layer + 1], flips[layer + 1]
            bend = torch.sub(slopes[layer], inputs[layer + 1], alpha=0.5)
            bend.addcmul_(gates[layer], bend, value=-1).mul_(kept.pulled[layer][chunk]).mul_(to_errors[layer])
            to_pull = to_errors[layer] * slopes[layer]
            gates[layer] = bend
            add_product(to_errors[layer + 1], to_pull, turn(base[layer + 1], flip))
            one, other = (next_error, to_pull) if flip else (to_pull, next_error)
            of_base[layer + 1] = torch.bmm(one.mT, other)
        found.values[chunk] = -2 * to_errors[-1]
        to_field = 2 * to_errors[-1]
        for layer in reversed(range(depth)):
            add_product(to_inputs[layer], to_field, turn(base[layer], not flips[layer]))
            one, other = (to_field, inputs[layer]) if flips[layer] else (inputs[layer], to_field)
            before = of_base[layer]
            to_base[layer].add_(torch.bmm(one.mT, other) if before is None else torch.baddbmm(before, one.mT, other, out=before))
            if layer:
                # silu'' = 2 (1 - σ) (silu' - silu / 2)
                to_field = torch.mul(to_inputs[layer], slopes[layer - 1]).add_(gates[layer - 1], alpha=2)
        found.keys[chunk] = to_inputs[0]
        if last is not None and chunk >= least and chunk:
            _toward(to_held, last, full == chunk)
        ends = to_held
    assert ends is not None
    if last is not None:
        for part, other in zip(found.anchor, last):
            part.add_(torch.where((full == 0)[:, None, None], other, 0))
    return found._replace(held=ends)


def _toward(held: list[Tensor], last: list[Tensor], rows: Tensor) -> None:
    for both, part in zip(held, last):
        both[:, : both.shape[1] // 2].add_(torch.where(rows[:, None, None], part, 0))


def _of_writing(
    chunk: int,
    inputs: list[Tensor],
    errors: list[Tensor],
    here: list[Tensor],
    share: Shares,
    flips: list[bool],
    ends: list[Tensor] | None,
    to_share: Shares,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """What weights and momentum after the chunk owe to inputs, errors and to those before it."""
    if ends is None:
        return (
            [torch.zeros_like(part) for part in inputs],
            [torch.zeros_like(part) for part in errors],
            [torch.zeros_like(part) for part in here],
        )
    left, mixing, to_mixing = share.left[chunk], share.mixing[chunk], to_share.mixing[chunk]
    to_inputs, to_errors, to_held = [], [], []
    for a, e, both, end, flip in zip(inputs, errors, here, ends, flips):
        small, large = (e, a) if flip else (a, e)
        lead = torch.bmm(large, end.mT)
        to_share.left[chunk].sub_(apart(small, lead))
        to_small = merge(lead, left).neg_()
        to_large = torch.bmm(double(small, left), end).neg_()
        to_inputs.append(to_large if flip else to_small)
        to_errors.append(to_small if flip else to_large)
        flat = end.reshape(len(end), 2, -1)
        add_product(to_mixing, flat, both.reshape(len(both), 2, -1).mT)
        to_held.append(torch.bmm(mixing.mT, flat).reshape(end.shape))
    return to_inputs, to_errors, to_held


def _of_reading(
    chunk: int,
    query: Tensor,
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
    to_share: Shares,
) -> Tensor:
    """What the reads owe to all that is added to, and to the queries, which comes back."""
    both, written = share.both[chunk], share.written[chunk]
    gates = [torch.sigmoid(asked[chunk]) for asked in kept.asked]
    hidden = [query] + [asked[chunk] * gate for asked, gate in zip(kept.asked, gates)]
    for layer in reversed(range(len(flips))):
        h, overlap = hidden[layer], kept.overlaps[layer][chunk]
        to_weight = torch.bmm(to_out, errors[layer].mT).neg_()
        to_share.written[chunk].addcmul_(to_weight, overlap)
        add_product(to_errors[layer], (overlap * written).mT, to_out, -1)
        to_overlap = to_weight.mul_(written)
        if flips[layer]:
            to_share.both[chunk].add_(apart(to_out, kept.halves[layer][chunk]))
            to_half = double(to_out, both)
            to_hidden = torch.bmm(to_half, here[layer])
            add_product(to_held[layer], to_half.mT, h)
        else:
            lead = torch.bmm(to_out, here[layer].mT)
            to_share.both[chunk].add_(apart(h, lead))
            to_hidden = merge(lead, both)
            add_product(to_held[layer], double(h, both).mT, to_out)
        add_product(to_hidden, to_overlap, inputs[layer])
        add_product(to_inputs[layer], to_overlap.mT, h)
        to_out = to_hidden.mul_(slope(h, gates[layer - 1])) if layer else to_hidden
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
