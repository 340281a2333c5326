"""Prototypes: only distorted instances are stored. Does recall from a new instance give the prototype that none of them is?

Fontanari 1990; Robins & McCallum 2004. Prototypes are ±1; an instance is its prototype with each entry flipped by chance.
"""

from typing import TYPE_CHECKING

import torch

from ammon.analysis import figures, theory
from ammon.analysis.rows import groups, line, mean, rate
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.stored import BIPOLAR_AUTO, bipolar_auto, overlaps, overloaded, random_rows, signs, with_interval
from ammon.shapes import Rows

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

# whose weights are the sum of outer products that the one-step law is about
HEBBIAN = ("hopfield", "synchronous_hopfield")


def measure(point: Point, *, generator: torch.Generator) -> Row:
    dim, count, flips, near = int(point["dim"]), int(point["instances"]), float(point["flips"]), float(point["near"])
    num_prototypes = max(1, round(float(point["load"]) * dim))
    recalled, instance, overlap, steps, fixed = [], [], [], [], []
    for _ in range(int(point["trials"])):
        prototypes = random_rows("bipolar", num_prototypes, dim, generator)
        instances = distort(prototypes.repeat_interleave(count, 0), flips, generator)
        memory = make_memory(point, dim)
        with overloaded():
            memory.write(instances)
        state = signs(memory.recall(distort(prototypes, flips, generator), generator=generator).state)
        to_prototype = (state * prototypes).mean(-1)
        to_instance = overlaps(state, instances).amax(-1)
        recalled.append(int((to_prototype >= near).sum()))
        # nearer to something that was stored than to what was not
        instance.append(int(((to_instance >= near) & (to_instance > to_prototype)).sum()))
        overlap.append(float(to_prototype.mean()))
        steps.append(float((signs(memory.recall(prototypes, steps=1).state) * prototypes).mean()))
        rest = signs(memory.recall(prototypes, generator=generator).state)
        fixed.append(int(((rest * prototypes).mean(-1) >= near).sum()))
    asked = [num_prototypes] * len(recalled)
    # the law is of all units at once
    law = 1 - 2 * theory.prototype_error(dim, num_prototypes, count, flips) if point["memory"] in HEBBIAN else None
    return {
        "prototypes": num_prototypes,
        "patterns": num_prototypes * count,
        **rate("recalled", recalled, asked),
        **rate("instance", instance, asked),
        **rate("fixed", fixed, asked),
        **mean("overlap", overlap),
        **mean("one_step", steps),
        "one_step_theory": law,
    }


def distort(rows: Rows, flips: float, generator: torch.Generator) -> Rows:
    """Each entry flipped with the chance `flips`."""
    return torch.where(torch.rand(rows.shape, generator=generator) < flips, -rows, rows)


def draw(table: "pa.Table") -> "Figure":
    by_memory = groups(table, "memory")
    columns = min(3, len(by_memory))
    figure, axes = figures.panels(columns, -(-len(by_memory) // columns), high=2.4)
    for panel, ((memory,), rows) in zip(axes, by_memory.items()):
        for number, ((flips, _), some) in enumerate(groups(rows, "flips", "load").items()):
            name = f"{flips:g} flipped, {some[0]['prototypes']} prototypes"
            figures.measured(panel, *line(some, "instances", "overlap"), name=name, number=number)
            law = line(some, "instances", "one_step_theory")
            figures.theory(panel, law.x, law.y, number=number)
        panel.set_xscale("log")
        panel.set_ylim(-0.03, 1.03)
        figures.label(panel, "instances stored per prototype", "overlap with the prototype", str(memory))
    for panel in axes[len(by_memory) :]:
        panel.set_visible(False)
    figures.theory(axes[0], [], [], name="one step from it")
    figures.legend(axes[0], loc="lower right")
    return figure


EXPERIMENT = Experiment(
    name="prototypes",
    question="If only distorted instances are stored, is the prototype recalled that none of them is?",
    protocol=(
        "Each trial draws P = load × D random ±1 prototypes and, of each, so many instances in which each entry is flipped by chance; "
        "only the instances are written. The cue is one new instance of each prototype, drawn alike. Recalled: the settled state's "
        "overlap with the prototype is at least near; instance: its overlap with a stored instance is, and is the larger. Fixed: "
        "recall from the prototype itself stays that near. Intervals, 95 %: Wilson with the design effect of trials, Student over "
        "trials. Dashed: the overlap after one update of all units from the prototype, by theory (Hopfield networks)."
    ),
    axes={
        "dim": Axis("units D", (200,), kind=int, least=2),
        "load": Axis("prototypes per unit, P/D", (0.02,), least=0),
        "flips": Axis("chance that an entry of an instance is flipped", (0.1, 0.2, 0.3), least=0, most=0.5),
        "instances": Axis("instances stored per prototype", (1, 2, 5, 10, 20, 50), least=1),
        "near": Axis("overlap that counts as the same", (0.95,), least=0, most=1),
    },
    columns={
        "prototypes": Column("prototypes P", type=int),
        "patterns": Column("patterns stored", type=int),
        **with_interval("recalled", "fraction of the cues that end in the prototype"),
        **with_interval("instance", "fraction that end in a stored instance"),
        **with_interval("fixed", "fraction of the prototypes that recall leaves alone"),
        **with_interval("overlap", "mean overlap of the settled state with the prototype"),
        **with_interval("one_step", "mean overlap after one update from the prototype"),
        "one_step_theory": Column("the same by theory, all units at once"),
    },
    measure=measure,
    draw=draw,
    trials=4,
    memories=("hopfield", "storkey", "pseudo_inverse", "perceptron", "dense", "exponential"),
    fits=bipolar_auto,
    needs=BIPOLAR_AUTO,
)
run = EXPERIMENT.run
