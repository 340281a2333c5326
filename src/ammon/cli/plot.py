"""`ammon plot`: the figure of a run, drawn again from its rows."""

from pathlib import Path
from typing import Annotated

import typer

from ammon.cli.lookup import finished
from ammon.cli.refusal import refusing
from ammon.cli.run import save_figure


def plot(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of `ammon run`, complete or not.")]) -> None:
    """Draw the figure of a run from its rows."""
    asked, _, table, _ = finished(folder)
    with refusing():
        typer.echo(save_figure(asked, table, folder))
