"""The layer of memorizing-transformers-pytorch 0.4.1 beside ours: attention over its tokens and over what it finds in its index.

It has one key and value for all heads and searches an approximate index (faiss, HNSW). Where it finds everything, both layers are the same
function; that is checked on a small bank, its index an exact one. Timed are its top 32 by HNSW, with and without adding its tokens to the
bank, which then grows turn by turn, against our exact read of the whole bank with writing.
"""

import tempfile
from functools import partial
from pathlib import Path

import faiss
import torch
from memorizing_transformers_pytorch.knn_memory import KNNMemory
from memorizing_transformers_pytorch.memorizing_transformers_pytorch import KNNAttention
from torch import Tensor

from ammon.nn.episodic import EpisodicMemory
from benchmarks.report import Row
from benchmarks.timing import Unequal, here, race

FOUND = 32
TOLERANCE = 1e-4


def knn_layer(x: Tensor, heads: int, slots: int, rounds: int) -> list[Row]:
    """Ours against the peer for tokens [batch, time, dim] and a bank of so many slots."""
    faiss.omp_set_num_threads(torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        run, peer = _pair(x[:, :32], heads, 64, 64, Path(folder) / "small")
        _same({"ours": run(), "peer": peer()})
        rows = []
        for adds in (True, False):
            run, peer = _pair(x, heads, slots, FOUND, Path(folder) / f"large {adds}", adds)
            timings = race({"ours": here(run), "peer": here(peer)}, lambda results: None, repeats=min(rounds, 5))
            name = f"memorizing-transformers, top {FOUND}" + ("" if adds else ", no write")
            rows.append(Row(f"the layer, {slots} slots", timings["ours"], name, timings["peer"], "gain", 5.0 if adds else None))
    return rows


def _pair(x: Tensor, heads: int, slots: int, found: int, place: Path, adds: bool = False) -> "tuple[partial[Tensor], partial[Tensor]]":
    batch, time, dim = x.shape
    size = dim // heads
    peer = KNNAttention(dim=dim, heads=heads, dim_head=size, num_retrieved_memories=found)
    # room for all, so that no item gives way while both are compared
    room = slots + time if found == slots else slots
    memory = EpisodicMemory(dim, heads, room, sharpness=20.0)
    with torch.no_grad():
        memory.read.query.weight.copy_(peer.to_q.weight)
        memory.read.out.weight.copy_(peer.to_out.weight)
        key, value = peer.to_kv.weight.split(size)
        memory.store.weight.copy_(torch.cat([key.repeat(heads, 1), value.repeat(heads, 1)]))
        before = torch.randn(batch, slots, dim)
        _, state = memory(before, mode="write-only")
        index = KNNMemory(dim=size, max_memories=slots + 64 * time, num_indices=batch, memmap_filename=str(place), multiprocessing=False)
        if found == slots:
            # an exact index: HNSW does not reach all of its items
            for knn in index.knns:
                knn.index = faiss.IndexFlatIP(size)
        keys, values = peer.to_kv(before).chunk(2, dim=-1)
        index.add(torch.stack([torch.nn.functional.normalize(keys, dim=-1), values], -2))

    @torch.no_grad()
    def ours() -> Tensor:
        y: Tensor = memory(x, state)[0]
        return y

    @torch.no_grad()
    def theirs() -> Tensor:
        y: Tensor = peer(x, knn_memory=index, add_knn_memory=adds)[0]
        return y

    return partial(ours), partial(theirs)


def _same(results: dict[str, Tensor]) -> None:
    error = float((results["ours"] - results["peer"]).abs().max() / results["peer"].abs().max())
    if not error <= TOLERANCE:
        raise Unequal(f"episodic_read: ours and memorizing-transformers differ by {error:.1e} on a small bank; {TOLERANCE:g} is allowed.")
