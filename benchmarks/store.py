"""One large store in a fresh process, for `memory_use`: recall or energy, ours or unfused, with the peak of resident memory.

The peak is VmHWM of /proc/self/status where there is one: ru_maxrss of a child starts at its parent's size.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ammon as am

PATTERNS, DIM, BATCH, BETA = 1_000_000, 64, 1_024, 32.0
WAYS = ("recall", "energy", "unfused recall", "unfused energy", "exact")
# cues that the exact way answers
EXACT = 64


def peak() -> int:
    """The largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    # bytes on macOS, which has no /proc
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> bool:
    """Let the peak start again from the present size; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def unit_rows(rows: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(rows, DIM, generator=generator)
    return drawn.div_(torch.linalg.vector_norm(drawn, dim=-1, keepdim=True))


def run(way: str, patterns: int, repeats: int, result: Path) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    rows = unit_rows(patterns, generator)
    cues = rows[:BATCH] + 0.5 * unit_rows(BATCH, generator)
    if way == "exact":
        scores = BETA * (cues[:EXACT].double() @ rows.double().T)
        energy = cues[:EXACT].double().square().sum(-1) / 2 - torch.logsumexp(scores, -1) / BETA
        np.savez(result, recall=(torch.softmax(scores, -1) @ rows.double()).numpy(), energy=energy.numpy())
        return {}
    memory = am.modern_hopfield(DIM, BETA)
    if not way.startswith("unfused"):
        memory.write(rows)
        del rows

    def work() -> Tensor:
        if way == "recall":
            return memory.recall(cues, steps=1).state
        if way == "energy":
            return memory.energy(cues)
        # β goes to the cues: one matrix of the size of the scores less
        scores = (BETA * cues) @ rows.T
        if way == "unfused recall":
            return torch.softmax(scores, -1) @ rows
        return cues.square().sum(-1) / 2 - torch.logsumexp(scores, -1) / BETA

    before_work = peak()
    base = now() if forget_peak() else before_work
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        out = work()
        seconds.append(time.perf_counter() - start)
    during = peak()
    np.savez(result, result=out.numpy())
    return {"seconds": seconds, "peak": max(before_work, during), "more": during - base}


def now() -> int:
    """The resident size of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    name, size, repeats, threads, folder = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
    torch.set_num_threads(threads)
    print(json.dumps(run(name, size, repeats, Path(folder, "result.npz"))))
