"""The contract of an experiment: one question, the points at which it is asked, how a point is measured, and the figure.

A file of this folder holds one experiment: `EXPERIMENT = Experiment(...)` and `run = EXPERIMENT.run`; `laboratory.py` names them all.
A point is a plain mapping: "memory" (if the experiment takes memories), "trials", one value per axis, and any argument of the memory's
constructor that the user has set (`--grid n=2,3`). Rows are plain mappings too; the point's own values are added to them.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ammon.catalog import CATALOG, Entry
from ammon.memories.base import Memory

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

Value = str | int | float
Point = Mapping[str, Value]
Row = Mapping[str, Value | None]
Grid = Mapping[str, Sequence[Value]]
# how the columns of the ends of an interval are called, after the estimate's own name
INTERVAL_ENDS = ("_low", "_high")
# of the points done so far and of all
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Axis:
    """A key of the grid: its default values, of one type, and what they mean.

    Without defaults (`values=()`, then `kind` says the type) the key is in a point only if the user sets it: ask `point.get(key)`.
    """

    meaning: str
    values: tuple[Value, ...] = ()
    unit: str = ""
    kind: type[str] | type[int] | type[float] = float
    least: float | None = None  # the smallest and the largest number allowed
    most: float | None = None
    choices: tuple[str, ...] = ()  # the words allowed; () any

    @property
    def type(self) -> "type[str] | type[int] | type[float]":
        return type(self.values[0]) if self.values else self.kind


@dataclass(frozen=True)
class Column:
    """What a row says beside its point. None in a row where it has no meaning there."""

    meaning: str
    unit: str = ""
    type: "type[str] | type[int] | type[float]" = float


@dataclass(frozen=True)
class Experiment:
    """What is asked, where, how it is measured and how it is drawn.

    measure: rows of a point. It draws only from the generator, whose seed is made of the run's seed and the point, and does all trials of
    the point in fixed chunks: the same rows, byte for byte, on any engine. No wall times in rows. Called on one thread, without gradients.
    draw: the figure of a table of rows (one or many memories; any subset of the grid), with `ammon.analysis.figures`.
    check: raises ValueError with one line if a point makes no sense (called for all points before any is measured).
    told: which rows the command line prints; the others are there for the figure.
    fits, needs: which memories of the catalogue it is about, and that in words ("memories of ±1 patterns that recall what they stored").
    """

    name: str
    question: str  # one line, ends with a question mark
    protocol: str  # what is drawn, corrupted, recalled; when it counts as recalled; what the intervals are
    axes: Mapping[str, Axis]
    columns: Mapping[str, Column]
    measure: "Callable[..., Row | Sequence[Row]]"  # (point, *, generator)
    draw: "Callable[[pa.Table], Figure]"
    trials: int = 20  # by default; what a trial is, the protocol says
    memories: tuple[str, ...] = ()  # by default; () for an experiment that takes none
    fits: Callable[[Entry], bool] = field(default=lambda entry: True)
    needs: str = "memories of the catalogue"
    check: Callable[[Point], None] = field(default=lambda point: None)
    told: Callable[[Row], bool] = field(default=lambda row: True)
    animate: "Callable[[pa.Table, Path], None] | None" = None  # writes a GIF of the table, where a moving picture says more

    @property
    def grid(self) -> dict[str, tuple[Value, ...]]:
        """The default values of each key."""
        memories = {"memory": self.memories} if self.memories else {}
        return {**memories, **{key: axis.values for key, axis in self.axes.items() if axis.values}}

    def fitting(self) -> list[str]:
        """The memories of the catalogue that fit, in its order."""
        return [name for name, entry in CATALOG.items() if self.fits(entry)] if self.memories else []

    def run(
        self,
        grid: Grid | None = None,
        *,
        memories: Sequence[str] | None = None,
        trials: int | None = None,
        seed: int = 0,
        out: str | Path | None = None,
        engine: str = "local",
        workers: int | None = None,
        watch: Watch | None = None,
    ) -> "pa.Table":
        """The table of all points of the grid, in its order; keys that `grid` leaves out keep their defaults.

        out: a folder for the rows; a run that was interrupted goes on there, and one that is complete is read. engine: "local" (worker
        processes of this machine), "dask:ADDRESS" or "ray"; workers: of the local engine, by default one per processor; neither changes
        the rows. watch: called with the points done and all points. ValueError, in one line, for what cannot be run.
        """
        from ammon.experiments.runner import run

        return run(self, grid, memories=memories, trials=trials, seed=seed, out=out, engine=engine, workers=workers, watch=watch)


def make_memory(point: Point, dim: int) -> Memory:
    """The memory that a point names, with the arguments of its constructor that the point sets."""
    make = CATALOG[str(point["memory"])].make
    return make(dim, **{key: point[key] for key in parameters(str(point["memory"])) if key in point})


def parameters(memory: str) -> dict[str, inspect.Parameter]:
    """What the constructor of a memory takes beside its dim."""
    return dict(list(inspect.signature(CATALOG[memory].make).parameters.items())[1:])


def generator_of(seed: int) -> torch.Generator:
    """A generator on the CPU with this seed."""
    return torch.Generator().manual_seed(seed)
