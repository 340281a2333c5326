"""Evidence: content, words, time and context become one score for each candidate.

Candidates are the nearest keys, the best by words, and the neighbours of the best. The list is lengthened until no episode outside it
could be among the k best before context (the threshold algorithm of Fagin, Lotem & Naor 2003), so the answer is that of scoring all.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ammon.episodes.base import Engine, Nearest, Postings
from ammon.episodes.blend import Blend
from ammon.episodes.records import Parts, Scope
from ammon.episodes.words import bm25

# candidates of the first attempt; each further one takes four times as many
FIRST = 128
# so many times as many come from the index of words: they cost no scan, and make the bound tight
WORDY = 8


@dataclass(frozen=True)
class Cue:
    """What is asked: a key [dim], terms with the words they stand for, periods of days and the one speaker named; any may be missing."""

    key: Tensor | None
    terms: Mapping[str, str] = field(default_factory=dict)
    periods: tuple[tuple[int, int], ...] | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Scored:
    """The best, and what their scores are made of; seconds of content, words and context."""

    ids: list[int]
    parts: list[Parts]
    similarities: list[float | None]
    matched: list[tuple[str, ...]]
    sources: list[tuple[int, ...]]
    searched: int
    seconds: tuple[float, float, float]


@dataclass(frozen=True)
class _Words:
    """BM25 by id, and its z-score: of the scope's episodes most hold none of the words and score 0."""

    ids: Tensor
    scores: Tensor
    mean: float
    deviation: float
    postings: Postings | None = None

    def z(self, ids: Tensor) -> Tensor:
        """[episode]"""
        scores = torch.zeros(len(ids), dtype=torch.float64)
        if len(self.ids):
            place = torch.searchsorted(self.ids, ids).clamp_(max=len(self.ids) - 1)
            scores = torch.where(self.ids[place] == ids, self.scores[place], scores)
        return _standard(scores, self.mean, self.deviation)


def score(engine: Engine, cue: Cue, blend: Blend, scope: Scope, k: int) -> Scored:
    """The k best episodes of the scope by the blend of evidence, equal scores by id."""
    num = max(FIRST, 4 * max(k, blend.hits + 1))
    started = time.perf_counter()
    total = engine.count(scope)
    words = _words(engine, cue, blend, scope, total)
    spent_words = time.perf_counter() - started
    spent_content = spent_context = 0.0
    while True:
        begun = time.perf_counter()
        lists = _lists(engine, cue, blend, scope, num)
        near = lists[0][0] if lists else None
        best = words.scores.topk(min(WORDY * num, len(words.scores)))
        ids = torch.unique(torch.cat([*(found.ids for found, _ in lists), words.ids[best.indices]]))
        if not lists and len(ids) < num:
            # nothing to compare but words: the latest fill the places that no word fills
            ids = torch.unique(torch.cat([ids, torch.tensor([one.id for one in engine.page(scope, num, newest=True)], dtype=torch.int64)]))
        table = _table(engine, cue, blend, near, words, ids)
        bound = _bound(lists, near, words, blend, num, total)
        spent_content += time.perf_counter() - begun

        begun = time.perf_counter()
        plain = table.content + table.words
        kept = _order(plain, ids)[: blend.hits + 1]
        gains, sources = torch.zeros_like(plain), dict[int, list[int]]()
        if blend.context is not None and len(kept):
            # the first that is no hit is what hits stand out from
            level = max([blend.threshold, *plain[kept[blend.hits :]].tolist()])
            strengths = plain[kept[: blend.hits]] - level
            chosen = kept[: blend.hits][strengths > 0]
            hits, strengths = ids[chosen], strengths[strengths > 0]
            if len(hits):
                around, source, given = blend.context.reinstate(engine, cue.key, hits, strengths, scope)
                missing = torch.unique(around)
                missing = missing[~torch.isin(missing, ids)]
                if len(missing):
                    ids = torch.cat([ids, missing])
                    table = table.joined(_table(engine, cue, blend, near, words, missing))
                order = ids.argsort()
                place = order[torch.searchsorted(ids[order], around)]
                gains = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, place, given)
                for at, hit in zip(place.tolist(), hits[source].tolist()):
                    sources.setdefault(at, []).append(hit)
        final = table.content + table.words + gains + table.date + table.speaker
        top = _order(final, ids)[:k]
        spent_context += time.perf_counter() - begun
        short = len(top) < min(k, total)
        # an episode outside the list may be a hit, or what hits stand out from, only above the threshold
        hidden = blend.context is not None and len(kept) > 0 and blend.threshold < bound and float(plain[kept[-1]]) < bound
        unsure = hidden or (len(top) > 0 and float(final[top].min()) < bound)
        if num >= total or not (short or unsure):
            break
        num *= 4
    rows = top.tolist()
    return Scored(
        ids=ids[top].tolist(),
        parts=[Parts(*row) for row in torch.stack([table.content, table.words, gains, table.date, table.speaker])[:, top].T.tolist()],
        similarities=[None] * len(rows) if cue.key is None else table.similarity[top].tolist(),
        matched=_matched(words, cue, ids[top]),
        sources=[tuple(sources.get(row, ())) for row in rows],
        searched=total,
        seconds=(spent_content, spent_words, spent_context),
    )


@dataclass(frozen=True)
class _Table:
    """Columns of evidence [candidate]."""

    similarity: Tensor
    content: Tensor
    words: Tensor
    date: Tensor
    speaker: Tensor

    def joined(self, other: "_Table") -> "_Table":
        return _Table(*(torch.cat(pair) for pair in zip(vars(self).values(), vars(other).values())))


def _table(engine: Engine, cue: Cue, blend: Blend, near: Nearest | None, words: _Words, ids: Tensor) -> _Table:
    none = torch.zeros(len(ids), dtype=torch.float64)
    similarity = content = none
    if cue.key is not None and near is not None:
        similarity = engine.compare(cue.key, ids).double()
        content = blend.content * _standard(similarity, near.mean, near.deviation)
    date = speaker = none
    dated = blend.date > 0 and bool(cue.periods)
    spoken = blend.speaker > 0 and cue.speaker is not None
    if dated or spoken:
        facts = engine.facts(ids)
        if dated and cue.periods:
            within = torch.stack([(facts.days >= first) & (facts.days <= last) for first, last in cue.periods]).any(0)
            date = blend.date * within.double()
        if spoken:
            speaker = blend.speaker * torch.tensor([who == cue.speaker for who in facts.speakers], dtype=torch.float64)
    return _Table(similarity, content, blend.words * words.z(ids), date, speaker)


def _matched(words: _Words, cue: Cue, ids: Tensor) -> list[tuple[str, ...]]:
    """Which words of the cue each of these episodes holds."""
    held: dict[int, tuple[str, ...]] = dict.fromkeys(ids.tolist(), ())
    if words.postings is not None:
        inside = torch.isin(words.postings.ids, ids)
        for one, term in zip(words.postings.ids[inside].tolist(), words.postings.term[inside].tolist()):
            held[one] = (*held[one], cue.terms[words.postings.terms[term]])
    order = {word: place for place, word in enumerate(cue.terms.values())}
    return [tuple(sorted(found, key=order.__getitem__)) for found in held.values()]


def _words(engine: Engine, cue: Cue, blend: Blend, scope: Scope, total: int) -> _Words:
    empty = torch.zeros(0, dtype=torch.float64)
    if not cue.terms or blend.words == 0 or not total:
        return _Words(torch.zeros(0, dtype=torch.int64), empty, 0.0, 0.0)
    postings = engine.postings(tuple(cue.terms), scope, blend.postings)
    ids, scores = bm25(postings, blend.saturation, blend.length)
    mean = float(scores.sum()) / total
    variance = float((scores * scores).sum()) / total - mean * mean
    return _Words(ids, scores, mean, max(variance, 0.0) ** 0.5, postings)


def _lists(engine: Engine, cue: Cue, blend: Blend, scope: Scope, num: int) -> list[tuple[Nearest, float]]:
    """The nearest of the scope, then those of each part of it that gets a bonus, with the bonus."""
    if cue.key is None:
        return []
    lists = [(engine.nearest(cue.key, scope, num), 0.0)]
    favoured: list[tuple[Scope, float]] = []
    if blend.date > 0 and cue.periods and scope.days is None:
        favoured.append((_with(scope, days=cue.periods), blend.date))
    if blend.speaker > 0 and cue.speaker is not None and scope.speaker is None:
        favoured.append((_with(scope, speaker=cue.speaker), blend.speaker))
    if len(favoured) == 2:
        favoured.append((_with(favoured[0][0], speaker=cue.speaker), blend.date + blend.speaker))
    return lists + [(engine.nearest(cue.key, part, num), bonus) for part, bonus in favoured]


def _bound(lists: list[tuple[Nearest, float]], near: Nearest | None, words: _Words, blend: Blend, num: int, total: int) -> float:
    """No episode outside the candidates scores more than this, context aside."""
    ranked = words.scores.sort(descending=True).values
    rest = float(ranked[WORDY * num]) if len(ranked) > WORDY * num else 0.0
    lexical = blend.words * float(_standard(torch.tensor([rest], dtype=torch.float64), words.mean, words.deviation))
    if near is None:
        return lexical
    bounds = []
    for found, bonus in lists:
        if found.searched > len(found.ids):
            last = found.scores[-1:].double()
            bounds.append(blend.content * float(_standard(last, near.mean, near.deviation)) + lexical + bonus)
    return max(bounds, default=-torch.inf)


def _with(scope: Scope, **changes: object) -> Scope:
    return Scope(**{**vars(scope), **changes})


def _standard(scores: Tensor, mean: float, deviation: float) -> Tensor:
    """z-scores; 0 where all are alike."""
    return (scores - mean) / deviation if deviation > 1e-9 else torch.zeros_like(scores)


def _order(scores: Tensor, ids: Tensor) -> Tensor:
    """Places by descending score, equal scores by ascending id."""
    by_id = ids.argsort()
    return by_id[scores[by_id].argsort(descending=True, stable=True)]
