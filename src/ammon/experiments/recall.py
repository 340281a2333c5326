"""Recall: which memory gives these images back?

Protocol. The first N distinct images are corrupted as pixels, by one corruption after the other; images and cues are brought to the
range that the memory takes, alike; the memory writes all images and settles from every cue. ±1 memories are read by the sign of the state.
"""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.analysis.lyapunov import energies, never_rose
from ammon.analysis.overlap import exact, relative_error
from ammon.catalog import CATALOG, Entry
from ammon.datasets.images import Images
from ammon.memories.base import Memory
from ammon.parts.corruption import Corruption
from ammon.parts.patterns import Preparation, prepare
from ammon.shapes import Rows


@dataclass(frozen=True)
class Point:
    """What is asked: a memory of the catalogue, how many images it stores, and how they are corrupted."""

    memory: str
    num_patterns: int
    corruptions: tuple[Corruption, ...] = ()
    seed: int = 0  # of the corruptions; the same seed gives every memory the same cues

    def __post_init__(self) -> None:
        if self.memory not in CATALOG or not fits(CATALOG[self.memory]):
            raise ValueError(f"Point: {self.memory!r} is no memory of the catalogue that takes images; choose from {', '.join(fitting())}.")
        if self.num_patterns < 1:
            raise ValueError(f"Point: num_patterns must be at least 1, got {self.num_patterns}.")


@dataclass(frozen=True)
class Row:
    """What is found: one line of the table."""

    memory: str
    num_patterns: int
    dim: int
    load: float  # num_patterns / dim
    exact: float  # share of images recalled with a relative error of at most 0.01
    error: float  # mean relative error, in [0, 1]
    steps: float  # mean number of updates
    energy_never_rose: bool | None  # None: the memory has no energy
    seconds: float  # of the recall of all cues, after writing


@dataclass(frozen=True)
class Trial:
    """A row, and what its pictures need: images as the memory sees them."""

    row: Row
    stored: Rows
    cue: Rows
    recalled: Rows
    exact: tuple[bool, ...]  # image by image
    energies: Float[Tensor, "step image"] | None


def fits(entry: Entry) -> bool:
    """Whether the memory can be asked for images: it recalls what it stored, and its data can be made of pixels."""
    return entry.task != "sequence" and entry.data in ("raw", "bipolar", "unit")


def fitting() -> list[str]:
    """The memories of the catalogue that fit, in its order."""
    return [name for name, entry in CATALOG.items() if fits(entry)]


def measure(point: Point, images: Images) -> Row:
    """The row of a point. ValueError if there are fewer distinct images than it asks for."""
    return attempt(point, images).row


@torch.no_grad()
def attempt(point: Point, images: Images) -> Trial:
    """The row of a point and what its pictures need. ValueError if there are fewer distinct images than it asks for."""
    entry = CATALOG[point.memory]
    pixels = distinct(images, point.num_patterns)
    stored, cue = alike(pixels, corrupt(pixels, point.corruptions, point.seed), entry.data)
    memory = entry.make(stored.shape[1])
    memory.write(stored)

    has_energy = _has_energy(memory, stored[:1])
    start = time.perf_counter()
    found = memory.recall(cue, keep=has_energy)
    seconds = time.perf_counter() - start

    recalled = torch.where(found.state >= 0, 1.0, -1.0).to(stored) if entry.data == "bipolar" else found.state
    right = exact(recalled, stored)
    trace = energies(memory, found) if has_energy else None
    scale = float(stored.square().sum(-1).amax()) / 2
    row = Row(
        memory=point.memory,
        num_patterns=len(stored),
        dim=stored.shape[1],
        load=len(stored) / stored.shape[1],
        exact=float(right.double().mean()),
        error=float(relative_error(recalled, stored).double().mean()),
        steps=float(found.steps.double().mean()),
        energy_never_rose=None if trace is None else never_rose(trace, scale),
        seconds=seconds,
    )
    return Trial(row, stored, cue, recalled, tuple(right.tolist()), trace)


def distinct(images: Images, num_patterns: int) -> Rows:
    """The first `num_patterns` images of which no two are the same."""
    first: dict[bytes, int] = {}
    for index, row in enumerate(images.rows):
        if len(first) == num_patterns:
            break
        first.setdefault(row.numpy().tobytes(), index)
    if len(first) < num_patterns:
        raise ValueError(
            f"recall: {num_patterns} distinct images were asked for, {images.name!r} has {len(first)}; ask for at most that many."
        )
    return images.rows[list(first.values())]


def corrupt(pixels: Rows, corruptions: tuple[Corruption, ...], seed: int) -> Rows:
    """The pixels after one corruption after the other, cut off at 0 and 1 after each, as pixels are."""
    generator = torch.Generator().manual_seed(seed)
    for corruption in corruptions:
        pixels = corruption(pixels, generator=generator).clamp(0, 1)
    return pixels


def alike(pixels: Rows, cues: Rows, preparation: Preparation) -> tuple[Rows, Rows]:
    """Both as the memory takes them; a pixel of a cue means the same as a pixel of an image."""
    return prepare(pixels, preparation), prepare(cues, preparation, like=pixels)


def _has_energy(memory: Memory, state: Rows) -> bool:
    try:
        memory.energy(state)
    except TypeError:
        return False
    return True
