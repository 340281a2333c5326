"""`ammon run`: an experiment over a grid of points; rows, a figure and a table out. An interrupted run goes on where it stopped."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ammon.cli.lookup import experiment, needing_the_laboratory
from ammon.cli.refusal import Refusal, refusing
from ammon.cli.tables import show

if TYPE_CHECKING:
    import pyarrow as pa

    from ammon.experiments.base import Experiment

SHOWN = 40  # rows of the table that are printed


def run(
    name: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="One of `ammon experiments`.")],
    memory: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A memory of `ammon list`; repeatable.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="key=a,b,c or key=lo:hi:n[:log]; a key of the experiment or an argument of the memory; repeatable.",
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(metavar="N", help="Per point.", show_default="of the experiment")] = None,
    seed: Annotated[int, typer.Option(metavar="S", min=0, max=2**63 - 1, help="Of all randomness.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Rows and figure; a run found there goes on.", show_default="the experiment's name")
    ] = None,
    engine: Annotated[str, typer.Option(metavar="local|dask:ADDRESS|ray", help="Where points are measured.")] = "local",
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes of the engine local.", show_default="processors")] = None,
) -> None:
    """Measure an experiment at every point of a grid. The rows do not depend on the engine, on workers or on interruptions."""
    asked = experiment(name)
    with needing_the_laboratory():
        from ammon.experiments.grid import parse

    folder = Path(asked.name) if out is None else out
    with refusing("--grid: "):
        chosen = parse(grid or [])
    with refusing(), _progress(asked.name) as watch:
        try:
            table = asked.run(
                chosen, memories=memory or None, trials=trials, seed=seed, out=folder, engine=engine, workers=workers, watch=watch
            )
        except RuntimeError as error:
            raise Refusal(str(error)) from error
    _print(asked, table)
    with refusing():
        path = save_figure(asked, table, folder)
    typer.echo(f"\n{folder / 'parts'}\n{path}")


def save_figure(asked: "Experiment", table: "pa.Table", folder: Path) -> Path:
    """Draw the experiment into the folder; the path of the picture."""
    path = folder / f"{asked.name}.png"
    asked.draw(table).savefig(path)
    return path


def cell(value: Any) -> str:
    """A number with three digits, a word as it is, nothing as a dash."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def estimate(row: Mapping[str, Any], name: str) -> str:
    """A cell, with its interval if the row holds one."""
    from ammon.experiments.base import INTERVAL_ENDS

    low, high = (row.get(name + end) for end in INTERVAL_ENDS)
    return cell(row[name]) if low is None or high is None else f"{cell(row[name])} [{cell(low)}, {cell(high)}]"


def shown_columns(table: "pa.Table") -> list[str]:
    """The columns worth a reader's eye: those of measurements, and keys that differ between rows; intervals stand behind their estimate."""
    from ammon.experiments.base import INTERVAL_ENDS

    names = []
    for name in table.column_names:
        values = set(table.column(name).to_pylist())
        if name.endswith(INTERVAL_ENDS) or values == {None}:
            continue
        if len(values) > 1 or name == "memory":
            names.append(name)
    return names


def _print(asked: "Experiment", table: "pa.Table") -> None:
    from rich.table import Table

    table = table.filter([asked.told(row) for row in table.to_pylist()])
    names = shown_columns(table)
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        number = not isinstance(table.column(name)[0].as_py(), str)
        shown.add_column(name, justify="right" if number else "left", no_wrap=True, style=None if number else "cyan")
    for row in table.slice(0, SHOWN).to_pylist():
        shown.add_row(*(estimate(row, name) for name in names))
    typer.echo(asked.question + "\n")
    show(shown)
    if len(table) > SHOWN:
        typer.echo(f"... {len(table) - SHOWN} rows more")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def watch(done: int, total: int) -> None:
            if bar.tasks[0].total is None and done:
                # what an earlier run has left says nothing about the speed of this one
                bar.reset(task, total=total, completed=done)
            bar.update(task, total=total, completed=done)

        yield watch
