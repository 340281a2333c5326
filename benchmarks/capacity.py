"""Capacity of a Hopfield network: all trials of a load in matrix products, against a loop over trials, cues and units; and two workers.

The plain way draws the same patterns and cues and computes the field on each unit from all patterns, as the formula says. It is run on
some loads and trials of the grid, and takes as long for the others of the same load.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import ammon as am
from ammon.analysis.criteria import recalled
from ammon.experiments import capacity
from ammon.experiments.grid import name_of, points, seed_of
from ammon.experiments.trials import recall_trials
from benchmarks.report import Report, Row
from benchmarks.timing import Samples, Timing, Turn, Unequal, here

DIM, LOADS, TRIALS, SEED = 1000, 40, 20, 0
# every so many loads, and so many trials of each, are done in the plain way too
EVERY, PLAIN_TRIALS = 8, 1


def measure(quick: bool, threads: int) -> Report:
    loads = 8 if quick else LOADS
    grid: dict[str, Any] = {"dim": [200 if quick else DIM], "load": [f"0.005:0.2:{loads}"], "flips": [0.0]}
    torch.set_num_threads(1)
    try:
        # warm: processes that have imported torch
        capacity.run(grid={**grid, "dim": [50]}, trials=2, workers=threads)
        one = [here(lambda: capacity.run(grid=grid, trials=TRIALS, seed=SEED, workers=1))() for _ in range(1 if quick else 2)]
        two = [here(lambda: capacity.run(grid=grid, trials=TRIALS, seed=SEED, workers=2))() for _ in range(1 if quick else 2)]
        if not one[0].result.equals(two[0].result):
            raise Unequal("capacity: two workers gave other rows than one.")
        slow = _plain(grid, one[0].result)
    finally:
        torch.set_num_threads(threads)
    cues = one[0].result.column("asked").to_pylist()
    rows = [
        Row(f"{loads} loads × {TRIALS} trials, {sum(cues):,} recalls, one worker", _timing(one), "loop, extrapolated", slow, "gain", 50.0),
        Row("the same, two workers", _timing(two), "one worker", _timing(one), "gain", 1.7),
    ]
    return Report(
        f"Capacity experiment, Hopfield network, D = {grid['dim'][0]}",
        rows,
        f"K/D from .005 to .2, {TRIALS} networks a load, 10 stored patterns of each as cues, units in turn to the fixed point or 50 "
        "sweeps, float32; one thread a worker, workers started before.",
        [
            f"The loop: {PLAIN_TRIALS} trial of every {EVERY}th load, the time of each taken for the {EVERY} × {TRIALS // PLAIN_TRIALS} "
            "like it. Final states and numbers of sweeps are identical in both ways, and so is every row of one and two workers.",
        ],
    )


def _plain(grid: dict[str, Any], table: Any) -> Samples:
    """Seconds that the loop would take for the whole grid, after its answers have been compared."""
    asked, seconds = points(capacity.EXPERIMENT, grid, None, TRIALS), 0.0
    for place in range(EVERY // 2, len(asked), EVERY):
        point, count = asked[place], table.column("patterns")[place].as_py()
        generator = torch.Generator().manual_seed(seed_of(name_of("capacity", point, SEED)))
        trials = list(
            recall_trials(
                point, count, TRIALS, int(point["cues"]), generator, make=lambda dim: am.hopfield(dim), flips=[float(point["flips"])]
            )
        )
        right = sum(int(recalled(trial.state, trial.target, str(point["criterion"])).sum()) for trial in trials)
        if right != round(table.column("rate")[place].as_py() * table.column("asked")[place].as_py()):
            raise Unequal(f"capacity: {right} cues are recalled at K = {count}, the experiment has another rate.")
        for trial in trials[:PLAIN_TRIALS]:
            turn = here(lambda trial=trial: list(_loop(trial.memory.keys.rows, trial.cue)))()  # type: ignore[misc]
            for (state, sweeps), ours, steps in zip(turn.result, trial.found.state, trial.found.steps):
                if not torch.equal(state, ours) or sweeps != int(steps):
                    raise Unequal(f"capacity: at K = {count} the loop ends elsewhere, or after {sweeps} sweeps instead of {int(steps)}.")
            seconds += turn.wall * EVERY * TRIALS / PLAIN_TRIALS
    return Samples((seconds,))


def _loop(patterns: Tensor, cues: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Cue by cue and unit by unit, the field computed in full: h = Σ ξ_i (ξ·s) - K s_i."""
    columns, count = patterns.T.contiguous(), len(patterns)
    for cue in cues:
        state, sweeps, moved = cue.clone(), 0, True
        while moved and sweeps < 50:
            before = state.clone()
            for unit in range(len(state)):
                field = columns[unit] @ (patterns @ state) - count * state[unit]
                state[unit] = 1.0 if field >= 0 else -1.0
            moved, sweeps = not torch.equal(before, state), sweeps + 1
        yield state, sweeps


def _timing(turns: list[Turn]) -> Timing:
    return Timing(Samples(tuple(turn.wall for turn in turns)), Samples(tuple(turn.cpu for turn in turns)), turns[0].wall)
