"""Rules that read fields or projections: learning in blocks of patterns against the loop that touches the weights at each pattern."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import ammon as am
from ammon.learning.base import Rule, tensors
from ammon.learning.field import Delta, Perceptron, Storkey
from ammon.learning.pseudo_inverse import RecursivePseudoInverse
from benchmarks.report import Report, Row
from benchmarks.timing import Unequal, here, race

DIM, PATTERNS = 1_000, 300
TOLERANCE = 1e-5


def storkey_loop(patterns: Tensor) -> Tensor:
    """ΔW = (x xᵀ - h xᵀ - x hᵀ)/D with the votes of i and j left out of h_ij."""
    weights = patterns.new_zeros(DIM, DIM)
    for x in patterns:
        field = x * ((weights @ x).unsqueeze(-1) - weights * x)
        weights += (torch.outer(x, x) - field - field.mT) / DIM
        weights.fill_diagonal_(0)
    return weights


def delta_loop(patterns: Tensor) -> Tensor:
    weights = patterns.new_zeros(DIM, DIM)
    for x in patterns:
        weights.addr_(x - weights @ x, x, alpha=1 / DIM)
    return weights


def perceptron_loop(patterns: Tensor) -> Tensor:
    weights = patterns.new_zeros(DIM, DIM)
    for x in patterns:
        field = x * (weights @ x)
        weights.addr_(x * ((field <= 0) | (field < DIM)), x)
        weights.fill_diagonal_(0)
    return weights


def greville_loop(patterns: Tensor) -> Tensor:
    """The projector on the patterns and the inverse of their correlation, one pattern at a time, in float64."""
    projector = patterns.new_zeros(DIM, DIM, dtype=torch.float64)
    inverse = projector.clone()
    for x in patterns.double():
        new, known = x - projector @ x, inverse @ x
        new = new - projector @ new
        gain = new / new.square().sum()
        mixed = torch.outer(gain, known)
        inverse += (1 + x @ known) * torch.outer(gain, gain) - (mixed + mixed.mT)
        projector += torch.outer(new, new) / new.square().sum()
    return projector.to(patterns.dtype)


def learned(rule: Rule[Any], patterns: Tensor) -> Tensor:
    return tensors(rule.learn(rule.begin(DIM, DIM, patterns), patterns, patterns))["matrix"]


def measure(quick: bool, threads: int) -> Report:
    patterns = am.random_patterns(PATTERNS, DIM, generator=torch.Generator().manual_seed(0))
    rules: dict[str, tuple[Rule[Any], Callable[[Tensor], Tensor]]] = {
        "Storkey": (Storkey(), storkey_loop),
        "delta": (Delta(epochs=1), delta_loop),
        "perceptron": (Perceptron(epochs=1), perceptron_loop),
        "recursive pseudo-inverse": (RecursivePseudoInverse(), greville_loop),
    }
    rows, rounds = [], 3 if quick else 9
    for name, (rule, loop) in rules.items():
        timings = race(
            {"ours": here(partial(learned, rule, patterns)), "loop": here(partial(loop, patterns))}, partial(_check, name), rounds
        )
        rows.append(Row(name, timings["ours"], "a loop over the patterns", timings["loop"]))
    return Report(
        "Learning in blocks of patterns",
        rows,
        f"{PATTERNS} patterns of ±1, D = {DIM}, one pass, float32; {threads} threads, one process; 3 to {rounds} turns; median (least).",
        [f"Weights equal within {TOLERANCE:g} of the largest."],
    )


def _check(name: str, results: dict[str, Any]) -> None:
    error = float((results["ours"] - results["loop"]).abs().max() / results["loop"].abs().max())
    if not error <= TOLERANCE:
        raise Unequal(f"learning_rules: {name} is off by {error:.1e}; {TOLERANCE:g} is allowed.")
