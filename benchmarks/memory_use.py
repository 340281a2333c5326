"""Memory of a large store: a million patterns recalled at once, in one fresh process per way."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, Row, quantity
from benchmarks.store import BATCH, BETA, DIM, EXACT, PATTERNS
from benchmarks.timing import Samples, Unequal

# of the whole process: torch, the store, and the work
BOUND = Samples((1.2e9,), "B")
# largest difference from float64, relative to the largest entry; a float32 sum of a million terms has few digits more
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Use:
    """What one process used."""

    seconds: Samples
    peak: Samples
    more: float
    result: NDArray[Any]


def measure(quick: bool, threads: int) -> Report:
    patterns = PATTERNS // 10 if quick else PATTERNS
    repeats = 2 if quick else 3
    with tempfile.TemporaryDirectory() as folder:
        _run("exact", patterns, repeats, threads, folder)
        with np.load(Path(folder, "result.npz")) as exact:
            truth = {"recall": exact["recall"], "energy": exact["energy"]}
    rows, notes = [], []
    # two matrices of scores, at worst, beside the store
    needed = 3 * 4 * patterns * BATCH
    fits = available() > needed
    for work in ("recall", "energy"):
        ways = {"ours": work, **({"unfused torch": f"unfused {work}"} if fits else {})}
        uses = {name: _use(way, patterns, repeats, threads) for name, way in ways.items()}
        for name, use in uses.items():
            _check(f"{name}, {work}", use.result[:EXACT], truth[work])
        ours = uses["ours"]
        rows.append(Row(f"{work}: peak of the process", ours.peak, "the bound", BOUND, "cost", 1.0))
        notes.append(f"{work}: ours took {quantity(ours.more, 'B')} more than before the work.")
        if fits:
            other = uses["unfused torch"]
            if not np.abs(ours.result - other.result).max() <= 2 * TOLERANCE * np.abs(other.result).max():
                raise Unequal(f"memory_use: {work} of ours and of the unfused way differ.")
            rows.append(Row(f"{work}: peak of the process", ours.peak, "unfused torch", other.peak))
            rows.append(Row(f"{work}: time", ours.seconds, "unfused torch", other.seconds))
            notes[-1] += f" Unfused took {quantity(other.more, 'B')} more."
    if not fits:
        notes.append(f"The unfused way was left out: it needs up to {quantity(needed, 'B')}, the machine has less to spare.")
    return Report(
        "Memory of a large store",
        rows,
        f"N = {patterns:,} unit patterns, D = {DIM}, B = {BATCH:,} cues, β = {BETA:g}, one step, float32; {threads} threads, one fresh "
        f"process per way, {repeats} runs in it: median (least); the peak is the resident size of the process, torch and store included.",
        [
            f"The first {EXACT} rows equal float64 within {TOLERANCE:g} of the largest entry; "
            "where both ran, all rows of ours and unfused agree within twice that.",
            *notes,
        ],
    )


def _use(way: str, patterns: int, repeats: int, threads: int) -> Use:
    with tempfile.TemporaryDirectory() as folder:
        said = _run(way, patterns, repeats, threads, folder)
        with np.load(Path(folder, "result.npz")) as saved:
            result = saved["result"]
    return Use(Samples(tuple(said["seconds"])), Samples((said["peak"],), "B"), said["more"], result)


def _run(way: str, patterns: int, repeats: int, threads: int, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.store", way, str(patterns), str(repeats), str(threads), folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _check(name: str, found: NDArray[Any], truth: NDArray[Any]) -> None:
    error = float(np.abs(found - truth).max() / np.abs(truth).max())
    if not error <= TOLERANCE:
        raise Unequal(f"memory_use: {name} is off by {error:.1e} of the largest entry; {TOLERANCE:g} is allowed.")


def available() -> float:
    """Bytes that a new process may take; 0 where the system does not say."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return 0.0
    line = next(line for line in info.read_text().splitlines() if line.startswith("MemAvailable"))
    return float(line.split()[1]) * 1024
