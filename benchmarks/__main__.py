"""`python -m benchmarks [NAME ...] [--quick]`: run benchmarks, print their tables. Exits with 1 when results were not equal.

Peers, floor and ours run in one go on the same processors; only ratios are claims.
"""

import argparse
import os
import sys

import torch
from rich.console import Console

from benchmarks import (
    asynchronous_recall,
    capacity,
    energy,
    energy_network,
    energy_transformer,
    episodes,
    episodes_on_postgres,
    episodic_read,
    free_recall,
    kernel_memory,
    learning_rules,
    memory_use,
    neural_memory,
    paged_read,
    softmax_recall,
)
from benchmarks.report import show
from benchmarks.timing import Unequal

BENCHMARKS = {
    "softmax_recall": softmax_recall.measure,
    "asynchronous_recall": asynchronous_recall.measure,
    "capacity": capacity.measure,
    "memory_use": memory_use.measure,
    "energy": energy.measure,
    "energy_transformer": energy_transformer.measure,
    "energy_network": energy_network.measure,
    "kernel_memory": kernel_memory.measure,
    "learning_rules": learning_rules.measure,
    "free_recall": free_recall.measure,
    "episodes": episodes.measure,
    "episodes_on_postgres": episodes_on_postgres.measure,
    "neural_memory": neural_memory.measure,
    "episodic_read": episodic_read.measure,
    "paged_read": paged_read.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours against floors, plain ways and peers: ratios.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all by default: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="fewer points and repeats: to see that it works")
    parser.add_argument("--threads", type=int, default=2, help="threads of every way, here and in a peer's process (default 2)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, for docs/performance.md")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    threads = _bind(given.threads)
    console, failed = Console(width=None if sys.stdout.isatty() else 180), False
    for name in given.names or BENCHMARKS:
        try:
            report = BENCHMARKS[name](given.quick, threads)
        except Unequal as error:
            console.print(f"[red]{name}: no ratio, the results are not equal.[/] {error}\n", highlight=False)
            failed = True
        else:
            show(report, console, given.markdown)
    return 1 if failed else 0


def _bind(threads: int) -> int:
    """Bind this process and those it starts to as many processors as it has threads."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        threads = min(threads, len(allowed))
        os.sched_setaffinity(0, allowed[:threads])
    torch.set_num_threads(threads)
    return threads


if __name__ == "__main__":
    sys.exit(main())
