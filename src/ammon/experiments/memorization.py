"""Memorization: what diffusion makes of its training data as they grow: copies, then attractors that nobody stored, then new data.

Pham et al. 2025 (arXiv 2505.21777). The denoiser is the exact recall of a memory (log-sum-exp, whose recall is the score of the data, or
log-sum-ReLU) or a network that has learned from the same data. On the circle the energies are known in closed form.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ammon.analysis import figures
from ammon.analysis.circle import on_circle
from ammon.analysis.memorization import KINDS, classify, nearest
from ammon.analysis.rows import groups, line, rate
from ammon.catalog import diffusion, log_sum_relu
from ammon.datasets.images import Images, load_images
from ammon.dynamics.diffuse import diffuse, exploding
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.stored import with_interval
from ammon.memories.denoiser import Denoiser
from ammon.nn.denoising import DenoisingNetwork, Perceptron
from ammon.nn.unet import UNet
from ammon.shapes import Rows, States
from ammon.training.plan import Plan
from ammon.training.trainer import Moment, train

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXACT = {"log_sum_exp": diffusion, "log_sum_relu": log_sum_relu}
# "network" is what suits the data: a perceptron on the circle, a U-Net on images
LEARNED = ("network", "perceptron")
NAMES = {"log_sum_exp": "log-sum-exp", "log_sum_relu": "log-sum-ReLU", "network": "U-Net", "perceptron": "perceptron"}
HIGH = 5.0  # the level at which diffusion begins, well above the spread of the circle and of images
HELD = 500  # rows never trained on, of which there are more, which say what chance is
SHOWN = 300  # patterns, and states, that the figure of a circle gets
SIDE = 81  # places on a side of the map of its energy
MEANS = ("delta_memorised", "delta_spurious", "to_training", "to_generated", "to_held", "held_to_held", "lost", "loss")


@dataclass(frozen=True)
class Setting:
    """What a kind of data needs by default."""

    level: float  # the last level of noise
    recalls: int  # steps of recall there
    width: int  # units of a layer of a perceptron, channels of a U-Net
    updates: int  # of its training
    batch: int  # rows of one


# on the circle β = 1/σ² = 20, as in the paper's code; images are denoised to the end
USUAL = {
    "circle": Setting(math.sqrt(0.05), 10, 64, 1500, 256),
    "perceptron": Setting(0.05, 1, 384, 1500, 512),
    "unet": Setting(0.05, 1, 16, 300, 64),
}


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    made, chance, setting = int(point["generated"]), float(point["chance"]), _setting(point)
    tallies: dict[str, list[int]] = {kind: [] for kind in KINDS}
    found: dict[str, list[float]] = {name: [] for name in MEANS}
    places: list[Row] = []
    for trial in range(int(point["trials"])):
        training, held, shape = draw_data(str(point["data"]), int(point["stored"]), generator)
        states, loss = generate(point, training, shape, generator)
        # what perfect data would be called by chance sets the thresholds
        by_chance = nearest(held, training).training, nearest(held[:made], training).generated
        limits = [float(torch.quantile(distances, chance)) for distances in by_chance]
        distances = nearest(states, training)
        kinds = classify(distances, *limits)
        for number, kind in enumerate(KINDS):
            tallies[kind].append(int((kinds == number).sum()))
        reach = math.sqrt(training.shape[1] + 2) * setting.level
        lost = float((distances.training > reach).double().mean()) if point["denoiser"] == "log_sum_relu" else None
        asked_of = (distances.training, distances.generated, nearest(states, held).training, nearest(held[:HELD], held[HELD:]).training)
        medians = [float(each.median()) for each in asked_of]
        for name, value in zip(MEANS, (*limits, *medians, lost, loss)):
            found[name] += [] if value is None else [value]
        if shape is None and not trial:
            places += [_place("pattern", setting.level, place) for place in training[:SHOWN].tolist()]
            places += [_place(KINDS[kind], setting.level, place) for place, kind in zip(states[:SHOWN].tolist(), kinds[:SHOWN].tolist())]
    asked = [made] * int(point["trials"])
    shares = {key: value for kind in KINDS for key, value in rate(kind, tallies[kind], asked).items()}
    means = {name: sum(values) / len(values) if values else None for name, values in found.items()}
    return [{"row": "fractions", "last_level": setting.level, **shares, **means}, *places]


def draw_data(data: str, count: int, generator: torch.Generator) -> tuple[Rows, Rows, tuple[int, ...] | None]:
    """So many rows to train on, others that are held back, and the shape of an image."""
    if data == "circle":
        return on_circle(count, generator).float(), on_circle(2000, generator).float(), None
    images = _images(data)
    order = torch.randperm(len(images), generator=generator)
    return images.rows[order[:count]], images.rows[order[count:][:2000]], images.shape


def generate(point: Point, training: Rows, shape: tuple[int, ...] | None, generator: torch.Generator) -> tuple[States, float | None]:
    """States made by diffusion and recall at the last level, and the last loss of the denoiser where it was learned."""
    setting, made, loss = _setting(point), int(point["generated"]), None
    levels = exploding(HIGH, setting.level, int(point["levels"]))
    if point["denoiser"] in EXACT:
        memory = EXACT[str(point["denoiser"])](training.shape[1])
        memory.write(training)
        exact = Denoiser(memory)
        states = exact.generate(made, levels, generator=generator).state
        for _ in range(setting.recalls):
            states = exact(states, setting.level)
        return states, None
    network, loss = learn(point, training, shape, generator)
    start = network.mean + HIGH * torch.empty(made, training.shape[1]).normal_(generator=generator)
    states = diffuse(network, start, levels).state
    for _ in range(setting.recalls):
        states = network(states, setting.level)
    return states, loss


def learn(point: Point, training: Rows, shape: tuple[int, ...] | None, generator: torch.Generator) -> tuple[DenoisingNetwork, float]:
    """A network that has learned to denoise these rows, and its mean loss over the last tenth of its training."""
    setting, seed = _setting(point), int(torch.randint(2**31, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        core: nn.Module = Perceptron(training.shape[1], setting.width)
        if shape is not None and point["denoiser"] == "network":
            core = UNet(shape, setting.width, halvings=2 if min(shape[:2]) > 16 else 1)
        network = DenoisingNetwork(core, spread=max(float(training.std(correction=0)), 0.1), mean=float(training.mean()))

    def loss(model: nn.Module, moment: Moment) -> torch.Tensor:
        chosen = torch.randint(len(training), (setting.batch,), generator=moment.generator)
        return network.loss(training[chosen], setting.level, HIGH, moment.generator)

    plan = Plan(
        setting.updates, rate=3e-3, warmup=setting.updates // 50, final=0.0, decay=0.0, every=max(1, setting.updates // 10), seed=seed
    )
    rows = train(network, loss, plan).rows
    network.eval()
    return network, float(rows[-1]["loss"])


def draw(table: "pa.Table") -> "Figure":
    from matplotlib.ticker import LogLocator

    curves = groups([row for row in table.to_pylist() if row["row"] == "fractions"], "data", "denoiser")
    circles = groups([row for row in table.to_pylist() if row["row"] != "fractions"], "stored")
    columns = min(4, max(len(curves), 3 if circles else 1))
    chosen = [*sorted(circles)[: columns - 1], *sorted(circles)[columns - 1 :][-1:]]
    down = bool(circles) + -(-len(curves) // columns)
    figure, axes = figures.panels(columns, down, wide=2.7, high=2.6)
    for panel, key in zip(axes, chosen):
        _draw_circle(panel, circles[key])
    rest = axes[columns:] if circles else axes
    for panel, ((data, denoiser), rows) in zip(rest, curves.items()):
        for number, kind in enumerate(KINDS):
            figures.measured(panel, *line(rows, "stored", kind), name=kind, number=number)
        figures.logarithmic(panel, "x")
        panel.xaxis.set_major_locator(LogLocator())
        panel.set_ylim(-0.03, 1.2)
        name = "perceptron" if data == "circle" and denoiser == "network" else NAMES[str(denoiser)]
        name = name if data == "circle" else f"{data}, {name}"
        figures.label(panel, "training data K", "fraction of generated states", name)
    if curves:
        figures.legend(rest[0], loc="upper center", ncols=3, columnspacing=0.8, handlelength=1.2)
    for panel in [*axes[len(chosen) : columns if circles else 0], *rest[len(curves) :]]:
        panel.set_visible(False)
    return figure


def _draw_circle(panel: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    """The energy of the training data at the last level, the data, and what was made of them."""
    first = rows[0]["denoiser"]
    rows = [row for row in rows if row["denoiser"] == first and row["data"] == rows[0]["data"]]
    patterns = torch.tensor([[row["x"], row["y"]] for row in rows if row["row"] == "pattern"], dtype=torch.float64)
    ticks = torch.linspace(-1.6, 1.6, SIDE, dtype=torch.float64)
    x, y = torch.meshgrid(ticks, ticks, indexing="xy")
    memory = diffusion(2)
    memory.write(patterns)
    level = float(rows[0]["last_level"])
    energy = Denoiser(memory).energy(torch.stack([x.flatten(), y.flatten()], -1), level).reshape(SIDE, SIDE)
    panel.contourf(ticks, ticks, (energy - energy.amin()).clamp_max(0.6), levels=12, cmap=figures.MAP)
    size = 26 if len(patterns) < 50 else 4
    panel.scatter(patterns[:, 0], patterns[:, 1], s=size, facecolors="none", edgecolors="white", linewidths=0.6)
    for number, kind in enumerate(KINDS):
        places = [(row["x"], row["y"]) for row in rows if row["row"] == kind]
        if places:
            across, up = zip(*places)
            panel.scatter(across, up, s=5, color=figures.COLOURS[number], linewidths=0, label=kind)
    panel.set_aspect("equal")
    panel.grid(False)
    figures.label(panel, "x", "y", f"K = {rows[0]['stored']}, {NAMES[str(first)]}")


def _place(row: str, level: float, place: Sequence[float]) -> Row:
    return {"row": row, "last_level": level, "x": place[0], "y": place[1]}


def _setting(point: Point) -> Setting:
    usual = USUAL["circle" if point["data"] == "circle" else "unet" if point["denoiser"] == "network" else "perceptron"]
    return Setting(
        float(point.get("level", usual.level)),
        int(point.get("recalls", usual.recalls)),
        int(point.get("width", usual.width)),
        int(point.get("updates", usual.updates)),
        int(point.get("batch", usual.batch)),
    )


@cache
def _images(source: str) -> Images:
    return load_images(source, size=28)


def _check(point: Point) -> None:
    if point["data"] != "circle":
        # as many held back as are generated, and no fewer than say what chance is
        most = len(_images(str(point["data"]))) - max(HELD + 1, int(point["generated"]))
        if int(point["stored"]) > most:
            raise ValueError(f"memorization: {point['data']} leaves at most {most} images to train on, got stored={point['stored']}.")
    if not _setting(point).level < HIGH:
        raise ValueError(f"memorization: the last level must be below the first, {HIGH:g}, got {point['level']}.")
    if point["data"] != "circle" and point["denoiser"] == "network" and _setting(point).width % 4:
        raise ValueError(f"memorization: the channels of a U-Net are a multiple of 4, got width={point['width']}.")


EXPERIMENT = Experiment(
    name="memorization",
    question="Does diffusion copy its training data, invent attractors that nobody stored, or make new data, as the data grow?",
    protocol=(
        "Each trial draws K training rows, evenly on the unit circle or from a file of images, and makes a denoiser of them: exact recall "
        "(log_sum_exp: Gaussian noise, the score of the data; log_sum_relu: noise in a ball) or a network trained on them (on the circle a "
        "perceptron, on images a U-Net). States start "
        "at noise 5, follow the flow of the denoiser to the last level (circle: σ² = .05, that is β = 20; images: .05), and are "
        "recalled at that level (circle 10 times, images once). Two thresholds (Pham et al. 2025): memorised, within delta_memorised of "
        "a training row; else spurious, within delta_spurious of another generated state; else generalised. Each threshold is the "
        "distance within which the share `chance` of rows never trained on would lie: perfect data would be called so that often. "
        "Intervals, 95 %: Wilson, with the design effect of trials."
    ),
    axes={
        "data": Axis("circle, digits, FILE.npz or FOLDER of images", ("circle", "digits")),
        "denoiser": Axis("what denoises", ("log_sum_exp", "log_sum_relu", "network"), choices=(*EXACT, *LEARNED)),
        "stored": Axis("training rows K", (2, 9, 100, 1000), least=1),
        "generated": Axis("states made in a trial", (200,), least=2),
        "chance": Axis("share of perfect data within a threshold", (0.05,), least=0.001, most=0.5),
        "levels": Axis("steps of the flow", (60,), least=1),
        "level": Axis("last level of noise; by default that of the data", kind=float, least=1e-6),
        "recalls": Axis("steps of recall at the last level; by default those of the data", kind=int, least=0),
        "width": Axis("units of a perceptron's layers, or channels of a U-Net", kind=int, least=1),
        "updates": Axis("steps of a network's training", kind=int, least=10),
        "batch": Axis("rows of one of these steps", kind=int, least=1),
    },
    columns={
        "row": Column("what the row is: fractions; of a circle's first trial also pattern, or the kind of a generated state", type=str),
        "last_level": Column("last level of noise"),
        **{name: column for kind in KINDS for name, column in with_interval(kind, f"fraction of generated states that are {kind}").items()},
        "delta_memorised": Column("threshold to the nearest training row, mean over trials"),
        "delta_spurious": Column("threshold to the nearest other generated state, mean over trials"),
        "to_training": Column("median distance to the nearest training row"),
        "to_generated": Column("median distance to the nearest other generated state"),
        "to_held": Column("median distance to the nearest row that was held back: whether what is new is like the data"),
        "held_to_held": Column("the same of rows held back"),
        "lost": Column("log_sum_relu: fraction of states out of reach of every training row"),
        "loss": Column("networks: loss at the end of training"),
        "x": Column("first entry of a place on the circle's plane"),
        "y": Column("second entry"),
    },
    measure=measure,
    draw=draw,
    trials=2,
    needs="no memory of the catalogue",
    check=_check,
    told=lambda row: row["row"] == "fractions",
)
run = EXPERIMENT.run
