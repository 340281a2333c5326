"""Few-shot labels: which memory binds new classes of images to labels within one sequence, from one or a few examples of each?"""

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from ammon.analysis import figures
from ammon.analysis.rows import groups, rate
from ammon.datasets.classes import Classes, draw_episodes, load_classes
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, generator_of
from ammon.experiments.trained import AXES, COLUMNS, plan_of, show_models
from ammon.nn.configurations import CONFIGURATIONS, Size
from ammon.nn.few_shot import FewShot, ImageEncoder, label_loss
from ammon.training.trainer import Moment, train

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

MODELS = ("attention", "neural", "episodic", "hybrid")
HELD = 64  # episodes of held-out classes on which accuracy is watched while training
BATCH = 32  # episodes that are answered at once


@lru_cache(maxsize=2)
def _loaded(source: str | None, size: int) -> Classes:
    return load_classes(source, size)


def sides(point: Point) -> tuple[Classes, Classes]:
    """The classes to train on, and those of groups that are held out."""
    size = int(point["size"])
    data = _loaded(str(point["data"]) if "data" in point else None, size)
    if "test" in point:
        return data, _loaded(str(point["test"]), size)
    known = sorted(set(data.groups))
    # the same split in every training: groups in an order that is their own
    order = torch.randperm(len(known), generator=generator_of(0)).tolist()
    cut = round(float(point["held"]) * len(known))
    return data.of([known[place] for place in order[cut:]]), data.of([known[place] for place in order[:cut]])


def measure(point: Point, *, generator: torch.Generator) -> Row:
    """One training, and new episodes of classes that are held out."""
    known, unseen = sides(point)
    way, shots, questions = (int(point[name]) for name in ("way", "shots", "questions"))
    seed, held_seed, test_seed = torch.randint(2**31, (3,), generator=generator).tolist()
    # the first layer sees an image and its label; what attends beside or in the place of a memory sees all
    slots, dim, heads = 2 * way * shots + questions, int(point["dim"]), int(point["heads"])
    size = Size(dim, heads, near=2, window=None, chunk=int(point["chunk"]), segment=1, slots=slots)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        height, width = known.images.shape[1:]
        model = FewShot(ImageEncoder(dim, (height, width)), way, CONFIGURATIONS[str(point["model"])](size))

    def loss(model: nn.Module, moment: Moment) -> torch.Tensor:
        again = float(point["again"])
        some = draw_episodes(known, int(point["batch"]), way, shots, questions, generator=moment.generator, turned=True, again=again)
        return label_loss(model(some.shown, some.labels, some.asked), some.answers)

    def watched(model: nn.Module) -> dict[str, float]:
        right, asked = answered(model, unseen, HELD, way, shots, questions, generator_of(held_seed))
        return {"accuracy": sum(right) / sum(asked)}

    trained = train(model, loss, plan_of(point, seed), measure=watched, enough=lambda row: row["held_accuracy"] >= float(point["enough"]))
    found = answered(model.eval(), unseen, int(point["trials"]), way, shots, questions, generator_of(test_seed))
    return {
        **rate("accuracy", *found),
        "trained_steps": trained.progress.step,
        "steps_to_90": trained.first("held_accuracy", 0.9),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "classes_trained": len(known.members),
        "classes_held": len(unseen.members),
    }


@torch.no_grad()
def answered(
    model: nn.Module, classes: Classes, episodes: int, way: int, shots: int, questions: int, generator: torch.Generator
) -> tuple[list[int], list[int]]:
    """Per episode, how many questions were answered right and how many there were."""
    right: list[int] = []
    for start in range(0, episodes, BATCH):
        some = draw_episodes(classes, min(BATCH, episodes - start), way, shots, questions, generator=generator)
        right += (model(some.shown, some.labels, some.asked).argmax(-1) == some.answers).sum(1).tolist()
    return right, [questions] * len(right)


def check(point: Point) -> None:
    """ValueError, in one line, if data cannot be read or hold too few classes."""
    try:
        both = sides(point)
    except (OSError, ImportError) as error:
        raise ValueError(f"few_shot: {error}") from error
    way, shots = int(point["way"]), int(point["shots"])
    if both[0].images.shape[1:] != both[1].images.shape[1:]:
        raise ValueError(f"few_shot: data and test must be of one shape, got {[list(side.images.shape[1:]) for side in both]}.")
    for side, said in zip(both, ("to train on", "held out"), strict=True):
        enough = [some for some in side.members if len(some) > shots]
        if len(enough) < way or len(enough) < len(side.members):
            raise ValueError(
                f"few_shot: {way} classes {said} with more than {shots} images each are needed, got {len(enough)} of "
                f"{len(side.members)}; change way, shots or held."
            )


def draw(table: "pa.Table") -> "Figure":
    kinds = groups(table, "way", "shots")
    figure, axes = figures.panels(len(kinds), 1, wide=2.6)
    for panel, ((way, shots), rows) in zip(axes, kinds.items()):
        show_models(panel, rows, MODELS)
        panel.axhline(1 / way, color=figures.INK, linewidth=0.8, linestyle=":")
        figures.label(panel, "the second layer", "new classes named right (share)", f"{way} classes, {shots} of each shown")
    return figure


EXPERIMENT = Experiment(
    name="few_shot",
    question="Which memory binds new classes of images to labels within one sequence?",
    protocol=(
        "Sequences image, label, ..., image, label, then images that ask: `way` classes, `shots` images of each in a random order, labels "
        "drawn anew for each sequence, the questions images that were not shown. Three convolutions encode an image; of two layers the "
        "first attends to an image and its label, the second holds the memory named (attention: to all tokens). Trained on classes turned "
        "by 0, 90, 180 or 270 degrees, a share `again` of the questions images that were shown; tested, not turned, on new images of "
        "classes of groups (alphabets) that were held out. Data: scikit-learn's digits, each a group, or FILE.npz. Chance: 1/way. A trial "
        "is a new episode; intervals, 95 %: Wilson over episodes."
    ),
    axes={
        "data": Axis("images with classes, FILE.npz (Omniglot's packed form, or images and labels); digits unless given", kind=str),
        "test": Axis("classes to be tested on, FILE.npz, in the place of held-out groups of data", kind=str),
        "model": Axis("the second layer", MODELS, choices=tuple(CONFIGURATIONS)),
        "way": Axis("classes of an episode", (5,), kind=int, least=2),
        "shots": Axis("images of each class that are shown", (1,), kind=int, least=1),
        "questions": Axis("images that ask", (10,), kind=int, least=1),
        "held": Axis("share of the groups that is held out", (0.5,), least=0.05, most=0.95),
        "again": Axis(
            "share of questions in training that are images already shown, so that binding is found early", (0.25,), least=0, most=1
        ),
        "size": Axis("side of an image, pixels, at most", (20,), kind=int, least=4),
        "chunk": Axis("tokens of a chunk of the neural memory", (8,), kind=int, least=1),
        **{**AXES, "batch": Axis("episodes of a step", (24,), kind=int, least=1), "steps": Axis("of training", (2500,), kind=int, least=1)},
    },
    columns={
        **COLUMNS,
        "classes_trained": Column("classes to train on, before they are turned", type=int),
        "classes_held": Column("classes that are held out", type=int),
    },
    measure=measure,
    draw=draw,
    trials=512,
    check=check,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
