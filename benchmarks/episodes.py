"""The store of episodes: what recall costs above the bare scan of its keys, and beside chroma and LanceDB on the same vectors.

100,000 episodes of 12 words with keys of 384 numbers; the peers are given the same vectors and the same k, their share of the true
neighbours is stated. The steps of a recall by text are told apart.
"""

import functools
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.episodes.blend import Blend
from ammon.episodes.embed import Hashing
from ammon.episodes.matrix import KeyMatrix
from ammon.episodes.store import Episodes
from ammon.parts.similarity import Cosine
from benchmarks.report import Report, Row
from benchmarks.timing import Samples, Timing, Unequal, here, race

DIM, K, PER_SESSION = 384, 10, 100
CUES, BATCH = 32, 5000
# words come as in speech: the n-th most frequent in proportion to 1/(n + 2.7)
VOCABULARY, WORDS = 30_000, 12
PLAIN = Blend(context=None)


def measure(quick: bool, threads: int) -> Report:
    count, large, rounds = (20_000, 50_000, 5) if quick else (100_000, 1_000_000, 9)
    generator = torch.Generator().manual_seed(0)
    keys = normalize(torch.randn(count, DIM, generator=generator), dim=-1)
    cues = normalize(keys[:CUES] + 0.3 * normalize(torch.randn(CUES, DIM, generator=generator), dim=-1), dim=-1)
    texts = _texts(count, WORDS, generator)
    truth = (cues @ keys.T).topk(K).indices + 1
    rows: list[Row] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        store = _filled(Path(folder, "store.db"), keys, texts)
        ways: dict[str, Callable[[int], Any]] = {
            "ours": lambda n: [e.id for e in store.recall(cues[n], K, blend=PLAIN).episodes],
            "context": lambda n: [e.id for e in store.recall(cues[n], K).episodes],
            "scan": lambda n: ((keys @ cues[n]).topk(K).indices + 1).tolist(),
            "filter": lambda n: len(store.recall(cues[n], K, session=f"session {n}")),
            "where": lambda n: len(store.recall(cues[n], K, where={"place": n})),
            **_peers(Path(folder), keys, cues, notes),
        }
        spent = _race(ways, truth, rounds, notes)
        rows += [
            Row(f"recall by vector, {count:,} keys", spent["ours"], "bare scan", spent["scan"], "cost", 1.5),
            Row("the same with temporal context", spent["context"], "bare scan", spent["scan"], "cost", 1.5),
            Row("1 % by session", spent["filter"], "2 ms", Samples((0.002,)), "cost", 1.0),
            Row("1 % by metadata", spent["where"], "2 ms", Samples((0.002,)), "cost", 1.0),
            *_by_text(store, _texts(CUES, WORDS // 2, generator), spent["scan"].wall),
            *[Row("recall by vector", spent["ours"], name, spent[name]) for name in ("chroma", "lancedb") if name in spent],
        ]
        store.close()
        rows += _opening(Path(folder, "store.db"), cues[0], rounds)
        rows += _appending(Path(folder), keys, 20 if quick else 200)
    rows.append(_large(large, generator, rounds, notes))
    return Report(
        "The store of episodes",
        rows,
        f"Unit keys [{count:,}, {DIM}], k = {K}, cues = key + 0.3 × unit noise; {threads} threads; up to {rounds} turns of {CUES} cues; "
        "a time is of one call.",
        notes,
    )


def _texts(count: int, words: int, generator: torch.Generator) -> list[str]:
    chances = 1 / (torch.arange(VOCABULARY) + 2.7)
    drawn = torch.multinomial(chances, count * words, replacement=True, generator=generator).view(count, words)
    return [" ".join(f"word{number}" for number in row) for row in drawn.tolist()]


def _filled(path: Path, keys: Tensor, texts: list[str]) -> Episodes:
    store = Episodes.open(path, embedder=Hashing(DIM), durability="NORMAL")
    for start in range(0, len(keys), BATCH):
        places = range(start, min(start + BATCH, len(keys)))
        size = max(1, len(keys) // PER_SESSION)
        store.remember(
            texts[start : start + BATCH],
            keys=keys[start : start + BATCH],
            session=[f"session {place // size}" for place in places],
            metadata=[{"place": place % PER_SESSION} for place in places],
        )
    return store


def _race(ways: dict[str, Callable[[int], Any]], truth: Tensor, rounds: int, notes: list[str]) -> dict[str, Timing]:
    """The ways take turns over all cues; exact ones must find the true neighbours."""
    cues = range(len(truth))

    def every(way: Callable[[int], Any]) -> list[Any]:
        return [way(number) for number in cues]

    def check(results: dict[str, Any]) -> None:
        for name, found in results.items():
            if name in ("filter", "where", "context"):
                continue
            share = sum(len(set(one) & set(right)) for one, right in zip(found, truth.tolist())) / truth.numel()
            notes.append(f"{name}: {share:.3f} of the true neighbours.")
            if name in ("ours", "scan") and share < 1:
                raise Unequal(f"episodes: {name} found {share:.4f} of the true neighbours, all are needed.")

    spent = race({name: here(functools.partial(every, way)) for name, way in ways.items()}, check, rounds)
    return {name: _each(timing, len(cues)) for name, timing in spent.items()}


def _by_text(store: Episodes, questions: list[str], scan: Samples) -> list[Row]:
    """What a recall by text takes, and each of its steps by itself."""
    spent = [store.recall(question, K).timing for question in questions]
    rows = [("recall by text", "total"), ("- of it the embedding (Hashing)", "embed"), ("- of it the index of words", "words")]
    return [Row(name, Samples(tuple(getattr(one, step) for one in spent)), "bare scan", scan, "cost") for name, step in rows]


def _each(timing: Timing, calls: int) -> Timing:
    wall, cpu = (Samples(tuple(value / calls for value in samples.values)) for samples in (timing.wall, timing.cpu))
    return Timing(wall, cpu, timing.first)


def _opening(path: Path, cue: Tensor, rounds: int) -> list[Row]:
    """Opening and the first recall, beside one second."""
    spent = []
    for _ in range(min(rounds, 5)):
        began = time.perf_counter()
        with Episodes.open(path) as store:
            store.recall(cue, K)
        spent.append(time.perf_counter() - began)
    return [Row("open again, and the first recall", Samples(tuple(spent)), "one second", Samples((1.0,)), "cost", 1.0)]


def _appending(folder: Path, keys: Tensor, times: int) -> list[Row]:
    spent: dict[str, list[float]] = {"FULL": [], "NORMAL": []}
    stores = {
        "FULL": Episodes.open(folder / "full.db", durability="FULL"),
        "NORMAL": Episodes.open(folder / "normal.db", durability="NORMAL"),
    }
    for number in range(times):
        for name, store in stores.items():
            began = time.perf_counter()
            store.remember(keys=keys[number : number + 1])
            spent[name].append(time.perf_counter() - began)
    for name, store in stores.items():
        if len(store) != times:
            raise Unequal(f"episodes: {len(store)} of {times} appended with {name}.")
        store.close()
    return [Row("append one, NORMAL", Samples(tuple(spent["NORMAL"])), "FULL, one fsync", Samples(tuple(spent["FULL"])))]


def _large(count: int, generator: torch.Generator, rounds: int, notes: list[str]) -> Row:
    """The coarse pass with exact re-ranking, against the scan in float32."""
    exact, coarse = KeyMatrix(DIM, Cosine(), large=count + 1), KeyMatrix(DIM, Cosine(), large=1)
    exact.reserve(count)
    for start in range(0, count, 50_000):
        block = torch.randn(min(50_000, count - start), DIM, generator=generator)
        exact.append(block.numpy())
    # the same rows, not a second copy
    coarse._room, coarse.count = exact._room, exact.count
    cues = normalize(exact.keys[:8] + 0.3 * normalize(torch.randn(8, DIM, generator=generator), dim=-1), dim=-1)

    def check(results: dict[str, Any]) -> None:
        shares = [len(set(a) & set(b)) / K for a, b in zip(results["coarse"], results["exact"])]
        notes.append(f"{count:,} keys, bfloat16 first: {sum(shares) / len(shares):.3f} of the neighbours of the float32 scan.")
        if min(shares) < 1:
            raise Unequal(f"episodes: re-ranking found only {min(shares):.2f} of the true neighbours.")

    ways = {
        name: here(lambda matrix=matrix: [matrix.nearest(cue, K).rows.tolist() for cue in cues])  # type: ignore[misc]
        for name, matrix in (("coarse", coarse), ("exact", exact))
    }
    spent = race(ways, check, rounds)
    return Row(f"{count:,} keys, re-ranked", _each(spent["coarse"], len(cues)), "float32 scan", _each(spent["exact"], len(cues)))


def _peers(folder: Path, keys: Tensor, cues: Tensor, notes: list[str]) -> dict[str, Callable[[int], Any]]:
    """chroma and LanceDB as they come, where they are installed."""
    ways: dict[str, Callable[[int], Any]] = {}
    with suppress(ImportError):
        import chromadb
        from chromadb.config import Settings

        client = chromadb.PersistentClient(str(folder / "chroma"), Settings(anonymized_telemetry=False))
        collection = client.create_collection("keys", configuration={"hnsw": {"space": "cosine"}})
        began = time.perf_counter()
        for start in range(0, len(keys), BATCH):
            stop = min(start + BATCH, len(keys))
            collection.add(ids=[str(place + 1) for place in range(start, stop)], embeddings=keys[start:stop].numpy())
        notes.append(f"chroma (HNSW): {time.perf_counter() - began:.1f} s to take the keys in.")
        ways["chroma"] = lambda n: [int(one) for one in collection.query(query_embeddings=cues[n : n + 1].numpy(), n_results=K)["ids"][0]]
    with suppress(ImportError):
        import lancedb
        import pyarrow as pa

        began = time.perf_counter()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(keys.flatten().numpy()), DIM)
        table: Any = lancedb.connect(str(folder / "lance")).create_table(
            "keys", pa.table({"id": pa.array(range(1, len(keys) + 1)), "vector": vectors})
        )
        notes.append(f"LanceDB (exact scan): {time.perf_counter() - began:.1f} s to take the keys in.")
        ways["lancedb"] = lambda n: [row["id"] for row in table.search(cues[n].numpy()).distance_type("cosine").limit(K).to_list()]
    if len(ways) < 2:
        notes.append("Peers that are missing come with: pip install -e '.[bench]'.")
    return ways
