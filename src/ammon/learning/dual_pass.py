"""The dual form over all chunks of a text, with its gradient written out: the numbers of `DualForm`, in fewer and larger operations.

Keys, values and queries [chunk, row, time, dim], a row for each item and head. Of each matrix weights and momentum lie in one tensor
[row, 2 · narrow, wide], narrow the lesser of its two sizes, so that both are read, written and differentiated by one product.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ammon.learning.dual_form import Spread
from ammon.learning.fast_weights import soften


class Kept(NamedTuple):
    """What a gradient needs of each chunk, by layer; [chunk, row, ...]."""

    stored: list[Tensor]  # weights over momentum at its start
    fields: list[Tensor]  # of the keys, before SiLU; none of the last layer
    pulled: list[Tensor]  # errors of the keys before the slope of SiLU; of the last layer the error itself
    asked: list[Tensor]  # of the queries, before SiLU; none of the last layer
    overlaps: list[Tensor]  # of what queries and keys bring to a layer [time, token]
    halves: list[Tensor]  # what weights and momentum give apart, of matrices that are turned


class Pass(NamedTuple):
    """What comes out of all chunks."""

    read: Tensor
    anchor: list[Tensor]
    held: list[Tensor]  # of each matrix, weights over momentum
    kept: Kept


class Shares(NamedTuple):
    """`Spread` as it is used here; [chunk, row, ...]."""

    both: Tensor  # [time, 2]: of weights and of momentum before the chunk, in the weights at each token
    written: Tensor  # [time, token]: of each token's gradient, in the weights at each token
    left: Tensor  # [token, 2]: of each token's gradient, in weights and in momentum after the chunk
    mixing: Tensor  # [2, 2]: of weights and momentum before the chunk, in weights and in momentum after it


def shares(spread: Spread) -> Shares:
    """From a plan [chunk, row, ...]."""
    be, f, g, m, n = spread
    mixing = torch.stack([be[..., -1], f[..., -1], torch.zeros_like(m), m], -1).reshape(*m.shape, 2, 2)
    return Shares(torch.stack([be, f], -1), g, torch.stack([g[..., -1, :], n], -1), mixing)


def turned(matrix: Tensor) -> bool:
    """Whether a matrix [in, out] is kept as [out, in]: so that its lesser size is that of the rows."""
    return matrix.shape[-2] > matrix.shape[-1]


def turn(matrix: Tensor, flip: bool) -> Tensor:
    return matrix.mT if flip else matrix


def room(keys: Tensor, queries: Tensor | None, held: list[Tensor], flips: list[bool], keep: bool) -> Pass:
    """Tensors for what comes out. keep: with all that a gradient needs, else only what the next chunk does."""
    chunks, rows, time = keys.shape[:3]
    slots = chunks if keep else 1
    reads = slots if queries is not None else 0
    empty, sizes = keys.new_empty, [_sizes(both, flip) for both, flip in zip(held, flips)]
    kept = Kept(
        stored=[empty(chunks if keep else 2, *both.shape) for both in held],
        fields=[empty(slots, rows, time, out) for _, out in sizes[:-1]],
        pulled=[empty(slots, rows, time, out) for _, out in sizes],
        asked=[empty(reads, rows, time, out) for _, out in sizes[:-1]],
        overlaps=[empty(reads, rows, time, time) for _ in sizes],
        halves=[empty(reads if flip else 0, rows, time, 2 * out) for (_, out), flip in zip(sizes, flips)],
    )
    return Pass(
        read=empty(chunks if queries is not None else 0, rows, time, sizes[-1][1]),
        anchor=[empty(rows, both.shape[1] // 2, both.shape[2]) for both in held],
        held=[torch.empty_like(both) for both in held],
        kept=kept,
    )


def run(
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None,
    share: Shares,
    anchor: list[Tensor],
    held: list[Tensor],
    flips: list[bool],
    full: Tensor,
    least: int,
    limit: float | None,
    keep: bool,
) -> Pass:
    """All chunks in order. full [row]: chunks that each row fills, `least` at the least; its last anchor is what it holds after them.

    keep: for a gradient.
    """
    chunks, depth = len(keys), len(held)
    made = room(keys, queries, held, flips, keep)
    kept = made.kept
    for stored, both, last, first in zip(kept.stored, held, made.anchor, anchor):
        stored[0] = both
        last.copy_(first)
    for chunk in range(chunks):
        at, now, then = (chunk, chunk, chunk + 1) if keep else (0, chunk % 2, (chunk + 1) % 2)
        here = [both[now] for both in kept.stored]
        base = [both[:, : both.shape[1] // 2] for both in here] if chunk else anchor
        inputs, gates, errors = [keys[chunk]], [], []
        for layer in range(depth - 1):
            field = torch.bmm(inputs[-1], turn(base[layer], flips[layer]), out=kept.fields[layer][at])
            gates.append(torch.sigmoid(field))
            inputs.append(field * gates[-1])
        # 2 (a A - v)
        error = torch.baddbmm(values[chunk], inputs[-1], turn(base[-1], flips[-1]), beta=-2, alpha=2, out=kept.pulled[-1][at])
        errors.append(error)
        for layer in reversed(range(depth - 1)):
            pull = torch.bmm(error, turn(base[layer + 1], not flips[layer + 1]), out=kept.pulled[layer][at])
            error = pull * slope(inputs[layer + 1], gates[layer])
            errors.insert(0, error)
        if limit is not None:
            factor = soften(squares(inputs, errors), limit)
            errors = [error * factor for error in errors]
        if queries is not None:
            two, hidden = share.both[chunk], queries[chunk]
            for layer in range(depth):
                out = kept.asked[layer][at] if layer < depth - 1 else made.read[chunk]
                overlap = torch.bmm(hidden, inputs[layer].mT, out=kept.overlaps[layer][at])
                if flips[layer]:
                    half = torch.bmm(hidden, here[layer].mT, out=kept.halves[layer][at])
                    merge(half, two, out=out)
                else:
                    torch.bmm(double(hidden, two), here[layer], out=out)
                add_product(out, overlap * share.written[chunk], errors[layer], -1)
                if layer < depth - 1:
                    hidden = out * torch.sigmoid(out)
        for layer in range(depth):
            after = kept.stored[layer][then] if chunk < chunks - 1 else made.held[layer]
            narrow = here[layer].shape[1] // 2
            torch.bmm(share.mixing[chunk], here[layer].reshape(len(after), 2, -1), out=after.view(len(after), 2, -1))
            small, large = (errors, inputs) if flips[layer] else (inputs, errors)
            add_product(after, double(small[layer], share.left[chunk]).mT, large[layer], -1)
            if chunk + 1 >= least:
                ended = (full == chunk + 1)[:, None, None]
                torch.where(ended, after[:, :narrow], made.anchor[layer], out=made.anchor[layer])
    return made


def add_product(to: Tensor, one: Tensor, other: Tensor, sign: int = 1) -> None:
    """to += sign · one @ other, in place; not as `baddbmm_`, which torch's FlopCounterMode does not know."""
    torch.baddbmm(to, one, other, alpha=sign, out=to)


def double(rows: Tensor, two: Tensor) -> Tensor:
    """[rows · two₀, rows · two₁]: [row, time, dim] and [row, time, 2] → [row, time, 2 · dim]."""
    return (rows.unsqueeze(-2) * two.unsqueeze(-1)).flatten(-2)


def merge(both: Tensor, two: Tensor, out: Tensor | None = None) -> Tensor:
    """first · two₀ + second · two₁ of both = [first, second]: [row, time, 2 · dim] → [row, time, dim]."""
    first, second = both.chunk(2, -1)
    return torch.mul(first, two[..., :1], out=out).addcmul_(second, two[..., 1:])


def apart(rows: Tensor, both: Tensor) -> Tensor:
    """Inner products of rows [row, time, dim] with each half of both [row, time, 2 · dim]: [row, time, 2]."""
    return (both.reshape(*rows.shape[:-1], 2, -1) * rows.unsqueeze(-2)).sum(-1)


def slope(active: Tensor, gate: Tensor) -> Tensor:
    """silu' = σ + z σ (1 - σ) of active = z σ and gate = σ."""
    return torch.addcmul(gate, active, gate, value=-1).add_(active)


def squares(inputs: list[Tensor], errors: list[Tensor]) -> Tensor:
    """|u|² of each token's gradient, the sum over layers of |a|² |δ|²: [row, time, 1]."""
    parts = [a.square().sum(-1, keepdim=True) * e.square().sum(-1, keepdim=True) for a, e in zip(inputs, errors)]
    return torch.stack(parts).sum(0)


def _sizes(both: Tensor, flip: bool) -> tuple[int, int]:
    """in, out."""
    narrow, wide = both.shape[1] // 2, both.shape[2]
    return (wide, narrow) if flip else (narrow, wide)
