"""Basins: from how far a pattern is recalled. Recall against corruption, the critical radius of each pattern, and overlap step by step."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ammon.analysis import figures
from ammon.analysis.criteria import recalled
from ammon.analysis.mean_field import basin_edge, overlap_steps
from ammon.analysis.overlap import overlap
from ammon.analysis.rows import groups, line, mean, rate
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.capacity import CRITERION_AXES
from ammon.experiments.stored import with_interval
from ammon.experiments.trials import DATA_AXES, available, check_data, recall_trials

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# memories that theory describes, and the power of their separation
POWERS = {"hopfield": 2, "synchronous_hopfield": 2, "amari": 2, "dense": 3, "large_dim_dense": 3}
# those whose units move all at once, as the theory of single steps has it
AT_ONCE = ("synchronous_hopfield", "large_dim_dense")
STARTS = 5  # overlaps from which the figure follows recall step by step


def measure(point: Point, *, generator: torch.Generator) -> Sequence[Row]:
    dim, cues, repeats, shown = (int(point[key]) for key in ("dim", "cues", "repeats", "shown"))
    levels = corruptions(point)
    num_patterns = max(2 if "sequence" in str(point["memory"]) else 1, round(float(point["load"]) * dim))
    threshold = float(point["threshold"]) if "threshold" in point else None
    right, traces, radii = [], [], []
    for trial in recall_trials(
        point,
        num_patterns,
        int(point["trials"]),
        cues,
        generator,
        make=lambda size: make_memory(point, size),
        flips=[level for level in levels for _ in range(repeats)],
        keep=True,
    ):
        found = recalled(trial.state, trial.target, str(point["criterion"]), threshold)
        by_level = found.reshape(len(levels), repeats, -1)
        right.append(by_level.sum((1, 2)).tolist())
        radii.append(radius(by_level.double().mean(1), levels))
        traces.append(
            _overlaps(trial.found.trajectory, trial.target, shown).reshape(-1, len(levels), found.numel() // len(levels)).mean(-1)
        )
    asked = [len(levels_) for levels_ in radii]
    of_all = {"patterns": num_patterns, "radius": None, **mean("radius", [float(some.mean()) for some in radii])}
    rows: list[Row] = []
    for place, level in enumerate(levels):
        rates = rate("rate", [some[place] for some in right], [count * repeats for count in asked])
        for step in range(traces[0].shape[0]):
            found_overlap = mean("overlap", [float(trace[step, place]) for trace in traces])
            rows.append({"kind": "level", "flips": level, "step": step, **rates, **found_overlap, **of_all})
    for number, value in enumerate(torch.cat(radii).tolist()):
        rows.append({"kind": "pattern", "pattern": number, "patterns": num_patterns, "radius": value})
    return rows


def corruptions(point: Point) -> list[float]:
    """The shares of flipped entries, evenly from 0 to `furthest`."""
    count = int(point["levels"])
    return [float(point["furthest"]) * place / (count - 1) for place in range(count)]


def radius(rates: Tensor, levels: Sequence[float]) -> Tensor:
    """For each pattern the corruption up to which at least half of its cues are recalled, between levels on a straight line. [pattern]

    rates: of each level and pattern [level, pattern]. 0 where even the pattern itself is not.
    """
    holds = (rates >= 0.5).to(torch.int64).cumprod(0).sum(0)
    first = holds.clamp_min(1) - 1
    after = holds.clamp_max(len(levels) - 1)
    at = torch.tensor(levels, dtype=rates.dtype)
    here, there = rates.gather(0, first[None])[0], rates.gather(0, after[None])[0]
    part = torch.where(here > there, (here - 0.5) / (here - there), torch.zeros_like(here))
    return torch.where(holds > 0, at[first] + part * (at[after] - at[first]), torch.zeros_like(here))


def _overlaps(trajectory: Tensor | None, target: Tensor, shown: int) -> Tensor:
    """The overlap of each cue at each of the first steps, the last one repeated where recall ended before. [step + 1, cue]"""
    assert trajectory is not None
    some = [trajectory[min(step, len(trajectory) - 1)] for step in range(shown + 1)]
    return torch.stack(
        [overlap(state, target) if state.shape == target.shape else target.new_full((len(target),), torch.nan) for state in some]
    )


def check(point: Point) -> None:
    check_data(point)
    images, asked = available(point), round(float(point["load"]) * int(point["dim"]))
    if images is not None and asked > images:
        raise ValueError(
            f"load: {point['load']} of {point['dim']} units are more than the {images} distinct patterns of {point['data']!r}."
        )


def draw(table: "pa.Table") -> "Figure":
    rows = table.to_pylist()
    figure, (first, second, third) = figures.panels(rows=3)
    keys = ["memory", *(key for key in ("dim", "n", "load") if len({row.get(key) for row in rows}) > 1)]
    curves = groups([row for row in rows if row["kind"] == "level"], *keys)
    names = {values: ", ".join(str(v) if k == "memory" else f"{k} = {v:.3g}" for k, v in zip(keys, values)) for values in curves}
    for number, (values, some) in enumerate(curves.items()):
        figures.measured(first, *line([row for row in some if not row["step"]], "flips", "rate"), name=names[values], number=number)
        edge = _edge(some[0])
        if edge is not None:
            first.axvline(edge, linestyle="--", linewidth=1.2, color=figures.COLOURS[number % len(figures.COLOURS)])
    figures.label(first, "share of entries flipped in the cue", "share of cues recalled", "recall against corruption (dashed: theory)")
    figures.legend(first)
    for number, (values, some) in enumerate(groups([row for row in rows if row["kind"] == "pattern"], *keys).items()):
        radii = sorted(row["radius"] for row in some)
        share = [(place + 1) / len(radii) for place in range(len(radii))]
        figures.measured(second, radii, share, name=names[values], number=number, drawstyle="steps-post", markevery=max(1, len(radii) // 6))
    figures.label(second, "critical radius (share of entries)", "share of patterns", "radius of each pattern, cumulative")
    figures.legend(second)
    # the first memory that theory follows step by step, else the first one, at its largest load
    chosen = next((values for values in reversed(curves) if values[0] in AT_ONCE), list(curves)[-1])
    _steps(third, curves[chosen], names[chosen])
    return figure


def _steps(panel: "Axes", rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Overlap over step from a few starting overlaps, and what theory says."""
    by_level = groups(rows, "flips")
    levels = [flips for (flips,) in by_level]
    chosen = [levels[round(place * (len(levels) - 1) / (STARTS - 1))] for place in range(min(STARTS, len(levels)))]
    for number, level in enumerate(dict.fromkeys(chosen)):
        some = by_level[(level,)]
        figures.measured(panel, *line(some, "step", "overlap"), name=f"m = {1 - 2 * level:.2g}", number=number)
        row = some[0]
        if row["memory"] in AT_ONCE and row["data"] == "random" and not row["bias"] and not row["correlation"]:
            steps = max(int(r["step"]) for r in some)
            n = int(row.get("n") or POWERS[str(row["memory"])])
            expected = overlap_steps(1 - 2 * level, _alpha(row, n), steps, n)
            figures.theory(panel, range(len(expected)), expected, number=number)
    figures.label(panel, "step of recall (0: the cue)", "overlap with the pattern", name)
    panel.set_ylim(-0.05, 1.4)
    figures.legend(panel, loc="upper right", ncols=3)


def _edge(row: Mapping[str, Any]) -> float | None:
    """The corruption at which theory ends the basin, where it knows."""
    if row["memory"] not in POWERS or row["data"] != "random" or row["bias"] or row["correlation"]:
        return None
    n = int(row.get("n") or POWERS[str(row["memory"])])
    return (1 - basin_edge(_alpha(row, n), n)) / 2


def _alpha(row: Mapping[str, Any], n: int) -> float:
    """K/D^(n-1)."""
    return float(row["patterns"]) / float(row["dim"]) ** (n - 1)


EXPERIMENT = Experiment(
    name="basins",
    question="From how far is a pattern recalled, and how fast?",
    protocol=(
        "Each trial draws K = load × D patterns as in capacity and writes them; so many of them, cues, are each shown at every level of "
        "corruption, repeats times with other entries flipped (of 0-1 patterns, that share of the ones is moved), and recalled, units in "
        "turn where they update one by one. The criterion says what counts as recalled. The critical radius of a pattern is the corruption "
        "up to which at least half of its cues are recalled, on a straight line between levels; its mean has a t interval over trials. "
        "Rates: Wilson, 95 %, with the design effect of trials. Overlaps: mean over cues, t interval over trials. Rows of kind level hold "
        "rates and overlaps, one for each step; rows of kind pattern the radius of one pattern. Dashed: mean-field theory of synchronous "
        "recall (Amari & Maginu 1988 for n = 2)."
    ),
    axes={
        "dim": Axis("units D", (300,), least=2),
        "load": Axis("patterns per unit, K/D", (0.02, 0.05, 0.1), least=0),
        "levels": Axis("corruptions, evenly from 0 to furthest", (11,), least=2),
        "furthest": Axis("largest share of entries flipped", (0.5,), least=0.01, most=1),
        "repeats": Axis("cues of one pattern at one corruption", (4,), least=1),
        "shown": Axis("steps at which overlaps are kept", (10,), least=1, most=1000),
        "cues": Axis("patterns recalled in each network", (10,), least=1),
        **{key: axis for key, axis in CRITERION_AXES.items() if key != "flips"},
        **DATA_AXES,
    },
    columns={
        "kind": Column("level or pattern: what the row is about", type=str),
        "patterns": Column("patterns stored, K", type=int),
        "flips": Column("share of entries flipped in the cue"),
        **with_interval("rate", "share of cues recalled"),
        "step": Column("step of recall, 0 the cue", type=int),
        **with_interval("overlap", "overlap with the pattern at this step"),
        "pattern": Column("number of the pattern within the point", type=int),
        **with_interval("radius", "critical radius: of the pattern, or the mean of all"),
    },
    measure=measure,
    draw=draw,
    trials=10,
    memories=("synchronous_hopfield", "hopfield"),
    needs="memories of the catalogue",
    check=check,
)
run = EXPERIMENT.run
