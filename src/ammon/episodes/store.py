"""Episodes: a durable memory of what happened, recalled by content and by context.

`store = Episodes.open("episodes.db"); store.remember(["..."], session="monday"); store.recall("...")`. A path is a file of SQLite, a URL
postgresql://... a database server. Keys are [episode, dim] in float32.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import torch
from torch import Tensor

from ammon.episodes import accept
from ammon.episodes.base import Engine
from ammon.episodes.blend import Blend
from ammon.episodes.dates import periods
from ammon.episodes.embed import Embedder
from ammon.episodes.encoder import Encoder, name_pattern
from ammon.episodes.engines import Durability, connect
from ammon.episodes.evidence import Cue, score
from ammon.episodes.merging import plan
from ammon.episodes.records import (
    Consolidation,
    Draft,
    Episode,
    Origin,
    Recollected,
    Recollection,
    Scalar,
    Scope,
    Session,
    Timing,
    When,
    moment,
)
from ammon.episodes.tuning import climb, recall_at
from ammon.episodes.words import terms
from ammon.memories.retention import Policy
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Cosine, Similarity
from ammon.shapes import check_count, check_rows

UNCHANGED: Any = object()


class Episodes:
    """A store of episodes; make one by `open`. Several processes may read and write one store at once.

    embedder: any callable from a list of texts to rows of numbers; by default the store's own, `Hashing` for a new one.
    similarity: how keys are compared. separation: turns the scores of what was recalled into weights. blend: how much content, words,
    context, dates and speakers count. strip_names: take the names of speakers out of a text before it is embedded (not out of its
    words): who is meant then does not drown what is said.
    """

    def __init__(
        self,
        engine: Engine,
        embedder: Embedder | None = None,
        *,
        separation: Lagrangian | None = None,
        blend: Blend | None = None,
        strip_names: bool = True,
    ) -> None:
        self._engine = engine
        self.separation: Lagrangian = Softmax(1.0) if separation is None else separation
        self.blend = Blend() if blend is None else blend
        self._encoder = Encoder(engine, embedder, strip_names)

    @classmethod
    def open(
        cls,
        place: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        similarity: Similarity | None = None,
        separation: Lagrangian | None = None,
        blend: Blend | None = None,
        strip_names: bool = True,
        create: bool = True,
        durability: Durability = "FULL",
        approximate: bool = False,
    ) -> "Episodes":
        """Open a store, or begin one. create=False: FileNotFoundError if there is none.

        durability: "FULL" waits for the disk at each write, so what was acknowledged survives the loss of power; "NORMAL" does not: a
        crash of the process loses nothing, one of the machine may lose the last writes. approximate: look among the candidates of an
        index that is rebuilt when needed (extra `index`), re-ranked exactly; worth it past some 500,000 episodes.
        ValueError if the file is no store, or one of a newer version; OSError if it cannot be reached.
        """
        engine = connect(os.fspath(place), Cosine() if similarity is None else similarity, create, durability, approximate)
        try:
            store = cls(engine, embedder, separation=separation, blend=blend, strip_names=strip_names)
            store._encoder.check()
        except BaseException:
            engine.close()
            raise
        return store

    def remember(
        self,
        texts: str | Sequence[str] | None = None,
        *,
        session: str | Sequence[str] = "default",
        time: When | Sequence[When] | None = None,
        speaker: str | Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        keys: Tensor | None = None,
        bookmark: tuple[str, int] | None = None,
    ) -> list[int]:
        """Write episodes, all or none; their ids. Once it returns they are there.

        session, time, speaker, metadata: one for all, or one for each. time: a datetime, ISO 8601 or seconds since 1970, by default now;
        without an offset it is UTC. keys: vectors [episode, dim] instead of those of the embedder; then texts may be left out.
        bookmark: a name and a number, kept with the episodes, for `bookmarked`.
        """
        where = "Episodes.remember"
        listed = [texts] if isinstance(texts, str) else None if texts is None else list(texts)
        if listed is None and keys is None:
            raise ValueError(f"{where}: there is nothing to remember; give texts, keys or both.")
        if keys is not None:
            check_rows(where, "keys", keys, None)
            if listed is not None and len(listed) != len(keys):
                raise ValueError(f"{where}: {len(listed)} texts came with {len(keys)} keys; give one key per text.")
        count = len(listed) if listed is not None else len(keys) if keys is not None else 0
        drafts = accept.drafts(listed, count, session, time, speaker, metadata, where)
        if not drafts:
            return []
        if keys is not None:
            origin = self._engine.origin() or Origin(self._encoder.name, keys.shape[1])
            rows = keys.detach().to("cpu", torch.float32)
        else:
            origin = self._encoder.origin(where)
            rows = self._encoder.embed([draft.text or "" for draft in drafts], {draft.speaker for draft in drafts if draft.speaker}, where)
        return self._engine.append(drafts, self._encoder.fitting(rows, where), origin, bookmark)

    def recall(
        self,
        cue: str | Tensor | Sequence[float] | None = None,
        k: int = 10,
        *,
        session: str | None = None,
        since: When | None = None,
        until: When | None = None,
        speaker: str | None = None,
        where: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
        key: Tensor | None = None,
        blend: Blend | None = None,
    ) -> Recollection:
        """The k episodes that the cue brings up, best first, with what their scores are made of. Changes nothing.

        cue: text, or a key [dim]. key: the key of a text that was embedded elsewhere. session, speaker, since (from), until (before) and
        where (names of metadata to a value, or to a list of them) say which episodes are in question. blend: instead of the store's.
        """
        method = "Episodes.recall"
        began = perf_counter()
        check_count(method, "k", k)
        text = accept.text(cue, method, "cue") if isinstance(cue, str) else None
        if cue is None and key is None:
            raise ValueError(f"{method}: there is no cue; give a text or a vector.")
        if text is None and cue is not None and key is not None:
            raise ValueError(f"{method}: two vectors came as cue; give a text and its key, or one vector.")
        blend = self.blend if blend is None else blend
        with self._engine.reading():
            scope = accept.scope(self._engine, method, session, since, until, speaker, where)
            origin = self._engine.origin()
            if origin is None:
                return Recollection((), 0, Timing(0.0, 0.0, 0.0, 0.0, perf_counter() - began))
            speakers = self._engine.speakers() if text is not None else []
            if key is not None or text is None:
                vector: Tensor | None = self._encoder.fitting(accept.one_key(cue if key is None else key, method)[None], method)[0]
            elif blend.content == 0 or self._encoder.blind:
                # a store of given vectors still answers by its words
                vector = None
            else:
                self._encoder.origin(method)
                vector = self._encoder.embed([text], set(speakers), method)[0]
            embedded = perf_counter()
            asked = Cue(vector)
            if text is not None:
                present = [name for name in speakers if name_pattern([name]).search(text)]
                asked = Cue(vector, terms(text), periods(text, self._engine.days()), present[0] if len(present) == 1 else None)
            best = score(self._engine, asked, blend, scope, k)
            episodes = self._engine.fetch(best.ids)
        totals = [parts.total for parts in best.parts]
        weights = self.separation.weights(torch.tensor([totals])).flatten().tolist() if totals else []
        items = tuple(map(Recollected, episodes, totals, best.parts, weights, best.similarities, best.matched, best.sources))
        return Recollection(items, best.searched, Timing(embedded - began, *best.seconds, perf_counter() - began))

    def forget(
        self,
        ids: int | Iterable[int] | None = None,
        *,
        session: str | None = None,
        since: When | None = None,
        until: When | None = None,
        speaker: str | None = None,
        where: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
    ) -> int:
        """Delete episodes by id, or all that fulfil every condition; how many. ValueError if neither is given, or an id is unknown."""
        method = "Episodes.forget"
        scope = accept.scope(self._engine, method, session, since, until, speaker, where)
        if ids is not None and not scope.everything:
            raise ValueError(f"{method}: give ids or conditions, not both.")
        if ids is None and scope.everything:
            raise ValueError(f"{method}: this would forget everything; give ids, a session, a time, a speaker or where.")
        if ids is not None:
            wanted = [ids] if isinstance(ids, int) else list(ids)
            self._known(wanted, method)
            return self._engine.delete(wanted)
        return self._engine.delete([episode.id for episode in self._pages(scope, False, 1000)])

    def update(
        self,
        id: int,
        *,
        text: str | None = UNCHANGED,
        session: str = UNCHANGED,
        time: When = UNCHANGED,
        speaker: str | None = UNCHANGED,
        metadata: Mapping[str, Any] = UNCHANGED,
        key: Tensor | None = None,
    ) -> Episode:
        """Put something else in an episode, and give it back as it is then; what is not named stays. A new text is embedded anew."""
        where = "Episodes.update"
        old = self._known([id], where)[0]
        [draft] = accept.drafts(
            None,
            1,
            old.session if session is UNCHANGED else session,
            old.time if time is UNCHANGED else time,
            old.speaker if speaker is UNCHANGED else speaker,
            dict(old.metadata) if metadata is UNCHANGED else metadata,
            where,
        )
        said = old.text if text is UNCHANGED else None if text is None else accept.text(text, where)
        draft = Draft(said, draft.session, draft.moment, draft.speaker, draft.metadata)
        row = None if key is None else self._encoder.fitting(accept.one_key(key, where)[None], where)[0]
        if row is None and said is not None and said != old.text:
            if self._encoder.blind:
                raise ValueError(f"{where}: this store holds vectors that were given; give the new text's key too.")
            self._encoder.origin(where)
            row = self._encoder.embed([said], {draft.speaker} if draft.speaker else set(), where)[0]
        self._engine.change([(id, draft, row)])
        return self._known([id], where)[0]

    def iterate(
        self,
        *,
        session: str | None = None,
        since: When | None = None,
        until: When | None = None,
        speaker: str | None = None,
        where: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
        newest: bool = False,
        batch: int = 1000,
    ) -> Iterator[Episode]:
        """All episodes that fulfil the conditions, by time, or the newest first. Reads `batch` at a time and holds no lock between."""
        check_count("Episodes.iterate", "batch", batch)
        scope = accept.scope(self._engine, "Episodes.iterate", session, since, until, speaker, where)
        return self._pages(scope, newest, batch)

    def get(self, id: int) -> Episode:
        """The episode of this id; ValueError if there is none."""
        return self._known([id], "Episodes.get")[0]

    def around(self, id: int, reach: int = 2) -> tuple[list[Episode], list[Episode]]:
        """Up to `reach` episodes of the same session before this one, and up to as many after it, both in order."""
        check_count("Episodes.around", "reach", reach)
        with self._engine.reading():
            self._known([id], "Episodes.around")
            near = self._engine.around([id], reach, Scope())
            order = near.lags.argsort()
            lags, ids = near.lags[order], near.ids[order]
            return self._engine.fetch(ids[lags < 0].tolist()), self._engine.fetch(ids[lags > 0].tolist())

    def keys(self, ids: Sequence[int]) -> Tensor:
        """The keys of these episodes [episode, dim]."""
        self._known(list(ids), "Episodes.keys")
        return self._engine.keys(ids)

    def reinforce(self, ids: int | Iterable[int], *, time: When | None = None) -> int:
        """Say that episodes were of use, by default now: it is what the retention policies by use go by. How many there were."""
        wanted = [ids] if isinstance(ids, int) else list(ids)
        at = moment(datetime.now(UTC) if time is None else time, "Episodes.reinforce").micros
        return self._engine.reinforce(wanted, at)

    def consolidate(
        self, *, merge: float | None = 0.98, policies: Sequence[Policy] = (), session: str | None = None, time: When | None = None
    ) -> Consolidation:
        """Merge near-duplicates, then drop what any of the retention policies (`memories/retention.py`) drops.

        merge: episodes of one session and speaker whose keys have at least this cosine become the earliest of them, which takes over
        their strength and uses; None merges nothing. time: the present, for ages; by default now.
        """
        where = "Episodes.consolidate"
        if merge is not None and not 0 < merge <= 1:
            raise ValueError(f"{where}: merge must be a cosine in (0, 1] or None, got {merge}.")
        scope = accept.scope(self._engine, where, session, None, None, None, None)
        present = moment(datetime.now(UTC) if time is None else time, where).micros
        episodes = list(self._pages(scope, False, 1000))
        merged, dropped = plan(episodes, self._engine.keys, merge, policies, present)
        gone = [one for group in merged.values() for one in group]
        if gone or dropped:
            self._engine.delete([*gone, *dropped], merged)
        return Consolidation(len(gone), len(dropped), len(episodes) - len(gone) - len(dropped))

    def tune(self, questions: Sequence[tuple[str, Iterable[int]]], *, k: int = 10) -> Blend:
        """The blend that finds most of the right episodes among the first k of your own questions, each with the ids that answer it.

        Does not change the store's; `Episodes.open(place, blend=...)` or `store.blend = ...` does.
        """
        where = "Episodes.tune"
        check_count(where, "k", k)
        asked = [(text, sorted(set(right))) for text, right in questions]
        if not asked or not all(right for _, right in asked):
            raise ValueError(f"{where}: questions with at least one right id each are needed.")
        self._known(sorted({one for _, right in asked for one in right}), where)
        # a text is embedded once, however many blends are tried
        keys = [None if self._encoder.blind else self._encoder.embed([text], set(), where)[0] for text, _ in asked]

        def value(blend: Blend) -> float:
            found = (self.recall(text, k, key=key, blend=blend) for (text, _), key in zip(asked, keys))
            return sum(recall_at([e.id for e in one.episodes], right, k) for one, (_, right) in zip(found, asked)) / len(asked)

        return climb(self.blend, value)

    def snapshot(self, path: str | os.PathLike[str]) -> None:
        """A copy of the store as it is now, in one SQLite file, while others go on writing."""
        self._engine.snapshot(Path(path))

    def sessions(self) -> list[Session]:
        """The sessions, the latest first."""
        return self._engine.sessions()

    def speakers(self) -> list[str]:
        """Who ever spoke."""
        return self._engine.speakers()

    def bookmarked(self, name: str) -> int | None:
        """The number that was last remembered under this name."""
        return self._engine.bookmark(name)

    def check(self) -> list[str]:
        """What is wrong with the store, in words; nothing if it is whole."""
        return self._engine.check()

    @property
    def place(self) -> str:
        """The path or URL, a password left out."""
        return self._engine.place

    @property
    def embedder(self) -> Embedder:
        """What makes keys of texts."""
        return self._encoder.embedder

    @property
    def origin(self) -> Origin | None:
        """The embedder's name and dim; None while the store is empty."""
        return self._engine.origin()

    def __len__(self) -> int:
        return self._engine.count(Scope())

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _known(self, ids: Sequence[int], method: str) -> list[Episode]:
        for one in ids:
            if not isinstance(one, int) or isinstance(one, bool) or not 0 < one < 2**63:
                raise ValueError(f"{method}: ids are whole numbers from 1, got {one!r}.")
        found = self._engine.fetch(ids)
        if len(found) < len(ids):
            missing = sorted(set(ids) - {episode.id for episode in found})
            if missing:
                raise ValueError(f"{method}: there is no episode {', '.join(map(str, missing[:5]))}; `iterate` names all.")
        return found

    def _pages(self, scope: Scope, newest: bool, batch: int) -> Iterator[Episode]:
        after: tuple[int, int] | None = None
        while page := self._engine.page(scope, batch, after, newest):
            yield from page
            after = (moment(page[-1].time, "Episodes.iterate").micros, page[-1].id)
            if len(page) < batch:
                return
