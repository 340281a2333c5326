"""The energy of a softmax memory: how near it is to the one matrix product it needs."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

import ammon as am
from benchmarks.report import Report, Row
from benchmarks.softmax_recall import BATCH, BETAS, DIM, PATTERNS
from benchmarks.timing import Unequal, here, race

TOLERANCE = 1e-5


def unfused(states: Tensor, patterns: Tensor, beta: float) -> Tensor:
    """|x|²/2 - logsumexp(β Ξ x)/β."""
    return states.square().sum(-1) / 2 - torch.logsumexp(beta * (states @ patterns.T), -1) / beta


def measure(quick: bool, threads: int) -> Report:
    generator = torch.Generator().manual_seed(0)
    patterns = normalize(torch.randn(PATTERNS, DIM, generator=generator), dim=-1)
    states = patterns[:BATCH] + 0.5 * normalize(torch.randn(BATCH, DIM, generator=generator), dim=-1)
    rows, rounds = [], 3 if quick else 15
    for beta in (8.0,) if quick else BETAS:
        memory = am.modern_hopfield(DIM, beta)
        memory.write(patterns)
        truth = unfused(states.double(), patterns.double(), beta)
        ways = {
            "ours": here(partial(memory.energy, states)),
            "floor": here(partial(torch.matmul, states, patterns.T)),
            "unfused": here(partial(unfused, states, patterns, beta)),
        }
        timings = race(ways, partial(_check, truth), repeats=rounds)
        rows += [
            Row(f"β = {beta:g}", timings["ours"], "its matrix product", timings["floor"], "cost"),
            Row(f"β = {beta:g}", timings["ours"], "unfused torch", timings["unfused"]),
        ]
    return Report(
        "Energy of a softmax memory",
        rows,
        f"N = {PATTERNS:,} unit patterns, D = {DIM}, B = {BATCH} states, float32; {threads} threads, one process; 3 to {rounds} turns; "
        "median (least), least processor time.",
        [f"Equal to float64 within {TOLERANCE:g}."],
    )


def _check(truth: Tensor, results: dict[str, Any]) -> None:
    for name in ("ours", "unfused"):
        error = float((results[name].double() - truth).abs().max())
        if not error <= TOLERANCE:
            raise Unequal(f"energy: {name} is off by {error:.1e}; {TOLERANCE:g} is allowed.")
