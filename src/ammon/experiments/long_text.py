"""Long text: what a memory brings to a language model, by how far back the words stood before. The rival: attention, as many parameters."""

import math
from typing import TYPE_CHECKING

import torch

from ammon.analysis import figures
from ammon.analysis.recurrence import last_occurrence
from ammon.analysis.rows import groups, line
from ammon.analysis.rows import mean as with_student
from ammon.datasets.text import Bytes, load_text
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.stored import with_interval
from ammon.nn.configurations import CONFIGURATIONS, Size
from ammon.nn.language_model import MemoryTransformer
from ammon.training.plan import Plan
from ammon.training.reading import Reading, losses
from ammon.training.trainer import train

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

MODELS = ("attention_neural", "attention_episodic", "hybrid")
CONTEXT = 7  # bytes before a byte that must have stood before it too
EDGES = (1, 64, 256, 1024, 4096, 16384)  # where the buckets of distance begin
ROOMS = 32  # stretches of the held-out text, over which intervals are taken


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    """Two trainings on the same pieces in the same order, and both losses over the held-out text: a row for each bucket of distance."""
    tokens = Bytes().encode(load_text(str(point["data"])))
    cut = len(tokens) - math.ceil(float(point["held"]) * len(tokens))
    text, held = tokens[:cut], tokens[cut:]
    steps, window = int(point["steps"]), int(point["window"])
    size = Size(int(point["dim"]), 2, int(point["layers"]), near=window, window=window, chunk=32, segment=32, slots=int(point["slots"]))
    seeds = torch.randint(2**31, (2,), generator=generator).tolist()
    model = _made(str(point["model"]), size, seeds[0])
    rival = _rival(model, size, seeds[0])
    found = []
    for made, count in ((model, steps), (rival, int(point.get("rival_steps", steps)))):
        reading = Reading(made, text, int(point["batch"]), int(point["length"]))
        train(made, reading, Plan(count, rate=float(point["rate"]), warmup=min(50, count), every=count, seed=seeds[1]))
        found.append(losses(made.eval(), held))
    sizes = [sum(parameter.numel() for parameter in made.parameters()) for made in (model, rival)]
    distances = last_occurrence(held, CONTEXT)[1:]
    rows: list[Row] = []
    buckets = [("all", torch.ones_like(distances, dtype=torch.bool)), ("never", distances == 0)]
    for low, high in zip(EDGES, (*EDGES[1:], len(held) + 1), strict=True):
        buckets.append((str(low), (distances >= low) & (distances < high)))
    for name, inside in buckets:
        rooms = [(a[i], b[i]) for a, b, i in zip(*(some.tensor_split(ROOMS) for some in (*found, inside)), strict=True) if bool(i.any())]
        if len(rooms) < 2:
            continue
        rows.append(
            {
                "distance": name,
                "tokens_there": int(inside.sum()),
                "loss": float(found[0][inside].mean()),
                "rival_loss": float(found[1][inside].mean()),
                **with_student("gain", [float((b - a).mean()) for a, b in rooms]),
                "parameters": sizes[0],
                "rival_parameters": sizes[1],
            }
        )
    return rows


def _made(configuration: str, size: Size, seed: int) -> MemoryTransformer:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return MemoryTransformer(Bytes.vocabulary, CONFIGURATIONS[configuration](size))


def _rival(model: MemoryTransformer, size: Size, seed: int) -> MemoryTransformer:
    """Attention alone with wider feed-forward layers, until it has at least as many parameters."""
    needed = sum(parameter.numel() for parameter in model.parameters())
    for expansion in range(size.expansion, 100):
        wide = Size(size.dim, size.heads, size.layers, size.near, size.window, expansion=expansion)
        rival = _made("attention", wide, seed)
        if sum(parameter.numel() for parameter in rival.parameters()) >= needed:
            break
    return rival


def check(point: Point) -> None:
    """ValueError, in one line, without a text to read."""
    if "data" not in point:
        raise ValueError("long_text: a text is needed, such as a novel; name it by --grid data=FILE.txt or FILE.txt.gz.")
    try:
        size = len(load_text(str(point["data"])))
    except OSError as error:
        raise ValueError(f"long_text: {error}") from error
    least = 100 * ROOMS
    if size * float(point["held"]) < least or size * (1 - float(point["held"])) <= int(point["length"]):
        raise ValueError(f"long_text: at least {least} bytes must be held out, got {float(point['held']):g} of {size}; give a longer text.")


def draw(table: "pa.Table") -> "Figure":
    models = groups(table, "model")
    figure, axes = figures.panels(1, 1, wide=5.0)
    there = set(table.column("distance").to_pylist())
    shown = [name for name in ("all", "never", *map(str, EDGES)) if name in there]
    for number, ((model,), rows) in enumerate(models.items()):
        places = [{**row, "place": shown.index(row["distance"])} for row in rows]
        figures.measured(axes[0], *line(places, "place", "gain"), name=str(model), number=number, linestyle="none")
    axes[0].axhline(0, color=figures.INK, linewidth=0.8)
    axes[0].set_xticks(range(len(shown)), [name if name in ("all", "never") else f"from {name}" for name in shown], rotation=30, ha="right")
    figures.label(
        axes[0], f"distance to where the same {CONTEXT + 1} bytes stood before (bytes)", "gain (nats a byte)", "against attention alone"
    )
    figures.legend(axes[0])
    return figure


EXPERIMENT = Experiment(
    name="long_text",
    question="What does a memory bring to a language model, by how far back the words stood before?",
    protocol=(
        "Bytes of a text, its end held out. A transformer with the memory named in all layers but the first, and a rival that has "
        "attention only and wider feed-forward layers, so that it has at least as many parameters, are trained on the same pieces in the "
        "same order, their states carried along; attention sees `window` bytes. Each then reads the whole held-out text once. Bytes are "
        f"grouped by how long ago the same {CONTEXT + 1} bytes stood in it. gain: the rival's loss less the model's, over {ROOMS} "
        "stretches of the held-out text (those that have such bytes), and Student's 95 % interval of their mean. rival_steps: for a rival "
        "that is given as much time, not as many steps."
    ),
    axes={
        "data": Axis("a text, FILE.txt or FILE.txt.gz", kind=str),
        "model": Axis("what is compared with attention alone", MODELS, choices=tuple(CONFIGURATIONS)),
        "steps": Axis("of training", (1000,), kind=int, least=1),
        "rival_steps": Axis("of the rival, where not as many", kind=int, least=1),
        "batch": Axis("readers", (8,), kind=int, least=1),
        "length": Axis("bytes of a piece", (128,), kind=int, least=2),
        "window": Axis("of attention, bytes", (64,), kind=int, least=1),
        "slots": Axis("of the episodic memory", (1024,), kind=int, least=32),
        "layers": Axis("layers", (2,), kind=int, least=1),
        "dim": Axis("width", (64,), kind=int, least=4),
        "rate": Axis("largest learning rate", (3e-3,), least=1e-6),
        "held": Axis("share of the text that is held out", (0.1,), least=0.001, most=0.9),
        "run": Axis("number of the training: its weights are drawn anew", (0, 1, 2), kind=int, least=0),
    },
    columns={
        "distance": Column("where the bucket begins, bytes; all, or never before", type=str),
        "tokens_there": Column("bytes of the bucket", type=int),
        "loss": Column("mean loss of the model", "nats a byte"),
        "rival_loss": Column("mean loss of the rival", "nats a byte"),
        **with_interval("gain", "loss of the rival less that of the model, mean over stretches", "nats a byte"),
        "parameters": Column("of the model", type=int),
        "rival_parameters": Column("of the rival", type=int),
    },
    measure=measure,
    draw=draw,
    trials=1,
    check=check,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
