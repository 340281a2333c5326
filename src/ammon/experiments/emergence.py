"""Emergence: minima that nobody stored. Log-sum-ReLU against log-sum-exp over β: patterns kept and lost, new minima, their likelihood.

Hoover et al. 2025 (arXiv 2506.10801), LMIN0 for patterns uniform in the unit cube, and clusters as in LOGL0. Minima of log-sum-ReLU are
means of the patterns within reach (proposition 2), so all 2^M - 1 means are tried; those of log-sum-exp are found by settling from them.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ammon.analysis import figures
from ammon.analysis.rows import groups, line, mean, rate
from ammon.catalog import Entry, diffusion, log_sum_relu
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.stored import with_interval
from ammon.memories.base import Memory
from ammon.shapes import Rows, States

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

LARGEST = 16  # patterns whose subsets are all tried
SPREAD = 0.1  # standard deviation of a cluster
# of the smallest distance between patterns: closer states are one, and a minimum so near a pattern is that pattern
SAME = 1e-3


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    dim, num_patterns, places = int(point["dim"]), int(point["stored"]), int(point["betas"])
    clustered = point["data"] == "clusters"
    found: list[list[tuple[int, int]]] = [[] for _ in range(places)]
    dense: list[list[float]] = [[] for _ in range(places)]
    scales: list[list[float]] = [[] for _ in range(places)]
    for _ in range(int(point["trials"])):
        centres = torch.rand(int(point["clusters"]), dim, generator=generator, dtype=torch.float64)
        patterns = draw_patterns(num_patterns, dim, generator, centres if clustered else None)
        # the same starts at every β
        starts = torch.cat([means(patterns), torch.rand(100, dim, generator=generator, dtype=torch.float64)])
        for place, beta in enumerate(betas(patterns, places)):
            minima = find(str(point["memory"]), patterns, beta, starts)
            kept, new = divide(minima, patterns)
            found[place].append((int(kept.sum()), len(new)))
            scales[place].append(beta)
            if clustered and len(new):
                dense[place].append(float(log_density(new, centres).mean()))
    rows: list[Row] = []
    for place in range(places):
        kept_counts, new_counts = ([float(pair[k]) for pair in found[place]] for k in (0, 1))
        both = [int(kept == num_patterns and new > 0) for kept, new in found[place]]
        rows.append(
            {
                "position": place / max(1, places - 1),
                "mean_beta": sum(scales[place]) / len(scales[place]),
                **mean("new", new_counts),
                "most_new": int(max(new_counts)),
                **mean("kept", kept_counts),
                "lost": num_patterns - sum(kept_counts) / len(kept_counts),
                **rate("emergent", both, [1] * len(both)),
                **mean("likelihood", dense[place]),
            }
        )
    return rows


def draw_patterns(num_patterns: int, dim: int, generator: torch.Generator, centres: Rows | None = None) -> Rows:
    """Patterns uniform in the unit cube, in single precision as in the paper's code; or normal about centres drawn at random."""
    if centres is None:
        return torch.rand(num_patterns, dim, generator=generator).double()
    chosen = torch.randint(len(centres), (num_patterns,), generator=generator)
    return centres[chosen] + SPREAD * torch.randn(num_patterns, dim, generator=generator, dtype=torch.float64)


def betas(patterns: Rows, count: int) -> list[float]:
    """In equal ratios from 2/D to 2/(r/2)², r the smallest distance between patterns: from a reach of the whole cube to none in common."""
    low, high = 2 / patterns.shape[1], 8 / float(torch.pdist(patterns).min()) ** 2
    return torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64).tolist()


def means(patterns: Rows) -> Rows:
    """The mean of each subset of the patterns that is not empty, [2^M - 1, dim]."""
    count = len(patterns)
    members = (torch.arange(1, 2**count).unsqueeze(-1) >> torch.arange(count) & 1).to(patterns)
    return members @ patterns / members.sum(-1, keepdim=True)


def find(memory: str, patterns: Rows, beta: float, starts: States) -> Rows:
    """The minima of the energy, each once. Of log-sum-ReLU all, of log-sum-exp ("diffusion") those reached from the starts."""
    if memory == "log_sum_relu":
        exact = log_sum_relu(patterns.shape[1], beta)
        exact.write(patterns)
        places = means(patterns)
        # without any pattern within reach a state stays too, but at no minimum
        supported = exact.weights(places).sum(-1) > 0
        stays = (exact.recall(places, steps=1).state - places).norm(dim=-1) < 1e-9
        return places[supported & stays]
    smooth = diffusion(patterns.shape[1], beta**-0.5)
    smooth.write(patterns)
    settled = _settle(smooth, starts)
    # a mean may lie on a ridge, which recall leaves only by rounding: a push decides
    width = float(torch.pdist(patterns).min())
    pushed = _settle(smooth, settled + 1e-4 * width * torch.randn(settled.shape, generator=_fixed(), dtype=settled.dtype))
    return _once(pushed, SAME * width)


def divide(minima: Rows, patterns: Rows) -> tuple[Tensor, Rows]:
    """Which patterns are minima, [pattern], and the minima that are no pattern."""
    near = torch.cdist(minima, patterns) <= SAME * float(torch.pdist(patterns).min())
    return near.any(0), minima[~near.any(-1)]


def log_density(states: States, centres: Rows) -> Tensor:
    """The logarithm of the density from which clustered patterns are drawn, [batch]."""
    dim = states.shape[1]
    exponents = -torch.cdist(states, centres).square() / (2 * SPREAD**2)
    return torch.logsumexp(exponents, -1) - math.log(len(centres)) - dim / 2 * math.log(2 * math.pi * SPREAD**2)


def draw(table: "pa.Table") -> "Figure":
    panels = {"new": "new minima", "kept": "patterns kept", "emergent": "draws with all kept\nand some new"}
    clustered = any(row["likelihood"] is not None for row in table.to_pylist())
    if clustered:
        panels["likelihood"] = "log density of new minima"
    figure, axes = figures.panels(1, len(panels), high=1.9)
    for number, (key, rows) in enumerate(groups(table, "memory", "data", "stored", "dim").items()):
        memory, data, stored, dim = key
        for panel, column in zip(axes, panels):
            some = [row for row in rows if row[column] is not None and row[f"{column}_low"] is not None]
            name = f"{memory}, {stored} {data}, D = {dim}"
            figures.measured(panel, *line(some, "position", column), name=name, number=number, markersize=2)
    for panel, meaning in zip(axes, panels.values()):
        figures.label(panel, "β, in equal ratios from 2/D (0) to 8/r² (1)", meaning)
        panel.set_xlim(0, 1)
    # room above, so that the names find room
    axes[0].set_ylim(0, 1.6 * axes[0].get_ylim()[1])
    figures.legend(axes[0], loc="upper right")
    return figure


def _settle(memory: Memory, states: States) -> States:
    return memory.recall(states, steps=2000, tolerance=1e-12).state


def _once(states: States, width: float) -> Rows:
    """The states that differ by more than the width."""
    left, found = states, []
    while len(left):
        found.append(left[0])
        left = left[(left - left[0]).norm(dim=-1) > width]
    return torch.stack(found)


def _fixed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _fits(entry: Entry) -> bool:
    return entry.make in (diffusion, log_sum_relu)


def _check(point: Point) -> None:
    if not 2 <= int(point["stored"]) <= LARGEST:
        raise ValueError(f"emergence: all 2^M subsets are tried, so stored must be from 2 to {LARGEST}, got {point['stored']}.")


EXPERIMENT = Experiment(
    name="emergence",
    question="Which minima has a memory that nobody stored, while all patterns are still minima, and how likely are they?",
    protocol=(
        "Each trial draws M patterns uniform in [0,1]^D (LMIN0 of Hoover et al. 2025), or from Gaussians of σ = .1 about uniform "
        "centres. β goes in equal ratios from 2/D to 8/r², r the smallest distance between patterns. Log-sum-ReLU (log_sum_relu): "
        "every mean of a subset at which recall stays is a minimum. Log-sum-exp (diffusion): recall settles from all these means and "
        "100 uniform states, is pushed and settles again. A minimum within r/1000 of a pattern is that pattern, kept; any other is "
        "new. Emergent: all patterns kept and some minimum new. Likelihood: the mean log density of new minima under the Gaussians. "
        "Intervals, 95 %: Student and Wilson over trials."
    ),
    axes={
        "dim": Axis("entries D", (8,), kind=int, least=1),
        "stored": Axis("patterns M", (5,), least=2, most=LARGEST),
        "data": Axis("uniform or clusters", ("uniform", "clusters"), choices=("uniform", "clusters")),
        "clusters": Axis("centres of the clusters", (2,), least=1),
        "betas": Axis("values of β", (25,), least=2),
    },
    columns={
        "position": Column("place of β between 2/D and 8/r² in equal ratios, 0 to 1"),
        "mean_beta": Column("β, mean over trials"),
        **with_interval("new", "minima that are no pattern"),
        "most_new": Column("the most of them in any trial", type=int),
        **with_interval("kept", "patterns that are minima"),
        "lost": Column("patterns that are none"),
        **with_interval("emergent", "fraction of trials with all patterns kept and some new minimum"),
        **with_interval("likelihood", "mean log density of the new minima; clusters only"),
    },
    measure=measure,
    draw=draw,
    trials=8,
    memories=("log_sum_relu", "diffusion"),
    fits=_fits,
    needs="log-sum-ReLU or log-sum-exp over distances",
    check=_check,
)
run = EXPERIMENT.run
