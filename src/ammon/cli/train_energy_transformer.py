"""`ammon train energy-transformer`: hidden patches of images, completed. Rows of metrics, a checkpoint, and a picture at each row."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ammon.cli.refusal import Refusal, refusing
from ammon.cli.train import progress

PICTURE = "completion.png"


def energy_transformer(
    data: Annotated[str | None, typer.Option(metavar="digits|FILE.npz|FOLDER", help="Images.", show_default="digits")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Checkpoint, metrics, picture; a training found there goes on.")] = Path(
        "energy-transformer"
    ),
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Larger images are shrunk to it.")] = 32,
    patch: Annotated[int, typer.Option(metavar="PIXELS", help="Side of a patch.")] = 4,
    dim: Annotated[int, typer.Option(metavar="D", help="Width of a token.")] = 64,
    heads: Annotated[int, typer.Option(metavar="H", help="Of attention.")] = 4,
    memories: Annotated[int | None, typer.Option(metavar="M", help="Stored patterns.", show_default="4 D")] = None,
    descents: Annotated[int, typer.Option(metavar="T", help="Steps down the energy.")] = 12,
    step: Annotated[float, typer.Option(metavar="ALPHA", help="Size of each.")] = 0.1,
    share: Annotated[float, typer.Option(metavar="SHARE", help="Of the patches, hidden.")] = 0.5,
    block: Annotated[str, typer.Option(metavar="energy|standard", help="Or a standard block of as many parameters.")] = "energy",
    batch: Annotated[int, typer.Option(metavar="B", help="Images.")] = 64,
    steps: Annotated[int, typer.Option(metavar="N", help="Of training.")] = 1000,
    rate: Annotated[float, typer.Option(metavar="R", help="Largest learning rate.")] = 3e-3,
    patience: Annotated[int | None, typer.Option(metavar="N", help="Measurements without a smaller loss until it stops.")] = None,
    every: Annotated[int, typer.Option(metavar="N", help="Steps between measurements and checkpoints.")] = 100,
    held: Annotated[float, typer.Option(metavar="SHARE", help="Of the images, the last, held out.")] = 0.1,
    seed: Annotated[int, typer.Option(metavar="S", min=0, max=2**63 - 1, help="Of all randomness.")] = 0,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Train an Energy Transformer to complete images; run by torchrun, in several processes."""
    if not 0 < held < 1:
        raise Refusal(f"--held: a share above 0 and below 1 is needed, got {held}.")
    # torch takes a second to import: only once a command runs
    import torch

    from ammon.analysis.completions import completions
    from ammon.datasets.images import load_images
    from ammon.recipes.energy_transformer import Completing, Recipe, about, make, parameters, pictures
    from ammon.training.plan import Plan
    from ammon.training.trainer import CHECKPOINT, METRICS, train

    with refusing():
        images = load_images(data, size)
        stack = pictures(images)
        # the recipe says what blocks there are
        recipe = Recipe(patch, dim, heads, memories or 4 * dim, descents, step, share, batch, held, block)  # type: ignore[arg-type]
        plan = Plan(steps, rate, warmup=min(100, steps // 10), every=every, patience=patience, seed=seed)
        channels, height, width = stack.shape[1:]
        model = make(recipe, (channels, height, width), seed)
        task = Completing(model, stack, recipe, seed)
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise Refusal(f"--device: {device!r} cannot be used ({str(error).splitlines()[0]}).") from error
        out.mkdir(parents=True, exist_ok=True)
    first = os.environ.get("RANK", "0") == "0"

    def measure(trained: torch.nn.Module) -> dict[str, float]:
        found = dict(task.measure(trained))
        if first:
            title = f"{images.name}, {share:.0%} of the patches hidden: mean square error {found['loss']:.4f}"
            completions(*task.examples(), title=title).savefig(out / PICTURE)
        return found

    if first:
        typer.echo(
            f"{block}: {parameters(model):,} parameters, {parameters(model.block):,} in the block; {len(task.images):,} images to train, "
            f"{len(task.held):,} held out",
            err=True,
        )
    with refusing(), progress("completing") as watch:
        try:
            trained = train(model, task, plan, measure=measure, folder=out, about=about(recipe, images), watch=watch)
        except FloatingPointError as error:
            raise Refusal(str(error)) from error
    if first:
        last = trained.rows[-1]
        typer.echo(f"step {last['step']}: held-out error {last['held_loss']:.4f} a pixel, {task.guess():.4f} if nothing is looked at")
        typer.echo("\n".join(str(out / name) for name in (METRICS, CHECKPOINT, PICTURE)))
