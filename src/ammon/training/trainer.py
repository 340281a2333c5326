"""Trainer: one loop for all that is trained by gradient. Rows of metrics as they come; a training found in the folder goes on.

`loss(model, moment)` gives the mean loss of one batch, and what else should be reported. All randomness comes from the seed of the plan and
the step, so a training that was interrupted gives the same numbers as one that was not.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ammon.training.checkpoints import Carrying, Progress, load_checkpoint, save_checkpoint
from ammon.training.metrics import Row, append_row, read_rows, write_rows
from ammon.training.parallel import any_of, gathered, mean_over, processes, rows_of, shared
from ammon.training.plan import Plan

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"


@dataclass(frozen=True)
class Moment:
    """Where a training is when a batch is drawn."""

    step: int  # the first is 0
    generator: torch.Generator  # the same in every process
    rank: int = 0
    world: int = 1

    def mine(self, rows: Tensor) -> Tensor:
        """The rows of a batch [batch, ...] that this process takes; all of them if there is one process."""
        return rows_of(rows, self.rank, self.world)


# the mean loss of a batch, alone or with numbers to report
Loss = Callable[[nn.Module, Moment], Tensor | tuple[Tensor, Mapping[str, Tensor | float]]]
# of the model in eval mode, without gradients; reported as held_loss, held_accuracy, ...
Measure = Callable[[nn.Module], Mapping[str, float]]
# steps done, steps in all, the last row so far
Watch = Callable[[int, int, Row], None]


@dataclass(frozen=True)
class Trained:
    """What a training has come to.

    rows: step, rate, seconds, and as means since the row before: loss, norm of the gradient, and what was reported.
    """

    progress: Progress
    rows: list[dict[str, float | int]] = field(repr=False)

    def first(self, name: str, least: float) -> int | None:
        """The first step at which a metric was at least so large; None if it never was."""
        return next((int(row["step"]) for row in self.rows if row.get(name, -math.inf) >= least), None)


def train(
    model: nn.Module,
    loss: Loss,
    plan: Plan,
    *,
    measure: Measure | None = None,
    enough: Callable[[Row], bool] | None = None,
    folder: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Train the model in place.

    folder: for `metrics.jsonl` and `checkpoint.safetensors`; what is found there goes on. about: plain values kept in the checkpoint that
    say how to make the model again; a checkpoint of another one is refused. measure: every `plan.every` steps. enough: called with each
    row; stops when it says so. Under `torchrun` each process takes its rows of the batch (`Moment.mine`).

    Ctrl-C ends the step in hand, leaves a checkpoint and raises KeyboardInterrupt; a second one stops at once. ValueError for a
    checkpoint of another training; FloatingPointError if the loss is no longer finite.
    """
    if plan.patience is not None and measure is None:
        raise ValueError("train: patience counts measurements of the held-out loss; give measure=, or leave patience out.")
    rank, world = processes()
    with torch.enable_grad(), _interrupts() as interrupted:
        work = _Work(model, loss, plan, None if folder is None else Path(folder), dict(about or {}), rank, world, watch)
        called = shared(model, world)
        progress, rows = work.begin()
        while progress.step < plan.steps and not progress.ended:
            progress, row = work.stretch(called, progress, interrupted)
            if row is not None:
                progress, held = work.measured(progress, measure)
                row |= held
                if any_of(enough is not None and enough(row), world):
                    progress = replace(progress, ended="enough")
                rows.append(row)
            work.keep(progress, row)
            if any_of(interrupted.is_set(), world):
                raise KeyboardInterrupt
        return Trained(progress, rows)


def shuffled(items: int, batch: int, step: int, seed: int) -> Tensor:
    """The indices of a step's batch when all items are gone through in a new order each time: a function of the step, so it can go on."""
    if not 1 <= batch <= items:
        raise ValueError(f"shuffled: a batch of 1 to {items} items is needed, got {batch}.")
    per_round = items // batch
    order = torch.randperm(items, generator=generator_at(seed, step // per_round))
    place = step % per_round * batch
    return order[place : place + batch]


def generator_at(seed: int, step: int) -> torch.Generator:
    """The generator of a step, independent of other steps."""
    words = np.random.SeedSequence([seed, step]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


class _Work:
    """A training in this process: what all its steps share."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        plan: Plan,
        folder: Path | None,
        about: dict[str, Any],
        rank: int,
        world: int,
        watch: Watch | None,
    ) -> None:
        self.model, self.loss, self.plan, self.folder, self.about = model, loss, plan, folder, about
        self.rank, self.world, self.watch = rank, world, watch
        self.optimizer = plan.optimizer(model)
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})

    def begin(self) -> tuple[Progress, list[dict[str, float | int]]]:
        """Where an earlier sitting stopped, or the start."""
        if self.folder is None:
            return Progress(), []
        self.folder.mkdir(parents=True, exist_ok=True)
        progress, path = Progress(), self.folder / CHECKPOINT
        if path.exists():
            progress, carried = load_checkpoint(path, self.model, self.optimizer, self.plan, self.about)
            if isinstance(self.loss, Carrying):
                self.loss.load_state_dict({name: rows_of(rows, self.rank, self.world) for name, rows in carried.items()})
        rows = read_rows(self.folder / METRICS, progress.step)
        if self.rank == 0:
            # what was reported after the checkpoint will come again
            write_rows(self.folder / METRICS, rows)
        return progress, rows

    def stretch(self, model: nn.Module, progress: Progress, interrupted: threading.Event) -> tuple[Progress, dict[str, float | int] | None]:
        """Steps up to the next row, and the row; if interrupted only the step in hand, and no row."""
        plan, begun, step = self.plan, time.monotonic(), progress.step
        last = min(plan.steps, (step // plan.every + 1) * plan.every)
        count, sums = progress.count, dict(progress.sums)
        model.train()
        while step < last:
            for name, value in self._step(model, step).items():
                sums[name] = sums.get(name, 0.0) + value
            step, count = step + 1, count + 1
            if self.watch is not None and self.rank == 0:
                self.watch(step, plan.steps, {"step": step, "loss": sums["loss"] / count})
            if any_of(interrupted.is_set(), self.world):
                break
        seconds = progress.seconds + time.monotonic() - begun
        if step < last:
            return replace(progress, step=step, seconds=seconds, sums=sums, count=count), None
        means = mean_over({name: total / count for name, total in sums.items()}, self.world)
        row: dict[str, float | int] = {"step": step, **means, "rate": plan.rate_at(step - 1), "seconds": round(seconds, 3)}
        return replace(progress, step=step, seconds=seconds, sums={}, count=0), row

    def measured(self, progress: Progress, measure: Measure | None) -> tuple[Progress, dict[str, float]]:
        """What was measured, and whether it got better."""
        if measure is None:
            return progress, {}
        self.model.eval()
        with torch.no_grad():
            held = mean_over({f"held_{name}": float(value) for name, value in measure(self.model).items()}, self.world)
        self.model.train()
        if "held_loss" not in held:
            if self.plan.patience is not None:
                raise ValueError(f"train: patience needs the key loss among what measure gives, got {', '.join(held) or 'nothing'}.")
            return progress, held
        better = progress.best is None or held["held_loss"] < progress.best
        stale = 0 if better else progress.stale + 1
        ended = "early" if self.plan.patience is not None and stale >= self.plan.patience else progress.ended
        return replace(progress, best=held["held_loss"] if better else progress.best, stale=stale, ended=ended), held

    def keep(self, progress: Progress, row: Row | None) -> None:
        """A row, then the checkpoint of its step: a row without its checkpoint is dropped when the training goes on."""
        if self.folder is None:
            return
        carried = gathered(self.loss.state_dict() if isinstance(self.loss, Carrying) else {}, self.world)
        if self.rank == 0:
            if row is not None:
                append_row(self.folder / METRICS, row)
            save_checkpoint(self.folder / CHECKPOINT, self.model, self.optimizer, carried, self.plan, progress, self.about)

    def _step(self, model: nn.Module, step: int) -> dict[str, float]:
        generator = generator_at(self.plan.seed, step)
        # dropout draws from torch's own generators: here from the step too, and those outside are left as they were
        with torch.random.fork_rng(self.devices):
            torch.manual_seed(generator.initial_seed() + self.rank)
            found = self.loss(model, Moment(step, generator, self.rank, self.world))
            value, reported = found if isinstance(found, tuple) else (found, {})
            number = float(value.detach())
            if not math.isfinite(number):
                raise FloatingPointError(f"train: the loss is {number} at step {step}; lower the rate, or look at the data.")
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.learning, self.plan.clip or math.inf))
        if not math.isfinite(norm):
            raise FloatingPointError(f"train: the gradient is {norm} at step {step}; lower the rate, or look at the data.")
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate_at(step)
        self.optimizer.step()
        return {"loss": number, "norm": norm, **{name: float(said) for name, said in reported.items()}}


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one raises KeyboardInterrupt. Outside the main thread nothing is changed."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    # torchrun and the schedulers of clusters end a process by SIGTERM
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
