"""Passkey: is a needle found again beyond the window of attention, and in texts ten times longer than those of training?"""

from typing import TYPE_CHECKING

import torch

from ammon.analysis import figures
from ammon.analysis.rows import groups, rate
from ammon.datasets.tasks import passkey
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.trained import AXES, COLUMNS, examined, show_models, teach
from ammon.nn.configurations import Size
from ammon.nn.episodic import EpisodicMemory
from ammon.parts.separations import Softmax
from ammon.parts.top_k import TopK

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

MODELS = ("attention", "neural", "episodic", "hybrid")
WORDS = 64
WINDOW = 16


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    """One training; then longer texts with one needle, the episodes read whole and by the best few only."""
    length = int(point["length"])
    size = Size(dim=int(point["dim"]), heads=int(point["heads"]), window=WINDOW, chunk=16, segment=16)
    taught = teach(
        lambda batch, some: passkey(batch, length=length, needles=int(point["needles"]), distance=2 * WINDOW, words=WORDS, generator=some),
        3 * WORDS,
        str(point["model"]),
        size,
        point,
        generator=generator,
    )
    memories = [module for module in taught.model.modules() if isinstance(module, EpisodicMemory)]
    rows: list[Row] = []
    for tested in (length, int(point["longer"])):
        needles = int(point["needles"]) if tested == length else 1
        for top in (0, int(point["top"])) if memories else (0,):
            for memory in memories:
                memory.read.separation = TopK(top) if top else Softmax()
            found = examined(
                taught.model,
                lambda batch, some, tested=tested, needles=needles: passkey(  # type: ignore[misc]
                    batch, length=tested, needles=needles, distance=2 * WINDOW, words=WORDS, generator=some
                ),
                int(point["trials"]),
                generator,
            )
            rows.append({"tokens": tested, "read": top, **rate("accuracy", *found), **taught.row})
    return rows


def draw(table: "pa.Table") -> "Figure":
    kinds = groups(table, "tokens", "read")
    figure, axes = figures.panels(len(kinds), 1, wide=2.2)
    for panel, ((tokens, read), rows) in zip(axes, kinds.items()):
        show_models(panel, rows, MODELS)
        title = f"{tokens} tokens" + (f", best {read} read" if read else "")
        figures.label(panel, "the second layer", "needles found (share)", title)
    return figure


EXPERIMENT = Experiment(
    name="passkey",
    question="Is a needle found again beyond the window of attention, and in texts ten times longer than those of training?",
    protocol=(
        f"Transformers of two layers: the first attends to 4 tokens, the second, in which attention sees {WINDOW}, holds the memory named, "
        "which writes after every "
        f"16 tokens. Training: texts of `length` filler tokens with 8 needles, a key and a value each, at least {2 * WINDOW} tokens before "
        "the end, where the keys ask for their values. Then, without further training, texts of `longer` tokens with one needle anywhere "
        f"up to {2 * WINDOW} tokens before the end. Chance: 1/{WORDS}. read: 0 all episodes, else the best so many. A trial is a new text; "
        "intervals, 95 %: Wilson over texts."
    ),
    axes={
        "model": Axis("the second layer", MODELS, choices=MODELS),
        "length": Axis("tokens of a text in training", (96,), kind=int, least=64),
        "longer": Axis("tokens of a text in the test without training", (1024,), kind=int, least=64),
        "needles": Axis("of a text in training", (8,), kind=int, least=1),
        "top": Axis("episodes that a sparse read takes", (8,), kind=int, least=1),
        **AXES,
    },
    columns={
        "tokens": Column("tokens of a text", type=int),
        "read": Column("episodes that a read takes, 0 for all", type=int),
        **COLUMNS,
    },
    measure=measure,
    draw=draw,
    trials=256,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
