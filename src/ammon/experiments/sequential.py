"""Sequential: patterns learned one after the other. How well is each still recalled, by its age, with and without rehearsal of old ones?

A learning rule changes the weights it finds, so what it learned before may be lost; a memory that keeps its patterns loses none,
until there are too many. Age: patterns that came since.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ammon.analysis import figures, theory
from ammon.analysis.rows import groups, line, mean, rate
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.stored import BIPOLAR_AUTO, bipolar_auto, overloaded, random_rows, signs, with_interval
from ammon.memories.base import Memory
from ammon.memories.pairwise import PairwiseMemory
from ammon.parts.corruption import Flip
from ammon.shapes import Rows

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

REHEARSALS = ("none", "stored", "pseudo")
WINDOW = 5  # ages that make one row


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    dim = int(point["dim"])
    num_patterns = max(1, round(float(point["load"]) * dim))
    overlaps, first = [], []
    for _ in range(int(point["trials"])):
        patterns = random_rows("bipolar", num_patterns, dim, generator)
        memory = learner(point, dim)
        with overloaded():
            for pattern in range(num_patterns):
                old = rehearsed(memory, patterns[:pattern], str(point["rehearsal"]), int(point["rehearsed"]), generator)
                # the new one last, so that its age is 0
                memory.write(torch.cat([old, patterns[pattern : pattern + 1]]))
        cue = Flip(float(point["flips"]))(patterns, generator=generator)
        state = signs(memory.recall(cue, generator=generator).state)
        overlaps.append((state * patterns).mean(-1).flip(0))
        first.append((signs(memory.recall(patterns, steps=1).state) * patterns).mean(-1).flip(0))
    settled, once = torch.stack(overlaps).double(), torch.stack(first).double()
    return [
        _row(point, settled[:, start : start + WINDOW], once[:, start : start + WINDOW], start) for start in range(0, num_patterns, WINDOW)
    ]


def learner(point: Point, dim: int) -> Memory:
    """The memory of the point; one that would keep all patterns to learn them anew keeps none, since rehearsal is what is asked about."""
    memory = make_memory(point, dim)
    if isinstance(memory, PairwiseMemory):
        return PairwiseMemory(dim, memory.rule, memory.activation, memory.steps, memory.update, rehearse=False)
    return memory


def rehearsed(memory: Memory, seen: Rows, rehearsal: str, count: int, generator: torch.Generator) -> Rows:
    """What is learned again with a new pattern: nothing, some of those seen before, or what random states recall (Robins 1995)."""
    if rehearsal == "none" or not len(seen):
        return seen[:0]
    if rehearsal == "stored":
        return seen[torch.randperm(len(seen), generator=generator)[:count]]
    return signs(memory.recall(random_rows("bipolar", count, seen.shape[1], generator), generator=generator).state)


def draw(table: "pa.Table") -> "Figure":
    rehearsals = list(groups(table, "rehearsal"))
    figure, axes = figures.panels(1, len(rehearsals) + 1, high=2.2)
    keys = ("memory", *(key for key in ("forgetting", "n", "load", "flips") if _varies(table, key)))
    numbers = {key: number for number, key in enumerate(groups(table, *keys))}
    for panel, (rehearsal,) in zip(axes, [*rehearsals, rehearsals[0]]):
        last = panel is axes[-1]
        some = [row for row in table.to_pylist() if row["rehearsal"] == rehearsal]
        for key, rows in groups(some, *keys).items():
            name = ", ".join([str(key[0]), *(f"{word} {value:g}" for word, value in zip(keys[1:], key[1:]))])
            figures.measured(panel, *line(rows, "age", "one_step" if last else "overlap"), name=name, number=numbers[key], markersize=2.5)
            law = line(rows if last else [], "age", "one_step_theory")
            figures.theory(panel, law.x, law.y, number=numbers[key])
        panel.set_ylim(-0.03, 1.03)
        kind = f"rehearsal: {rehearsal}" + ("; dashed: theory" if last else "")
        figures.label(panel, "age (patterns since)", "overlap after one update" if last else "overlap recalled", kind)
    figures.legend(axes[-1], loc="lower left")
    return figure


def _varies(table: "pa.Table", key: str) -> bool:
    return key in table.column_names and len(set(table.column(key).to_pylist())) > 1


def _row(point: Point, settled: Tensor, once: Tensor, start: int) -> Row:
    ages, near = range(start, start + settled.shape[1]), float(point["near"])
    forgetting = float(point.get("forgetting", 0.0))
    law = None
    if point["memory"] == "amari" and forgetting > 0 and point["rehearsal"] == "none":
        law = sum(theory.palimpsest_overlap(int(point["dim"]), forgetting, age, self_connections=True) for age in ages) / len(ages)
    return {
        "age": sum(ages) / len(ages),
        **rate("recalled", (settled >= near).sum(-1).tolist(), [len(ages)] * len(settled)),
        **mean("overlap", settled.mean(-1).tolist()),
        **mean("one_step", once.mean(-1).tolist()),
        "one_step_theory": law,
    }


EXPERIMENT = Experiment(
    name="sequential",
    question="When patterns are learned one after the other, how well are old ones still recalled, with and without rehearsal?",
    protocol=(
        "Each trial draws K = load × D random ±1 patterns and writes them one by one; memories that learn weights see only what is "
        "written. With each new pattern are written, before it: nothing; so many of those seen before, drawn at random (stored); or "
        "what recall from so many random states gives (pseudo; Robins 1995). At the end each pattern is recalled from a cue with "
        f"flipped entries; ages are put together in groups of {WINDOW}. Recalled: an overlap of at least near. Intervals, 95 %: Student"
        " and Wilson over trials. Dashed: Hebb's rule with forgetting (amari, forgetting=...) after one update from the pattern, by "
        "theory."
    ),
    axes={
        "dim": Axis("units D", (100,), kind=int, least=2),
        "load": Axis("patterns per unit in the end, K/D", (0.6,), least=0),
        "rehearsal": Axis("none, stored or pseudo", REHEARSALS, choices=REHEARSALS),
        "rehearsed": Axis("old patterns written again with each new one", (5,), least=1),
        "flips": Axis("fraction of flipped entries of a cue", (0.05,), least=0, most=1),
        "near": Axis("overlap that counts as recalled", (0.95,), least=0, most=1),
    },
    columns={
        "age": Column("patterns that came since, mean of the group", "patterns"),
        **with_interval("recalled", "fraction of the patterns recalled"),
        **with_interval("overlap", "mean overlap of the settled state with the pattern"),
        **with_interval("one_step", "mean overlap after one update from the pattern itself"),
        "one_step_theory": Column("the same by theory"),
    },
    measure=measure,
    draw=draw,
    trials=6,
    memories=("hopfield", "storkey", "pseudo_inverse", "perceptron", "dense"),
    fits=bipolar_auto,
    needs=BIPOLAR_AUTO,
)
run = EXPERIMENT.run
