"""Lookup: the experiment that the user names, or a refusal with the nearest name."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ammon.cli.refusal import Refusal, refusing

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from ammon.experiments.base import Experiment
    from ammon.experiments.store import Manifest


def experiment(name: str) -> "Experiment":
    """The experiment of this name."""
    # torch takes a second to import: only once a command runs
    with needing_the_laboratory():
        from ammon.experiments.grid import nearest
        from ammon.experiments.laboratory import EXPERIMENTS

    if name not in EXPERIMENTS:
        near = nearest(name, list(EXPERIMENTS))
        raise Refusal(f"no experiment is called {name!r}; did you mean {near}? `ammon experiments` names all.")
    return EXPERIMENTS[name]


def needing_the_laboratory() -> AbstractContextManager[None]:
    """Around imports of the extra `lab`."""
    return refusing("the laboratory needs libraries that are missing; pip install 'ammon[lab]': ")


def finished(folder: "Path") -> "tuple[Experiment, Manifest, pa.Table, int]":
    """What a run has left in a folder, and how many points are missing, which stderr says too. Refuses one with nothing to show."""
    import typer

    with needing_the_laboratory():
        from ammon.experiments.runner import read
        from ammon.experiments.store import read_manifest

    with refusing():
        asked = experiment(read_manifest(folder).experiment)
        manifest, table, missing = read(folder, asked)
    if not len(table):
        raise Refusal(f"{str(folder)!r} holds no rows yet; run {asked.name} with the same options and --out to go on.")
    if missing:
        typer.echo(f"ammon: {missing} points are not measured yet; run {asked.name} with the same options and --out to go on.", err=True)
    return asked, manifest, table, missing
