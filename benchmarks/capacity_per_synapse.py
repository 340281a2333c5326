"""Capacity per synapse of local and dense memories side by side, as tables for docs/hebbian.md. `python -m benchmarks.capacity_per_synapse`

Random ±1 patterns of D units, a tenth of the units of each cue wrong; the capacity is the largest number of patterns at which at most
1 % of the units are wrong after recall, over 3 draws. Sparse memories: a cue has one of its log2(D) ones in a wrong place, and at
most 1 % of the ones may be wrong. Answers, not times: nothing here depends on the machine.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

import ammon as am
from ammon.analysis.synapses import Held, capacity
from ammon.analysis.theory import features_per_pattern, most_patterns
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


def line(name: str, dim: int, found: Held, most: int = 4096) -> None:
    more = "≥ " if 2 * found.patterns > most else ""
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
        line("dense, n = 3", dim, held(partial(am.dense, dim, 3), dim))
        for num_features in (1000, 4000):
            line(f"Hebb on {num_features} sines", dim, held(partial(ExpansionMemory, sine(dim, num_features)), dim))
    dim = 100
    line("exponential", dim, held(partial(am.exponential, dim), dim, 2048), 2048)
    line("kernel ridge, γ = .1", dim, held(partial(am.kernel_ridge, dim, 0.1), dim, 1024), 1024)
    for num_features in (1000, 4000):
        line(f"Hebb on {num_features} sines and cosines", dim, held(partial(ExpansionMemory, sin_cos(dim, num_features)), dim))
        line(f"Hebb on {num_features} threshold units", dim, held(partial(ExpansionMemory, threshold(dim, num_features)), dim))
    for num_features in (500, 1000):
        line(f"Hebb on {num_features} sines", dim, held(partial(ExpansionMemory, Sine(dim, num_features, 3 / dim)), dim))
    line("pseudo-inverse on 500 sines", dim, held(partial(ExpansionMemory, Sine(dim, 500, 3 / dim), RecursivePseudoInverse()), dim))
    for dim in (128, 256, 512):
        line("Willshaw", dim, sparse(partial(am.willshaw, dim), dim))
        line("BCPNN", dim, sparse(partial(am.bcpnn, dim), dim))


def hebb(dim: int) -> Memory:
    return am.PairwiseMemory(dim, Hebb(self_connections=False), Sign(), 50, "asynchronous")


def scaling() -> None:
    head = "D | features F | βD | one step | theory | settled | F per pattern, settled | K² F/z²"
    print(f"\n| {head} |\n|---|---|---|---|---|---|---|---|", flush=True)
    overlap = torch.tensor([1 - 2 * FLIPS, 1.0], dtype=torch.float64)
    for dim, num_features in [(100, 2**k * 500) for k in range(7)] + [(50, 4000), (200, 4000), (400, 4000)]:
        chosen = sine(dim, num_features)
        step = held(partial(ExpansionMemory, chosen, steps=1), dim).patterns
        settled = held(partial(ExpansionMemory, chosen), dim).patterns
        theory = most_patterns(chosen.kernel, dim, num_features, FLIPS, ERROR)
        cue, own = chosen.kernel(overlap).tolist()
        bound = num_features / features_per_pattern(ERROR, cue / own)
        share = num_features / max(1, settled)
        print(
            f"| {dim} | {num_features} | {chosen.beta * dim:.1f} | {step} | {theory} | {settled} | {share:.0f} | {bound:.0f} |", flush=True
        )


if __name__ == "__main__":
    memories()
    scaling()
