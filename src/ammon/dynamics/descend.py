"""Descend: let the states of an energy network fall to rest, each item of the batch until it stops. Recall of a network.

States: a dict of [batch, *shape], layer by layer. The loop, its stopping and its gradients are those of `settle`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ammon.dynamics.backtracking import Adaptive
from ammon.dynamics.integrators import Integrator, Motion
from ammon.dynamics.packed import Clamp, Flow, Layers, Packed
from ammon.dynamics.settle import Differentiate, Judge, default_tolerance, largest_change, settle

# a state that is so near to the one before the last, as a share of the last change, is that state
SAME = 1e-3


@dataclass(frozen=True)
class Descent:
    """What descending gives, item by item."""

    states: dict[str, Tensor]  # x of each layer [batch, *shape]
    activations: dict[str, Tensor]  # g = dL/dx of each layer [batch, *shape]
    steps: Int[Tensor, " batch"]  # that were made
    converged: Bool[Tensor, " batch"]  # no free entry of dE/dg was larger than the tolerance
    stalled: Bool[Tensor, " batch"]  # stopped without: it came back to the state of two steps ago, or no step led down
    trajectory: dict[str, Tensor] | None = None  # [step + 1, batch, *shape], the cue first, if asked for


def descend(
    network: Flow,
    states: Layers,
    *,
    integrator: Integrator | None = None,
    steps: int = 200,
    tolerance: float | None = None,
    clamp: Clamp | None = None,
    generator: torch.Generator | None = None,
    keep: bool = False,
    differentiate: Differentiate = "unroll",
) -> Descent:
    """Let the states fall until each item rests, for at most so many steps.

    integrator: `Adaptive()` by default, under which the energy never rises; or `Euler`, `Momentum`, `FixedPoint`, `Langevin`.
    tolerance: the largest entry of dE/dg = x - input that counts as none, in units of the states; eps^(3/4) of the dtype by default.
    clamp: layer → True (all of it stays), or a bool tensor [*shape] or [batch, *shape], True where the cue is known and stays.
    differentiate: as in `settle`: "unroll", "truncated" or "implicit"; the lengths that Adaptive chose are constants to it.
    FloatingPointError if a state is no longer finite.
    """
    network.check_states("descend", states)
    unknown = [name for name in clamp or () if name not in network.shapes]
    if unknown:
        raise ValueError(f"descend: clamp names {unknown[0]!r}, which is no layer; the layers are {', '.join(network.shapes)}.")
    integrator = integrator or Adaptive()
    field = Packed(network, states, clamp, keep)
    if not _finite(field.cue):
        raise ValueError("descend: the states hold NaN or infinite entries; clean the cue first, e.g. torch.nan_to_num.")
    motion = integrator.begin(field, generator)
    everyone = torch.arange(len(field.cue), device=field.cue.device)
    cue = motion.start(field.follow(field.cue, everyone))
    tolerance = default_tolerance(cue.dtype) if tolerance is None else tolerance
    found = settle(
        motion.step,
        cue,
        judge=_judge(field, motion, tolerance, integrator),
        through=_fixed_point(field, motion) if differentiate == "implicit" else _last_step(field, motion),
        steps=steps,
        tolerance=tolerance,
        keep=keep,
        differentiate=differentiate,
    )
    _check_finite(field, found.state, everyone, int(found.steps.max()) if len(everyone) else 0, integrator)
    units = field.cue.shape[1]
    last = field.unpack(found.state[..., :units])
    trajectory = None if found.trajectory is None else field.unpack(found.trajectory[..., :units])
    return Descent(last, network.activations(last), found.steps, found.converged, found.cycled, trajectory)


def _judge(field: Packed, motion: Motion, tolerance: float, integrator: Integrator) -> Judge:
    done, seen = 0, list[Tensor]()

    def judge(new: Tensor, old: Tensor, before: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal done, seen
        done += 1
        if not len(rows):
            return rows.bool(), rows.bool()
        # rows far apart are slow to read: as long as they are the same ones, what was read of old states serves again
        if not seen or seen[0].shape[1] != len(rows):
            seen = [field.some(x) for x in (old, before) if x is not None]
        seen = [field.some(new), *seen[:2]]
        few, change = seen[0], _far(seen[0], seen[1])
        least, most = (float(end) for end in change.aminmax())
        if not math.isfinite(most):
            _check_finite(field, new, rows, done, integrator)
        still = motion.still(tolerance, least - field.rounding * float(few.abs().amax()))
        # most rows went farther than any that came back
        since = _far(few, seen[2]) if len(seen) > 2 else None
        if least and (since is None or float(torch.add(since, change, alpha=-SAME).amin()) > 0):
            return still, torch.zeros_like(still)
        back = _came_back(largest_change(new, old), None if before is None else largest_change(new, before), tolerance)
        return still, ~still & back

    return judge


def _came_back(change: Tensor, since: Tensor | None, tolerance: float) -> Tensor:
    """No change at all, or one that is taken back by the next: far more exactly than by a swing that dies away."""
    stuck = change == 0
    return stuck if since is None else stuck | ((since <= SAME * change) & (since <= tolerance))


def _far(new: Tensor, old: Tensor) -> Tensor:
    """The largest change of these units [unit, row], row by row."""
    return (new - old).abs_().amax(0)


def _check_finite(field: Packed, new: Tensor, rows: Tensor, done: int, integrator: Integrator) -> None:
    x = new[:, : field.cue.shape[1]].detach()
    if _finite(x):
        return
    lost = ~torch.isfinite(x).all(-1)
    item = int(lost.nonzero()[0])
    name = next(name for name, layer in field.unpack(x[item]).items() if not bool(torch.isfinite(layer).all()))
    raise FloatingPointError(
        f"descend: the state of {name!r} is no longer finite in item {int(rows[item])} after step {done}; {integrator} diverges on "
        "this network. Take a shorter step, or Adaptive(), under which the energy never rises; check_lyapunov tells whether it can."
    )


def _finite(x: Tensor) -> bool:
    """Whether all entries are; their sum mostly tells, in one pass."""
    return math.isfinite(float(x.detach().sum())) or bool(torch.isfinite(x).all())


def _last_step(field: Packed, motion: Motion) -> Callable[[Tensor, Tensor], Tensor]:
    """The last step again, what is clamped taken from the cue, so that gradients reach it."""

    def last_step(state: Tensor, rows: Tensor) -> Tensor:
        units = field.cue.shape[1]
        return motion.again(torch.cat([field.known(state[:, :units], rows), state[:, units:]], -1), rows)

    return last_step


def _fixed_point(field: Packed, motion: Motion) -> Callable[[Tensor, Tensor], Tensor]:
    """x → what feeds it, at rest the state itself, whatever the integrator."""

    def fixed_point(state: Tensor, rows: Tensor) -> Tensor:
        x = state[:, : field.cue.shape[1]]
        fed = field.pack(field.flow.forces(field.flow.activations(field.unpack(x))))
        return motion.start(field.known(fed, rows))

    return fixed_point
