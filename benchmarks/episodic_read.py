"""Episodic memory: its exact read against torch's attention over the same keys, and the layer against memorizing-transformers-pytorch.

The read is the layer in mode "read-only" on a full bank: queries, the fused product with all slots, projection. The floor is a plain
attention layer with the same weights over the same keys and values; both give the same numbers. Decoding is one token at a time.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ammon.nn.episodic import EpisodicMemory, EpisodicState
from ammon.nn.state import State
from benchmarks.report import Report, Row
from benchmarks.timing import Samples, Unequal, here, race

BATCH, TIME, DIM, HEADS, SLOTS = 2, 1024, 256, 4, 2048
TOLERANCE = 1e-4


@torch.no_grad()
def floor(memory: EpisodicMemory, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention with the weights of the memory over keys and values [batch, head, slot, entry], as one would write it."""
    queries = functional.normalize(memory.read.query(x).unflatten(-1, (HEADS, -1)), dim=-1).transpose(1, 2)
    mixed = functional.scaled_dot_product_attention(queries * memory.read.sharpness.exp()[:, None, None], keys, values, scale=1.0)
    read: Tensor = memory.read.out(mixed.transpose(1, 2).flatten(2))
    return read


@torch.no_grad()
def ours(memory: EpisodicMemory, x: Tensor, state: EpisodicState) -> Tensor:
    read: Tensor = memory(x, state, mode="read-only")[0]
    return read


def measure(quick: bool, threads: int) -> Report:
    torch.manual_seed(0)
    time, rounds = (TIME // 4, 3) if quick else (TIME, 15)
    rows = []
    x = torch.randn(BATCH, time, DIM)
    for slots in (SLOTS, 8 * SLOTS):
        memory = EpisodicMemory(DIM, HEADS, slots)
        with torch.no_grad():
            _, state = memory(torch.randn(BATCH, slots, DIM), mode="write-only")
        keys, values = (part.transpose(1, 2).contiguous() for part in (state.slots.keys, state.slots.values))
        ways = {"ours": here(partial(ours, memory, x, state)), "floor": here(partial(floor, memory, x, keys, values))}
        timings = race(ways, _check, repeats=rounds if slots == SLOTS else 3)
        rows.append(Row(f"read of {slots} slots", timings["ours"], "SDPA, same keys", timings["floor"], "cost", 1.3))
    rows += _peer(x, rounds)
    return Report(
        "Episodic memory, forward",
        rows,
        f"B = {BATCH}, L = {time}, d = {DIM}, H = {HEADS}, float32, no gradients, not compiled; {threads} threads; 3 to {rounds} turns; "
        "median (least), least processor time.",
        _notes(quick),
    )


def _check(results: dict[str, Tensor]) -> None:
    error = float((results["ours"] - results["floor"]).abs().max() / results["floor"].abs().max())
    if not error <= TOLERANCE:
        raise Unequal(f"episodic_read: the layer and attention over its slots differ by {error:.1e}; {TOLERANCE:g} is allowed.")


def _peer(x: Tensor, rounds: int) -> list[Row]:
    """A layer that reads a bank of SLOTS and writes its tokens, against KNNAttention with its own index, of the top 32 too."""
    try:
        from benchmarks.memorizing_peer import knn_layer
    except ImportError:
        return []
    return knn_layer(x, HEADS, SLOTS, rounds)


def _notes(quick: bool) -> list[str]:
    """The time of one decoding step and the bytes of state, after texts of several lengths."""
    memory, parts = EpisodicMemory(DIM, HEADS, SLOTS), []
    token = torch.randn(1, 1, DIM)
    state: State | None = None
    seen = 0
    with torch.no_grad():
        for length in (1024, 4096) if quick else (1024, 4096, 16384, 65536):
            while seen < length:
                _, state = memory(torch.randn(1, 1024, DIM), state, mode="write-only")
                seen += 1024
            turn = here(lambda state=state: memory(token, state))  # type: ignore[misc]
            turn()
            taken = Samples(tuple(turn().wall for _ in range(3)))
            assert state is not None
            parts.append(f"L = {length}: {1e3 * taken.median:.2f} ms, {state.nbytes / 2**20:.2f} MiB")
    return [f"One token more, {SLOTS} slots, B = 1, after " + "; ".join(parts) + "."]
