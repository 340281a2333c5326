"""Asynchronous recall in a dense memory: whole sweeps at once, against one unit after the other.

The plain way computes the full energy of both values of each unit, as the formula says. The careful way keeps the overlaps of
the state with the patterns and pays O(N) per unit: the best that a loop over units does.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

import ammon as am
from ammon.parts.corruption import Flip
from benchmarks.report import Report, Row
from benchmarks.timing import Unequal, here, race

PATTERNS, DIM, N = 2_000, 500, 3
Found = tuple[Tensor, Tensor]  # states [batch, dim], sweeps [batch]


def ours(memory: am.Memory, cues: Tensor) -> Found:
    found = memory.recall(cues)
    if not bool(found.converged.all()):
        raise Unequal("asynchronous_recall: a cue did not reach its fixed point.")
    return found.state, found.steps


def plain(patterns: Tensor, cues: Tensor) -> Found:
    """Each unit in turn: E = -Σ (Ξs)³ of both its values, in full, for all cues in one matrix product."""

    def sweep(state: Tensor) -> Tensor:
        batch = len(state)
        both = torch.cat([state, state])
        for unit in range(state.shape[1]):
            both[:batch, unit], both[batch:, unit] = 1.0, -1.0
            energy = -(both @ patterns.T).pow_(N).sum(-1)
            both[:, unit] = torch.where(energy[:batch] <= energy[batch:], 1.0, -1.0).repeat(2)
        return both[:batch]

    return _until_still(sweep, cues)


def careful(patterns: Tensor, cues: Tensor) -> Found:
    """Each unit in turn, by overlaps that are kept up to date."""
    columns = patterns.T.contiguous()

    def sweep(state: Tensor) -> Tensor:
        state = state.clone()
        overlaps = state @ columns
        for unit, column in enumerate(columns):
            old = state[:, unit]
            others = overlaps - old.unsqueeze(-1) * column
            up, down = others + column, others - column
            new = torch.where(up.pow(N).sum(-1) >= down.pow(N).sum(-1), 1.0, -1.0).to(state.dtype)
            overlaps = torch.where(new.unsqueeze(-1) > 0, up, down)
            state[:, unit] = new
        return state

    return _until_still(sweep, cues)


def measure(quick: bool, threads: int) -> Report:
    generator = torch.Generator().manual_seed(0)
    patterns = am.random_patterns(PATTERNS, DIM, generator=generator, dtype=torch.float64)
    memory = am.dense(DIM, n=N)
    memory.write(patterns)
    rows, sweeps, rounds = [], [], 2 if quick else 5
    for flipped in (0.1,) if quick else (0.1, 0.2):
        for batch, target in ((1, 100.0), (64, 20.0)):
            cues = Flip(flipped)(patterns[:batch], generator=generator)
            ways = {
                "ours": here(partial(ours, memory, cues)),
                "plain": here(partial(plain, patterns, cues)),
                "careful": here(partial(careful, patterns, cues)),
            }
            found: list[str] = []
            timings = race(ways, partial(_check, patterns[:batch], found), repeats=rounds)
            work = f"{batch} cue{'s' * (batch > 1)}, {flipped:.0%} flipped"
            sweeps.append(f"{work}: {found[0]}")
            rows += [
                Row(work, timings["ours"], "energy of both values, in full", timings["plain"], "gain", target),
                Row(work, timings["ours"], "loop with kept overlaps", timings["careful"]),
            ]
    return Report(
        f"Asynchronous recall, dense memory n = {N}",
        rows,
        f"N = {PATTERNS:,} random ±1 patterns, D = {DIM}, float64, to the fixed point, units in turn, the last sweep flips nothing; "
        f"{threads} threads, one process; 3 to {rounds} turns each; median (least), least processor time.",
        [f"Final states and numbers of sweeps are identical in all three ways. {'; '.join(sweeps)}."],
    )


def _until_still(sweep: Any, cues: Tensor) -> Found:
    """Sweep until nothing flips; a cue that has settled takes no further part, as in ours."""
    state, count = cues.clone(), torch.zeros(len(cues), dtype=torch.int64)
    rows = torch.arange(len(cues))
    while len(rows):
        new = sweep(state[rows])
        moved = (new != state[rows]).any(-1)
        state[rows] = new
        count[rows] += 1
        rows = rows[moved]
    return state, count


def _check(patterns: Tensor, found: list[str], results: dict[str, Found]) -> None:
    state, sweeps = results["ours"]
    for name, (other, others_sweeps) in results.items():
        if not torch.equal(state, other):
            different = int((state != other).any(-1).sum())
            raise Unequal(f"asynchronous_recall: {name} ends in another state for {different} of {len(state)} cues.")
        if not torch.equal(sweeps, others_sweeps):
            raise Unequal(f"asynchronous_recall: {name} took {others_sweeps.tolist()} sweeps, ours {sweeps.tolist()}.")
    right = int((state == patterns).all(-1).sum())
    found.append(f"{int(sweeps.min())} to {int(sweeps.max())} sweeps, {right} of {len(state)} patterns recalled")
