"""Similarity × separation: universal Hopfield networks on images, against noise, mask and number stored (Millidge et al. 2022).

Similarities are as in their code: 1/distance², 1/Manhattan distance, and the product with each image divided by its sum. All are
positive, so that powers of them, divided by their sum, are weights.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from ammon.analysis import figures
from ammon.analysis.rows import groups, line, rate
from ammon.catalog import universal
from ammon.datasets.images import Images, load_images
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.stored import with_interval
from ammon.parts.corruption import Mask, Noise
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.separations import Maximum, Softmax
from ammon.parts.similarity import Similarity
from ammon.shapes import Cues, Keys, Rows, Scores

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

SIMILARITIES = ("euclidean", "manhattan", "dot")
# powers of the similarity, divided by their sum
POWERS = {"identity": 1.0, "square": 2.0, "cube": 3.0, "tenth": 10.0}
SEPARATIONS = ("maximum", "softmax", *POWERS)
CORRUPTIONS = ("noise", "mask")


class Nearness(Similarity):
    """A positive similarity of Millidge et al. 2022, or its logarithm, of which softmax(k) is the k-th power divided by the sum."""

    def __init__(self, kind: str, logarithm: bool) -> None:
        super().__init__()
        self.kind, self.logarithm = kind, logarithm

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        if self.kind == "dot":
            near = cues @ (keys / keys.sum(-1, keepdim=True).clamp_min(torch.finfo(keys.dtype).tiny)).mT
        else:
            near = 1 / torch.cdist(cues, keys, p=1.0 if self.kind == "manhattan" else 2.0).clamp_min(1e-6)
            near = near.square() if self.kind == "euclidean" else near
        return near.clamp_min(torch.finfo(near.dtype).tiny).log() if self.logarithm else near


def measure(point: Point, *, generator: torch.Generator) -> Row:
    images = _images(str(point["images"]))
    separation, num_patterns, dim = str(point["separation"]), int(point["stored"]), images.rows.shape[1]
    similarity = Nearness(str(point["similarity"]), separation in POWERS)
    counts, errors, threshold = [], [], float(point["threshold"]) * dim / 784
    for _ in range(int(point["trials"])):
        stored = images.rows[torch.randperm(len(images), generator=generator)[:num_patterns]]
        memory = universal(dim, similarity, _separation(separation, float(point["beta"])))
        memory.write(stored)
        state = memory.recall(corrupt(stored, str(point["corruption"]), float(point["amount"]), generator)).state
        error = (state - stored).square().sum(-1)
        counts.append(int((error <= threshold).sum()))
        errors.append(float(error.mean()) / dim)
    return {**rate("recalled", counts, [num_patterns] * len(counts)), "error": math.fsum(errors) / len(errors)}


def corrupt(stored: Rows, corruption: str, amount: float, generator: torch.Generator) -> Rows:
    """Cues as in their code: noise is folded back at 0 and cut off at 1, a mask sets the last rows of the image to 0."""
    if corruption == "noise":
        return Noise(amount)(stored, generator=generator).abs().clamp(0, 1)
    return Mask(amount)(stored, generator=generator)


def draw(table: "pa.Table") -> "Figure":
    stored, corruptions = sorted({row["stored"] for row in table.to_pylist()}), list(groups(table, "corruption"))
    figure, axes = figures.panels(len(corruptions), len(stored), high=2.4)
    separations = [name for (name,) in groups(table, "separation")]
    styles = ("solid", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
    for row, count in enumerate(stored):
        for column, (corruption,) in enumerate(corruptions):
            panel = axes[row * len(corruptions) + column]
            some = [r for r in table.to_pylist() if r["stored"] == count and r["corruption"] == corruption]
            for (similarity, separation), rows in groups(some, "similarity", "separation").items():
                number, style = SIMILARITIES.index(similarity), styles[separations.index(separation)]
                name = similarity if len(separations) == 1 else f"{similarity}, {separation}"
                figures.measured(panel, *line(rows, "amount", "recalled"), name=name, number=number, linestyle=style, markersize=2.5)
            unit = "noise σ (pixels are 0 to 1)" if corruption == "noise" else "fraction of the image masked"
            figures.label(panel, unit, "fraction recalled", f"{count} images, {corruption}")
            panel.set_ylim(-0.03, 1.03)
    figures.legend(axes[-len(corruptions)], loc="upper right")
    return figure


def _separation(name: str, beta: float) -> Lagrangian:
    return Maximum() if name == "maximum" else Softmax(POWERS.get(name, beta))


@lru_cache(maxsize=2)
def _images(source: str) -> Images:
    images = load_images(source)
    return Images(torch.unique(images.rows, dim=0), images.shape, images.name)


def _check(point: Point) -> None:
    try:
        images = _images(str(point["images"]))
    except (OSError, ImportError) as error:
        raise ValueError(f"images: {error}") from error
    if int(point["stored"]) > len(images):
        raise ValueError(
            f"similarity_separation: stored={point['stored']} is more than the {len(images)} distinct images of {images.name!r}."
        )
    if point["corruption"] == "mask" and float(point["amount"]) > 1:
        raise ValueError(f"similarity_separation: a mask hides a fraction from 0 to 1, got amount={point['amount']}; run noise by itself.")


EXPERIMENT = Experiment(
    name="similarity_separation",
    question="Which similarity and which separation recall images best, against noise, mask and the number stored?",
    protocol=(
        "The universal Hopfield network of Millidge et al. 2022, one read. Each trial draws so many distinct images, pixels from 0 to "
        "1, writes them and shows each one corrupted: noise, |x + σn| cut off at 1, or its last pixels set to 0. Recalled: a squared "
        "error of at most threshold × D/784 (published for MNIST: 60; of 200 digits most have another within that). Similarities "
        "1/distance², 1/Manhattan distance, and products with images divided by their sum; separations maximum, softmax(beta), and "
        "powers 1, 2, 3, 10 divided by their sum. Intervals: Wilson, 95 %, with the design effect of trials."
    ),
    axes={
        "similarity": Axis("how images are compared", SIMILARITIES, choices=SIMILARITIES),
        "separation": Axis("how scores are sharpened", ("maximum", "tenth"), choices=SEPARATIONS),
        "corruption": Axis("noise or mask", CORRUPTIONS, choices=CORRUPTIONS),
        "amount": Axis("σ of the noise, or the fraction masked", (0.1, 0.2, 0.3, 0.5, 0.7, 0.9), least=0),
        "stored": Axis("images stored", (20, 200), least=1),
        "images": Axis("digits, a FILE.npz or a FOLDER of images", ("digits",)),
        "beta": Axis("of softmax", (1000.0,), least=1e-9),
        "threshold": Axis("squared error that counts as recalled, per 784 pixels", (15.0,), least=0),
    },
    columns={
        **with_interval("recalled", "fraction of the images recalled"),
        "error": Column("mean squared error per pixel"),
    },
    measure=measure,
    draw=draw,
    trials=5,
    check=_check,
)
run = EXPERIMENT.run
