"""Peer: another library in a process of its own, which takes its turns when asked.

The inputs go over in an .npz file, the first result comes back in one; each turn is one line on a pipe. The peer times itself
with the same clocks, so neither the pipe nor the files are in its time.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import Turn, here

Arrays = Mapping[str, NDArray[Any]]


class Peer:
    """A context manager around `python -m <module>`; `turn` is a Way whose first result is what the peer computed."""

    def __init__(self, module: str, inputs: Arrays, threads: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        arrays: dict[str, Any] = dict(inputs)
        np.savez(Path(self._folder.name, "inputs.npz"), **arrays)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, self._folder.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(threads),
            )

    def turn(self) -> Turn:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer stopped; install it with: pip install -e '.[bench]'. It said:\n{self._log.read_text()[-2000:]}")
        spent = json.loads(line)
        result = Path(self._folder.name, "result.npz")
        # written once, before the first answer
        return Turn(spent["wall"], spent["cpu"], np.load(result)["result"] if spent["first"] else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


def serve(work: Callable[[Arrays], Callable[[], Any]]) -> None:
    """The peer's side: load the inputs, make the work ready, then run it once for every line that comes in."""
    # some libraries print; the answers need a stream of their own
    answers, sys.stdout = sys.stdout, sys.stderr
    folder = Path(sys.argv[1])
    with np.load(folder / "inputs.npz") as inputs:
        way = here(work(dict(inputs)))
    for number, _ in enumerate(sys.stdin):
        turn = way()
        if number == 0:
            np.savez(folder / "result.npz", result=np.asarray(turn.result))
        answers.write(json.dumps({"wall": turn.wall, "cpu": turn.cpu, "first": number == 0}) + "\n")
        answers.flush()


def _environment(threads: int) -> dict[str, str]:
    """As many threads as torch has here. NPROC sizes XLA's pool; the processors allowed to this process bind both anyway."""
    count = str(threads)
    eigen = "true" if threads > 1 else "false"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen={eigen}".strip()
    return {**os.environ, "NPROC": count, "OMP_NUM_THREADS": count, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
