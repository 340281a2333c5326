"""Report: what one benchmark found, as a table. A ratio stands beside its target, and whether it is met.

A ratio is of medians, the one of minima in parentheses: other things running only add time, so a quiet machine gives both alike.
A target is met when both ratios meet it; when only one does, the machine was too busy to tell.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from benchmarks.timing import Samples, Timing

HEADER = ("work", "ours", "against", "other", "ratio", "target", "met")


@dataclass(frozen=True)
class Target:
    """`times`: ours may cost at most so many times the other ("cost"), or must be at least so many times faster ("gain")."""

    kind: str
    times: float

    def text(self) -> str:
        return f"≤ {self.times:g} ×" if self.kind == "cost" else f"≥ {self.times:g} ×"

    def met(self, ratios: Iterable[float]) -> str:
        good = [ratio <= self.times if self.kind == "cost" else ratio >= self.times for ratio in ratios]
        return "yes" if all(good) else "unclear" if any(good) else "no"


@dataclass(frozen=True)
class Row:
    """One comparison of the same work. kind "cost": ours / other; "gain": other / ours."""

    work: str
    ours: Timing | Samples
    against: str
    other: Timing | Samples
    kind: str = "gain"
    target: float | None = None

    def cells(self) -> tuple[str, ...]:
        ours, other = _main(self.ours), _main(self.other)
        ratios = (ours.median / other.median, ours.least / other.least)
        if self.kind == "gain":
            ratios = (1 / ratios[0], 1 / ratios[1])
        goal = None if self.target is None else Target(self.kind, self.target)
        name = "the cost" if self.kind == "cost" else "less" if ours.unit == "B" else "faster"
        shown = f"{_short(ratios[0])} ({_short(ratios[1])}) × {name}"
        return (
            self.work,
            _text(self.ours),
            self.against,
            _text(self.other),
            shown,
            goal.text() if goal else "–",
            goal.met(ratios) if goal else "–",
        )


@dataclass(frozen=True)
class Report:
    """A benchmark's rows and how they were measured."""

    title: str
    rows: list[Row]
    protocol: str
    notes: list[str] = field(default_factory=list)


def show(report: Report, console: Console, markdown: bool = False) -> None:
    if markdown:
        print(f"\n### {report.title}\n\n| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
        for row in report.rows:
            print(f"| {' | '.join(row.cells())} |")
        print(f"\n{report.protocol}")
        print("".join(f"\n* {note}" for note in report.notes))
        return
    table = Table(title=report.title, title_justify="left", caption=report.protocol, caption_justify="left")
    for name in HEADER:
        table.add_column(name)
    for row in report.rows:
        *cells, met = row.cells()
        colour = {"yes": "[green]yes[/]", "no": "[red]no[/]", "unclear": "[yellow]unclear[/]"}.get(met, met)
        table.add_row(*cells, colour)
    console.print(table)
    for note in report.notes:
        console.print(f"  {note}", highlight=False)
    console.print()


def quantity(value: float, unit: str) -> str:
    """A number of seconds or bytes with three digits."""
    if unit == "B":
        return f"{value / 1e9:.2f} GB"
    return f"{value * 1e3:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def _main(measured: Timing | Samples) -> Samples:
    return measured.wall if isinstance(measured, Timing) else measured


def _text(measured: Timing | Samples) -> str:
    samples = _main(measured)
    text = quantity(samples.median, samples.unit)
    if len(samples.values) > 1:
        text += f" ({quantity(samples.least, samples.unit)})"
    return f"{text}, CPU {quantity(measured.cpu.least, 's')}" if isinstance(measured, Timing) else text


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
