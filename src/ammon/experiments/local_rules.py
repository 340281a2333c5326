"""Local rules: the capacity of every rule of the family Δw_ij = c0 + c_pre ξ_j + c_post ξ_i + ξ_i ξ_j, as a map over its coefficients.

Gerstner & Kistler 2002, section 10.2. Hebb's rule is its middle; the covariance rule (Sejnowski 1977) lies at minus the patterns' mean.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ammon.analysis import figures
from ammon.analysis.rows import groups
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.capacity import CRITERION_AXES, LEVEL_AXES, search
from ammon.experiments.stored import with_interval
from ammon.learning.local import LocalRule
from ammon.memories.pairwise import PairwiseMemory
from ammon.parts.lagrangians import Sign

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


COEFFICIENTS = tuple(round(-0.8 + 0.2 * step, 12) for step in range(9))


def measure(point: Point, *, generator: torch.Generator) -> Row:
    c_pre, c_post = float(point["c_pre"]), float(point["c_post"])
    rule = LocalRule(
        c0=float(point["c0"]) if "c0" in point else c_pre * c_post,
        c_pre=c_pre,
        c_post=c_post,
        c_corr=1.0,
        self_connections=False,
    )

    def make(dim: int) -> PairwiseMemory:
        return PairwiseMemory(dim, rule, Sign(), steps=50, update="asynchronous")

    rows = search({**point, "data": "random", "correlation": 0.0}, make, generator)
    found = rows[0]
    per_unit = {f"load{end}": _over(found[f"critical{end}"], int(point["dim"])) for end in ("", "_low", "_high")}
    return {**per_unit, "bits_per_synapse": found["bits_per_synapse"], "asked": sum(int(row["asked"] or 0) for row in rows)}


def _over(count: Any, dim: int) -> float:
    return math.nan if count is None else float(count) / dim


def draw(table: "pa.Table") -> "Figure":
    by_bias = groups(table, "bias")
    figure, axes = figures.panels(rows=len(by_bias), high=2.9)
    largest = max((row["load"] or 0.0 for row in table.to_pylist()), default=0.0) or 1.0
    for panel, ((bias,), rows) in zip(axes, by_bias.items()):
        pre, post, loads = _map(rows)
        drawn = panel.pcolormesh(pre, post, loads, cmap=figures.MAP, vmin=0, vmax=largest, shading="nearest")
        bar = figure.colorbar(drawn, ax=panel)
        bar.set_label("critical load $K_c/D$", fontsize=8, color=figures.INK)
        bar.ax.tick_params(labelsize=7, colors=figures.INK)
        panel.plot([-bias], [-bias], marker="x", markersize=9, markeredgewidth=2, color="white", linestyle="none")
        panel.plot([-bias], [-bias], marker="x", markersize=8, markeredgewidth=1, color=figures.INK, linestyle="none")
        panel.grid(visible=False)
        title = f"mean of entries {bias:g}; ×: covariance rule"
        figures.label(panel, "$c_{pre}$ (weight of the sender)", "$c_{post}$ (weight of the receiver)", title)
    return figure


def _map(rows: list[Mapping[str, Any]]) -> tuple[list[float], list[float], list[list[float]]]:
    """The coefficients and the critical loads between them; NaN where none was found. Points that differ in other keys: the first."""
    pre, post = sorted({row["c_pre"] for row in rows}), sorted({row["c_post"] for row in rows})
    place: dict[tuple[float, float], float] = {}
    for row in rows:
        place.setdefault((row["c_post"], row["c_pre"]), math.nan if row["load"] is None else row["load"])
    return pre, post, [[place.get((y, x), math.nan) for x in pre] for y in post]


EXPERIMENT = Experiment(
    name="local_rules",
    question="Which coefficients of the general local rule store the most patterns?",
    protocol=(
        "Networks of ±1 units without self-connections, whose weights change by c0 + c_pre ξ_j + c_post ξ_i + ξ_i ξ_j with each "
        "pattern (c0 = c_pre c_post unless given), are measured as in capacity: random ±1 patterns of mean bias, units in turn, the "
        "critical number of patterns by bisection at the stated corruption, criterion and level, with the interval that Wilson's "
        "(95 %, with the design effect of networks) leaves. White: not even one pattern is recalled. The cross marks the covariance "
        "rule, c_pre = c_post = -bias."
    ),
    axes={
        "dim": Axis("units D", (64,), least=2),
        "bias": Axis("mean of the entries of the patterns", (0.0, 0.4), least=-0.99, most=0.99),
        "c_post": Axis("coefficient of the receiving unit", COEFFICIENTS),
        "c_pre": Axis("coefficient of the sending unit", COEFFICIENTS),
        "c0": Axis("constant change; c_pre × c_post by default"),
        **{key: Axis(axis.meaning, (0.1,), least=0, most=1) if key == "flips" else axis for key, axis in CRITERION_AXES.items()},
        **{key: Axis(axis.meaning, (0.05,), least=1e-4, most=1) if key == "resolution" else axis for key, axis in LEVEL_AXES.items()},
    },
    columns={
        **with_interval("load", "critical load K_c/D"),
        "bits_per_synapse": Column("D K_c over D (D - 1) weights", "bit"),
        "asked": Column("cues, over all loads of the bisection", type=int),
    },
    measure=measure,
    draw=draw,
    trials=8,
)
run = EXPERIMENT.run
