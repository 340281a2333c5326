"""Sequence: how far is a stored sequence recalled, step by step, against its length and the noise of the cue?

The sequence is cyclic, so that recall may start at any of its patterns and has a whole length before it.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ammon.analysis import figures, theory
from ammon.analysis.rows import groups, line, mean, rate
from ammon.catalog import Entry
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.stored import overloaded, random_rows, with_interval
from ammon.memories.base import Memory
from ammon.parts.corruption import Flip
from ammon.shapes import Rows, States

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

# the power of the separation where no `d` is set
DEGREE = 2


def measure(point: Point, *, generator: torch.Generator) -> Row:
    dim, starts, near = int(point["dim"]), int(point["starts"]), float(point["near"])
    num_patterns = max(3, round(float(point["load"]) * dim))
    lengths, whole, overlap = [], [], []
    for _ in range(int(point["trials"])):
        patterns = random_rows("bipolar", num_patterns, dim, generator)
        memory = make_memory({**point, "end": "cyclic"}, dim)
        with overloaded():
            memory.write(patterns)
        first = torch.randint(num_patterns, (starts,), generator=generator)
        cue = Flip(float(point["flips"]))(patterns[first], generator=generator)
        right, once = walk(memory, cue, patterns, first, near)
        lengths.append(float(right.double().mean()))
        whole.append(int((right == num_patterns).sum()))
        overlap.append(float(once.mean()))
    length = mean("length", lengths)
    return {
        "patterns": num_patterns,
        **length,
        **{f"share{end}": length[f"length{end}"] / num_patterns for end in ("", "_low", "_high")},
        **rate("whole", whole, [starts] * len(whole)),
        "first_overlap": sum(overlap) / len(overlap),
        "capacity_theory": _law(point, dim),
    }


def walk(memory: Memory, state: States, patterns: Rows, first: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """How many steps in a row are right from states at the places `first` of a cyclic sequence, and the overlap after one; both [batch]."""
    right, once = torch.zeros_like(first), None
    rows, places = torch.arange(len(first)), first
    for _ in range(len(patterns)):
        state, places = memory.recall(state, steps=1).state, (places + 1) % len(patterns)
        agree = (state * patterns[places]).mean(-1)
        once = agree if once is None else once
        # who has left the sequence need not go on
        kept = agree >= near
        rows, places, state = rows[kept], places[kept], state[kept]
        if not len(rows):
            break
        right[rows] += 1
    assert once is not None
    return right, once


def draw(table: "pa.Table") -> "Figure":
    keys = ("memory", "d") if "d" in table.column_names else ("memory",)
    by_memory = groups(table, *keys)
    figure, axes = figures.panels(1, len(by_memory), high=2.3)
    for panel, (key, rows) in zip(axes, by_memory.items()):
        for number, ((flips, dim), some) in enumerate(groups(rows, "flips", "dim").items()):
            figures.measured(panel, *line(some, "load", "share"), name=f"{flips:g} flipped, D = {dim}", number=number)
        loads, law, dim = [float(row["load"]) for row in rows], rows[0]["capacity_theory"], int(rows[0]["dim"])
        if law is not None and len({row["dim"] for row in rows}) == 1 and min(loads) <= law / dim <= max(loads):
            panel.axvline(law / dim, linestyle="--", linewidth=1.2, color=figures.INK)
            panel.text(law / dim, 0.74, " whole sequence,\n theory", fontsize=7, color=figures.INK)
        panel.set_xscale("log")
        panel.set_ylim(-0.03, 1.03)
        figures.label(panel, "length of the sequence K/D (patterns per unit)", "share recalled in a row", ", d = ".join(map(str, key)))
    figures.legend(axes[0], loc="lower left")
    return figure


def _law(point: Point, dim: int) -> float | None:
    """The length up to which theory has whole sequences recalled."""
    if point["memory"] == "exponential_sequence":
        return theory.exponential_sequence_exact(dim) if float(point.get("beta", 1.0)) == 1 else None
    if point["memory"] == "sequence":
        return theory.sequence_exact(dim, int(point.get("d", DEGREE)))
    return None


def _fits(entry: Entry) -> bool:
    return entry.task == "sequence"


EXPERIMENT = Experiment(
    name="sequence",
    question="How far is a stored sequence recalled in a row, against its length and the noise of the cue?",
    protocol=(
        "Each trial draws a cyclic sequence of K = load × D random ±1 patterns, at least 3, and writes it. From so many places of it, "
        "each with a fraction of entries flipped, recall makes K steps. The length is the number of steps in a row whose overlap with "
        "the pattern that is due is at least near; whole: all K. Intervals, 95 %: Student over trials, Wilson with the design effect "
        "of trials. Dashed: the length up to which theory has whole sequences right (Chaudhry et al. 2023), D^d/(2(d+1)(2d-1)!! ln D)."
    ),
    axes={
        "dim": Axis("units D", (100,), kind=int, least=2),
        "load": Axis("length of the sequence per unit, K/D", (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0), least=0),
        "flips": Axis("fraction of flipped entries of the cue", (0.0, 0.2, 0.3), least=0, most=1),
        "starts": Axis("cues per trial", (10,), least=1),
        "near": Axis("overlap that counts as right", (0.95,), least=0, most=1),
    },
    columns={
        "patterns": Column("patterns in the sequence, K", type=int),
        **with_interval("length", "steps recalled in a row", "steps"),
        **with_interval("share", "the same over K"),
        **with_interval("whole", "fraction of the cues from which the whole sequence follows"),
        "first_overlap": Column("mean overlap after the first step"),
        "capacity_theory": Column("length up to which theory has whole sequences right", "patterns"),
    },
    measure=measure,
    draw=draw,
    trials=5,
    memories=("sequence", "exponential_sequence", "mixed_sequence"),
    fits=_fits,
    needs="memories of sequences",
)
run = EXPERIMENT.run
