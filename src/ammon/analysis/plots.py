"""Plots: what memories recall, and how their energy falls. Figures that are saved by `figure.savefig(path)`; extra `plot`.

Colours are those of Okabe & Ito (2008), and no picture needs colour to be read.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ammon.analysis.lyapunov import Trace
from ammon.shapes import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ammon.nn.hybrid import GateTrace

BLUE, VERMILION, SKY, INK = "#0072B2", "#D55E00", "#56B4E9", "#222222"


LEGEND = "Frame of what was recalled: solid blue, exact; dashed orange, not. Pictures as each memory sees them: ±1, or shaded."


@dataclass(frozen=True)
class Strip:
    """One row of the gallery: a memory, its share of exact recalls, and its examples [example, dim]."""

    memory: str
    rate: float
    stored: Rows
    cue: Rows
    recalled: Rows
    exact: Sequence[bool]


def gallery(strips: Sequence[Strip], shape: tuple[int, ...], title: str = "", subtitle: str = "") -> "Figure":
    """One row per memory: stored, cue and recalled side by side, for each example.

    shape: (height, width) or (height, width, 3) of a row. Each picture is drawn from its own darkest to its own brightest entry, since
    memories may answer up to a factor. ValueError if there is nothing to draw, ImportError if matplotlib is missing.
    """
    if not strips or not len(strips[0].stored):
        raise ValueError("gallery: at least one memory with one example is needed, got none.")
    examples = len(strips[0].stored)
    cell, gap, margin = 0.8, 0.35, 2.1
    wide = margin + examples * 3 * cell + (examples - 1) * gap * cell + 0.2
    subtitle, legend = _wrapped(subtitle, wide), _wrapped(LEGEND, wide)
    head, foot = 0.85 + _height(subtitle), 0.3 + _height(legend)
    # rows as high as the pictures, but never lower than a name and its rate
    high = head + len(strips) * max(0.5, 1.12 * cell * min(2.0, shape[0] / shape[1])) + foot
    figure = _figure(wide, high)
    ratios = ([1.0, 1.0, 1.0, gap] * examples)[:-1]
    grid = figure.add_gridspec(
        len(strips), len(ratios), width_ratios=ratios, left=margin / wide, right=1 - 0.2 / wide, top=1 - head / high, bottom=foot / high
    )
    grid.update(wspace=0.08, hspace=0.12)
    for line, strip in enumerate(strips):
        for example in range(examples):
            kinds = {"stored": strip.stored, "cue": strip.cue, "recalled": strip.recalled}
            for column, (kind, rows) in enumerate(kinds.items()):
                axes = figure.add_subplot(grid[line, 4 * example + column])
                _draw(axes, rows[example], shape)
                if kind == "recalled":
                    _frame(axes, strip.exact[example])
                if line == 0:
                    axes.set_title(kind, fontsize=10, color=INK, pad=5)
                if example == column == 0:
                    _label(axes, strip)
    _entitle(figure, high, title, subtitle)
    figure.text(0.02, 0.14 / high, legend, ha="left", va="bottom", fontsize=9, color=INK)
    return figure


def energy_traces(traces: Mapping[str, Trace], title: str = "", subtitle: str = "") -> "Figure":
    """One panel per memory: the energy of each item against the step, thin, and their mean, thick. Infinite energies leave a gap."""
    if not traces:
        raise ValueError("energy_traces: at least one memory with an energy is needed, got none.")
    columns = min(4, len(traces))
    lines = -(-len(traces) // columns)
    wide = max(4.5, 2.7 * columns)
    subtitle = _wrapped(subtitle, wide)
    head = 0.6 + _height(subtitle)
    high = 2.0 * lines + 0.7 + head
    figure = _figure(wide, high)
    figure.set_layout_engine("constrained", rect=(0.01, 0.02, 0.98, 1 - head / high), w_pad=0.08, h_pad=0.08)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel, (memory, trace) in zip(panels, traces.items(), strict=False):
        _trace(panel, trace)
        panel.set_title(memory, fontsize=10, color=INK)
    for panel in panels[len(traces) :]:
        panel.set_visible(False)
    _entitle(figure, high, title, subtitle)
    figure.supxlabel("step of recall (0: the cue)", fontsize=10, color=INK)
    figure.supylabel("energy", fontsize=10, color=INK)
    return figure


def gates(traces: "Mapping[str, GateTrace]", tokens: Sequence[str], row: int = 0, title: str = "") -> "Figure":
    """How much each memory gives at each token of one row of the batch: a panel for each block, a strip for each source, over the text.

    traces: of `ammon.nn.hybrid.record_gates`. tokens: as they are to be written, one for each token of the row. The mean of a strip stands
    beside it, the mean entropy above the panel. ValueError if there is nothing to draw or the tokens are not as many as the gates.
    """
    shown = {name: trace for name, trace in traces.items() if trace.calls}
    if not shown:
        raise ValueError("gates: no gate was recorded; call the model inside `with record_gates(model) as traces:`.")
    time = next(iter(shown.values())).gates.shape[1]
    if len(tokens) != time:
        raise ValueError(f"gates: {time} gates were recorded in a row, got {len(tokens)} tokens; give one text for each token.")
    wide = 2.4 + max(3.0, min(14.0, 0.16 * time))
    high = 0.9 + sum(0.3 * len(trace.names) + 0.95 for trace in shown.values())
    figure = _figure(wide, high)
    figure.set_layout_engine("constrained", rect=(0.01, 0.01, 0.98, 1 - 0.5 / high))
    panels = figure.subplots(len(shown), 1, squeeze=False).flatten()
    step = max(1, -(-time // 100))
    for panel, (name, trace) in zip(panels, shown.items(), strict=True):
        drawn = panel.imshow(trace.gates[row].T.numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        means = trace.gates[row].mean(0).tolist()
        panel.set_yticks(
            range(len(trace.names)), [f"{source} {mean:.2f}" for source, mean in zip(trace.names, means, strict=True)], fontsize=8
        )
        panel.set_xticks(range(0, time, step), [tokens[place] for place in range(0, time, step)], fontsize=7, family="monospace")
        panel.tick_params(length=0, colors=INK)
        panel.set_title(f"{name or 'block'}, entropy {float(trace.entropy[row].mean()):.2f}", fontsize=9, color=INK, loc="left")
        figure.colorbar(drawn, ax=panel, label="gate", fraction=0.02, pad=0.01)
    _entitle(figure, high, title, "")
    return figure


def _figure(wide: float, high: float) -> "Figure":
    """An empty figure in inches. Its own object, not pyplot's: no display, no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots: pictures are drawn by matplotlib, which is missing; pip install 'ammon[plot]'.") from error
    return Figure(figsize=(wide, high), dpi=150, facecolor="white")


def _wrapped(text: str, wide: float) -> str:
    """The text in lines that fit a figure of so many inches, at 9 points."""
    return textwrap.fill(text, int(13 * wide))


def _height(text: str) -> float:
    """Inches that lines of 9 points take."""
    return 0.17 * (text.count("\n") + 1)


def _entitle(figure: "Figure", high: float, title: str, subtitle: str) -> None:
    figure.text(0.02, 1 - 0.15 / high, title, ha="left", va="top", fontsize=14, fontweight="bold", color=INK)
    figure.text(0.02, 1 - 0.45 / high, subtitle, ha="left", va="top", fontsize=9, color=INK)


def _draw(axes: "Axes", row: Tensor, shape: tuple[int, ...]) -> None:
    row = torch.nan_to_num(row.detach().cpu().float())
    low, high = row.amin(), row.amax()
    flat = bool(high == low)
    levels = torch.full_like(row, 0.5) if flat else (row - low) / (high - low)
    axes.imshow(levels.reshape(shape).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _frame(axes: "Axes", exact: bool) -> None:
    for spine in axes.spines.values():
        # square ends would close the gaps of the dashes
        spine.set(
            visible=True, linewidth=2.5, color=BLUE if exact else VERMILION, linestyle="solid" if exact else (0, (2.5, 1)), capstyle="butt"
        )


def _label(axes: "Axes", strip: Strip) -> None:
    beside: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "color": INK}
    axes.text(-0.18, 0.53, strip.memory, va="bottom", fontsize=11, **beside)
    axes.text(-0.18, 0.45, f"{strip.rate:.0%} exact", va="top", fontsize=9, **beside)


def _trace(panel: "Axes", trace: Tensor) -> None:
    values = trace.detach().cpu().double()
    values = torch.where(torch.isfinite(values), values, torch.full_like(values, torch.nan))
    steps = range(len(values))
    panel.plot(steps, values.numpy(), color=SKY, linewidth=0.7, alpha=0.6, zorder=1)
    panel.plot(steps, values.nanmean(1).numpy(), color=INK, linewidth=2, marker="o", markersize=3.5, zorder=2)
    panel.locator_params(axis="x", integer=True, nbins=5)
    panel.locator_params(axis="y", nbins=4)
    panel.tick_params(labelsize=8, colors=INK)
    panel.grid(axis="y", linewidth=0.4, alpha=0.5)
    panel.spines[["top", "right"]].set_visible(False)
