"""Nearness: keys compared with a cue at a database server, all of them, or the candidates of an HNSW index re-ranked exactly.

With the index the nearest may be missed, and the mean and deviation of all similarities are those of a sample; what is given is exact.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from psycopg import Connection, sql
from torch import Tensor
from torch.nn.functional import normalize

from ammon.episodes.base import Nearest
from ammon.episodes.server import Server, numbers
from ammon.parts.similarity import Cosine, Dot, Euclidean, Manhattan, Similarity

# up to so many in question all are compared: a scan of them is as fast as a search of the index
SCANNED = 10_000
# keys of which mean and deviation are estimated, and how many of them must be in question
SAMPLE, ENOUGH = 4096, 256
# up to so many the sample is drawn row by row
DRAWN = 1_000_000
# candidates for each that is asked for; recall asks for many more than it gives
CANDIDATES = 1.5


class _Way(NamedTuple):
    """A similarity in SQL (of `key` and %(cue)s), and the index that finds the nearest by it: expression, operator class, order."""

    score: str
    name: str
    largest: int
    indexed: str
    operators: str
    order: str


COSINE = _Way(
    "1 - coalesce(nullif(e.key <=> %(cue)s, 'NaN'), 1)",
    "cosine",
    4000,
    "l2_normalize({key})::halfvec({dim})",
    "halfvec_ip_ops",
    "<#> l2_normalize(%(cue)s::vector)::halfvec({dim})",
)
DOT = _Way("-(e.key <#> %(cue)s)", "dot", 2000, "{key}::vector({dim})", "vector_ip_ops", "<#> %(cue)s::vector({dim})")
EUCLIDEAN = _Way("-((e.key <-> %(cue)s) ^ 2) / 2", "euclidean", 2000, "{key}::vector({dim})", "vector_l2_ops", "<-> %(cue)s::vector({dim})")
MANHATTAN = _Way("-(e.key <+> %(cue)s)", "manhattan", 2000, "{key}::vector({dim})", "vector_l1_ops", "<+> %(cue)s::vector({dim})")
WAYS: dict[type[Similarity], _Way] = {Cosine: COSINE, Dot: DOT, Euclidean: EUCLIDEAN, Manhattan: MANHATTAN}


class Nearness:
    """How an engine on a server compares keys. approximate: by the index, where there are many."""

    def __init__(self, similarity: Similarity, approximate: bool) -> None:
        if type(similarity) not in WAYS:
            raise ValueError(
                f"Episodes.open: a server compares keys by {', '.join(kind.__name__ for kind in WAYS)}, "
                f"not by {type(similarity).__name__}; use one of these, or a store in a file."
            )
        self.similarity, self.approximate = similarity, approximate
        self._way = WAYS[type(similarity)]
        self._made = False
        self._sample: tuple[int, Tensor, Tensor] | None = None

    def check(self, dim: int) -> None:
        """ValueError if keys of this size cannot be indexed."""
        if self.approximate and dim > self._way.largest:
            raise ValueError(
                f"Episodes.open: an index by {self._way.name} takes keys of up to {self._way.largest} entries, the store has {dim}; "
                "open it with approximate=False."
            )

    def ready(self, server: Server, dim: int) -> None:
        """Make the index, if it is asked for and not there, once the store has more episodes than are scanned."""
        if not self.approximate or self._made:
            return
        self.check(dim)
        with server.writing("open") as connection:
            [held] = connection.execute("SELECT coalesce(sum(episodes), 0) FROM tally").fetchone() or [0]
            if held <= SCANNED:
                return
            # another process may be making it
            connection.execute("SELECT pg_advisory_xact_lock('episodes'::regclass::oid::int8)")
            expression = self._way.indexed.format(key="key", dim=int(dim))
            statement = sql.SQL("CREATE INDEX IF NOT EXISTS {} ON episodes USING hnsw (({}) {})").format(
                sql.Identifier(f"episodes_near_by_{self._way.name}"), sql.SQL(expression), sql.SQL(self._way.operators)
            )
            connection.execute(statement)
        self._made = True

    def nearest(self, connection: Connection[Any], cue: Tensor, where: str, values: Sequence[Any], num: int, count: int) -> Nearest:
        """The `num` nearest of the `count` episodes that fulfil the conditions."""
        if self.approximate and count > SCANNED:
            found = self._searched(connection, cue, where, values, num, count)
            if found is not None:
                return found
        return self._scanned(connection, cue, where, values, num)

    def compare(self, connection: Connection[Any], cue: Tensor, ids: list[int]) -> Tensor:
        """Similarities [episode]; the same key has the same similarity wherever it stands."""
        statement, named = _named(
            f"SELECT array_agg({self._way.score} ORDER BY w.place) "
            "FROM unnest(%s::int8[]) WITH ORDINALITY w(id, place) JOIN episodes e ON e.id = w.id",
            [ids],
            cue,
        )
        [scores] = connection.execute(statement, named, binary=True).fetchone() or [None]
        return torch.tensor(scores or [], dtype=torch.float32)

    def _scanned(self, connection: Connection[Any], cue: Tensor, where: str, values: Sequence[Any], num: int) -> Nearest:
        statement, named = _named(
            f"WITH s AS MATERIALIZED (SELECT e.id, {self._way.score} AS score FROM episodes e {where}), "
            f"best AS (SELECT id, score FROM s ORDER BY score DESC, id LIMIT {int(num)}) "
            "SELECT count(*), avg(score), stddev_pop(score), (SELECT array_agg(id ORDER BY score DESC, id) FROM best), "
            "(SELECT array_agg(score ORDER BY score DESC, id) FROM best) FROM s",
            values,
            cue,
        )
        # one row for each key is held between the two steps
        connection.execute("SELECT set_config('work_mem', '256MB', true)")
        row = connection.execute(statement, named, binary=True).fetchone()
        count, mean, deviation, ids, scores = row or (0, None, None, None, None)
        return Nearest(
            torch.tensor(ids or [], dtype=torch.int64),
            torch.tensor(scores or [], dtype=torch.float32),
            count,
            mean or 0.0,
            deviation or 0.0,
        )

    def _searched(
        self, connection: Connection[Any], cue: Tensor, where: str, values: Sequence[Any], num: int, count: int
    ) -> Nearest | None:
        """By the index; None if it is not there, or found too few, or no sample tells the moments."""
        if not self._made:
            name = f"episodes_near_by_{self._way.name}"
            self._made = bool(
                connection.execute(
                    "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)",
                    (name,),
                ).fetchone()
            )
            if not self._made:
                return None
        moments = self._moments(connection, cue, where, values)
        if moments is None:
            return None
        wanted = min(count, int(CANDIDATES * num))
        way, dim = self._way, len(cue)
        settings = {
            "hnsw.ef_search": min(1000, max(100, wanted)),
            "hnsw.iterative_scan": "relaxed_order",
            "hnsw.max_scan_tuples": 20 * wanted + 20_000,
        }
        for setting, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", (setting, str(value)))
        order = f"{way.indexed.format(key='e.key', dim=dim)} {way.order.format(dim=dim)}"
        statement, named = _named(
            f"WITH near AS MATERIALIZED (SELECT e.id, {way.score} AS score FROM episodes e {where} ORDER BY {order} LIMIT {int(wanted)}), "
            f"best AS (SELECT id, score FROM near ORDER BY score DESC, id LIMIT {int(num)}) "
            "SELECT array_agg(id ORDER BY score DESC, id), array_agg(score ORDER BY score DESC, id) FROM best",
            values,
            cue,
        )
        ids, scores = connection.execute(statement, named, binary=True).fetchone() or (None, None)
        if ids is None or len(ids) < min(num, count):
            return None
        return Nearest(torch.tensor(ids, dtype=torch.int64), torch.tensor(scores, dtype=torch.float32), count, *moments)

    def _moments(self, connection: Connection[Any], cue: Tensor, where: str, values: Sequence[Any]) -> tuple[float, float] | None:
        """Mean and deviation of the similarity over a sample of those in question; None if too few of them are in the sample."""
        [total] = connection.execute("SELECT coalesce(sum(episodes), 0)::int8 FROM tally").fetchone() or [0]
        if self._sample is None or not 0.9 < total / max(self._sample[0], 1) < 1.1:
            # neighbours in a page are alike; but to draw rows one by one every page must be read
            method = "BERNOULLI" if total < DRAWN else "SYSTEM"
            rows = connection.execute(
                f"SELECT id, key FROM episodes TABLESAMPLE {method} (%s) REPEATABLE (0)",
                (min(100.0, 100.0 * SAMPLE / max(total, 1)),),
                binary=True,
            ).fetchall()
            if not rows:
                return None
            keys = np.stack([numbers(key) for _, key in rows])
            held = torch.from_numpy(keys)
            held = normalize(held, dim=-1) if isinstance(self.similarity, Cosine) else held
            self._sample = (total, torch.tensor([one for one, _ in rows]), held)
        _, ids, sampled = self._sample
        if where:
            rows = connection.execute(
                f"SELECT e.id FROM episodes e {where} AND e.id = ANY(%s)", (*values, ids.tolist()), binary=True
            ).fetchall()
            sampled = sampled[torch.isin(ids, torch.tensor([one for (one,) in rows], dtype=torch.int64))]
        if len(sampled) < ENOUGH:
            return None
        cosine = isinstance(self.similarity, Cosine)
        scores = sampled @ normalize(cue, dim=-1) if cosine else self.similarity(cue[None], sampled)[0]
        return float(scores.mean()), float(scores.std(correction=0))


def _named(statement: str, values: Sequence[Any], cue: Tensor) -> tuple[str, dict[str, Any]]:
    """A statement whose values stand by place, beside the cue that stands by name."""
    named: dict[str, Any] = {"cue": cue.numpy().astype(np.float32)}
    parts = statement.split("%s")
    for place, value in enumerate(values):
        named[f"v{place}"] = value
    return "".join(part + (f"%(v{place})s" if place < len(values) else "") for place, part in enumerate(parts)), named
