"""`ammon experiments`: every experiment and the question it answers; with a name, its protocol, keys and columns."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from ammon.cli.lookup import experiment, needing_the_laboratory
from ammon.cli.tables import show

if TYPE_CHECKING:
    from ammon.experiments.base import Experiment


def experiments(
    name: Annotated[str | None, typer.Argument(metavar="[EXPERIMENT]", help="Say all of this one.", show_default=False)] = None,
) -> None:
    """Show the experiments of `ammon run`, or all of one: protocol, keys of the grid, columns, memories."""
    if name is not None:
        _describe(experiment(name))
        return
    from rich.table import Table

    with needing_the_laboratory():
        from ammon.experiments.laboratory import EXPERIMENTS

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("experiment", no_wrap=True, style="cyan")
    table.add_column("question", overflow="fold")
    for asked in EXPERIMENTS.values():
        table.add_row(asked.name, asked.question)
    show(table)


def _describe(asked: "Experiment") -> None:
    from rich.table import Table

    keys = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    keys.add_column("key", no_wrap=True, style="cyan")
    keys.add_column("default", overflow="fold")
    keys.add_column("meaning", overflow="fold")
    if asked.memories:
        keys.add_row("memory", ", ".join(asked.memories), f"{asked.needs} (--memory)")
    for key, axis in asked.axes.items():
        choices = f": {', '.join(axis.choices)}" if axis.choices else ""
        keys.add_row(key, ", ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in axis.values) or "-", axis.meaning + choices)
    columns = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    columns.add_column("column", no_wrap=True, style="cyan")
    columns.add_column("unit")
    columns.add_column("meaning", overflow="fold")
    for name, column in asked.columns.items():
        columns.add_row(name, column.unit, column.meaning)
    typer.echo(f"{asked.name}: {asked.question}\n\n{textwrap.fill(asked.protocol, 100)}\n\n{asked.trials} trials per point by default.\n")
    show(keys)
    typer.echo()
    show(columns)
