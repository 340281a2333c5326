"""Energy landscape: memories of two entries as a picture. The energy, what falls where, and the ways down.

Rows are of three kinds: the patterns, a grid of starts with the energy there and where recall ends, and the states along a few paths.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ammon.analysis import figures
from ammon.analysis.rows import groups
from ammon.catalog import CATALOG, Entry
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.memories.base import Memory
from ammon.shapes import Rows, States

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REACH = 1.4  # the picture goes from -REACH to +REACH
SAME = 0.02  # ends nearer than this are one attractor
FRAMES, LONGEST = 4, 8  # of the animation: pictures per step of recall, and steps that are shown
ARRANGEMENTS = ("circle", "disc", "regular")


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    rows: list[Row] = []
    for trial in range(int(point["trials"])):
        # the same patterns for every memory and β: that is what is compared
        same = torch.Generator().manual_seed(1000 * int(point["draw"]) + trial)
        patterns = arrange(str(point["arrangement"]), int(point["stored"]), same)
        memory = planar_memory(point)
        memory.write(patterns)
        grid = _square(int(point["side"]))
        found = memory.recall(grid, steps=500)
        attractors, basin = attractors_of(found.state)
        at_pattern = (torch.cdist(attractors, patterns) < SAME).any(-1)
        energy = memory.energy(grid)
        for k, (start, end) in enumerate(zip(grid.tolist(), found.state.tolist())):
            what = {
                "basin": int(basin[k]),
                "stored_there": int(at_pattern[basin[k]]),
                "end_x": end[0],
                "end_y": end[1],
                "step": int(found.steps[k]),
            }
            rows.append({"kind": "grid", "trial": trial, "number": k, "x": start[0], "y": start[1], "energy": float(energy[k]), **what})
        for k, (place, value) in enumerate(zip(patterns.tolist(), memory.energy(patterns).tolist())):
            rows.append({"kind": "pattern", "trial": trial, "number": k, "x": place[0], "y": place[1], "energy": value})
        starts = _square(int(point["paths"])) * 0.93
        walked = memory.recall(starts, steps=500, keep=True)
        assert walked.trajectory is not None
        for k, count in enumerate(walked.steps.tolist()):
            states = walked.trajectory[: count + 1, k]
            for step, (state, value) in enumerate(zip(states.tolist(), memory.energy(states).tolist())):
                rows.append({"kind": "path", "trial": trial, "number": k, "step": step, "x": state[0], "y": state[1], "energy": value})
    return rows


def arrange(arrangement: str, stored: int, generator: torch.Generator) -> Rows:
    """Patterns at random on the unit circle, at random in the unit disc, or evenly on the circle. [pattern, 2], float64."""
    chance = torch.rand(2, stored, generator=generator, dtype=torch.float64)
    angle = torch.arange(stored, dtype=torch.float64) / stored if arrangement == "regular" else chance[0]
    radius = chance[1].sqrt() if arrangement == "disc" else torch.ones_like(angle)
    return torch.stack([radius * (2 * math.pi * angle).cos(), radius * (2 * math.pi * angle).sin()], -1)


def planar_memory(point: Point) -> Memory:
    """The memory of the point with two entries; β = 1/σ² where it takes a σ."""
    if point["memory"] == "diffusion":
        return CATALOG["diffusion"].make(2, sigma=float(point["beta"]) ** -0.5)
    return make_memory(point, 2)


def attractors_of(ends: States) -> tuple[Rows, torch.Tensor]:
    """The states that differ by more than `SAME`, [attractor, 2], and for each end the number of its own, [batch]."""
    basin, found = torch.full((len(ends),), -1), list[torch.Tensor]()
    while bool((basin < 0).any()):
        first = ends[int((basin < 0).int().argmax())]
        basin[(basin < 0) & ((ends - first).norm(dim=-1) < SAME)] = len(found)
        found.append(first)
    return torch.stack(found), basin


def draw(table: "pa.Table") -> "Figure":
    figure, axes, pictures = _laid_out(table)
    for panel, rows in zip(axes, pictures):
        _landscape(panel, rows)
        for path in groups([row for row in rows if row["kind"] == "path"], "number").values():
            panel.plot([row["x"] for row in path], [row["y"] for row in path], color=figures.INK, linewidth=0.7, alpha=0.8)
            panel.plot(path[0]["x"], path[0]["y"], ".", color=figures.INK, markersize=2.5)
    figures.legend(axes[0], loc="upper left", ncols=2, handletextpad=0.3, columnspacing=0.8)
    return figure


def animate(table: "pa.Table", path: str | Path) -> None:
    """Write a GIF in which the states of the paths run down the landscape, all from their starts at once."""
    from matplotlib.animation import FuncAnimation, PillowWriter

    figure, axes, pictures = _laid_out(table)
    figure.set_dpi(80)
    tracks = []
    for panel, rows in zip(axes, pictures):
        _landscape(panel, rows)
        paths = groups([row for row in rows if row["kind"] == "path"], "number").values()
        (dots,) = panel.plot([], [], "o", color=figures.INK, markersize=4)
        tracks.append((dots, [[(row["x"], row["y"]) for row in some] for some in paths]))
    # a path may take hundreds of steps for the last thousandth of its way
    last = FRAMES * min(LONGEST, max(len(some) for _, paths in tracks for some in paths))
    # laid out once, not for every frame
    figure.draw_without_rendering()
    figure.set_layout_engine("none")

    def show(frame: int) -> list[Any]:
        for dots, paths in tracks:
            places = [_between(some, frame / FRAMES) for some in paths]
            dots.set_data([x for x, _ in places], [y for _, y in places])
        return [dots for dots, _ in tracks]

    FuncAnimation(figure, show, frames=last, blit=False).save(str(path), writer=PillowWriter(fps=2 * FRAMES))


def _laid_out(table: "pa.Table") -> "tuple[Figure, list[Axes], list[list[Any]]]":
    settings = groups(table, "beta", "arrangement", "stored", "draw", "trial")
    pictures = {(*key, *memory): some for key, rows in settings.items() for memory, some in groups(rows, "memory").items()}
    figure, axes = figures.panels(len(groups(table, "memory")), len(settings), wide=2.9, high=2.9)
    for panel, (beta, _, stored, _, _, memory) in zip(axes, pictures):
        figures.label(panel, "first entry", "second entry", f"{memory}, β = {beta:g}, {stored} stored")
        panel.set_aspect("equal")
        panel.grid(False)
        panel.set_xlim(-REACH, REACH)
        panel.set_ylim(-REACH, REACH)
    return figure, axes, list(pictures.values())


def _landscape(panel: "Axes", rows: Sequence[Any]) -> None:
    """Basins in pale colours, lines of equal energy, patterns and what attracts."""
    from matplotlib.colors import ListedColormap, to_rgb

    grid = [row for row in rows if row["kind"] == "grid"]
    ticks = sorted({row["x"] for row in grid})
    side = len(ticks)
    basins = [[grid[line * side + place]["basin"] for place in range(side)] for line in range(side)]
    # what attracts many places has a colour of its own; states that nothing moves have none
    counts: dict[int, int] = {}
    for row in grid:
        counts[row["basin"]] = counts.get(row["basin"], 0) + 1
    large = [basin for basin, count in counts.items() if count >= max(2, 0.002 * len(grid))]
    # beyond the reach of all patterns the energy is a plateau, whose cliff would hide the lines
    energy = [[at["energy"] if at["basin"] in large else math.nan for at in grid[line * side : (line + 1) * side]] for line in range(side)]
    shade = {basin: number % len(figures.COLOURS) for number, basin in enumerate(large)}
    pale = [tuple(0.62 + 0.38 * part for part in to_rgb(colour)) for colour in figures.COLOURS]
    colours = [[shade.get(basin, len(pale)) for basin in line] for line in basins]
    panel.pcolormesh(
        ticks,
        ticks,
        colours,
        cmap=ListedColormap([*pale, (1.0, 1.0, 1.0)]),
        vmin=-0.5,
        vmax=len(pale) + 0.5,
        shading="nearest",
        rasterized=True,
    )
    panel.contour(ticks, ticks, energy, levels=12, colors=[figures.INK], linewidths=0.35, linestyles="solid", alpha=0.6)
    ends = {row["basin"]: (row["end_x"], row["end_y"]) for row in grid if row["basin"] in large}
    panel.plot(
        [x for x, _ in ends.values()],
        [y for _, y in ends.values()],
        "o",
        markersize=7,
        markerfacecolor="none",
        color=figures.INK,
        label="attractor",
    )
    stored = [row for row in rows if row["kind"] == "pattern"]
    panel.plot([row["x"] for row in stored], [row["y"] for row in stored], "*", markersize=7, color="#D55E00", label="stored")


def _between(path: Sequence[tuple[float, float]], step: float) -> tuple[float, float]:
    """The place on a path after a broken number of steps; its end after the last."""
    before, share = min(int(step), len(path) - 1), step % 1
    after = min(before + 1, len(path) - 1)
    return tuple((1 - share) * path[before][k] + share * path[after][k] for k in range(2))  # type: ignore[return-value]


def _square(side: int) -> States:
    """A grid of so many states a side, row by row from below. [side², 2]"""
    ticks = torch.linspace(-REACH, REACH, side, dtype=torch.float64)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)


def _fits(entry: Entry) -> bool:
    return entry.separation in ("softmax(β)", "α-entmax(β)", "softmax, β = 1/σ²", "normalised step")


EXPERIMENT = Experiment(
    name="energy_landscape",
    question="What does the energy of a memory look like in two dimensions, what falls where, and which minima did nobody store?",
    protocol=(
        "Each trial puts so many patterns of two entries on the unit circle at random (circle), in the unit disc at random, or evenly "
        "on the circle (regular), in float64; which ones, the key draw says, so that all memories and β have the same. The energy and "
        "where recall ends after at most 500 steps are taken at side × side places; ends within .02 are one attractor. Paths are "
        "followed from paths × paths places. Colours: basins; lines: equal energy; white: states that nothing moves. Memories of "
        "products (modern_hopfield, sparse_hopfield) are meant for patterns of one length: take the circle."
    ),
    axes={
        "beta": Axis("sharpness β of the memory, 1/σ² for diffusion", (5.0, 20.0), least=1e-6),
        "stored": Axis("patterns", (5,), least=1),
        "arrangement": Axis("circle, disc or regular", ("circle",), choices=ARRANGEMENTS),
        "draw": Axis("which patterns are drawn", (0,), least=0),
        "side": Axis("places on a side of the grid", (61,), least=2),
        "paths": Axis("starts of paths on a side", (7,), least=1),
    },
    columns={
        "kind": Column("what the row is: grid, pattern or path", type=str),
        "trial": Column("draw of the patterns", type=int),
        "number": Column("of the place, the pattern or the path", type=int),
        "step": Column("grid: steps until it ended; path: step of this state", "steps", int),
        "x": Column("first entry"),
        "y": Column("second entry"),
        "energy": Column("energy there"),
        "end_x": Column("grid: first entry of where recall ends"),
        "end_y": Column("grid: second entry of where recall ends"),
        "basin": Column("grid: number of the attractor it falls into", type=int),
        "stored_there": Column("grid: 1 if that attractor is a stored pattern, else 0", type=int),
    },
    measure=measure,
    draw=draw,
    animate=animate,
    trials=1,
    memories=("modern_hopfield", "diffusion", "log_sum_relu"),
    fits=_fits,
    needs="memories of real entries with a β and an energy",
)
run = EXPERIMENT.run
