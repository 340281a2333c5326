"""`ammon plot`: the figure of a run, drawn again from its rows."""

from pathlib import Path
from typing import Annotated

import typer

from ammon.cli.lookup import finished
from ammon.cli.refusal import Refusal, refusing
from ammon.cli.run import save_figure


def plot(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of `ammon run`, complete or not.")],
    gif: Annotated[bool, typer.Option("--gif", help="Also write an animated GIF, for experiments that have one.")] = False,
) -> None:
    """Draw the figure of a run from its rows."""
    asked, _, table, _ = finished(folder)
    if gif and asked.animate is None:
        raise Refusal(f"--gif: {asked.name} has no moving picture; leave it out.")
    with refusing():
        typer.echo(save_figure(asked, table, folder))
        if gif and asked.animate is not None:
            path = folder / f"{asked.name}.gif"
            asked.animate(table, path)
            typer.echo(path)
