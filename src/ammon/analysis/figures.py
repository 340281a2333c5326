"""Figures of experiments: panels as wide as one column of a journal, measured lines with shaded intervals, theory dashed.

Colours are those of Okabe & Ito (2008), and lines also differ by their markers. Extra `plot`; figures are saved by `savefig`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"
# blue, vermilion, green, purple, orange, sky, yellow: told apart by readers of all kinds of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLUMN = 3.5  # inches of one column
MAP = "cividis"  # for maps of a quantity; the same to readers of all kinds of colour vision


def panels(columns: int = 1, rows: int = 1, *, wide: float = COLUMN, high: float = 2.7) -> "tuple[Figure, list[Axes]]":
    """An empty figure and its panels, row by row, each so many inches wide and high. ImportError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures: pictures are drawn by matplotlib, which is missing; pip install 'ammon[plot]'.") from error
    # its own object, not pyplot's: no display, no global state
    figure = Figure(figsize=(wide * columns, high * rows), dpi=200, facecolor="white", layout="constrained")
    made = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for axes in made:
        axes.tick_params(which="both", labelsize=8, colors=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["bottom", "left"]].set_color(INK)
        axes.grid(linewidth=0.4, alpha=0.4)
    return figure, made


def label(axes: "Axes", x: str, y: str, title: str = "") -> None:
    """Name the axes, with units in brackets, and the panel."""
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.set_title(title, fontsize=9, color=INK, loc="left")


def measured(
    axes: "Axes",
    x: Sequence[float],
    y: Sequence[float],
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    *,
    name: str = "",
    number: int = 0,
    **style: Any,
) -> None:
    """What was measured: a line with markers in the colour of its number, its interval shaded."""
    colour = COLOURS[number % len(COLOURS)]
    look: dict[str, Any] = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "markersize": 3.5, "linewidth": 1.3, **style}
    axes.plot(list(x), list(y), label=name or None, **look)
    if low is not None and high is not None:
        axes.fill_between(list(x), list(low), list(high), color=colour, alpha=0.2, linewidth=0)


def theory(axes: "Axes", x: Sequence[float], y: Sequence[float], *, name: str = "", number: int | None = None) -> None:
    """What theory says: a dashed line, in ink or in the colour of the measured line that it belongs to."""
    colour = INK if number is None else COLOURS[number % len(COLOURS)]
    axes.plot(list(x), list(y), linestyle="--", linewidth=1.2, color=colour, label=name or None)


def logarithmic(axes: "Axes", *which: str) -> None:
    """Logarithmic scales for "x", "y" or both, with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if name in which:
            getattr(axes, f"set_{name}scale")("log")
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FormatStrFormatter("%g"))
            axis.set_minor_formatter(NullFormatter())


def legend(axes: "Axes", **place: Any) -> None:
    """The names of the lines of a panel, if there are any."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        axes.legend(handles, labels, fontsize=7, frameon=False, labelcolor=INK, **place)
