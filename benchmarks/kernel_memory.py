"""Kernel memories: all units fitted together, against the papers' gradient descent, one solve per neuron, and the ridge floor.

All ways go to the one minimum of the same convex loss; each must certify it by the same residual |p - y + λα|, in float64. Recall unit by
unit is the plain loop over units against whole sweeps.
"""

import json
import subprocess
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

import ammon as am
from ammon.dynamics.sweep import sweep
from ammon.learning.kernel_logistic import Logistic
from ammon.learning.kernel_ridge import Ridge
from ammon.memories.kernel import KernelFields, KernelMemory
from ammon.parts.corruption import Flip
from ammon.parts.kernels import GaussianKernel, gram
from benchmarks.report import Report, Row, quantity
from benchmarks.store import peak
from benchmarks.timing import Samples, Unequal, here, race

DIM, PATTERNS, LARGE = 500, 1_000, 8_000
GAMMA, PENALTY, RESIDUAL = 0.004, 0.01, 1e-5
# neurons that the ways whose cost grows with the neurons are run for, to the end
NEURONS = 8
# steps of gradient descent on all neurons that are timed
STEPS = 20
MOST = Samples((3e9,), "B")


def measure(quick: bool, threads: int) -> Report:
    patterns = _patterns(PATTERNS // 4 if quick else PATTERNS)
    repeats = 2 if quick else 5
    timings = race(
        {"ours": here(partial(_fitted, patterns)), "one step": here(partial(_steps, patterns))}, partial(_check_ours, patterns), repeats
    )
    steps, settled = _descent(patterns)
    start = time.perf_counter()
    single = _one_by_one(patterns)
    each = (time.perf_counter() - start) / NEURONS
    _check("gradient descent", patterns, settled)
    _check("L-BFGS", patterns, single)
    ours, work = timings["ours"], f"logistic, N = {DIM}, P = {len(patterns):,}"
    descent = Samples(tuple(steps * seconds / STEPS for seconds in timings["one step"].wall.values))
    rows = [
        Row(work, ours, f"full-batch gradient descent, {steps:,} steps", descent, "gain", 20.0),
        Row(work, ours, "L-BFGS per neuron", Samples((each * DIM,)), "gain", 200.0),
    ]
    large = _large(LARGE // 8 if quick else LARGE, threads)
    work = f"P = {large['patterns']:,}: "
    rows += [
        Row(
            work + "logistic",
            Samples(tuple(large["logistic"])),
            "ridge floor P²N + P³/3 + 2P²N",
            Samples(tuple(large["floor"])),
            "cost",
            6.0,
        ),
        Row(work + "ridge", Samples(tuple(large["ridge"])), "ridge floor P²N + P³/3 + 2P²N", Samples(tuple(large["floor"])), "cost"),
        Row(work + "peak of the process", Samples((large["peak"],), "B"), "the bound", MOST, "cost", 1.0),
    ]
    rows.append(_asynchronous(quick))
    return Report(
        "Kernel memories",
        rows,
        f"Random ±1 patterns, γ = {GAMMA:g}, λ = {PENALTY:g}, float32, from patterns to coefficients, to a residual of {RESIDUAL:g}; "
        f"{threads} threads; {repeats} turns for P = {len(patterns):,}, 3 for {large['patterns']:,}: median (least). "
        "Sweeps in float64: all units in turn, 8 cues with 20 % flipped.",
        [
            f"Gradient descent: η just below its stability limit 2/(λ_max(K)²/4 + λ λ_max(K)); {steps:,} steps were made in float64 on "
            f"{NEURONS} of the {DIM} neurons, to the residual; the time is that of {STEPS} steps on all in float32, times the steps.",
            f"L-BFGS: scipy, float64, {NEURONS} neurons run until the residual is met, each stopped at once; the time is {DIM}/{NEURONS} "
            "of theirs.",
            f"P = {large['patterns']:,}: residual {large['residual']:.1e} after {large['iterations']} iterations; ridge "
            f"{large['ridge_residual']:.1e}. The floor is timed as its parts: half a product X Xᵀ (a symmetric one needs half), one "
            "Cholesky factorisation, one solve.",
            f"Process: torch and the patterns included; {quantity(large['peak'] - large['before'], 'B')} more than before the fit.",
            "All certified in float64; the states after each sweep are identical.",
        ],
    )


def _patterns(count: int) -> Tensor:
    return am.random_patterns(count, DIM, generator=torch.Generator().manual_seed(0))


def _fitted(patterns: Tensor) -> KernelMemory:
    memory = KernelMemory(DIM, GaussianKernel(GAMMA), Logistic(PENALTY, tolerance=0.95 * RESIDUAL))
    memory.write(patterns)
    return memory


def _steps(patterns: Tensor, matrix: Tensor | None = None) -> None:
    """Some steps of gradient descent on all neurons at once; what they cost does not depend on where they are."""
    matrix = gram(GaussianKernel(GAMMA), patterns) if matrix is None else matrix
    targets, dual = (patterns + 1) / 2, torch.zeros_like(patterns)
    for _ in range(STEPS):
        dual -= 1e-3 * (matrix @ (torch.sigmoid(matrix @ dual) - targets + PENALTY * dual))


def _descent(patterns: Tensor) -> tuple[int, Tensor]:
    """The papers' descent with the largest rate that is stable from the start, on some neurons: steps to the residual, coefficients."""
    matrix = gram(GaussianKernel(GAMMA), patterns.double())
    top = float(torch.linalg.eigvalsh(matrix)[-1])
    rate = 1.98 / (top**2 / 4 + PENALTY * top)
    targets = (patterns[:, :NEURONS].double() + 1) / 2
    dual, steps = torch.zeros_like(targets), 0
    while True:
        left = torch.sigmoid(matrix @ dual) - targets + PENALTY * dual
        if steps % 50 == 0 and float(left.abs().amax()) <= RESIDUAL:
            return steps, dual
        dual -= rate * (matrix @ left)
        steps += 1


class _Done(Exception):
    """The residual is met."""


def _one_by_one(patterns: Tensor) -> Tensor:
    """Each neuron by itself with scipy's L-BFGS, stopped as soon as its residual, which it computes anyway, is met."""
    matrix: NDArray[Any] = gram(GaussianKernel(GAMMA), patterns.double()).numpy()
    found = []
    for unit in range(NEURONS):
        target = ((patterns[:, unit].double() + 1) / 2).numpy()
        met: list[NDArray[Any]] = []

        def loss(dual: NDArray[Any], target: NDArray[Any] = target, met: list[NDArray[Any]] = met) -> tuple[float, NDArray[Any]]:
            field = matrix @ dual
            left = 1 / (1 + np.exp(-field)) - target + PENALTY * dual
            if np.abs(left).max() <= RESIDUAL:
                met.append(dual.copy())
                raise _Done
            value = np.logaddexp(0, field).sum() - target @ field + PENALTY / 2 * dual @ field
            return float(value), matrix @ left

        try:
            options = {"maxiter": 100_000, "maxfun": 100_000, "ftol": 0.0, "gtol": 0.0}
            minimize(loss, np.zeros(len(target)), jac=True, method="L-BFGS-B", options=options)
        except _Done:
            found.append(torch.from_numpy(met[0]))
        else:
            raise Unequal(f"kernel_memory: L-BFGS stopped before the residual was met for neuron {unit}.")
    return torch.stack(found, 1)


def _check_ours(patterns: Tensor, results: dict[str, Any]) -> None:
    _check("ours", patterns, results["ours"].dual)


def _check(name: str, patterns: Tensor, dual: Tensor) -> None:
    """The certificate in float64: the loss is convex, so what meets it is the same answer."""
    dual, rows = dual.double(), patterns.double()
    left = (rows[:, : dual.shape[1]] + 1) / 2 - torch.sigmoid(gram(GaussianKernel(GAMMA), rows) @ dual) - PENALTY * dual
    residual = float(left.abs().amax())
    if not residual <= 1.001 * RESIDUAL:
        raise Unequal(f"kernel_memory: {name} leaves a residual of {residual:.1e}; {RESIDUAL:g} is asked for.")


def _asynchronous(quick: bool) -> Row:
    """One sweep of 8 cues: the kernel of every state with every pattern anew for every unit, against carried overlaps."""
    dim, count = 100, 300 if quick else 3_000
    generator = torch.Generator().manual_seed(0)
    patterns = am.random_patterns(count, dim, generator=generator, dtype=torch.float64)
    kernel = GaussianKernel(0.1)
    memory = KernelMemory(dim, kernel, Ridge(PENALTY), "asynchronous")
    memory.write(patterns)
    cues = Flip(0.2)(patterns[:8], generator=generator)

    def plain() -> Tensor:
        state = cues.clone()
        for unit in range(dim):
            state[:, unit] = torch.where(kernel(state, patterns) @ memory.dual[:, unit] >= 0, 1.0, -1.0).double()
        return state

    def check(results: dict[str, Any]) -> None:
        if not torch.equal(results["ours"], results["plain"]):
            raise Unequal("kernel_memory: the sweep ends elsewhere than the plain loop.")

    fields = KernelFields(patterns, memory.dual, kernel)
    timings = race({"ours": here(lambda: sweep(fields, cues)), "plain": here(plain)}, check, 3 if quick else 10)
    return Row(f"one sweep, N = {dim}, P = {count:,}", timings["ours"], "the kernel anew for each unit", timings["plain"])


def _large(patterns: int, threads: int) -> dict[str, Any]:
    """Large fits in a fresh process, so that its peak is theirs alone."""
    command = [sys.executable, "-m", "benchmarks.kernel_memory", str(patterns), str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    if not said["residual"] <= RESIDUAL:
        raise Unequal(f"kernel_memory: the large fit leaves a residual of {said['residual']:.1e}.")
    return said


def _fit_large(count: int) -> dict[str, Any]:
    patterns = _patterns(count)
    before = peak()
    said: dict[str, Any] = {"patterns": count, "before": before, "logistic": [], "ridge": [], "floor": []}
    for turn in range(3):
        start = time.perf_counter()
        memory = _fitted(patterns)
        said["logistic"].append(time.perf_counter() - start)
        if not turn:
            # the peak of the logistic fit, before anything else has run; its certificate in float64, part by part
            said["peak"] = peak()
            assert memory.fit is not None
            matrix = gram(GaussianKernel(GAMMA), patterns)
            said["iterations"], dual = memory.fit.iterations, memory.dual.double()
            said["residual"] = max(
                float(((some + 1) / 2 - torch.sigmoid(rows.double() @ dual) - PENALTY * part).abs().amax())
                for some, rows, part in zip(*(torch.split(whole, 1000) for whole in (patterns.double(), matrix, dual)), strict=True)
            )
            del matrix, dual
        del memory
        start = time.perf_counter()
        ridge = KernelMemory(DIM, GaussianKernel(GAMMA), Ridge(PENALTY))
        ridge.write(patterns)
        said["ridge"].append(time.perf_counter() - start)
        said["ridge_residual"] = ridge.fit.residual if ridge.fit is not None else None
        del ridge
        said["floor"].append(_floor(patterns))
    return said


def _floor(patterns: Tensor) -> float:
    """Seconds of P²N + P³/3 + 2P²N: half the time of the product of 2P²N, a factorisation, a solve."""
    start = time.perf_counter()
    matrix = patterns @ patterns.mT
    product = time.perf_counter() - start
    # well conditioned, and as costly as any
    matrix.diagonal().add_(float(len(patterns)))
    start = time.perf_counter()
    lower = torch.linalg.cholesky(matrix)
    torch.cholesky_solve(patterns.mT.contiguous().mT, lower)
    return product / 2 + time.perf_counter() - start


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(_fit_large(int(sys.argv[1]))))
