"""Morphing: states between two stored patterns. Which of the two each falls into, how sharp the boundary is, how long it takes.

A path starts at ξ¹ and takes over the entries in which ξ² differs, in random order; its positions run from 0 to 1. Real
patterns are mixed in these shares instead. Loads are patterns per unit.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ammon.analysis import figures
from ammon.analysis.mean_field import critical
from ammon.analysis.rows import groups, line, mean, rate
from ammon.catalog import CATALOG, Entry
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.stored import overlaps, overloaded, random_rows, signs, with_interval
from ammon.parts.patterns import Preparation, prepare
from ammon.shapes import Rows

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    dim, pairs, places = int(point["dim"]), int(point["pairs"]), int(point["places"])
    num_patterns = max(2, round(float(point["load"]) * dim))
    data = CATALOG[str(point["memory"])].data
    positions = torch.linspace(0, 1, places)
    ends, steps, gaps, boundaries = [], [], [], []
    for _ in range(int(point["trials"])):
        patterns = random_rows(data, num_patterns, dim, generator)
        memory = make_memory(point, dim)
        with overloaded():
            memory.write(patterns)
        first, second = distinct_pairs(num_patterns, pairs, generator)
        cue = paths(patterns[first], patterns[second], positions, data, generator)
        found = memory.recall(cue.flatten(0, 1), generator=generator)
        state = signs(found.state) if data == "bipolar" else found.state
        overlap = overlaps(state, patterns).reshape(pairs, places, -1)
        at_first = _at(overlap, first) >= float(point["near"])
        at_second = (_at(overlap, second) >= float(point["near"])) & ~at_first
        # as a share of the path: how much of it ends in the first pattern, and how much in the second
        from_first, from_second = at_first.double().mean(-1), at_second.double().mean(-1)
        ends.append(torch.stack([at_first.sum(0), at_second.sum(0)]))
        steps.append(found.steps.double().reshape(pairs, places).mean(0))
        gaps.append(float((1 - from_first - from_second).mean()))
        boundaries.append((from_first + 1 - from_second) / 2)
    spread = [float(some.std()) for some in boundaries] if pairs > 1 else []
    shared = {"patterns": num_patterns, **mean("gap", gaps), **mean("spread", spread)}
    count = [pairs] * len(ends)
    return [
        {
            "position": float(position),
            **rate("first", [int(end[0, place]) for end in ends], count),
            **rate("second", [int(end[1, place]) for end in ends], count),
            **mean("steps", [float(some[place]) for some in steps]),
            **shared,
        }
        for place, position in enumerate(positions)
    ]


def distinct_pairs(num_patterns: int, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each pair the places of two different patterns."""
    first = torch.randint(num_patterns, (pairs,), generator=generator)
    return first, (first + torch.randint(1, num_patterns, (pairs,), generator=generator)) % num_patterns


def paths(first: Rows, second: Rows, positions: Tensor, data: Preparation, generator: torch.Generator) -> Tensor:
    """The states on the paths, [pair, position, dim]; a state further on has taken over all that those before it have."""
    if data == "bipolar":
        differs = first != second
        # entries that differ come first, in random order
        chance = torch.rand(first.shape, generator=generator) + 2 * ~differs
        rank = chance.argsort(-1).argsort(-1)
        taken = rank.unsqueeze(1) < (positions * differs.sum(-1, keepdim=True)).round().unsqueeze(-1)
        return torch.where(taken, second.unsqueeze(1), first.unsqueeze(1))
    share = positions.unsqueeze(-1)
    mixed = (1 - share) * first.unsqueeze(1) + share * second.unsqueeze(1)
    return prepare(mixed.flatten(0, 1), data).reshape(mixed.shape)


def draw(table: "pa.Table") -> "Figure":
    by_memory = groups(table, "memory")
    figure, axes = figures.panels(len(by_memory), 3, high=2.3)
    for column, ((memory,), rows) in enumerate(by_memory.items()):
        ends, steps, spread = (axes[row * len(by_memory) + column] for row in range(3))
        for number, ((load,), some) in enumerate(groups(rows, "load").items()):
            figures.measured(ends, *line(some, "position", "second"), name=f"K/D = {load:g}", number=number, markersize=2.5)
            figures.measured(steps, *line(some, "position", "steps"), number=number, markersize=2.5)
        for number, ((dim,), some) in enumerate(groups(rows, "dim").items()):
            figures.measured(spread, *line(some, "load", "spread"), name=f"spread, D = {dim}", number=number)
            figures.measured(spread, *line(some, "load", "gap"), name=f"gap, D = {dim}", number=number, markerfacecolor="white")
        if memory == "hopfield" and max(float(row["load"]) for row in rows) >= 0.1:
            spread.axvline(critical().load, linestyle="--", linewidth=1.2, color=figures.INK)
            spread.text(critical().load, spread.get_ylim()[1], "α = 0.138 ", fontsize=7, color=figures.INK, va="top", ha="right")
        figures.label(ends, "position on the path (0: ξ¹, 1: ξ²)", "fraction ending in ξ²", str(memory))
        figures.label(steps, "position on the path", "steps to settle")
        figures.label(spread, "load K/D (patterns per unit)", "width of the boundary\n(in positions)")
        figures.legend(ends, loc="upper left")
        figures.legend(spread)
    return figure


def _at(overlap: Tensor, chosen: Tensor) -> Tensor:
    """The overlap of every state of a pair's path with one pattern of the pair, [pair, position]."""
    return overlap.gather(-1, chosen[:, None, None].expand(-1, overlap.shape[1], 1)).squeeze(-1)


def _fits(entry: Entry) -> bool:
    return entry.data in ("bipolar", "unit") and entry.task != "sequence"


EXPERIMENT = Experiment(
    name="morphing",
    question="Between two stored patterns, which attractor does a state fall into, how sharp is the boundary, and how long does it take?",
    protocol=(
        "Each trial draws K = load × D random patterns, at least 2, and writes them. Pairs of different patterns are drawn; a path "
        "leads from ξ¹ to ξ² by taking over the entries that differ in random order (real patterns: mixed in these shares, then "
        "brought to length 1). Each state of the path is recalled; it ends in a pattern if its overlap with it is at least near. The "
        "boundary of a path is where it stops ending in ξ¹ and starts ending in ξ², on average; spread: its standard deviation over "
        "the pairs of a trial; gap: the share of the path that ends in neither. Intervals, 95 %: Wilson with the design effect of "
        "trials, and Student over trials. Dashed: the load beyond which mean-field theory has no retrieval state."
    ),
    axes={
        "dim": Axis("units D", (200,), kind=int, least=2),
        "load": Axis("patterns per unit, K/D", (0.02, 0.06, 0.1, 0.13), least=0),
        "pairs": Axis("pairs per trial", (20,), least=1),
        "places": Axis("states on a path", (21,), least=2),
        "near": Axis("overlap from which a state counts as a pattern", (0.9,), least=0, most=1),
    },
    columns={
        "position": Column("place on the path: the share of the entries that differ which is taken from ξ²"),
        "patterns": Column("patterns stored, K", type=int),
        **with_interval("first", "fraction of the states here that end in ξ¹"),
        **with_interval("second", "fraction that end in ξ²"),
        **with_interval("steps", "mean number of steps until the state rests", "steps"),
        **with_interval("gap", "mean share of a path that ends in neither pattern; of the whole point"),
        **with_interval("spread", "standard deviation of the boundary over pairs, in positions; of the whole point"),
    },
    measure=measure,
    draw=draw,
    trials=6,
    memories=("hopfield", "dense"),
    fits=_fits,
    needs="memories of ±1 or unit patterns that recall what they stored",
)
run = EXPERIMENT.run
