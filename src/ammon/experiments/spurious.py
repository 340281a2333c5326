"""Spurious: where recall from a random state ends. In a stored pattern, its negative, a mixture of several, or elsewhere.

Mixtures are the signs of sums of 3 or 5 stored patterns, each as it is or negated (Amit, Gutfreund & Sompolinsky 1985): attractors that
nobody has stored.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ammon.analysis import figures
from ammon.analysis.mean_field import critical
from ammon.analysis.rows import groups, line, rate
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.stored import BIPOLAR_AUTO, bipolar_auto, overlaps, overloaded, random_rows, signs, with_interval
from ammon.shapes import Rows, States

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("stored", "negated", "mixture", "other")
SIZES = (3, 5)  # patterns in a mixture
# memories for which the mean-field load beyond which no retrieval state exists is known, and the power of their separation
POWERS = {"hopfield": 2, "synchronous_hopfield": 2, "dense": 3}


def measure(point: Point, *, generator: torch.Generator) -> Row:
    dim, starts, near = int(point["dim"]), int(point["starts"]), float(point["near"])
    num_patterns = max(1, round(float(point["load"]) * dim))
    counts: dict[str, list[int]] = {kind: [] for kind in KINDS}
    converged, nearest = 0.0, 0.0
    for _ in range(int(point["trials"])):
        patterns = random_rows("bipolar", num_patterns, dim, generator)
        memory = make_memory(point, dim)
        with overloaded():
            memory.write(patterns)
        found = memory.recall(random_rows("bipolar", starts, dim, generator), generator=generator)
        state = signs(found.state)
        kinds = classify(state, patterns, near)
        for number, kind in enumerate(KINDS):
            counts[kind].append(int((kinds == number).sum()))
        converged += float(found.converged.double().mean()) / int(point["trials"])
        nearest += float(overlaps(state, patterns).amax(-1).double().mean()) / int(point["trials"])
    asked = [starts] * int(point["trials"])
    rates = {key: value for kind in KINDS for key, value in rate(kind, counts[kind], asked).items()}
    return {"patterns": num_patterns, **rates, "nearest": nearest, "converged": converged}


def classify(state: States, patterns: Rows, near: float) -> Tensor:
    """For each state the place in `KINDS` of what it is: the first whose overlap with it is at least `near`. [batch]"""
    overlap = overlaps(state, patterns)
    kinds = torch.full((len(state),), KINDS.index("other"))
    for size in SIZES:
        if len(patterns) >= size:
            # the mixture nearest to a state is that of the patterns that overlap most with it
            chosen = overlap.abs().topk(size, -1).indices
            parts = patterns[chosen] * overlap.gather(-1, chosen).sign().unsqueeze(-1)
            alike = (parts.sum(1).sign() * state).mean(-1)
            kinds[alike >= near] = KINDS.index("mixture")
    kinds[overlap.amin(-1) <= -near] = KINDS.index("negated")
    kinds[overlap.amax(-1) >= near] = KINDS.index("stored")
    return kinds


def draw(table: "pa.Table") -> "Figure":
    by_memory = groups(table, "memory")
    figure, axes = figures.panels(min(2, len(by_memory)), -(-len(by_memory) // 2))
    for panel, ((memory,), rows) in zip(axes, by_memory.items()):
        for number, kind in enumerate(KINDS):
            figures.measured(panel, *line(rows, "load", kind), name=kind, number=number)
        _mark_critical(panel, str(memory), rows)
        figures.label(panel, "load K/D (patterns per unit)", "fraction of random starts", str(memory))
        panel.set_xscale("log")
        panel.set_ylim(-0.03, 1.03)
    for panel in axes[len(by_memory) :]:
        panel.set_visible(False)
    figures.legend(axes[0])
    return figure


def _mark_critical(panel: "Axes", memory: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The load beyond which no retrieval state exists, where the panel reaches it."""
    if memory not in POWERS:
        return
    dims, loads = {int(row["dim"]) for row in rows}, [float(row["load"]) for row in rows]
    n = int(rows[0].get("n", POWERS[memory]))
    for dim in dims:
        load = critical(n).load * dim ** (n - 2)
        if min(loads) <= load <= max(loads):
            panel.axvline(load, linestyle="--", linewidth=1.2, color=figures.INK)
            panel.text(load, 0.98, f" theory, {load:.3g}", fontsize=7, color=figures.INK, va="top")


EXPERIMENT = Experiment(
    name="spurious",
    question="Where does recall from a random state end: in what was stored, its negative, a mixture, or elsewhere?",
    protocol=(
        "Each trial draws K = load × D random ±1 patterns, writes them and settles from so many random ±1 states, single units in "
        "random order where the memory updates one by one. A final state counts as stored (negated) if its overlap with a pattern is "
        "at least near (at most -near), else as a mixture if its overlap with the sign of the sum of the 3 or 5 patterns, each as it "
        "is or negated, that overlap most with it is at least near, else as other. Intervals: Wilson, 95 %, with the design effect of "
        "trials. Dashed: the load beyond which mean-field theory has no retrieval state."
    ),
    axes={
        "dim": Axis("units D", (100,), kind=int, least=2),
        "load": Axis("patterns per unit, K/D", (0.02, 0.05, 0.08, 0.11, 0.14, 0.2, 0.4, 1.0, 3.0, 10.0), least=0),
        "starts": Axis("random states per trial", (50,), least=1),
        "near": Axis("overlap from which a state counts as a pattern", (0.9,), least=0, most=1),
    },
    columns={
        "patterns": Column("patterns stored, K", type=int),
        **with_interval("stored", "fraction of starts that end in a stored pattern"),
        **with_interval("negated", "fraction that end in the negative of one"),
        **with_interval("mixture", "fraction that end in a mixture of 3 or 5 patterns"),
        **with_interval("other", "fraction that end elsewhere"),
        "nearest": Column("mean over starts of the largest overlap of the final state with a pattern"),
        "converged": Column("fraction of starts that came to rest"),
    },
    measure=measure,
    draw=draw,
    trials=10,
    memories=("hopfield", "storkey", "pseudo_inverse", "dense"),
    fits=bipolar_auto,
    needs=BIPOLAR_AUTO,
)
run = EXPERIMENT.run
