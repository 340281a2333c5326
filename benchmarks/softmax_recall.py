"""One step of softmax recall: how near it is to its two matrix products, and how it compares with the unfused way and with hamux.

The floor, q kᵀ and w k, is work that every exact way has to do; it gives no answer, so it has nothing to check.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

import ammon as am
from benchmarks.peer import Peer
from benchmarks.report import Report, Row
from benchmarks.timing import Unequal, here, race

PATTERNS, DIM, BATCH = 16_384, 784, 256
# at 96 most weights of the other patterns are denormal numbers, at 128 most are 0
BETAS = (1.0, 8.0, 96.0, 128.0)
# largest difference from float64, relative to the largest entry
TOLERANCE = 2e-5


def ours(memory: am.Memory, cues: Tensor) -> Tensor:
    return memory.recall(cues, steps=1).state


def products(cues: Tensor, weights: Tensor, patterns: Tensor) -> None:
    """The floor: the two matrix products alone, with weights that are at hand."""
    _ = cues @ patterns.T
    _ = weights @ patterns


def unfused(cues: Tensor, patterns: Tensor, beta: float) -> Tensor:
    """The formula as it is written: all scores, all weights."""
    return torch.softmax(beta * (cues @ patterns.T), -1) @ patterns


def measure(quick: bool, threads: int) -> Report:
    generator = torch.Generator().manual_seed(0)
    patterns = normalize(torch.randn(PATTERNS, DIM, generator=generator), dim=-1)
    cues = patterns[:BATCH] + 0.5 * normalize(torch.randn(BATCH, DIM, generator=generator), dim=-1)
    weights = torch.rand(BATCH, PATTERNS, generator=generator) / PATTERNS
    rows, errors, firsts, rounds = [], [], [], 3 if quick else 15
    for beta in (8.0,) if quick else BETAS:
        memory = am.modern_hopfield(DIM, beta)
        memory.write(patterns)
        truth = unfused(cues.double(), patterns.double(), beta)
        inputs = {"patterns": patterns.numpy(), "cues": cues.numpy(), "beta": np.asarray(beta, dtype=np.float32)}
        with Peer("benchmarks.hamux_peer", inputs, threads) as hamux:
            ways = {
                "ours": here(partial(ours, memory, cues)),
                "floor": here(partial(products, cues, weights, patterns)),
                "unfused": here(partial(unfused, cues, patterns, beta)),
                "hamux": hamux.turn,
            }
            found: dict[str, float] = {}
            timings = race(ways, partial(_check, truth, found), repeats=rounds)
        errors.append(f"β = {beta:g}: " + ", ".join(f"{name} {error:.0e}" for name, error in found.items()))
        firsts.append(f"β = {beta:g}: " + ", ".join(f"{name} {timings[name].first:.2g} s" for name in found))
        work, own = f"β = {beta:g}", timings["ours"]
        rows += [
            Row(work, own, "its two matrix products", timings["floor"], "cost", 1.2),
            Row(work, own, "unfused torch", timings["unfused"]),
            Row(work, own, "hamux (JAX, jitted)", timings["hamux"], "gain", 1.0),
        ]
    return Report(
        "One step of softmax recall",
        rows,
        f"N = {PATTERNS:,} unit patterns, D = {DIM}, B = {BATCH} cues = pattern + 0.5 × unit noise, float32; {threads} threads each, "
        f"hamux in its own process; 3 to {rounds} turns each; median (least), least processor time.",
        [
            f"Largest error against float64, relative to the largest entry (refused above {TOLERANCE:g}): {'; '.join(errors)}.",
            f"First call (jit): {'; '.join(firsts)}.",
        ],
    )


def _check(truth: Tensor, found: dict[str, float], results: dict[str, Any]) -> None:
    for name, result in results.items():
        if name == "floor":
            continue
        error = float((torch.as_tensor(result).double() - truth).abs().max() / truth.abs().max())
        # not (error <= ...): a NaN is refused too
        if not error <= TOLERANCE:
            raise Unequal(f"softmax_recall: {name} is off by {error:.1e} of the largest entry; {TOLERANCE:g} is allowed.")
        found[name] = error
