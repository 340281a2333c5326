"""The dual form over all chunks of a text, with its gradient written out: the numbers of `DualForm`, in fewer and larger operations.

Keys, values and queries [chunk, row, time, dim], a row for each item and head. Of each matrix weights and momentum lie in one tensor
[row, 2 · narrow, wide], narrow the lesser of its two sizes, so that both are read, written and differentiated by one product.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ammon.learning.dual_form import Spread
from ammon.learning.fast_weights import soften


class Kept(NamedTuple):
    """What a gradient needs of a chunk, by layer."""

    fields: list[Tensor]  # of the keys, before SiLU; none of the last layer
    pulled: list[Tensor]  # errors of the keys before the slope of SiLU; of the last layer the error itself
    asked: list[Tensor]  # of the queries, before SiLU; none of the last layer
    overlaps: list[Tensor]  # of what queries and keys bring to a layer [time, token]
    halves: list[Tensor]  # what weights and momentum give apart, of matrices that are turned


class Step(NamedTuple):
    """What comes out of one chunk."""

    read: Tensor | None
    after: list[Tensor]  # of each matrix, weights over momentum
    kept: Kept


class Pass(NamedTuple):
    """What comes out of all chunks."""

    read: Tensor | None
    anchor: list[Tensor]
    held: list[Tensor]  # of each matrix, weights over momentum
    stored: list[list[Tensor]]  # the same at the start of each chunk after the first
    kept: list[Kept]


class Shares(NamedTuple):
    """`Spread` as it is used here; [chunk, row, ...]."""

    both: Tensor  # [time, 2]: of weights and of momentum before the chunk, in the weights at each token
    written: Tensor  # [time, token]: of each token's gradient, in the weights at each token
    left: Tensor  # [token, 2]: of each token's gradient, in weights and in momentum after the chunk
    mixing: Tensor  # [2, 2]: of weights and momentum before the chunk, in weights and in momentum after it

    def of(self, chunk: int) -> "Shares":
        return Shares(*(part[chunk] for part in self))


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


def weights_of(both: Tensor) -> Tensor:
    """The upper half."""
    return both[:, : both.shape[1] // 2]


class Given(NamedTuple):
    """What the pass takes, and its gradient again. full [row]: chunks that each row fills, `least` at the least."""

    keys: Tensor
    values: Tensor
    queries: Tensor | None
    share: Shares
    anchor: list[Tensor]
    held: list[Tensor]
    flips: list[bool]
    full: Tensor
    least: int
    limit: float | None
    compiled: bool


def run(given: Given, keep: bool) -> Pass:
    """All chunks in order; the last anchor of a row is what it holds after those that it fills. keep: for a gradient."""
    keys, values, queries, share, anchor, held, flips, full, least, limit, compiled = given
    read: list[Tensor] = []
    made = Pass(None, anchor, held, [], [])
    take = once(step, compiled)
    for chunk in range(len(keys)):
        here = made.held
        base = [weights_of(both) for both in here] if chunk else anchor
        some = None if queries is None else queries[chunk]
        found = take(keys[chunk], values[chunk], some, share.of(chunk), base, here, flips, limit)
        if found.read is not None:
            read.append(found.read)
        if keep:
            made.kept.append(found.kept)
            if chunk:
                made.stored.append(here)
        last = made.anchor
        if chunk + 1 >= least:
            ended = (full == chunk + 1)[:, None, None]
            last = [torch.where(ended, weights_of(both), before) for both, before in zip(found.after, last)]
        made = made._replace(anchor=last, held=found.after)
    # as it lies in the text, so that its chunks need not be put together
    return made._replace(read=torch.stack(read, 1).transpose(0, 1) if read else None)


def step(
    keys: Tensor,
    values: Tensor,
    queries: Tensor | None,
    share: Shares,
    base: list[Tensor],
    here: list[Tensor],
    flips: list[bool],
    limit: float | None,
) -> Step:
    """One chunk that begins with `here` and whose surprise is measured at the weights `base`."""
    depth = len(here)
    inputs, gates, fields = [keys], [], []
    for layer in range(depth - 1):
        fields.append(torch.bmm(inputs[-1], turn(base[layer], flips[layer])))
        gates.append(torch.sigmoid(fields[-1]))
        inputs.append(fields[-1] * gates[-1])
    # 2 (a A - v)
    error = torch.baddbmm(values, inputs[-1], turn(base[-1], flips[-1]), beta=-2, alpha=2)
    errors, pulled = [error], [error]
    for layer in reversed(range(depth - 1)):
        pulled.insert(0, torch.bmm(errors[0], turn(base[layer + 1], not flips[layer + 1])))
        errors.insert(0, pulled[0] * slope(inputs[layer + 1], gates[layer]))
    if limit is not None:
        factor = soften(squares(inputs, errors), limit)
        errors = [error * factor for error in errors]
    asked: list[Tensor] = []
    overlaps: list[Tensor] = []
    halves: list[Tensor] = []
    hidden = queries
    if hidden is not None:
        for layer in range(depth):
            if layer:
                asked.append(hidden)
                hidden = functional.silu(hidden)
            overlaps.append(torch.bmm(hidden, inputs[layer].mT))
            if flips[layer]:
                halves.append(torch.bmm(hidden, here[layer].mT))
                out = merge(halves[-1], share.both)
            else:
                out = torch.bmm(double(hidden, share.both), here[layer])
            hidden = add_product(out, overlaps[-1] * share.written, errors[layer], -1)
    after = []
    for layer in range(depth):
        small, large = (errors, inputs) if flips[layer] else (inputs, errors)
        mixed = torch.bmm(share.mixing, here[layer].reshape(len(keys), 2, -1)).view(here[layer].shape)
        after.append(add_product(mixed, double(small[layer], share.left).mT, large[layer], -1))
    return Step(hidden, after, Kept(fields, pulled, asked, overlaps, halves))


@cache
def once(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    """The function, compiled or as it is."""
    return torch.compile(function, fullgraph=True, dynamic=False) if compiled else function


def add_product(to: Tensor, one: Tensor, other: Tensor, sign: int = 1) -> Tensor:
    """to + sign · one @ other, in the place of `to`; not as `baddbmm_`, which torch's FlopCounterMode does not know."""
    if torch.compiler.is_compiling():
        # the compiler adds on the way to the next operation, and would copy for a sum in place
        return torch.add(to, torch.bmm(one, other), alpha=sign)
    return torch.baddbmm(to, one, other, alpha=sign, out=to)


def double(rows: Tensor, two: Tensor) -> Tensor:
    """[rows · two₀, rows · two₁]: [row, time, dim] and [row, time, 2] → [row, time, 2 · dim]."""
    return (rows.unsqueeze(-2) * two.unsqueeze(-1)).flatten(-2)


def merge(both: Tensor, two: Tensor) -> Tensor:
    """first · two₀ + second · two₁ of both = [first, second]: [row, time, 2 · dim] → [row, time, dim]."""
    first, second = both.chunk(2, -1)
    return torch.mul(first, two[..., :1]).addcmul_(second, two[..., 1:])


def apart(rows: Tensor, both: Tensor) -> Tensor:
    """Inner products of rows [row, time, dim] with each half of both [row, time, 2 · dim]: [row, time, 2]."""
    return (both.reshape(*rows.shape[:-1], 2, -1) * rows.unsqueeze(-2)).sum(-1)


def slope(active: Tensor, gate: Tensor) -> Tensor:
    """silu' = σ + z σ (1 - σ) of active = z σ and gate = σ."""
    return torch.lerp(active, torch.ones((), dtype=active.dtype, device=active.device), gate)


def squares(inputs: list[Tensor], errors: list[Tensor]) -> Tensor:
    """|u|² of each token's gradient, the sum over layers of |a|² |δ|²: [row, time, 1]."""
    parts = [a.square().sum(-1, keepdim=True) * e.square().sum(-1, keepdim=True) for a, e in zip(inputs, errors)]
    return torch.stack(parts).sum(0)
