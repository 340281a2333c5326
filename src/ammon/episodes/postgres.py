"""PostgreSQL: a store on a database server, with pgvector. Keys are compared at the server, so a client holds none of them.

Several writers may write at once; none waits for another but for the same episode.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from psycopg import Connection
from torch import Tensor

from ammon.episodes.address import address
from ammon.episodes.base import Facts, Nearest, Neighbours, Postings
from ammon.episodes.clauses import add, conditions, index, introduce, locked, unindex, where
from ammon.episodes.nearness import Nearness
from ammon.episodes.records import DAY, Draft, Episode, Moment, Origin, Scope, Session
from ammon.episodes.server import Server, numbers
from ammon.episodes.transfer import into_file
from ammon.episodes.words import tally
from ammon.parts.similarity import Cosine, Similarity

# a vector of pgvector has no more
LARGEST_DIM = 16_000
EPISODE = "SELECT e.id, e.text, e.session, e.time, e.zone, e.speaker, e.metadata, e.strength, e.uses, e.used FROM episodes e "


class Postgres:
    """An `Engine` on a server.

    approximate: candidates from an HNSW index, re-ranked exactly (`Nearness`); else every key is compared.
    """

    def __init__(
        self, url: str, similarity: Similarity | None = None, *, create: bool = True, durability: str = "FULL", approximate: bool = False
    ) -> None:
        found = address(url)
        self.place = found.shown
        self._nearness = Nearness(Cosine() if similarity is None else similarity, approximate)
        self._server = Server(found, create, durability == "FULL")
        self._origin: Origin | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._server.reading():
            yield

    def close(self) -> None:
        self._server.close()

    # -- writing

    def append(self, drafts: Sequence[Draft], keys: Tensor, origin: Origin, bookmark: tuple[str, int] | None = None) -> list[int]:
        tallies = [tally(draft) for draft in drafts]
        rows = keys.contiguous().numpy().astype(np.float32, copy=False)
        with self._server.writing("remember") as connection:
            self._begin(connection, origin)
            introduce(connection, drafts)
            numbers = connection.execute(
                "SELECT array_agg(nextval(pg_get_serial_sequence('episodes', 'id'))) FROM generate_series(1, %s)", (len(drafts),)
            ).fetchone()
            ids: list[int] = sorted(numbers[0]) if numbers and numbers[0] else []
            columns = "id, time, zone, length, session, speaker, key, text, metadata"
            with connection.cursor().copy(f"COPY episodes ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "int8", "int4", "int4", "text", "text", "vector", "text", "text"])
                for one, draft, found, row in zip(ids, drafts, tallies, rows):
                    metadata = json.dumps(dict(draft.metadata), ensure_ascii=False, allow_nan=False)
                    copy.write_row((one, *draft.moment, found.total(), draft.session, draft.speaker, row, draft.text, metadata))
            index(connection, list(zip(ids, drafts, tallies)))
            add(connection, len(drafts), sum(found.total() for found in tallies))
            if bookmark is not None:
                connection.execute(
                    "INSERT INTO bookmarks VALUES (%s, %s) ON CONFLICT (md5(name)) DO UPDATE SET place = excluded.place", bookmark
                )
        self._origin = self._origin or origin
        self._nearness.ready(self._server, self._origin.dim)
        return ids

    def change(self, changes: Sequence[tuple[int, Draft, Tensor | None]]) -> None:
        with self._server.writing("update") as connection:
            lengths = locked(connection, [one for one, _, _ in changes])
            words = 0
            for one, draft, key in changes:
                # another writer may have deleted it meanwhile
                if one not in lengths:
                    continue
                found = tally(draft)
                unindex(connection, [one])
                introduce(connection, [draft])
                connection.execute(
                    "UPDATE episodes SET session=%s, speaker=%s, time=%s, zone=%s, length=%s, text=%s, metadata=%s WHERE id=%s",
                    (
                        *(draft.session, draft.speaker, *draft.moment, found.total(), draft.text),
                        *(json.dumps(dict(draft.metadata), ensure_ascii=False, allow_nan=False), one),
                    ),
                )
                if key is not None:
                    connection.execute("UPDATE episodes SET key = %s WHERE id = %s", (key.contiguous().numpy().astype(np.float32), one))
                index(connection, [(one, draft, found)])
                words += found.total() - lengths[one]
                lengths[one] = found.total()
            add(connection, 0, words)

    def reinforce(self, ids: Sequence[int], micros: int) -> int:
        with self._server.writing("reinforce") as connection:
            known = list(locked(connection, ids))
            connection.execute("UPDATE episodes SET uses = uses + 1, used = %s WHERE id = ANY(%s)", (micros, known))
            return len(known)

    def delete(self, ids: Sequence[int], merged: Mapping[int, Sequence[int]] | None = None) -> int:
        merged = merged or {}
        with self._server.writing("forget") as connection:
            lengths = locked(connection, [*ids, *merged])
            gone = [one for one in dict.fromkeys(ids) if one in lengths]
            owners = [owner for owner, group in merged.items() for _ in group]
            members = [one for group in merged.values() for one in group]
            if members:
                connection.execute(
                    "UPDATE episodes o SET strength = o.strength + g.strength, uses = o.uses + g.uses, used = greatest(o.used, g.used) "
                    "FROM (SELECT p.owner, sum(m.strength) AS strength, sum(m.uses) AS uses, max(m.used) AS used "
                    "FROM unnest(%s::int8[], %s::int8[]) p(owner, member) JOIN episodes m ON m.id = p.member GROUP BY p.owner) g "
                    "WHERE o.id = g.owner",
                    (owners, members),
                )
            if gone:
                unindex(connection, gone)
                connection.execute("DELETE FROM episodes WHERE id = ANY(%s)", (gone,))
                add(connection, -len(gone), -sum(lengths[one] for one in gone))
        return len(gone)

    def _begin(self, connection: Connection[Any], origin: Origin) -> None:
        """Keep where the keys come from with the first episode; refuse others after."""
        held = self._origin
        if held is None:
            if origin.dim > LARGEST_DIM:
                raise ValueError(f"Episodes.remember: {self.place} takes keys of up to {LARGEST_DIM:,} entries, got {origin.dim:,}.")
            probe = None if origin.probe is None else origin.probe.numpy().astype(np.float32)
            # of two who begin at once one waits here for the other
            connection.execute(
                "INSERT INTO origin (embedder, dim, probe) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (origin.embedder, origin.dim, probe)
            )
            held = _held_origin(connection)
        if held is not None and (held.embedder, held.dim) != (origin.embedder, origin.dim):
            raise ValueError(
                f"Episodes.remember: {self.place} holds keys of {held.embedder} (dim {held.dim}), these are of {origin.embedder} "
                f"(dim {origin.dim}); use that embedder, or begin another store."
            )

    # -- reading

    def origin(self) -> Origin | None:
        if self._origin is None:
            with self._server.reading("open") as connection:
                self._origin = _held_origin(connection)
            if self._origin is not None:
                self._nearness.check(self._origin.dim)
        return self._origin

    def bookmark(self, name: str) -> int | None:
        rows = self._all("SELECT place FROM bookmarks WHERE md5(name) = md5(%s) AND name = %s", (name, name))
        return int(rows[0][0]) if rows else None

    def fetch(self, ids: Sequence[int]) -> list[Episode]:
        found = {row[0]: _episode(row) for row in self._all(f"{EPISODE} WHERE e.id = ANY(%s)", (list(ids),))}
        return [found[one] for one in ids if one in found]

    def keys(self, ids: Sequence[int]) -> Tensor:
        origin = self.origin()
        if origin is None or not ids:
            return torch.zeros(len(ids), 0 if origin is None else origin.dim)
        found = dict(self._all("SELECT id, key FROM episodes WHERE id = ANY(%s)", (list(ids),)))
        return torch.from_numpy(np.stack([numbers(found[one]) for one in ids]))

    def page(self, scope: Scope, limit: int, after: tuple[int, int] | None = None, newest: bool = False) -> list[Episode]:
        tests, values = conditions(scope)
        if after is not None:
            tests.append(f"(e.time, e.id) {'<' if newest else '>'} (%s, %s)")
            values += after
        order = "DESC" if newest else "ASC"
        rows = self._all(f"{EPISODE} {where(tests)} ORDER BY e.time {order}, e.id {order} LIMIT %s", (*values, limit))
        return [_episode(row) for row in rows]

    def count(self, scope: Scope) -> int:
        if scope.everything:
            return self._totals()[0]
        tests, values = conditions(scope)
        return int(self._all(f"SELECT count(*) FROM episodes e {where(tests)}", values)[0][0])

    def days(self) -> tuple[int, int] | None:
        [(first, last)] = self._all("SELECT (SELECT min(time) FROM episodes), (SELECT max(time) FROM episodes)", ())
        # a local day may be one before or after that of UTC
        return None if first is None else (first // DAY - 1, last // DAY + 1)

    def sessions(self) -> list[Session]:
        rows = self._all(
            "SELECT session, count(*), min(time), max(time), max(id) FROM episodes GROUP BY session ORDER BY 4 DESC, 5 DESC", ()
        )
        return [Session(name, count, Moment(first, 0).datetime, Moment(last, 0).datetime) for name, count, first, last, _ in rows]

    def speakers(self) -> list[str]:
        # a speaker stays in the table when the last episode is forgotten
        rows = self._all("SELECT name FROM speakers p WHERE EXISTS (SELECT 1 FROM episodes WHERE speaker = p.name)", ())
        return sorted(name for (name,) in rows)

    def nearest(self, cue: Tensor, scope: Scope, num: int) -> Nearest:
        with self._server.reading() as connection:
            tests, values = conditions(scope)
            return self._nearness.nearest(connection, cue, where(tests), values, num, self.count(scope))

    def compare(self, cue: Tensor, ids: Tensor) -> Tensor:
        if not len(ids):
            return torch.zeros(0)
        with self._server.reading() as connection:
            return self._nearness.compare(connection, cue, ids.tolist())

    def postings(self, terms: Sequence[str], scope: Scope, budget: int) -> Postings:
        with self._server.reading():
            chosen = self._rarest(terms, budget)
            tests, values = conditions(scope)
            joined = "" if scope.everything else f"JOIN episodes e ON e.id = w.episode {where(tests, 'AND')}"
            rows = self._all(
                "SELECT t.place - 1, array_agg(w.episode ORDER BY w.episode), array_agg(w.count ORDER BY w.episode), "
                "array_agg(w.length ORDER BY w.episode) FROM unnest(%s::text[]) WITH ORDINALITY t(term, place) "
                f'JOIN words w ON w.term = t.term COLLATE "C" {joined} GROUP BY t.place ORDER BY t.place',
                ([term for term, _ in chosen], *values),
            )
            columns = [np.concatenate([np.empty(0, np.int64), *(np.array(row[n], np.int64) for row in rows)]) for n in (1, 2, 3)]
            place = np.repeat(np.array([row[0] for row in rows], np.int64), [len(row[1]) for row in rows])
            ids, tallies, lengths = (torch.from_numpy(column) for column in columns)
            total, words = self._totals()
            return Postings(
                tuple(term for term, _ in chosen),
                tuple(frequency for _, frequency in chosen),
                *(ids, torch.from_numpy(place), tallies, lengths),
                total,
                words / total if total else 0.0,
            )

    def _rarest(self, terms: Sequence[str], budget: int) -> list[tuple[str, int]]:
        """The terms whose postings are read, rarest first, and in how many episodes each occurs."""
        counted = (
            'SELECT t, (SELECT count(*) FROM (SELECT 1 FROM words WHERE term = t COLLATE "C" LIMIT %s) found) FROM unnest(%s::text[]) t'
        )
        found = {term: int(count) for term, count in self._all(counted, (budget + 1, sorted(set(terms)))) if count}
        # beyond the budget a count matters only if all are beyond it
        if found and min(found.values()) > budget:
            found = {term: int(count) for term, count in self._all(counted, (None, sorted(found)))}
        chosen: list[tuple[str, int]] = []
        spent = 0
        for frequency, term in sorted((frequency, term) for term, frequency in found.items()):
            if chosen and spent + frequency > budget:
                break
            chosen.append((term, frequency))
            spent += frequency
        return chosen

    def around(self, ids: Sequence[int], reach: int, scope: Scope) -> Neighbours:
        tests, values = conditions(scope)
        side = (
            "SELECT n.id, {sign}row_number() OVER (ORDER BY n.time {order}, n.id {order}) AS lag FROM episodes n "
            "WHERE n.session = q.session AND (n.time, n.id) {compare} (q.time, q.id) ORDER BY n.time {order}, n.id {order} LIMIT %s"
        )
        after, before = side.format(sign="", order="ASC", compare=">"), side.format(sign="-", order="DESC", compare="<")
        joined = "" if scope.everything else f"JOIN episodes e ON e.id = s.id {where(tests, 'AND')}"
        rows = self._all(
            "SELECT array_agg(w.id ORDER BY w.place, s.lag), array_agg(s.lag ORDER BY w.place, s.lag), "
            "array_agg(s.id ORDER BY w.place, s.lag) "
            "FROM unnest(%s::int8[]) WITH ORDINALITY w(id, place) JOIN episodes q ON q.id = w.id "
            f"CROSS JOIN LATERAL (({after}) UNION ALL ({before})) s {joined}",
            (list(ids), reach, reach, *values),
        )
        return Neighbours(*(torch.tensor(column or [], dtype=torch.int64) for column in rows[0]))

    def facts(self, ids: Tensor) -> Facts:
        rows = self._all(
            "SELECT e.time, e.zone, e.speaker FROM unnest(%s::int8[]) WITH ORDINALITY w(id, place) JOIN episodes e ON e.id = w.id "
            "ORDER BY w.place",
            (ids.tolist(),),
        )
        days = torch.tensor([Moment(time, zone).day for time, zone, _ in rows], dtype=torch.int64)
        return Facts(days, tuple(speaker for _, _, speaker in rows))

    def _totals(self) -> tuple[int, int]:
        """How many episodes, and how many words they have together."""
        [(episodes, words)] = self._all("SELECT coalesce(sum(episodes), 0)::int8, coalesce(sum(words), 0)::int8 FROM tally", ())
        return episodes, words

    def _all(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self._server.reading() as connection:
            return connection.execute(statement, tuple(values), binary=True).fetchall()

    # -- keeping

    def snapshot(self, path: Path) -> None:
        with self._server.reading("snapshot") as connection:
            into_file(connection, path, _held_origin(connection))

    def check(self) -> list[str]:
        with self._server.reading("check") as connection:
            found = []
            if connection.execute("SHOW fsync").fetchone() == ("off",):
                found.append("the server runs with fsync = off: what was acknowledged may be lost with its power")
            origin = _held_origin(connection)
            rows = self._all("SELECT id FROM episodes WHERE vector_dims(key) != %s ORDER BY id", (0 if origin is None else origin.dim,))
            found += [f"episode {one}: its key has not {0 if origin is None else origin.dim} numbers" for (one,) in rows]
            rows = self._all(
                "SELECT e.id FROM episodes e LEFT JOIN (SELECT episode, sum(count) AS sum FROM words GROUP BY episode) w "
                "ON w.episode = e.id WHERE e.length != coalesce(w.sum, 0) ORDER BY e.id",
                (),
            )
            found += [f"episode {one}: its words are not in the index" for (one,) in rows]
            for table in ("words", "labels"):
                rows = self._all(
                    f"SELECT DISTINCT episode FROM {table} i WHERE NOT EXISTS (SELECT 1 FROM episodes WHERE id = i.episode) ORDER BY 1", ()
                )
                found += [f"the index of {table} names episode {one}, which is not there" for (one,) in rows]
            [held] = self._all("SELECT count(*), coalesce(sum(length), 0)::int8 FROM episodes", ())
            if tuple(held) != self._totals():
                found.append(f"the sums kept are {self._totals()} episodes and words, there are {tuple(held)}")
            return found


def _held_origin(connection: Connection[Any]) -> Origin | None:
    row = connection.execute("SELECT embedder, dim, probe FROM origin", binary=True).fetchone()
    return None if row is None else Origin(row[0], row[1], None if row[2] is None else torch.from_numpy(numbers(row[2])))


def _episode(row: Sequence[Any]) -> Episode:
    one, text, session, time, zone, speaker, metadata, strength, uses, used = row
    last = None if used is None else Moment(used, 0).datetime
    return Episode(one, text, session, Moment(time, zone).datetime, speaker, json.loads(metadata), strength, uses, last)
