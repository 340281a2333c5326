"""Capacity per synapse of local and dense memories side by side, as tables for docs/hebbian.md. `python -m benchmarks.capacity_per_synapse`

Random ±1 patterns of D units, a tenth of the units of each cue wrong; the capacity is the largest number of patterns at which at most
1 % of the units are wrong after recall, over 3 draws. Sparse memories: a cue has one of its log2(D) ones in a wrong place, and at
most 1 % of the ones may be wrong. Answers, not times: nothing here depends on the machine. With a FILE.png the second table is drawn too.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

import ammon as am
from ammon.analysis.capacity import Held, capacity
from ammon.analysis.expansion_theory import features_per_pattern, most_patterns
from ammon.analysis.plots import BLUE, INK, VERMILION
from ammon.learning.hebb import Hebb
from ammon.learning.pseudo_inverse import RecursivePseudoInverse
from ammon.memories.base import Memory
from ammon.memories.expansion import ExpansionMemory
from ammon.parts.expansions import Sine, Threshold
from ammon.parts.features import Expansion, SinCos
from ammon.parts.lagrangians import Sign

FLIPS, ERROR, DRAWS = 0.1, 0.01, 3
GAINS = [1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0]
Kind = TypeVar("Kind", bound=Expansion)
ACTIVITIES = [0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2]


def held(make: Callable[[], Memory], dim: int, most: int = 4096) -> Held:
    return capacity(make, dim, flips=FLIPS, error=ERROR, draws=DRAWS, most=most)


def best(expansions: list[Kind], dim: int, num_features: int) -> Kind:
    """The one that holds most in one step, by theory."""
    return max(expansions, key=lambda one: most_patterns(one.kernel, dim, num_features, FLIPS, ERROR))


def sine(dim: int, num_features: int) -> Sine:
    return best([Sine(dim, num_features, gain / dim) for gain in GAINS], dim, num_features)


def sin_cos(dim: int, num_features: int) -> SinCos:
    return best([SinCos(dim, num_features // 2, gain / dim) for gain in GAINS], dim, num_features)


def threshold(dim: int, num_features: int) -> Threshold:
    # units that fire for a few patterns only: at least ten of them must fire for each
    return best([Threshold(dim, num_features, f) for f in ACTIVITIES if f * num_features >= 10], dim, num_features)


def sparse(make: Callable[[], Memory], dim: int) -> Held:
    active = round(math.log2(dim))

    def draw(count: int, generator: torch.Generator) -> Tensor:
        ones = torch.rand(count, dim, generator=generator).topk(active).indices
        return torch.zeros(count, dim).scatter_(1, ones, 1.0)

    def move_one(rows: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.rand(rows.shape, generator=generator)
        lost, found = (rows + noise).argmax(-1, keepdim=True), (noise - 2 * rows).argmax(-1, keepdim=True)
        return rows.scatter(1, lost, 0.0).scatter(1, found, 1.0)

    return capacity(
        make, dim, flips=0.0, error=2 * ERROR * active / dim, draws=DRAWS, draw=draw, corrupt=move_one, active=active, most=2**16
    )


def line(name: str, dim: int, found: Held) -> None:
    more = "≥ " if found.capped else ""
    print(
        f"| {name} | {dim} | {more}{found.patterns} | {found.synapses} | {found.patterns * dim / found.synapses:.3f} | "
        f"{found.bits_per_synapse:.3f} |",
        flush=True,
    )


def memories() -> None:
    print("| memory | D | patterns | synapses | patterns × D / synapses | bits per synapse |\n|---|---|---|---|---|---|", flush=True)
    for dim in (50, 100, 200):
        line("Hebb, empty diagonal", dim, held(partial(hebb, dim), dim))
        line("Storkey", dim, held(partial(am.storkey, dim), dim))
        line("pseudo-inverse", dim, held(partial(am.pseudo_inverse, dim), dim, dim - 1))
        found = held(partial(am.dense, dim, 3), dim)
        line("dense, n = 3, its patterns as synapses", dim, found)
        line("dense, n = 3, a coupling of three units as a synapse", dim, replace(found, synapses=math.comb(dim, 3)))
        for num_features in (1000, 4000):
            line(f"Hebb on {num_features} sines", dim, held(partial(ExpansionMemory, sine(dim, num_features)), dim))
    dim = 100
    line("exponential", dim, held(partial(am.exponential, dim), dim, 2048))
    line("kernel ridge, γ = .1", dim, held(partial(am.kernel_ridge, dim, 0.1), dim, 1024))
    for num_features in (1000, 4000):
        line(f"Hebb on {num_features} sines and cosines", dim, held(partial(ExpansionMemory, sin_cos(dim, num_features)), dim))
        line(f"Hebb on {num_features} threshold units", dim, held(partial(ExpansionMemory, threshold(dim, num_features)), dim))
    line("Hebb on 500 sines", dim, held(partial(ExpansionMemory, Sine(dim, 500, 3 / dim)), dim))
    line("pseudo-inverse on 500 sines", dim, held(partial(ExpansionMemory, Sine(dim, 500, 3 / dim), RecursivePseudoInverse()), dim))
    for dim in (128, 256, 512):
        line("Willshaw", dim, sparse(partial(am.willshaw, dim), dim))
        line("BCPNN", dim, sparse(partial(am.bcpnn, dim), dim))


def hebb(dim: int) -> Memory:
    return am.PairwiseMemory(dim, Hebb(self_connections=False), Sign(), 50, "asynchronous")


@dataclass(frozen=True)
class Point:
    """One row of the second table."""

    dim: int
    num_features: int
    gain: float
    step: int  # patterns held in one step, as measured
    theory: int  # the same, as predicted
    settled: int  # patterns held after up to 20 steps
    room: float  # K² F/z²: what a read without self votes and without noise of the kernel's own would hold


def scaling() -> list[Point]:
    head = "D | features F | βD | one step | theory | settled | F per pattern, settled | K² F/z²"
    print(f"\n| {head} |\n|---|---|---|---|---|---|---|---|", flush=True)
    overlap = torch.tensor([1 - 2 * FLIPS, 1.0], dtype=torch.float64)
    points = []
    for dim, num_features in [(100, 2**k * 500) for k in range(7)] + [(50, 4000), (200, 4000), (400, 4000)]:
        chosen = sine(dim, num_features)
        cue, own = chosen.kernel(overlap).tolist()
        point = Point(
            dim,
            num_features,
            chosen.beta * dim,
            held(partial(ExpansionMemory, chosen, steps=1), dim).patterns,
            most_patterns(chosen.kernel, dim, num_features, FLIPS, ERROR),
            held(partial(ExpansionMemory, chosen), dim).patterns,
            num_features / features_per_pattern(ERROR, cue / own),
        )
        row = f"{dim} | {num_features} | {point.gain:.1f} | {point.step} | {point.theory} | {point.settled}"
        print(f"| {row} | {num_features / max(1, point.settled):.0f} | {point.room:.0f} |", flush=True)
        points.append(point)
    return points


def draw(points: list[Point], path: str) -> None:
    from matplotlib.figure import Figure

    rows = [point for point in points if point.dim == 100]
    features = [row.num_features for row in rows]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.loglog(features, features, color=INK, linestyle=":", label="one pattern per feature")
    axes.loglog(features, [row.settled for row in rows], "o-", color=BLUE, label="settled, measured")
    axes.loglog(features, [row.step for row in rows], "s", color=VERMILION, label="one step, measured")
    axes.loglog(features, [row.theory for row in rows], color=VERMILION, label="one step, theory")
    axes.axhline(held(partial(hebb, 100), 100).patterns, color=INK, linestyle="--", linewidth=1, label="Hebb without expansion")
    axes.set(xlabel="features F", ylabel="random patterns of 100 units", title="A tenth of the cue wrong, at most 1 % of the answer")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    memories()
    found = scaling()
    if len(sys.argv) > 1:
        draw(found, sys.argv[1])
