"""Episodic evidence: how many of the turns that answer a question does a store of the conversation bring up, by each kind of evidence?

LoCoMo's conversations, one store each. R@k: share of a question's gold turns among the first k; mean over questions, then over
conversations. The weights of context, dates and speakers are chosen on the other conversations (leave one out), those of content and
words are fixed.
Adversarial questions (of the other speaker) and turns in shuffled places are the negatives.
"""

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ammon.analysis import figures
from ammon.analysis.rows import groups
from ammon.datasets.locomo import CATEGORIES, Conversation, Question, load_locomo
from ammon.episodes.blend import Blend
from ammon.episodes.context import Drift, Spread
from ammon.episodes.embed import Embedder, Hashing, SentenceTransformer, embed
from ammon.episodes.store import Episodes
from ammon.episodes.tuning import climb, coordinates, recall_at
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.stored import with_interval

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

DEPTHS = (5, 10, 20, 50)
# the depth by which weights are chosen and methods compared
DEPTH = 10
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


_CONTEXT = ("forward", "backward", "rho")
_BARE = replace(FUSION, context=Spread(forward=0.25, backward=0.15, rho=0.5))
METHODS: dict[str, Method] = {
    "cosine": Method(ALONE, named=True),
    "cosine_stripped": Method(ALONE),
    "bm25": Method(replace(ALONE, content=0.0, words=1.0)),
    "fusion": Method(FUSION),
    "fusion_spread": Method(_BARE, _CONTEXT),
    "fusion_spread_dates": Method(replace(_BARE, date=1.0), (*_CONTEXT, "date")),
    "fusion_spread_dates_speaker": Method(replace(_BARE, date=1.0), (*_CONTEXT, "date", "speaker")),
    "fusion_drift": Method(replace(FUSION, context=Drift(weight=0.2)), ("weight",)),
    "fusion_spread_shuffled": Method(_BARE, _CONTEXT, shuffled=True),
    "fusion_chosen": Method(FUSION, ("share",)),
    "defaults": Method(Blend()),
}


@dataclass(frozen=True)
class Asked:
    """What a method found for the questions of one conversation: R@k [question, depth] and the reciprocal rank [question]."""

    shares: Tensor
    reciprocal: Tensor


class _Asks:
    """The questions of a conversation put to its store. Values are kept, for blends come back in other folds."""

    def __init__(self, store: Episodes, talk: Conversation, ids: Mapping[str, int]) -> None:
        self.store = store
        self.questions = [(asked, {ids[one] for one in asked.evidence}) for asked in talk.questions]
        self._values: dict[Blend, float] = {}

    def all(self, blend: Blend) -> Asked:
        """What is found for every question."""
        shares, reciprocal = [], []
        for question, right in self.questions:
            found = self._found(question, blend, max(DEPTHS))
            shares.append([recall_at(found, right, depth) for depth in DEPTHS])
            reciprocal.append(next((1 / rank for rank, one in enumerate(found, start=1) if one in right), 0.0))
        return Asked(torch.tensor(shares, dtype=torch.float64), torch.tensor(reciprocal, dtype=torch.float64))

    def value(self, blend: Blend) -> float:
        """The mean by which weights are chosen."""
        if blend not in self._values:
            plain = [(question, right) for question, right in self.questions if _counts(question.category, "all")]
            shares = [recall_at(self._found(question, blend, DEPTH), right, DEPTH) for question, right in plain]
            self._values[blend] = sum(shares) / len(shares) if shares else 0.0
        return self._values[blend]

    def _found(self, question: Question, blend: Blend, depth: int) -> list[int]:
        return [episode.id for episode in self.store.recall(question.text, depth, blend=blend).episodes]


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    """Rows of one method: all categories that have an answer, each of them, and the adversarial questions."""
    data, embedder, draws = str(point["data"]), str(point["embedder"]), int(point["trials"])
    conversations = _conversations(data)
    method = METHODS[str(point["method"])]
    found, blends = _answers(method, conversations, _embedder(embedder), generator)
    base = _fusion(data, embedder)
    at = DEPTHS.index(DEPTH)
    rows: list[Row] = []
    for category in ("all", *CATEGORIES.values()):
        chosen = [torch.tensor([_counts(q.category, category) for q in c.questions], dtype=torch.bool) for c in conversations]
        values = [asked.shares[which] for asked, which in zip(found, chosen)]
        gains = [(asked.shares - other.shares)[which][:, at] for asked, other, which in zip(found, base, chosen)]
        if not any(map(len, values)):
            continue
        row: dict[str, Any] = {"category": category, "questions": sum(map(len, values))}
        row |= {f"r{depth}": _mean([value[:, place] for value in values]) for place, depth in enumerate(DEPTHS)}
        row |= _ends("r10", bootstrap([value[:, at] for value in values], draws, generator))
        row |= {"mrr": _mean([asked.reciprocal[which] for asked, which in zip(found, chosen)]), "gain": _mean(gains)}
        row |= _ends("gain", bootstrap(gains, draws, generator))
        row["weights"] = (
            " | ".join(dict.fromkeys(_said(blend, method.chosen) for blend in blends)) if method.chosen and category == "all" else None
        )
        rows.append(row)
    return rows


def bootstrap(values: Sequence[Tensor], draws: int, generator: torch.Generator, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean over conversations of the mean over questions [question], questions drawn anew within each."""
    means = torch.stack(
        [value[torch.randint(len(value), (draws, len(value)), generator=generator)].mean(1) for value in values if len(value)]
    ).mean(0)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return low, high


def draw(table: "pa.Table") -> "Figure":
    by_store = groups(table, "data", "embedder")
    methods = [name for name in METHODS if name in table.column("method").to_pylist()]
    figure, axes = figures.panels(1, len(by_store), wide=1.3 * figures.COLUMN, high=0.9 + 0.24 * len(methods))
    places = {name: len(methods) - 1 - place for place, name in enumerate(methods)}
    for panel, ((data, embedder), rows) in zip(axes, by_store.items()):
        for number, (category, name, off) in enumerate((("all", "with an answer", 0.12), ("adversarial", "adversarial", -0.12))):
            some = [row for row in rows if row["category"] == category]
            if some:
                errors = [[row["r10"] - row["r10_low"] for row in some], [row["r10_high"] - row["r10"] for row in some]]
                look: dict[str, Any] = {"color": figures.COLOURS[number], "marker": figures.MARKERS[number], "markersize": 3.5}
                heights = [places[row["method"]] + off for row in some]
                # an estimate may lie beyond a percentile of few draws
                sizes = [[max(0.0, size) for size in side] for side in errors]
                panel.errorbar([row["r10"] for row in some], heights, xerr=sizes, linestyle="none", linewidth=1.2, label=name, **look)
        panel.set_yticks(list(places.values()), [name.replace("_", " ") for name in places])
        panel.set_ylim(-0.6, len(methods) - 0.4)
        figures.label(panel, "share of the gold turns among the first 10", "method", f"{Path(str(data)).name}, {Path(str(embedder)).name}")
    figures.legend(axes[0], loc="best")
    return figure


def _check(point: Point) -> None:
    if "data" not in point:
        raise ValueError(f"{EXPERIMENT.name}: data is needed, for it has no conversations of its own; give LoCoMo's file: data=FILE.")
    try:
        count = len(_conversations(str(point["data"])))
    except OSError as error:
        raise ValueError(f"{EXPERIMENT.name}: {error}") from error
    if count < 2:
        raise ValueError(f"{EXPERIMENT.name}: weights are chosen on other conversations, so at least 2 are needed, got {count}.")


@functools.lru_cache(maxsize=2)
def _conversations(data: str) -> list[Conversation]:
    return load_locomo(data)


def _ends(name: str, interval: tuple[float, float]) -> Row:
    return dict(zip((f"{name}_low", f"{name}_high"), interval))


@functools.cache
def _fusion(data: str, embedder: str) -> list[Asked]:
    """What the other methods are compared with, question by question."""
    return _answers(METHODS["fusion"], _conversations(data), _embedder(embedder), torch.Generator())[0]


def _answers(
    method: Method, conversations: Sequence[Conversation], embedder: Embedder, generator: torch.Generator
) -> tuple[list[Asked], list[Blend]]:
    """What the method finds in each conversation, and with which blend."""
    with _stores(method, conversations, embedder, generator) as asks:
        if not method.chosen:
            return [ask.all(method.blend) for ask in asks], [method.blend]
        ways = [change for name, change in coordinates().items() if name in method.chosen]
        blends = []
        for held in range(len(asks)):
            others = [ask for at, ask in enumerate(asks) if at != held]
            blends.append(climb(method.blend, lambda blend, others=others: _value(blend, others), ways))  # type: ignore[misc]
        return [ask.all(blend) for ask, blend in zip(asks, blends)], blends


def _value(blend: Blend, asks: Sequence["_Asks"]) -> float:
    return sum(ask.value(blend) for ask in asks) / len(asks)


@contextmanager
def _stores(method: Method, conversations: Sequence[Conversation], embedder: Embedder, generator: torch.Generator) -> Iterator[list[_Asks]]:
    """A store for each conversation, asked all its questions with a blend."""
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
            asks.append(_Asks(store, talk, dict(zip((turn.id for turn in talk.turns), ids))))
        try:
            yield asks
        finally:
            for store in stores:
                store.close()


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


def _said(blend: Blend, names: Sequence[str]) -> str:
    """The weights that were chosen."""
    values = {"share": blend.words, "date": blend.date, "speaker": blend.speaker, **(vars(blend.context) if blend.context else {})}
    return " ".join(f"{name} {values[name]:g}" for name in names)


EXPERIMENT = Experiment(
    name="episodic_evidence",
    question="How many of the turns that answer a question does a store of the conversation bring up, by each kind of evidence?",
    protocol=(
        "Each conversation of a file of LoCoMo (Maharana et al. 2024) is a store of its own, an episode a turn. r5 to r50: share of a "
        "question's gold turns among the first k, mean over questions, then over conversations; questions without gold turns are left "
        "out. The weights of context, date and speaker are chosen by R@10 on the other conversations (leave one out); those of content "
        "and words are .7 and .3. Negatives: adversarial questions, whose premise is of the other speaker, and turns in shuffled places. "
        "`defaults` are the weights of Blend(). A trial is a draw of the bootstrap over questions within conversations; intervals, 95 %: "
        "its percentiles."
    ),
    axes={
        "method": Axis("kinds of evidence", tuple(METHODS), choices=tuple(METHODS)),
        "data": Axis("FILE of LoCoMo (locomo10.json, plain or gzipped); needed", kind=str),
        "embedder": Axis("hashing, or a model of sentence-transformers, or its folder", ("hashing",)),
    },
    columns={
        "category": Column("of the questions; all: those that have an answer", type=str),
        "questions": Column("questions of the category", type=int),
        **{f"r{depth}": Column(f"share of the gold turns among the first {depth}") for depth in DEPTHS},
        **with_interval("r10", "share of the gold turns among the first 10"),
        "mrr": Column("mean reciprocal rank of the first gold turn; 0 beyond 50"),
        **with_interval("gain", "r10 less that of fusion, question by question"),
        "weights": Column("weights chosen, one set for each conversation left out; share is that of words", type=str),
    },
    measure=measure,
    draw=draw,
    check=_check,
    trials=2000,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
