"""Settle: apply an update until each item of the batch stops. The one recall loop of the library.

An item stops when its largest change in one step is at most the tolerance, or when it returns to where it was two steps ago (a
2-cycle). From then on it is left alone, so its answer does not depend on its batch mates. States [batch, ...].
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ammon.dynamics.implicit import implicit

# update(state of the rows, rows [index] of the batch) -> new state of the rows
Update = Callable[[Tensor, Tensor], Tensor]
# judge(new, old, the state before old or None, rows [index]) -> which items are still, which have come back
Judge = Callable[[Tensor, Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]
Differentiate = Literal["unroll", "truncated", "implicit"]


@dataclass(frozen=True)
class Recall:
    """What settling gives, item by item."""

    state: Tensor  # [batch, dim]; after hetero-association the value, [batch, value_dim]
    steps: Int[Tensor, " batch"]  # updates that were made
    converged: Bool[Tensor, " batch"]  # the last one changed nothing beyond the tolerance
    cycled: Bool[Tensor, " batch"]  # it returned to the state of two steps ago
    trajectory: Tensor | None = None  # [step + 1, batch, dim], the cue first, if asked for


class Settling(TypedDict, total=False):
    """How to settle: what every `recall` takes."""

    steps: int  # at most so many updates; the memory's own number by default
    tolerance: float  # largest change of an entry that counts as none, in units of the state; eps^(3/4) of its dtype by default
    clamp: Bool[Tensor, "batch dim"]  # True: this entry of the cue is known and stays
    generator: torch.Generator  # draws the order of asynchronous updates; without one they go in turn
    keep: bool  # keep the trajectory
    differentiate: Differentiate  # how gradients pass


def settle(
    update: Update,
    cue: Tensor,
    *,
    read: Callable[[Tensor], Tensor] | None = None,
    judge: Judge | None = None,
    through: Update | None = None,
    steps: int,
    tolerance: float | None = None,
    clamp: Tensor | None = None,
    generator: torch.Generator | None = None,
    keep: bool = False,
    differentiate: Differentiate = "unroll",
) -> Recall:
    """Apply `update` to the cue at most `steps` times, item by item until it stops.

    read: the last step reads by this function instead of updating, all items alike; the trajectory is then that of the steps before.
    judge: says which items have stopped; by default the change of their entries says it.
    through: the map that gradients pass through where they do not pass through every step; the update itself by default.
    generator: taken so that one `Settling` travels whole; it is the update that draws from it.
    differentiate: "unroll" passes gradients through every step; "truncated" through the last one only (the others are made
    without a graph); "implicit" through the fixed point itself, at the cost of one linear solve in the backward pass and no
    memory per step; it warns where an item did not converge, since the gradient is then that of no fixed point.
    """
    if steps < 1:
        raise ValueError(f"settle: steps must be at least 1, got {steps}.")
    if tolerance is None:
        tolerance = default_tolerance(cue.dtype)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"settle: tolerance must be >= 0 and finite, got {tolerance}.")
    if clamp is not None and (clamp.shape != cue.shape or clamp.dtype != torch.bool):
        raise ValueError(
            f"settle: clamp must be a bool tensor of the cue's shape {list(cue.shape)}, got {clamp.dtype} {list(clamp.shape)}."
        )

    def clamped(update: Update) -> Update:
        if clamp is None:
            return update
        return lambda state, rows: torch.where(clamp[rows], cue[rows], update(state, rows))

    if differentiate not in ("unroll", "truncated", "implicit"):
        raise ValueError(f'settle: differentiate must be "unroll", "truncated" or "implicit", got {differentiate!r}.')
    maps = clamped(update), clamped(through or update)
    judge = judge or changes(tolerance)
    if read is None:
        return _settle(*maps, cue, steps, judge, keep, differentiate)
    found = _settle(*maps, cue, steps - 1, judge, keep, differentiate)
    return replace(found, state=read(found.state), steps=found.steps + 1)


def default_tolerance(dtype: torch.dtype) -> float:
    """The change of an entry that counts as none: eps^(3/4), far above rounding and far below any difference that matters."""
    return float(torch.finfo(dtype).eps ** 0.75)


def _settle(update: Update, through: Update, cue: Tensor, steps: int, judge: Judge, keep: bool, differentiate: Differentiate) -> Recall:
    if differentiate == "unroll" or not steps:
        return _iterate(update, cue, steps, judge, keep)[0]
    with torch.no_grad():
        found, last = _iterate(update, cue, steps, judge, keep)
    everyone = torch.arange(len(cue), device=cue.device)
    if differentiate == "truncated":
        return replace(found, state=through(last, everyone))
    if torch.is_grad_enabled() and not bool(found.converged.all()):
        lost = int((~found.converged).sum())
        warnings.warn(
            f"settle: {lost} of {len(cue)} items did not converge in {steps} steps; their implicit gradient is wrong.", stacklevel=2
        )
    return replace(found, state=implicit(lambda x: through(x, everyone), found.state))


def _iterate(update: Update, cue: Tensor, steps: int, judge: Judge, keep: bool) -> tuple[Recall, Tensor]:
    """The record, and for each item the state to which its last update was applied."""
    state, last = cue, cue.detach()
    count = torch.zeros(len(cue), dtype=torch.int64, device=cue.device)
    converged = torch.zeros(len(cue), dtype=torch.bool, device=cue.device)
    cycled = converged.clone()
    rows = torch.arange(len(cue), device=cue.device)
    seen = [cue]
    for step in range(steps):
        if not len(rows):
            break
        everyone = len(rows) == len(cue)
        old = state if everyone else state[rows]
        new = update(old, rows)
        with torch.no_grad():
            still, back = judge(new, old, None if not step else last if everyone else last[rows], rows)
            last = old.detach() if everyone else last.index_copy(0, rows, old.detach())
        state = new if everyone else state.index_copy(0, rows, new)
        if keep:
            seen.append(state)
        stops = still | back
        if everyone:
            count += 1
        else:
            count[rows] += 1
        if bool(stops.any()):
            converged[rows], cycled[rows] = still, back
            rows = rows[~stops]
    return Recall(state, count, converged, cycled, torch.stack(seen) if keep else None), last


def changes(tolerance: float, watch: Update | None = None) -> Judge:
    """An item is still when no entry changed by more than `tolerance`, and has come back when none differs from the state before the last.

    watch: what of a state must come to rest, of the same arguments as an update; by default the state itself.
    """

    def judge(new: Tensor, old: Tensor, before: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        if watch is not None:
            new, old, before = watch(new, rows), watch(old, rows), None if before is None else watch(before, rows)
        still = largest_change(new, old) <= tolerance
        return still, torch.zeros_like(still) if before is None else ~still & (largest_change(new, before) <= tolerance)

    return judge


def largest_change(new: Tensor, old: Tensor) -> Tensor:
    """The largest change of an entry, item by item [batch]."""
    return (new - old).abs().flatten(1).amax(-1)
