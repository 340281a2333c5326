"""Trials: many networks of one size, each with patterns of its own, recalled together from corrupted cues.

What capacity, basins and the map of local rules measure alike. Patterns [pattern, dim], cues and targets [cue, dim].
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from ammon.catalog import CATALOG, Entry
from ammon.datasets.images import Images, load_images
from ammon.dynamics.settle import Recall
from ammon.experiments.base import Axis, Point
from ammon.experiments.recall import alike
from ammon.experiments.stored import overloaded, random_rows, signs
from ammon.memories.base import Memory
from ammon.memories.together import recall_together
from ammon.parts.corruption import Flip
from ammon.parts.patterns import Preparation, random_patterns, sparse
from ammon.shapes import Rows, States

# numbers in the patterns (or weights) of the networks that are recalled together: 20 networks of 1000 units
ROOM = 20 * 2**20
RANDOM = "random"
DATA_AXES = {
    "data": Axis("random, digits, or your images: a FILE.npz or a FOLDER", (RANDOM,)),
    "bias": Axis("mean of the entries of random ±1 patterns", (0.0,), least=-0.99, most=0.99),
    "correlation": Axis("overlap of any two random patterns, beyond their bias", (0.0,), least=0.0, most=0.99),
}


@dataclass(frozen=True)
class Trial:
    """One network: what its cues should give, and what they gave. States of ±1 memories are read by their sign."""

    memory: Memory
    target: Rows
    cue: Rows
    found: Recall

    @property
    def state(self) -> States:
        return self.found.state


Make = Callable[[int], Memory]


def recall_trials(
    point: Point,
    num_patterns: int,
    trials: int,
    cues: int,
    generator: torch.Generator,
    *,
    make: Make,
    flips: Sequence[float],
    keep: bool = False,
) -> Iterator[Trial]:
    """So many networks of `make(dim)`, each with its own patterns, recalled from at most so many of them, group by group.

    Each of the patterns chosen is shown once at each corruption of `flips`, cues of one corruption side by side. The point says dim, memory
    (whose data and task they have; without one ±1 and "auto"), data, bias and correlation. Networks are drawn one after the other, so how
    many are recalled together does not matter beyond rounding. keep: the trajectories too.
    """
    entry = CATALOG[str(point["memory"])] if "memory" in point else None
    dim = int(point["dim"])
    # a kept trajectory is some steps long
    numbers = max(num_patterns, dim, cues * len(flips) * (16 if keep else 1)) * dim
    together = max(1, ROOM // numbers)
    for start in range(0, trials, together):
        drawn = [_draw(point, entry, num_patterns, cues, flips, generator) for _ in range(min(together, trials - start))]
        memories = [make(dim) for _ in drawn]
        with overloaded():
            for memory, (patterns, _, _) in zip(memories, drawn):
                memory.write(patterns)
        records = recall_together(memories, [cue for _, _, cue in drawn], keep=keep)
        for memory, (_, target, cue), record in zip(memories, drawn, records):
            yield Trial(memory, target, cue, _read(record) if entry is None or entry.data == "bipolar" else record)


def check_data(point: Point) -> None:
    """ValueError, in one line, if the point's data are not there or are not rows of its dim."""
    if point["data"] == RANDOM:
        return
    try:
        images = _images(str(point["data"]))
    except (OSError, ImportError) as error:
        raise ValueError(f"data: {error}") from error
    if images.rows.shape[1] != point["dim"]:
        raise ValueError(f"data: the images of {images.name!r} have {images.rows.shape[1]} entries; run with dim={images.rows.shape[1]}.")
    if point["bias"] or point["correlation"]:
        raise ValueError(f"data: bias and correlation are of random patterns, not of {images.name!r}; leave them out.")


def available(point: Point) -> int | None:
    """How many distinct patterns the data hold; None if there is no end of them."""
    return None if point["data"] == RANDOM else len(_images(str(point["data"])).rows)


def _draw(
    point: Point, entry: Entry | None, num_patterns: int, cues: int, flips: Sequence[float], generator: torch.Generator
) -> tuple[Rows, Rows, Rows]:
    """Patterns, and the targets and cues of some of them."""
    data = "bipolar" if entry is None else entry.data
    sequence = entry is not None and entry.task == "sequence"
    rows = _rows(point, data, num_patterns, generator)
    # of a sequence the last pattern leads nowhere
    chosen = torch.randperm(num_patterns - sequence, generator=generator)[:cues]
    if data == "sparse":
        patterns, shown = rows, torch.cat([_moved(rows[chosen], fraction, generator) for fraction in flips])
    else:
        # an entry is flipped as it was drawn: ±1 or a pixel
        cue = torch.cat([Flip(fraction)(rows[chosen], generator=generator) for fraction in flips])
        patterns, shown = alike(rows, cue, data)
    return patterns, patterns[chosen + sequence].repeat(len(flips), 1), shown


def _rows(point: Point, data: Preparation, num_patterns: int, generator: torch.Generator) -> Rows:
    dim, bias, correlation = int(point["dim"]), float(point["bias"]), float(point["correlation"])
    if point["data"] != RANDOM:
        rows = _images(str(point["data"])).rows
        chosen = rows[torch.randperm(len(rows), generator=generator)[:num_patterns]]
        return sparse(chosen) if data == "sparse" else chosen
    if data == "sparse":
        return random_rows("sparse", num_patterns, dim, generator)
    return random_patterns(num_patterns, dim, generator=generator, bias=bias, correlation=correlation)


def _moved(rows: Rows, fraction: float, generator: torch.Generator) -> Rows:
    """Rows of 0 and 1 in which a fraction of the ones has moved to random places that were 0."""
    chance = torch.rand(rows.shape, generator=generator)
    count = round(fraction * float(rows[:1].sum()))
    leave = (rows - chance).argsort(-1, descending=True)[:, :count]
    come = (1 - rows + chance).argsort(-1, descending=True)[:, :count]
    return rows.scatter(-1, leave, 0.0).scatter(-1, come, 1.0)


def _read(record: Recall) -> Recall:
    state = signs(record.state)
    return replace(record, state=state)


@lru_cache(maxsize=2)
def _images(source: str) -> Images:
    images = load_images(source)
    return Images(torch.unique(images.rows, dim=0), images.shape, images.name)
