"""Capacity: how many patterns a memory holds, at a stated corruption and criterion, and how that number grows with its size.

Without `load` the critical number of patterns is found by bisection; with `load` recall is measured at the loads given.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ammon.analysis import figures, theory
from ammon.analysis.criteria import CRITERIA, bit_error, recalled
from ammon.analysis.critical import critical
from ammon.analysis.mean_field import critical as mean_field
from ammon.analysis.overlap import overlap
from ammon.analysis.rows import groups, line
from ammon.analysis.statistics import Growth, Interval, growth, wilson
from ammon.analysis.synapses import synapses
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.stored import with_interval
from ammon.experiments.trials import DATA_AXES, Make, available, check_data, recall_trials

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# numbers in the patterns of one network: beyond, the search for the critical load gives up
LARGEST = 2**25
# what makes a curve of its own in the figure, beside the memory
CURVES = ("flips", "criterion", "threshold", "n", "d", "gamma", "beta", "margin", "data", "bias", "correlation")

CRITERION_AXES = {
    "flips": Axis("share of entries flipped in a cue", (0.0, 0.1), least=0, most=1),
    "criterion": Axis("when a cue counts as recalled", ("overlap",), choices=tuple(CRITERIA)),
    "threshold": Axis("of the criterion: exact .01, overlap .9, bits .01, squared .01 by default", least=-1, most=4),
}
LEVEL_AXES = {
    "cues": Axis("patterns recalled in each network", (10,), least=1),
    "level": Axis("share of cues recalled at the critical load", (0.5,), least=0.01, most=0.99),
    "resolution": Axis("step of the bisection, as a share of the load", (0.02,), least=1e-4, most=1),
}
FOUND: Mapping[str, Column] = {
    "patterns": Column("patterns stored, K", type=int),
    "per_unit": Column("K/D"),
    "asked": Column("cues", type=int),
    **with_interval("rate", "share of cues recalled (Wilson, networks not taken for independent cues)"),
    "overlap": Column("mean overlap of the state with the pattern"),
    "bit_error": Column("mean share of wrong entries"),
    "steps": Column("mean number of updates", "sweeps"),
    "converged": Column("share of cues that came to rest"),
    "synapses": Column("adjustable numbers of the memory when it holds K patterns", type=int),
}
CRITICAL: Mapping[str, Column] = {
    "critical": Column("patterns at which the rate crosses the level, K_c"),
    "critical_low": Column("largest K up to which the whole interval of the rate lies above the level"),
    "critical_high": Column("smallest K from which on it lies below"),
    "bits_per_synapse": Column("D K_c over the synapses at K_c", "bit"),
}


def measure(point: Point, *, generator: torch.Generator) -> Sequence[Row]:
    def make(dim: int) -> Any:
        return make_memory(point, dim)

    if "load" in point:
        return [rate_at(point, max(_least(point), round(float(point["load"]) * int(point["dim"]))), make, generator)]
    return search(point, make, generator)


def search(point: Point, make: Make, generator: torch.Generator) -> list[Row]:
    """One row for every number of patterns asked, each with the critical one."""
    rows: dict[int, Row] = {}
    dim = int(point["dim"])

    def probe(num_patterns: int) -> Interval:
        row = rows[num_patterns] = rate_at(point, num_patterns, make, generator)
        return Interval(*(float(row[key] or 0.0) for key in ("rate", "rate_low", "rate_high")))

    least = _least(point)
    most = max(least, min(LARGEST // dim, available(point) or LARGEST))
    start = min(max(least, dim // 10), most)
    found = critical(probe, start, most, least=least, level=float(point["level"]), resolution=float(point["resolution"]))
    bits = math.nan
    if not math.isnan(found.value):
        # synapses of the network that was asked nearest to the crossing
        near = rows[min(rows, key=lambda count: abs(count - found.value))]
        bits = dim * found.value / float(near["synapses"] or math.nan)
    ends = {"critical": found.value, "critical_low": found.low, "critical_high": found.high, "bits_per_synapse": bits}
    return [{**rows[count], **ends} for count in sorted(rows)]


def rate_at(point: Point, num_patterns: int, make: Make, generator: torch.Generator) -> Row:
    """Recall at one load, over all trials."""
    threshold = float(point["threshold"]) if "threshold" in point else None
    right, asked, sums, held = [], [], torch.zeros(4, dtype=torch.float64), 0
    corruption = [float(point["flips"])]
    for trial in recall_trials(point, num_patterns, int(point["trials"]), int(point["cues"]), generator, make=make, flips=corruption):
        right.append(int(recalled(trial.state, trial.target, str(point["criterion"]), threshold).sum()))
        asked.append(len(trial.target))
        each = (overlap(trial.state, trial.target), bit_error(trial.state, trial.target), trial.found.steps, trial.found.converged)
        sums += torch.stack([values.double().sum() for values in each])
        held = held or synapses(trial.memory)
    means = (sums / sum(asked)).tolist()
    return {
        "patterns": num_patterns,
        "per_unit": num_patterns / int(point["dim"]),
        "asked": sum(asked),
        **dict(zip(("rate", "rate_low", "rate_high"), wilson(right, asked))),
        **dict(zip(("overlap", "bit_error", "steps", "converged"), means)),
        "synapses": held,
    }


def check(point: Point) -> None:
    check_data(point)
    images = available(point)
    if images is not None and "load" in point and round(float(point["load"]) * int(point["dim"])) > images:
        raise ValueError(f"load: {point['load']} of {point['dim']} are more patterns than the {images} distinct ones of {point['data']!r}.")


def _least(point: Point) -> int:
    # a transition needs two
    return 2 if "sequence" in str(point.get("memory", "")) else 1


def expected(row: Mapping[str, Any], dim: int) -> float | None:
    """Where theory puts the critical number of patterns, if it knows: random patterns; exact recall, else collapse of the overlap."""
    memory, exact, flips = str(row["memory"]), row["criterion"] == "exact", float(row["flips"])
    if row["data"] != "random" or row["bias"] or row["correlation"]:
        return None
    if memory in ("hopfield", "synchronous_hopfield"):
        return theory.one_pattern_exact(dim) if exact else mean_field(2).load * dim
    if memory in ("dense", "large_dim_dense"):
        n = int(row.get("n") or 3)
        return theory.dense_without_errors(dim, n, flips) if exact else mean_field(n).load * dim ** (n - 1)
    if memory in ("kernel_ridge", "kernel_logistic"):
        return theory.kernel_exact(dim, float(row.get("gamma") or 0.1), flips)
    if memory == "sequence" and exact:
        return theory.transitions_exact(dim, int(row.get("d") or 2))
    known = {
        "exponential": lambda: theory.exponential_exact(dim, flips),
        "storkey": lambda: theory.storkey_exact(dim),
        "pseudo_inverse": lambda: theory.pseudo_inverse_exact(dim),
        "exponential_sequence": lambda: theory.exponential_transitions_exact(dim),
    }
    return known[memory]() if memory in known else None


def draw(table: "pa.Table") -> "Figure":
    rows = table.to_pylist()
    if rows and rows[0].get("critical") is None and len({row["per_unit"] for row in rows}) > 1 and "load" in rows[0]:
        figure, (panel,) = figures.panels()
        _rates(panel, rows)
        return figure
    figure, (left, right) = figures.panels(rows=2)
    _rates(left, rows)
    _scaling(right, rows)
    return figure


def _rates(panel: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    """The share recalled over the load, of the largest networks of each curve."""
    spread = [row["per_unit"] for row in rows]
    for number, (name, some) in enumerate(_curves(rows).items()):
        dim = max(row["dim"] for row in some)
        largest = [row for row in some if row["dim"] == dim]
        figures.measured(panel, *line(largest, "per_unit", "rate"), name=f"{name}, D = {dim}", number=number)
        place = expected(largest[0], dim)
        if place is not None and min(spread) <= place / dim <= max(spread):
            panel.axvline(place / dim, linestyle="--", linewidth=1.2, color=figures.COLOURS[number % len(figures.COLOURS)])
    if min(spread) > 0 and max(spread) > 20 * min(spread):
        figures.logarithmic(panel, "x")
    panel.set_ylim(-0.03, 1.03)
    figures.label(panel, "load K/D (patterns per unit)", "share of cues recalled", "recall against load")
    figures.legend(panel)


def _scaling(panel: "Axes", rows: Sequence[Mapping[str, Any]]) -> None:
    """The critical number of patterns over the size, with the law that fits better, and theory."""
    for number, (name, some) in enumerate(_curves(rows).items()):
        found = [next(iter(group)) for group in groups(some, "dim").values()]
        there = line([{**row, "critical": row["critical"]} for row in found], "dim", "critical")
        if not there.x:
            continue
        law = scaling(there.x, there.y)
        figures.measured(panel, *there, name=f"{name}: {_said(law)}" if law else name, number=number, linestyle="none")
        across = sorted({round(there.x[0] * (there.x[-1] / there.x[0]) ** (step / 40)) for step in range(41)})
        if law:
            panel.plot(across, [law(x) for x in across], color=figures.COLOURS[number % len(figures.COLOURS)], linewidth=1)
        places = [(x, y) for x in across if (y := expected(found[0], x)) is not None and math.isfinite(y)]
        if places:
            figures.theory(panel, *zip(*places), number=number)
    figures.logarithmic(panel, "x", "y")
    figures.label(panel, "units D", "critical number of patterns $K_c$", "growth with size (dashed: theory)")
    figures.legend(panel)


def scaling(dims: Sequence[float], counts: Sequence[float]) -> Growth | None:
    """The law of growth, power or exponential, that leaves the smaller residual; a power where sizes are too few to tell."""
    if len(set(dims)) < 2 or min(counts) <= 0:
        return None
    power, exponential = growth(dims, counts, "power"), growth(dims, counts, "exponential")
    return exponential if len(set(dims)) > 2 and exponential.residual < power.residual else power


def _said(law: Growth) -> str:
    value, low, _ = law.exponent
    reach = "" if math.isnan(low) else f" ± {value - low:.2g}"
    return f"$K_c \\propto D^{{{value:.2f}{reach}}}$" if law.law == "power" else f"$K_c \\propto e^{{({value:.3f}{reach}) D}}$"


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each curve by its name: the memory and what else differs between them."""
    keys = ["memory", *(key for key in CURVES if len({row.get(key) for row in rows}) > 1)]
    if not all("memory" in row for row in rows):
        keys = keys[1:]
    return {
        ", ".join(str(values[0]) if key == "memory" else f"{key} = {value}" for key, value in zip(keys, values)): list(some)
        for values, some in groups(rows, *keys).items()
    }


EXPERIMENT = Experiment(
    name="capacity",
    question="How many patterns until recall fails, and how does that number grow with the size of the memory?",
    protocol=(
        "Each trial is a network of its own: K patterns (random ±1 entries, or images), brought to what the memory takes, are "
        "written. Of so many of them, cues, a share flips of the entries is flipped (of 0-1 patterns, that share of the ones is "
        "moved), and recall settles from there, units in turn where they update one by one; a sequence memory is asked for the next "
        "pattern. A cue counts as recalled by the criterion: exact, relative error at most .01; overlap, at least .9; bits, at most "
        ".01 of the entries wrong; squared, squared error at most .01 of the squared length; or the threshold given. States of ±1 "
        "memories are read by their sign. Intervals: Wilson, 95 %, with the design effect of networks. Without load, K is doubled "
        "or halved from D/10 until the rate crosses the level, then bisected to the resolution; K_c is read off a straight line, "
        "and lies between the nearest K whose intervals are clear of the level. Growth: least squares of log K_c over log D or D, "
        "whichever leaves less, with a t interval."
    ),
    axes={
        "dim": Axis("units D", (100, 200, 400), least=2),
        **CRITERION_AXES,
        "load": Axis("patterns per unit, K/D; without it the critical one is found", least=0),
        **LEVEL_AXES,
        **DATA_AXES,
    },
    columns={**FOUND, **CRITICAL},
    measure=measure,
    draw=draw,
    trials=20,
    memories=("hopfield",),
    needs="memories of the catalogue",
    check=check,
)
run = EXPERIMENT.run
