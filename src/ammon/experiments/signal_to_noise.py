"""Signal to noise: the field on each unit of a stored pattern, split into what the pattern itself gives and the crosstalk of the others.

The aligned field ξ_i h_i(ξ) has the mean S and the standard deviation N over units and patterns; a unit errs where h has the other sign.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from ammon.analysis import figures, theory
from ammon.analysis.fields import fields, has_fields
from ammon.analysis.rows import groups, line, mean, rate
from ammon.catalog import Entry
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.stored import bipolar_auto, overlaps, overloaded, random_rows, signs, with_interval

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

COUNTED = 200  # patterns of each trial at which the field is taken


def measure(point: Point, *, generator: torch.Generator) -> Row:
    dim = int(point["dim"])
    num_patterns = max(1, round(float(point["load"]) * dim))
    ratios, signals, errors, kept, retained = [], [], [], [], []
    for _ in range(int(point["trials"])):
        patterns = random_rows("bipolar", num_patterns, dim, generator)
        memory = make_memory(point, dim)
        with overloaded():
            memory.write(patterns)
        some = patterns[:COUNTED]
        field = fields(memory, some)
        aligned = (some * field).double()
        noise, size = float(aligned.std(correction=0)), float(aligned.abs().mean())
        # rounding leaves a little of what has no crosstalk at all
        noisy = noise > 1e-6 * size
        ratios.append(float(aligned.mean()) / noise if noisy else math.nan)
        signals.append(float(aligned.mean()) / size if size else 0.0)
        errors.append(int(((field >= 0) != (some > 0)).sum()))
        state = signs(memory.recall(some, generator=generator).state)
        retained.append(float((state * some).mean()))
        kept.append(int((overlaps(state, some).diagonal() >= float(point["near"])).sum()))
    # a law of crosstalk says nothing where there is none
    law = _law(point, dim, num_patterns) if any(map(math.isfinite, ratios)) else None
    asked = [len(some)] * len(errors)
    return {
        "patterns": num_patterns,
        **mean("ratio", ratios),
        "ratio_theory": law,
        "signal": sum(signals) / len(signals),
        **rate("error", errors, [count * dim for count in asked]),
        "error_theory": None if law is None else theory.tail(law),
        **rate("recalled", kept, asked),
        "overlap": sum(retained) / len(retained),
    }


def draw(table: "pa.Table") -> "Figure":
    figure, (ratio, error, recalled) = figures.panels(1, 3, high=2.3)
    for number, ((memory,), rows) in enumerate(groups(table, "memory").items()):
        figures.measured(ratio, *line(rows, "load", "ratio"), name=str(memory), number=number)
        figures.measured(error, *line([row for row in rows if row["error"] > 0], "load", "error"), number=number)
        figures.measured(recalled, *line(rows, "load", "recalled"), number=number)
        for panel, column in ((ratio, "ratio_theory"), (error, "error_theory")):
            law = line(rows, "load", column)
            figures.theory(panel, law.x, law.y, number=number)
    figures.theory(ratio, [], [], name="theory")
    if table.column("ratio").null_count < table.num_rows:
        ratio.set_yscale("log")
    error.set_yscale("log")
    error.set_ylim(1e-6, 1)
    loads = [float(load) for (load,) in groups(table, "load")]
    for panel in (ratio, error, recalled):
        panel.set_xscale("log")
        # also where a panel has nothing to show
        panel.set_xlim(0.8 * min(loads), 1.25 * max(loads))
    figures.label(ratio, "load K/D (patterns per unit)", "signal over crosstalk")
    figures.label(error, "load K/D (patterns per unit)", "units that err at once")
    figures.label(recalled, "load K/D (patterns per unit)", "patterns kept by recall")
    figures.legend(ratio)
    return figure


# signal over crosstalk where it is known, of ±1 patterns drawn independently
LAWS: dict[str, Callable[..., float]] = {
    "hopfield": theory.dense_ratio,
    "synchronous_hopfield": theory.dense_ratio,
    "dense": partial(theory.dense_ratio, n=3),
    "exponential": theory.exponential_ratio,
    "pseudo_inverse": theory.pseudo_inverse_ratio,
}


def _law(point: Point, dim: int, num_patterns: int) -> float | None:
    law = LAWS.get(str(point["memory"]))
    if law is None or num_patterns < 2 or (law is theory.pseudo_inverse_ratio and num_patterns >= dim):
        return None
    return law(dim, num_patterns, **{key: point[key] for key in ("n", "beta") if key in point})


def _fits(entry: Entry) -> bool:
    return bipolar_auto(entry) and has_fields(entry.make(8))


EXPERIMENT = Experiment(
    name="signal_to_noise",
    question="How strong is a stored pattern's own field against the crosstalk of the others, up to where recall fails?",
    protocol=(
        "Each trial draws K = load × D random ±1 patterns and writes them. At up to 200 of them the field on each unit is taken times "
        "the unit, its own vote left out where the memory leaves it out. Signal: the mean over units and patterns; crosstalk: the "
        "standard deviation; a unit errs at once where its field has the other sign (a field of 0 is +). Recall then settles from the "
        "same patterns; one is kept if its overlap with where it ends is at least near. Intervals, 95 %: Student over trials, Wilson "
        "with the design effect of trials. Dashed: laws of ammon.analysis.theory, and the normal tail of each."
    ),
    axes={
        "dim": Axis("units D", (200,), kind=int, least=2),
        "load": Axis("patterns per unit, K/D", (0.02, 0.05, 0.1, 0.14, 0.2, 0.3, 0.5, 0.8, 2.0, 5.0, 10.0), least=0),
        "near": Axis("overlap from which a pattern counts as kept", (0.9,), least=0, most=1),
    },
    columns={
        "patterns": Column("patterns stored, K", type=int),
        **with_interval("ratio", "signal over crosstalk; missing where there is no crosstalk"),
        "ratio_theory": Column("signal over crosstalk by theory, where it is known"),
        "signal": Column("mean aligned field over its mean size: 1 while no unit errs"),
        **with_interval("error", "fraction of units that err at once"),
        "error_theory": Column("fraction of units that err at once by theory"),
        **with_interval("recalled", "fraction of patterns kept by recall"),
        "overlap": Column("mean overlap of the settled state with its pattern"),
    },
    measure=measure,
    draw=draw,
    trials=5,
    memories=("hopfield", "storkey", "pseudo_inverse", "dense"),
    fits=_fits,
    needs="memories of ±1 patterns whose units are signs of a field",
)
run = EXPERIMENT.run
