"""`ammon train`: models trained on the user's data. A training found in the folder goes on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ammon.cli.refusal import Refusal, refusing

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train a model; a training found in the folder goes on.")

# tokens of the held-out text that are read at each row of metrics
HELD = 4096


@app.command("lm")
def language_model(
    data: Annotated[Path, typer.Option(metavar="FILE.txt[.gz]", help="The text; its end is held out.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Checkpoint and metrics; a training found there goes on.")] = Path("lm"),
    blocks: Annotated[str, typer.Option(metavar="NAME|FILE.py:FUNCTION", help="A configuration, or your own, which is run.")] = "hybrid",
    tokenizer: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Of Hugging Face.", show_default="bytes")] = None,
    dim: Annotated[int | None, typer.Option(metavar="D", help="Width.", show_default="128")] = None,
    heads: Annotated[int | None, typer.Option(metavar="H", show_default="4")] = None,
    layers: Annotated[int | None, typer.Option(metavar="N", help="Layers; the first only attends nearby.", show_default="4")] = None,
    window: Annotated[int | None, typer.Option(metavar="W", help="Of attention.", show_default="64")] = None,
    slots: Annotated[int | None, typer.Option(metavar="M", help="Of the episodic memory.", show_default="1024")] = None,
    length: Annotated[int, typer.Option(metavar="L", help="Tokens in a piece, as far as gradients go back.")] = 128,
    batch: Annotated[int, typer.Option(metavar="B", help="Readers, at even distances in the text.")] = 8,
    steps: Annotated[int, typer.Option(metavar="N")] = 1000,
    rate: Annotated[float, typer.Option(metavar="R", help="Largest learning rate.")] = 3e-3,
    patience: Annotated[int | None, typer.Option(metavar="N", help="Measurements without a smaller loss until it stops.")] = None,
    every: Annotated[int, typer.Option(metavar="N", help="Steps between measurements and checkpoints.")] = 50,
    held: Annotated[float, typer.Option(metavar="SHARE", help="Of the text, its end, that is held out.")] = 0.1,
    seed: Annotated[int, typer.Option(metavar="S", min=0, max=2**63 - 1, help="Of all randomness.")] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Train a language model with memories on a text file; run by torchrun, in several processes."""
    if not 0 <= held < 1:
        raise Refusal(f"--held: a share from 0 to below 1 is needed, got {held}.")
    # torch takes a second to import: only once a command runs
    import torch

    from ammon.datasets.text import Bytes, TokenizerFile, load_text
    from ammon.recipes import language_model as recipes
    from ammon.training.plan import Plan
    from ammon.training.reading import Reading, losses
    from ammon.training.trainer import CHECKPOINT, METRICS, train

    with refusing():
        content = load_text(data)
        words = Bytes() if tokenizer is None else TokenizerFile(tokenizer)
        recipe = recipes.continued(
            recipes.Recipe(),
            configuration=blocks,
            dim=dim,
            heads=heads,
            layers=layers,
            window=window,
            near=window,
            slots=slots,
            length=length,
            batch=batch,
            held=held,
        )
        text, rest = recipes.split(words.encode(content), recipe)
        plan = Plan(steps, rate, warmup=50, every=every, patience=patience, seed=seed)
        model = recipes.make(recipe, words, seed)
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise Refusal(f"--device: {device!r} cannot be used ({str(error).splitlines()[0]}).") from error
        out.mkdir(parents=True, exist_ok=True)
        if tokenizer is not None:
            (out / recipes.TOKENIZER).write_bytes(tokenizer.read_bytes())

    def measure(_: torch.nn.Module) -> dict[str, float]:
        return {"loss": float(losses(model, rest, most=HELD).mean())} if len(rest) else {}

    count = sum(parameter.numel() for parameter in model.parameters())
    typer.echo(f"{blocks}: {count:,} parameters; {len(text):,} tokens to read, {len(rest):,} held out", err=True)
    with refusing(), progress("reading") as watch:
        try:
            trained = train(
                model,
                Reading(model, text, recipe.batch, recipe.length),
                plan,
                measure=measure if len(rest) else None,
                folder=out,
                about=recipes.about(recipe, words, content),
                watch=watch,
            )
        except FloatingPointError as error:
            raise Refusal(str(error)) from error
    last = trained.rows[-1]
    said = f", held-out loss {last['held_loss']:.4f}" if "held_loss" in last else ""
    typer.echo(f"step {last['step']}: loss {last['loss']:.4f}{said} nats a token\n{out / METRICS}\n{out / CHECKPOINT}")


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, int, Mapping[str, float | int]], None]]:
    """A bar of steps with the loss, on a terminal; what `train` calls as it goes."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.description}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def watch(done: int, total: int, row: Mapping[str, float | int]) -> None:
            if bar.tasks[0].total is None:
                # what an earlier sitting has done says nothing about the speed of this one
                bar.reset(task, total=total, completed=done)
            bar.update(task, completed=done, description=f"{row['loss']:.3f}" if "loss" in row else "")

        yield watch
