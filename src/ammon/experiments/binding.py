"""Binding: which memory learns to recall what a text has bound, the newest value of a key, or the text itself? (Arora et al. 2023)"""

from functools import partial
from typing import TYPE_CHECKING

import torch

from ammon.analysis import figures
from ammon.analysis.rows import groups, rate
from ammon.datasets.tasks import associative_recall, copying
from ammon.experiments.base import Axis, Experiment, Point, Row
from ammon.experiments.trained import AXES, COLUMNS, Draw, examined, show_models, teach
from ammon.nn.configurations import Size

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

# of each task: tokens in its vocabulary, and the window of the attention that is to solve it alone
TASKS = ("recall_64", "recall_128", "rebinding", "copying")
LENGTHS = {"recall_64": 64, "recall_128": 128, "rebinding": 112, "copying": 64}
VOCABULARIES = {"recall_64": 64, "recall_128": 128, "rebinding": 64, "copying": 64}
MODELS = ("attention", "neural", "episodic", "episodic_recency", "attention_neural", "hybrid")


def drawing(task: str) -> Draw:
    """Batches of a task."""
    if task == "copying":
        return lambda batch, generator: copying(batch, length=64, vocabulary=64, generator=generator)
    pairs, bindings = {"recall_64": (4, 1), "recall_128": (8, 1), "rebinding": (8, 2)}[task]
    length, vocabulary = LENGTHS[task], VOCABULARIES[task]
    recall = partial(associative_recall, length=length, pairs=pairs, vocabulary=vocabulary, bindings=bindings)
    return lambda batch, generator: recall(batch, generator=generator)


def measure(point: Point, *, generator: torch.Generator) -> Row:
    """One training, and new sequences answered by it."""
    task, name = str(point["task"]), str(point["model"])
    configuration = name.removesuffix("_recency")
    size = Size(
        dim=int(point["dim"]),
        heads=int(point["heads"]),
        window=LENGTHS[task],
        segment=1,
        recency=None if name == configuration else float(point["recency"]),
    )
    draw = drawing(task)
    taught = teach(
        draw,
        VOCABULARIES[task],
        configuration,
        size,
        point,
        generator=generator,
    )
    return {**rate("accuracy", *examined(taught.model, draw, int(point["trials"]), generator)), **taught.row}


def draw(table: "pa.Table") -> "Figure":
    tasks = groups(table, "task")
    figure, axes = figures.panels(len(tasks), 1, wide=2.6)
    for panel, ((task,), rows) in zip(axes, tasks.items()):
        show_models(panel, rows, MODELS)
        figures.label(panel, "the second layer", "answered right (share)", task)
    return figure


EXPERIMENT = Experiment(
    name="binding",
    question="Which memory learns to recall what a text has bound to a key, the newest value of a key, or the text itself?",
    protocol=(
        "Transformers of two layers, rotary positions; the first layer attends to 4 tokens, the second holds the memory named. Keys are "
        "bound to values at the beginning of each sequence, all new; then every token is a key that asks for its value (multi-query "
        "associative recall, denser than Arora et al. 2023): recall_64 and recall_128 bind 4 and 8 keys in 64 and 128 tokens, rebinding "
        "binds 8 keys twice and asks for the newest; copying repeats a text of 32 tokens. AdamW, until `enough` of 128 held-out sequences "
        "are answered or for `steps`. A trial is a new sequence; intervals, 95 %: Wilson over sequences."
    ),
    axes={
        "task": Axis("what is asked", TASKS, choices=TASKS),
        "model": Axis("the second layer", MODELS, choices=MODELS),
        "recency": Axis("rate at which items fade at first, of episodic_recency", (0.05,), least=1e-6),
        **AXES,
    },
    columns=dict(COLUMNS),
    measure=measure,
    draw=draw,
    trials=256,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
