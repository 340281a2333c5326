"""Neural memory, forward and backward: against an attention layer, its own matrix products, and titans-pytorch; and one token of a stream.

Attention does other work, so only its time is compared. Before that the dual form must agree with the scan form, which holds the weights of
every token, in values and gradients. tests/references/test_surprise_against_titans_pytorch.py holds that both learn the same memory.
"""

import json
import subprocess
import sys
import time
from functools import partial

import torch
from torch import Tensor

from ammon.learning.fast_weights import Mlp
from ammon.learning.surprise import Surprise
from ammon.nn.attention import Attention, AttentionState
from ammon.nn.neural import NeuralMemory
from benchmarks.memory_use import available
from benchmarks.report import Report, Row, quantity
from benchmarks.timing import Samples, Unequal, here, race
from benchmarks.titans_peer import CHUNK, DIM, HEADS, Plain, run

BATCH, TIME = 2, 1024
# largest difference of a value or gradient, relative to the largest entry of its tensor
TOLERANCE = 1e-3
# bytes that titans-pytorch takes for a row of 1024 tokens at the exact setting
NEEDED = 11e9


def measure(quick: bool, threads: int) -> Report:
    torch.manual_seed(0)
    length, rounds = (TIME // 4, 3) if quick else (TIME, 15)
    x = torch.randn(BATCH, length, DIM)
    rows, errors, notes = [], [], []
    for depth in (1, 2):
        layer = NeuralMemory(DIM, HEADS, Mlp(depth), Surprise(CHUNK))
        errors.append(_check(layer, x[:1, : 2 * CHUNK + 5]))
        ways = {"ours": here(partial(run, layer, x)), "attention": here(partial(run, Plain(DIM, HEADS), x))}
        ways["rotary"] = here(partial(run, Attention(DIM, HEADS), x))
        if depth == 2:
            ways["products"] = here(partial(_products, x))
            steps = NeuralMemory(DIM, HEADS, Mlp(depth), Surprise(CHUNK, compiled=True))
            steps.load_state_dict(layer.state_dict())
            compiled = torch.compile(steps, fullgraph=True)
            start = time.perf_counter()
            same = run(compiled, x)  # type: ignore[arg-type]
            took = time.perf_counter() - start
            _same("compiled and not", same, run(layer, x))
            ways["compiled"] = here(partial(run, compiled, x))  # type: ignore[arg-type]
            notes.append(f"Compiling (or loading what was compiled before) took {took:.0f} s.")
        timings = race(ways, lambda results: None, repeats=rounds)
        work = "a linear memory" if depth == 1 else f"{depth} layers"
        bar = None if depth == 1 else 3.0
        rows.append(Row(work, timings["ours"], "an attention layer, no positions", timings["attention"], "cost", bar))
        rows.append(Row(work, timings["ours"], "ammon's, with rotary positions", timings["rotary"], "cost"))
        if depth == 2:
            rows.append(Row(work, timings["ours"], "its matrix products", timings["products"], "cost"))
            rows.append(
                Row(f"{work}, compiled", timings["compiled"], "an attention layer, no positions", timings["attention"], "cost", bar)
            )
    rows += _peers(length, quick, threads, notes)
    notes.append(
        f"Largest difference of the dual form from the scan: {', '.join(f'{e:.0e}' for e in errors)}, refused above {TOLERANCE:g}."
    )
    notes += _steps(quick)
    return Report(
        "Neural memory, forward and backward",
        rows,
        f"B = {BATCH}, L = {length}, d = {DIM}, H = {HEADS}, chunks of {CHUNK}, expansion 4, float32; {threads} threads; "
        f"3 to {rounds} turns; median (least), least processor time; peers in processes of their own; "
        "bytes are the peak above what was held before.",
        notes,
    )


def _products(x: Tensor) -> None:
    """The matrix products of the forward pass, three times over: the gradient of a product is two."""
    batch, length, entries = len(x) * HEADS, CHUNK, DIM // HEADS
    small, large, square = (torch.ones(batch, length, n) for n in (entries, 4 * entries, length))
    both = torch.ones(batch, 2 * entries, 4 * entries)
    twice = torch.ones(batch, length, 2 * entries)
    rows = x.reshape(-1, DIM)
    for _ in range(3):
        for _ in range(x.shape[1] // CHUNK):
            for one, other in (
                # keys: both layers and the error back
                *((small, both[:, :entries]), (large, both[:, :entries].mT), (small, both[:, :entries])),
                # queries in both layers
                *((twice, both), (small, small.mT), (square, large), (large, both.mT), (large, large.mT), (square, small)),
                # what is written
                *((twice.mT, large), (twice.mT, large)),
            ):
                torch.bmm(one, other)
        torch.mm(rows, torch.ones(DIM, 3 * DIM))
        torch.mm(rows, torch.ones(DIM, DIM))


def _peers(length: int, quick: bool, threads: int, notes: list[str]) -> list[Row]:
    rows = []
    fits = available() > NEEDED * BATCH * length / TIME
    batch = BATCH if fits else 1
    for way, name, bar in (
        ("exact", "titans-pytorch, chunk_size 1, batch_size 64", 100.0),
        ("coarse", "titans-pytorch, chunk_size 64, batch_size 64", 2.0),
    ):
        if way == "exact" and available() <= NEEDED * batch * length / TIME:
            notes.append(f"{name} was left out: it needs {quantity(NEEDED * batch * length / TIME, 'B')}, the machine has less to spare.")
            continue
        some = batch if way == "exact" else BATCH
        turns = 1 if way == "exact" else 2 if quick else 7
        seconds, more = _apart(way, some, length, turns, threads)
        ours, own = _apart("ours", some, length, 7, threads)
        work = f"2 layers, B = {some}"
        rows.append(Row(work, ours, name, seconds, "gain", bar))
        rows.append(Row(f"{work}: bytes", own, name, more, "gain", 20.0 if way == "exact" else None))
    return rows


def _apart(way: str, batch: int, length: int, turns: int, threads: int) -> tuple[Samples, Samples]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.titans_peer", way, *map(str, (batch, length, turns, threads))]
    said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return Samples(tuple(said["seconds"])), Samples((said["more"],), "B")


@torch.no_grad()
def _steps(quick: bool) -> list[str]:
    """One more token after L others: time and bytes of the state."""
    memory, attention = NeuralMemory(DIM, HEADS, Mlp(2), Surprise(CHUNK)), Attention(DIM, HEADS)
    token, found = torch.randn(BATCH, 1, DIM), []
    _, learned = memory(torch.randn(BATCH, CHUNK + 7, DIM))
    for length in (1024, 4096, 16384, 65536)[: 2 if quick else 4]:
        keys = torch.randn(BATCH, length, HEADS, DIM // HEADS)
        cache = AttentionState(keys, torch.randn_like(keys), torch.ones(BATCH, length, dtype=torch.bool), torch.full((BATCH,), length))
        times = []
        for layer, state in ((memory, learned), (attention, cache)):
            turns = []
            for _ in range(12):
                start = time.perf_counter()
                layer(token, state)
                turns.append(time.perf_counter() - start)
            times.append(sorted(turns)[len(turns) // 2])
        found.append(
            f"A token after {length:,}: neural {times[0] * 1e3:.2f} ms, state {learned.nbytes / BATCH / 1e6:.2f} MB a row; "
            f"attention with a cache {times[1] * 1e3:.2f} ms, {cache.nbytes / BATCH / 1e6:.2f} MB a row."
        )
    return found


def _check(layer: NeuralMemory, x: Tensor) -> float:
    scan = NeuralMemory(DIM, HEADS, layer.network, Surprise(CHUNK, form="scan"))
    scan.load_state_dict(layer.state_dict())
    return _same("the dual form and the scan", run(layer, x), run(scan, x))


def _same(what: str, some: list[Tensor], others: list[Tensor]) -> float:
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(some, others, strict=True))
    if not error <= TOLERANCE:
        raise Unequal(f"neural_memory: {what} differ by {error:.1e} of the largest entry; {TOLERANCE:g} is allowed.")
    return error
