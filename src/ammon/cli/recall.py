"""`ammon recall`: corrupted images in; a table, two pictures and a file of numbers out."""

import csv
import tempfile
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ammon.cli import corruptions
from ammon.cli.refusal import Refusal, refusing
from ammon.cli.tables import show

if TYPE_CHECKING:
    from ammon.datasets.images import Images
    from ammon.experiments.recall import Point, Trial

EXAMPLES = 3  # images per memory in the picture


def recall(
    data: Annotated[str | None, typer.Option(metavar="FILE.npz|FOLDER", help="Your images; scikit-learn's digits by default.")] = None,
    patterns: Annotated[int, typer.Option(metavar="N", help="How many distinct images are stored.")] = 20,
    corrupt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:AMOUNT",
            help="mask:0.5, flip:0.2, noise:0.5 or blur:1.0; repeat for one after the other.",
            show_default="noise:0.2",
        ),
    ] = None,
    memory: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A memory of `ammon list`; repeatable.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", min=0, max=2**63 - 1, help="Of the corruptions.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the pictures and the numbers go.")] = Path("recall"),
) -> None:
    """Store images, show each memory a corrupted one, and see which memory gives them back."""
    # torch takes a second to import: only once a command runs
    from ammon.datasets.images import load_images
    from ammon.experiments.recall import Point, distinct

    if patterns < 1:
        raise Refusal(f"--patterns: at least 1 image must be stored, got {patterns}.")
    names = [_known(name) for name in dict.fromkeys(memory)] if memory else _all()
    texts = corrupt or ["noise:0.2"]
    with refusing():
        images = load_images(data)
        kinds = tuple(corruptions.read(text, images.shape) for text in texts)
        points = [Point(name, patterns, kinds, seed) for name in names]
        distinct(images, patterns)
    _open(out)

    trials = _attempt(points, images)
    _print_table(trials)
    _print_protocol(trials, images, texts, seed)
    with refusing():
        for path in _save(trials, images, texts, seed, out):
            typer.echo(path)


def _all() -> list[str]:
    from ammon.experiments.recall import fitting

    return fitting()


def _known(name: str) -> str:
    """The name, if it is that of a memory that takes images."""
    names = _all()
    if name in names:
        return name
    from ammon.catalog import CATALOG

    if name in CATALOG:
        raise Refusal(f"--memory: {name} takes {CATALOG[name].data} data and recalls no images; choose from {', '.join(names)}.")
    near = get_close_matches(name, names, n=1, cutoff=0)[0]
    raise Refusal(f"--memory: no memory is called {name!r}; did you mean {near}? `ammon list` names all.")


def _open(out: Path) -> None:
    """Make the folder and try it: better to fail before the work than after."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Refusal(f"--out: a folder that can be written is needed, got {str(out)!r} ({error.strerror}); name another.") from error


def _attempt(points: "list[Point]", images: "Images") -> "list[Trial]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ammon.experiments.recall import attempt

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("recalling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    trials = []
    with bar:
        task = bar.add_task("", total=len(points))
        for point in points:
            bar.update(task, description=point.memory)
            try:
                trials.append(attempt(point, images))
            except ImportError as error:
                raise Refusal(str(error)) from error
            bar.advance(task)
    return trials


def _print_table(trials: "Iterable[Trial]") -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("memory", no_wrap=True, style="cyan")
    for column in ("load N/D", "exact", "error", "steps", "energy\nnever rose", "time"):
        table.add_column(column, justify="right")
    for row in (trial.row for trial in trials):
        fell = {True: "yes", False: "no", None: "-"}[row.energy_never_rose]
        load = f"{row.num_patterns}/{row.dim} = {row.load:.2g}"
        table.add_row(row.memory, load, f"{row.exact:.0%}", f"{row.error:.3f}", f"{row.steps:.1f}", fell, _duration(row.seconds))
    show(table)


def _print_protocol(trials: "list[Trial]", images: "Images", texts: list[str], seed: int) -> None:
    num = trials[0].row.num_patterns
    what = f"{num} distinct images" if num > 1 else "image"
    said = f"Each memory stores the first {what} of {images.name} ({' × '.join(map(str, images.shape))}) and recalls each from a cue: "
    typer.echo("\n" + textwrap.fill(f"{said}{corruptions.words(texts)} (seed {seed}).", 79))
    typer.echo("exact: within 1 % of the image's length, up to a factor; error: mean, 0 to 1.")
    if any(trial.row.exact == 0 for trial in trials):
        typer.echo("Images that look alike are hard for matrices and low powers: try --patterns 2.")
    typer.echo()


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _save(trials: "list[Trial]", images: "Images", texts: list[str], seed: int, out: Path) -> list[Path]:
    """Write the pictures and the numbers; the paths of what was written."""
    from ammon.analysis.plots import Strip, energy_traces, gallery

    num = trials[0].row.num_patterns
    asked = f"{num} image{'s' if num > 1 else ''} of {images.name}, {corruptions.words(texts)}"
    strips = [
        Strip(t.row.memory, t.row.exact, t.stored[:EXAMPLES], t.cue[:EXAMPLES], t.recalled[:EXAMPLES], t.exact[:EXAMPLES]) for t in trials
    ]
    picture, energy, numbers = out / "recall.png", out / "energy.png", out / "recall.csv"
    gallery(strips, images.shape, "Which memory gives them back?", asked).savefig(picture)
    traces = {t.row.memory: t.energies for t in trials if t.energies is not None}
    if traces:
        energy_traces(
            traces, "Energy along recall", f"{asked}; thin: each image, thick: their mean; every memory has its own scale"
        ).savefig(energy)
    else:
        # a picture of an earlier run would be taken for one of this run
        energy.unlink(missing_ok=True)
    with numbers.open("w", newline="") as file:
        rows = [{**asdict(t.row), "data": images.name, "corruptions": " ".join(texts), "seed": seed} for t in trials]
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return [picture, *([energy] if traces else []), numbers]
