"""Runner: all points of a grid measured by an engine, kept in a folder as they come, and given as one table in the order of the grid."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from ammon.experiments.base import Experiment, Grid, Point, Row, Value, Watch
from ammon.experiments.engines import Task, connect
from ammon.experiments.grid import name_of, points, seed_of
from ammon.experiments.store import Manifest, Store, read_manifest, versions

ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def run(
    experiment: Experiment,
    grid: Grid | None = None,
    *,
    memories: Sequence[str] | None = None,
    trials: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    watch: Watch | None = None,
) -> pa.Table:
    """What `Experiment.run` says."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"{experiment.name}: the seed must be a whole number from 0 to 2⁶³ - 1, got {seed}.")
    asked = points(experiment, grid, memories, trials)
    schema = schema_of(experiment, asked)
    names = [name_of(experiment.name, point, seed) for point in asked]
    store = None if out is None else Store(Path(out), _manifest(experiment, asked, seed), schema)
    parts = {} if store is None else {name: part for name in names if (part := store.load(name)) is not None}
    tasks = [Task(place, experiment.measure, asked[place], seed_of(name)) for place, name in enumerate(names) if name not in parts]
    if watch is not None:
        watch(len(parts), len(asked))
    if tasks:
        with connect(engine, workers) as compute:
            if store is not None:
                store.begin()
            for done in compute(tasks):
                part = parts[names[done.place]] = _table(experiment, asked[done.place], done.rows, schema)
                if store is not None:
                    store.save(names[done.place], part)
                if watch is not None:
                    watch(len(parts), len(asked))
    return pa.concat_tables([parts[name] for name in names])


def read(folder: str | Path, experiment: Experiment) -> tuple[Manifest, pa.Table, int]:
    """What a run has left in a folder: what was asked, the rows so far in the order of the grid, and how many points are still to come."""
    manifest = read_manifest(Path(folder))
    grid = dict(manifest.grid)
    memories = [str(name) for name in grid.pop("memory")] if "memory" in grid else None
    asked = points(experiment, grid, memories, manifest.trials)
    store = Store(Path(folder), manifest, schema_of(experiment, asked))
    parts = [store.load(name_of(experiment.name, point, manifest.seed)) for point in asked]
    there = [part for part in parts if part is not None]
    return manifest, pa.concat_tables([store.schema.empty_table(), *there]), len(parts) - len(there)


def schema_of(experiment: Experiment, asked: Sequence[Point]) -> pa.Schema:
    """The columns of the table: the keys of the points, then what is measured."""
    keys = {key: type(value) for key, value in asked[0].items()}
    both = set(keys) & set(experiment.columns)
    if both:
        raise ValueError(f"{experiment.name}: {', '.join(sorted(both))} is a key of the grid and a column; rename the column.")
    return pa.schema([(name, ARROW[kind]) for name, kind in {**keys, **{key: c.type for key, c in experiment.columns.items()}}.items()])


def _manifest(experiment: Experiment, asked: Sequence[Point], seed: int) -> Manifest:
    grid: dict[str, tuple[Value, ...]] = {key: tuple(dict.fromkeys(point[key] for point in asked)) for key in asked[0] if key != "trials"}
    return Manifest(experiment.name, grid, int(asked[0]["trials"]), seed, versions())


def _table(experiment: Experiment, point: Point, rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    lines = []
    for row in rows:
        unknown = set(row) - set(experiment.columns)
        if unknown:
            raise ValueError(f"{experiment.name}: measure gave {', '.join(sorted(unknown))}, which no column of the experiment describes.")
        lines.append({**dict.fromkeys(experiment.columns), **{key: _plain(value) for key, value in row.items()}, **point})
    return pa.Table.from_pylist(lines, schema=schema)


def _plain(value: Value | None) -> Value | None:
    # what has no meaning is missing, not NaN
    return None if isinstance(value, float) and math.isnan(value) else value
