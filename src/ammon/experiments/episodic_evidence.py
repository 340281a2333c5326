"""Episodic evidence: how many of the turns that answer a question does a store of the conversation bring up, by each kind of evidence?

LoCoMo's conversations, one store each. R@k: share of a question's gold turns among the first k; mean over questions, then over
conversations. The weights of context, dates and speakers are chosen on the other conversations (leave one out), those of content and
words are fixed.
Adversarial questions (of the other speaker) and turns in shuffled places are the negatives.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ammon.datasets.locomo import CATEGORIES, Conversation, load_locomo
from ammon.episodes.blend import Blend
from ammon.episodes.context import Drift, Spread
from ammon.episodes.embed import Embedder, Hashing, SentenceTransformer, embed
from ammon.episodes.store import Episodes
from ammon.episodes.tuning import climb, coordinates, recall_at

Point = Mapping[str, Any]
Row = dict[str, Any]

DEPTHS = (5, 10, 20, 50)
# the depth by which weights are chosen and methods compared
DEPTH = 10
DRAWS = 2000
ALONE = Blend(content=1.0, words=0.0, context=None, date=0.0)
FUSION = Blend(content=0.7, words=0.3, context=None, date=0.0)


@dataclass(frozen=True)
class Method:
    """A blend and which of its weights are chosen on the other conversations (names of `coordinates`), starting from values that
    favour nothing. named: turns are embedded as "Name: text", names left in; shuffled: turns change places."""

    blend: Blend
    chosen: tuple[str, ...] = ()
    named: bool = False
    shuffled: bool = False


_CONTEXT = ("forward", "backward", "rho", "threshold")
_BARE = replace(FUSION, context=Spread(forward=0.25, backward=0.15, rho=0.5), threshold=0.5)
METHODS: dict[str, Method] = {
    "cosine": Method(ALONE, named=True),
    "cosine_stripped": Method(ALONE),
    "bm25": Method(replace(ALONE, content=0.0, words=1.0)),
    "fusion": Method(FUSION),
    "fusion_spread": Method(_BARE, _CONTEXT),
    "fusion_spread_dates": Method(replace(_BARE, date=1.0), (*_CONTEXT, "date")),
    "fusion_spread_dates_speaker": Method(replace(_BARE, date=1.0), (*_CONTEXT, "date", "speaker")),
    "fusion_drift": Method(replace(FUSION, context=Drift(weight=0.1), threshold=0.5), ("weight", "threshold")),
    "fusion_spread_shuffled": Method(_BARE, _CONTEXT, shuffled=True),
    "fusion_chosen": Method(FUSION, ("share",)),
    "defaults": Method(Blend()),
}


@dataclass(frozen=True)
class Asked:
    """What a method found for the questions of one conversation: R@k [question, depth] and the reciprocal rank [question]."""

    shares: Tensor
    reciprocal: Tensor


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    """Rows of one method: all categories that have an answer, each of them, and the adversarial questions.

    point: method (of METHODS), data (a file of LoCoMo), embedder ("hashing", or a model of sentence-transformers, or its folder).
    """
    name = str(point["method"])
    if name not in METHODS:
        raise ValueError(f"episodic_evidence: no method is called {name!r}; there are: {', '.join(METHODS)}.")
    conversations = load_locomo(str(point["data"]))
    if len(conversations) < 2:
        raise ValueError(
            f"episodic_evidence: weights are chosen on other conversations, so at least 2 are needed, got {len(conversations)}."
        )
    embedder = str(point.get("embedder", "hashing"))
    found, blends = _answers(METHODS[name], conversations, _embedder(embedder), generator)
    base = _fusion(str(point["data"]), embedder)
    rows = []
    for category in ("all", *CATEGORIES.values()):
        chosen = [torch.tensor([_counts(q.category, category) for q in c.questions], dtype=torch.bool) for c in conversations]
        values = [asked.shares[which] for asked, which in zip(found, chosen)]
        gains = [(asked.shares - other.shares)[which][:, [DEPTHS.index(DEPTH)]] for asked, other, which in zip(found, base, chosen)]
        if not any(map(len, values)):
            continue
        low, high = bootstrap([value[:, DEPTHS.index(DEPTH)] for value in values], generator)
        gain_low, gain_high = bootstrap([gain[:, 0] for gain in gains], generator)
        row: Row = {"method": name, "category": category, "questions": sum(map(len, values))}
        row |= {f"r{depth}": _mean([value[:, at] for value in values]) for at, depth in enumerate(DEPTHS)}
        row |= {"r10_low": low, "r10_high": high, "mrr": _mean([asked.reciprocal[which] for asked, which in zip(found, chosen)])}
        row |= {"gain": _mean([gain[:, 0] for gain in gains]), "gain_low": gain_low, "gain_high": gain_high}
        row["weights"] = " | ".join(_said(blend) for blend in dict.fromkeys(blends))
        rows.append(row)
    return rows


def run(data: str, embedder: str = "hashing", methods: Sequence[str] = tuple(METHODS), seed: int = 0) -> Iterator[Row]:
    """The rows of every method, each method with a generator of its own."""
    for name in methods:
        yield from measure({"method": name, "data": data, "embedder": embedder}, generator=torch.Generator().manual_seed(seed))


def bootstrap(values: Sequence[Tensor], generator: torch.Generator, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean over conversations of the mean over questions [question], questions drawn anew within each."""
    means = torch.stack(
        [value[torch.randint(len(value), (DRAWS, len(value)), generator=generator)].mean(1) for value in values if len(value)]
    ).mean(0)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return low, high


@functools.cache
def _fusion(data: str, embedder: str) -> list[Asked]:
    """What the other methods are compared with, question by question."""
    return _answers(METHODS["fusion"], load_locomo(data), _embedder(embedder), torch.Generator())[0]


def _answers(
    method: Method, conversations: Sequence[Conversation], embedder: Embedder, generator: torch.Generator
) -> tuple[list[Asked], list[Blend]]:
    """What the method finds in each conversation, and with which blend."""
    with _stores(method, conversations, embedder, generator) as asks:
        if not method.chosen:
            return [ask(method.blend) for ask in asks], [method.blend]
        plain = [torch.tensor([_counts(q.category, "all") for q in c.questions], dtype=torch.bool) for c in conversations]
        ways = [change for name, change in coordinates().items() if name in method.chosen]
        blends = []
        for held in range(len(asks)):
            others = [(ask, which) for at, (ask, which) in enumerate(zip(asks, plain)) if at != held]
            blends.append(climb(method.blend, lambda blend, others=others: _value(blend, others), ways))  # type: ignore[misc]
        return [ask(blend) for ask, blend in zip(asks, blends)], blends


def _value(blend: Blend, asks: Sequence[tuple[Callable[[Blend], Asked], Tensor]]) -> float:
    return sum(float(ask(blend).shares[which, DEPTHS.index(DEPTH)].mean()) for ask, which in asks) / len(asks)


@contextmanager
def _stores(
    method: Method, conversations: Sequence[Conversation], embedder: Embedder, generator: torch.Generator
) -> Iterator[list[Callable[[Blend], Asked]]]:
    """A store for each conversation, asked all its questions with a blend; answers are kept, for blends come back in other folds."""
    with tempfile.TemporaryDirectory() as folder:
        stores, asks = [], []
        for number, talk in enumerate(conversations):
            store = Episodes.open(Path(folder, f"{number}.db"), embedder=embedder, strip_names=not method.named, durability="NORMAL")
            stores.append(store)
            order = torch.randperm(len(talk.turns), generator=generator).tolist() if method.shuffled else range(len(talk.turns))
            places = [talk.turns[at] for at in order]
            ids = store.remember(
                [f"{turn.speaker}: {turn.text}" if method.named else turn.text for turn in talk.turns],
                session=[place.session for place in places],
                time=[place.time for place in places],
                speaker=[turn.speaker for turn in talk.turns],
            )
            asks.append(_ask(store, talk, dict(zip((turn.id for turn in talk.turns), ids))))
        try:
            yield asks
        finally:
            for store in stores:
                store.close()


def _ask(store: Episodes, talk: Conversation, ids: Mapping[str, int]) -> Callable[[Blend], Asked]:
    @functools.cache
    def ask(blend: Blend) -> Asked:
        shares, reciprocal = [], []
        for question in talk.questions:
            found = [episode.id for episode in store.recall(question.text, max(DEPTHS), blend=blend).episodes]
            right = {ids[one] for one in question.evidence}
            shares.append([recall_at(found, right, depth) for depth in DEPTHS])
            reciprocal.append(next((1 / rank for rank, one in enumerate(found, start=1) if one in right), 0.0))
        return Asked(torch.tensor(shares, dtype=torch.float64), torch.tensor(reciprocal, dtype=torch.float64))

    return ask


@functools.cache
def _embedder(name: str) -> Embedder:
    """The embedder of this name, which embeds each text once."""
    inner: Any = Hashing() if name == "hashing" else SentenceTransformer(name)
    known: dict[str, Tensor] = {}

    def keys(texts: list[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, embed(inner, new, "episodic_evidence")))
        return torch.stack([known[text] for text in texts])

    return keys


def _counts(category: str, asked: str) -> bool:
    return category != "adversarial" if asked == "all" else category == asked


def _mean(values: Sequence[Tensor]) -> float:
    held = [value.mean() for value in values if len(value)]
    return float(torch.stack(held).mean())


def _said(blend: Blend) -> str:
    text = f"words {blend.words:g}"
    if isinstance(blend.context, Spread):
        text += f" forward {blend.context.forward:g} backward {blend.context.backward:g} rho {blend.context.rho:g}"
    if isinstance(blend.context, Drift):
        text += f" drift {blend.context.weight:g}"
    return f"{text} threshold {blend.threshold:g} date {blend.date:g} speaker {blend.speaker:g}"
