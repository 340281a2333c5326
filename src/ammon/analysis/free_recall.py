"""Free recall: curves of recall and clustering by psifr, and a page of those of people and of a model. Extras `recall`, `plot`.

A curve is a value for each subject at each point (serial position, lag, ...); it is shown as the mean with its 95 % interval over subjects.
"""

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ammon.analysis.plots import BLUE, INK, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pandas import DataFrame

LAGS = 6


@dataclass(frozen=True)
class Curve:
    """Mean over subjects at each point, and the half width of its 95 % interval (1.96 standard errors)."""

    title: str
    label: str
    points: "NDArray[Any]"
    mean: "NDArray[np.float64]"
    half: "NDArray[np.float64]"


def curves(
    table: "DataFrame", *, category: str | None = None, similarity: "tuple[Any, NDArray[np.float64]] | None" = None
) -> dict[str, Curve]:
    """Serial positions, first recalls, lag-CRP and clusterings of a psifr table.

    category: a column of the studied items to measure clustering by (category, source). similarity: names and matrix [item, item].
    """
    try:
        from psifr import fr
    except ImportError as error:
        raise ImportError("curves: the analyses are psifr's; install it with: pip install 'ammon[recall]'.") from error
    with warnings.catch_warnings():
        # psifr divides by counts that may be 0, and gives NaN there
        warnings.simplefilter("ignore")
        table = _whole_numbers(table)
        keys = [category] if category else []
        if similarity is not None:
            number = {name: place for place, name in enumerate(similarity[0])}
            table, keys = table.assign(item_index=table["item"].map(number)), [*keys, "item_index"]
        merged = fr.merge_free_recall(table, study_keys=keys or None)
        found = {
            "spc": _curve(fr.spc(merged), "input", "recall", "Serial position", "serial position"),
            "pfr": _curve(_first(fr.pnr(merged)), "input", "prob", "First recall", "serial position"),
            "lag_crp": _lags(fr.lag_crp(merged)),
        }
        factors: dict[str, Any] = {"temporal": fr.lag_rank(merged)["rank"]}
        if similarity is not None:
            factors["semantic"] = fr.distance_rank(merged, "item_index", 1 - similarity[1])["rank"]
        if category:
            factors["category"] = fr.category_crp(merged, category)["prob"]
    values = {name: _interval(column.to_numpy(float)) for name, column in factors.items()}
    found["clustering"] = Curve(
        "Clustering", "factor", np.array(list(values)), np.array([m for m, _ in values.values()]), np.array([h for _, h in values.values()])
    )
    return found


def inside(data: Curve, model: Curve) -> "NDArray[np.bool_]":
    """At which points of the data's curve the model's mean lies within the data's interval."""
    place = {point: number for number, point in enumerate(model.points.tolist())}
    there = np.array([place.get(point, -1) for point in data.points.tolist()])
    value = np.where(there >= 0, model.mean[np.maximum(there, 0)], np.nan)
    return np.asarray(np.abs(value - data.mean) <= data.half)


def page(data: Mapping[str, Curve], model: Mapping[str, Curve] | None = None, title: str = "") -> "Figure":
    """One panel for each curve: people as points with intervals, the model as a line. ImportError if matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("page: figures need matplotlib; install it with: pip install 'ammon[plot]'.") from error
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    panels = figure.subplots(2, 2)
    for axes, (name, curve) in zip(panels.flat, data.items(), strict=False):
        _panel(axes, curve, None if model is None else model.get(name))
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title, color=INK, fontsize=12)
    return figure


def rows(data: Mapping[str, Curve], model: Mapping[str, Curve] | None = None) -> list[dict[str, Any]]:
    """The numbers of the page, one row a point."""
    out = []
    for name, curve in data.items():
        other = None if model is None else model.get(name)
        within = None if other is None else inside(curve, other)
        for number, point in enumerate(curve.points.tolist()):
            row = {"curve": name, "point": point, "data": curve.mean[number], "half_width": curve.half[number]}
            if other is not None and within is not None:
                match = np.flatnonzero(other.points == point)
                row |= {"model": other.mean[match[0]] if len(match) else float("nan"), "inside": bool(within[number])}
            out.append(row)
    return out


def _panel(axes: "Axes", curve: Curve, model: Curve | None) -> None:
    named = curve.points.dtype.kind in "UO"
    at = np.arange(len(curve.points)) if named else curve.points
    for part in _runs(at, named):
        axes.errorbar(
            at[part], curve.mean[part], curve.half[part], fmt="o", color=INK, markersize=4, elinewidth=1, capsize=2,
            label="people, mean and 95 % interval" if part.start in (0, None) else None,
        )  # fmt: skip
    if model is not None:
        place = np.array([np.flatnonzero(curve.points == point)[0] for point in model.points if point in curve.points])
        mean = np.array([value for point, value in zip(model.points, model.mean, strict=True) if point in curve.points])
        for part in _runs(at[place], named):
            style: dict[str, Any] = {"marker": "s", "markersize": 7, "linestyle": "none", "mfc": "none"} if named else {"linewidth": 1.8}
            axes.plot(at[place][part], mean[part], color=VERMILION, label="model" if part.start in (0, None) else None, **style)
    if named:
        axes.set_xticks(at, curve.points.tolist())
        axes.margins(x=0.3)
        axes.axhline(0.5, color=BLUE, linewidth=0.8, linestyle=":")
    axes.set_title(curve.title, fontsize=10, color=INK)
    axes.set_xlabel("" if named else curve.label)
    axes.set_ylabel("probability" if not named else "rank (0.5: none); category: P(same)")
    axes.set_ylim(0, 1 if named else None)
    axes.spines[["top", "right"]].set_visible(False)


def _runs(at: "NDArray[Any]", named: bool) -> list[slice]:
    """Neighbouring points that a line joins: not across lag 0."""
    if named or not len(at):
        return [slice(None)]
    breaks = np.flatnonzero(np.diff(at) > 1) + 1
    edges = [0, *breaks.tolist(), len(at)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _whole_numbers(table: "DataFrame") -> "DataFrame":
    """psifr needs lists that are whole numbers; any other names are counted."""
    if table["list"].dtype.kind in "iu":
        return table
    import pandas

    return table.assign(list=pandas.factorize(table["list"].astype(str))[0] + 1)


def _first(table: "DataFrame") -> "DataFrame":
    table = table.reset_index() if "output" not in table.columns else table
    return table[table["output"] == 1]


def _lags(table: "DataFrame") -> Curve:
    table = table.reset_index() if "lag" not in table.columns else table
    table = table[(table["lag"].abs() <= LAGS) & (table["lag"] != 0)]
    return _curve(table, "lag", "prob", "Transitions (lag-CRP)", "lag")


def _curve(table: "DataFrame", point: str, value: str, title: str, label: str) -> Curve:
    table = table.reset_index() if point not in table.columns else table
    points = np.sort(table[point].unique()).astype(int)
    both = [_interval(table.loc[table[point] == place, value].to_numpy(float)) for place in points]
    return Curve(title, label, points, np.array([m for m, _ in both]), np.array([h for _, h in both]))


def _interval(values: "NDArray[np.float64]") -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(values.mean()), float(half)
