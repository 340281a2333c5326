"""Rows of a table as figures need them: groups that share some of their values, and the lines of one column over another."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]


class Line(NamedTuple):
    """What is drawn: one value per place, and the ends of its interval where rows have them."""

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


def groups(rows: "pa.Table | Sequence[Row]", *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """The rows for each combination of the values of these keys, in the order in which they come."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows if isinstance(rows, Sequence) else rows.to_pylist():
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def line(rows: Sequence[Row], x: str, y: str) -> Line:
    """Column y over column x, sorted by x, with the columns y_low and y_high beside it; rows in which y is missing are left out.

    Rows that share an x, because they differ in a key that the figure does not show, are averaged, and so are their intervals.
    """
    there = sorted((row for row in rows if row[y] is not None), key=lambda row: float(row[x]))
    places: dict[float, list[Row]] = {}
    for row in there:
        places.setdefault(float(row[x]), []).append(row)

    def column(name: str) -> list[float]:
        return [_mean([row[y] if row.get(name) is None else row[name] for row in some]) for some in places.values()]

    return Line(list(places), column(y), column(f"{y}_low"), column(f"{y}_high"))


def rate(name: str, right: Sequence[int], asked: Sequence[int]) -> dict[str, float]:
    """A rate over trials and its Wilson interval, as the columns name, name_low and name_high."""
    from ammon.analysis.statistics import wilson

    return dict(zip((name, f"{name}_low", f"{name}_high"), wilson(right, asked)))


def mean(name: str, values: Sequence[float]) -> dict[str, float]:
    """A mean over trials and its Student interval, as the columns name, name_low and name_high."""
    from ammon.analysis.statistics import student

    return dict(zip((name, f"{name}_low", f"{name}_high"), student(values)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
