"""SQLite: a store in one file, by the standard library. Writes are transactions in the write-ahead log; keys are scanned in memory.

Several processes may read and write at once; each follows what the others wrote.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ammon.episodes.approximate import Approximate
from ammon.episodes.base import Facts, Nearest, Neighbours, Postings
from ammon.episodes.database import Database
from ammon.episodes.mirror import NONE, Mirror
from ammon.episodes.records import DAY, Draft, Episode, Moment, Origin, Scope, Session, labels
from ammon.episodes.statements import EPISODE, chunks, conditions, episode_of, index_text, metadata_text
from ammon.episodes.words import tally
from ammon.parts.similarity import Cosine, Dot, Similarity


class SQLite:
    """An `Engine` on a file."""

    def __init__(
        self, path: Path, similarity: Similarity | None = None, *, create: bool = True, durability: str = "FULL", approximate: bool = False
    ) -> None:
        self.similarity = Cosine() if similarity is None else similarity
        self.place = str(path)
        self._database = Database(path, create, durability)
        if approximate and not isinstance(self.similarity, Cosine | Dot):
            raise ValueError(f"Episodes.open: an approximate index serves Cosine and Dot, not {self.similarity}; leave approximate out.")
        self._approximate = approximate
        self._near: Approximate | None = None
        self._origin: Origin | None = None
        self._mirror: Mirror | None = None
        self._generation = 0
        self._followed = 0
        # the rows of the last scope: one recall asks for them several times
        self._mask: tuple[tuple[Scope, int, int], Any] | None = None
        self.reading = self._database.reading

    def close(self) -> None:
        if self._near is not None:
            self._near.save()
        self._database.close()
        self._mirror = self._near = None

    def snapshot(self, path: Path) -> None:
        self._database.snapshot(path)

    # -- writing

    def append(self, drafts: Sequence[Draft], keys: Tensor, origin: Origin, bookmark: tuple[str, int] | None = None) -> list[int]:
        tallies = [tally(draft) for draft in drafts]
        blobs = [row.tobytes() for row in keys.contiguous().numpy().astype("<f4", copy=False)]
        with self._database.writing("remember") as (connection, revision):
            self._begin(connection, origin)
            places = [self._place(connection, draft) for draft in drafts]
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'episodes'").fetchone()
            first = (0 if row is None else row[0]) + 1
            ids = list(range(first, first + len(drafts)))
            connection.executemany(
                "INSERT INTO episodes (id, revision, session, speaker, time, zone, length, key, text, metadata) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (one, revision, *place, *draft.moment, found.total(), blob, draft.text, metadata_text(draft.metadata))
                    for one, place, draft, found, blob in zip(ids, places, drafts, tallies, blobs)
                ],
            )
            self._index(connection, list(zip(ids, drafts, tallies)))
            if bookmark is not None:
                connection.execute("INSERT OR REPLACE INTO bookmarks VALUES (?, ?)", bookmark)
        self._origin = None
        return ids

    def change(self, changes: Sequence[tuple[int, Draft, Tensor | None]]) -> None:
        with self._database.writing("update") as (connection, revision):
            for one, draft, key in changes:
                self._unindex(connection, [one])
                found = tally(draft)
                connection.execute(
                    "UPDATE episodes SET revision=?, session=?, speaker=?, time=?, zone=?, length=?, text=?, metadata=? WHERE id=?",
                    (
                        revision,
                        *self._place(connection, draft),
                        *draft.moment,
                        found.total(),
                        draft.text,
                        metadata_text(draft.metadata),
                        one,
                    ),
                )
                if key is not None:
                    blob = key.contiguous().numpy().astype("<f4", copy=False).tobytes()
                    connection.execute("UPDATE episodes SET key = ? WHERE id = ?", (blob, one))
                self._index(connection, [(one, draft, found)])

    def reinforce(self, ids: Sequence[int], micros: int) -> int:
        with self._database.writing("reinforce") as (connection, _):
            # what recall reads does not change, so neither does the revision of these rows
            return sum(
                connection.execute("UPDATE episodes SET uses = uses + 1, used = ? WHERE id = ?", (micros, one)).rowcount for one in set(ids)
            )

    def delete(self, ids: Sequence[int], merged: Mapping[int, Sequence[int]] | None = None) -> int:
        with self._database.writing("forget") as (connection, revision):
            for owner, group in (merged or {}).items():
                marks = ",".join("?" * len(group))
                connection.execute(
                    f"UPDATE episodes SET strength = strength + (SELECT ifnull(sum(strength), 0) FROM episodes WHERE id IN ({marks})), "
                    f"uses = uses + (SELECT ifnull(sum(uses), 0) FROM episodes WHERE id IN ({marks})), "
                    f"used = (SELECT max(used) FROM episodes WHERE id IN (?, {marks})) WHERE id = ?",
                    (*group, *group, owner, *group, owner),
                )
            gone = 0
            for part in chunks(list(dict.fromkeys(ids))):
                self._unindex(connection, part)
                marks = ",".join("?" * len(part))
                connection.execute(f"INSERT OR REPLACE INTO deleted SELECT id, {revision} FROM episodes WHERE id IN ({marks})", part)
                gone += connection.execute(f"DELETE FROM episodes WHERE id IN ({marks})", part).rowcount
        return gone

    def _begin(self, connection: sqlite3.Connection, origin: Origin) -> None:
        """Keep where the keys come from with the first episode; refuse others after."""
        held = self._held_origin(connection)
        if held is None:
            probe = None if origin.probe is None else origin.probe.numpy().astype("<f4").tobytes()
            connection.executemany("INSERT INTO meta VALUES (?, ?)", [("embedder", origin.embedder), ("dim", origin.dim), ("probe", probe)])
        elif (held.embedder, held.dim) != (origin.embedder, origin.dim):
            raise ValueError(
                f"Episodes.remember: {self.place} holds keys of {held.embedder} (dim {held.dim}), these are of {origin.embedder} "
                f"(dim {origin.dim}); use that embedder, or begin another store."
            )

    def _place(self, connection: sqlite3.Connection, draft: Draft) -> tuple[int, int | None]:
        """The numbers of a session and a speaker, new ones as needed."""
        found: list[int | None] = []
        for table, name in (("sessions", draft.session), ("speakers", draft.speaker)):
            if name is None:
                found.append(None)
                continue
            row = connection.execute(f"SELECT id FROM {table} WHERE name = ?", (name,)).fetchone()
            found.append(row[0] if row else connection.execute(f"INSERT INTO {table} (name) VALUES (?)", (name,)).lastrowid)
        return found[0] or 0, found[1]

    def _index(self, connection: sqlite3.Connection, rows: Sequence[tuple[int, Draft, Mapping[str, int]]]) -> None:
        connection.executemany(
            "INSERT INTO words (rowid, text) VALUES (?, ?)", [(one, index_text(found)) for one, _, found in rows if found]
        )
        connection.executemany(
            "INSERT OR IGNORE INTO labels (name, value, episode) VALUES (?, ?, ?)",
            [(name, value, one) for one, draft, _ in rows for name, value in labels(draft.metadata)],
        )

    def _unindex(self, connection: sqlite3.Connection, ids: Sequence[int]) -> None:
        marks = ",".join("?" * len(ids))
        # the index keeps no text, so it must be told the same terms again; if they ever change, a migration makes it anew
        said = connection.execute(f"{EPISODE} WHERE e.id IN ({marks}) AND e.length > 0", ids).fetchall()
        connection.executemany(
            "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)",
            [(row[0], index_text(tally(Draft(row[1], row[2], Moment(row[3], row[4]), row[5])))) for row in said],
        )
        connection.execute(f"DELETE FROM labels WHERE episode IN ({marks})", ids)

    # -- reading

    def origin(self) -> Origin | None:
        if self._origin is None:
            with self.reading():
                self._origin = self._held_origin(self._database.connection)
        return self._origin

    def bookmark(self, name: str) -> int | None:
        row = self._database.one("SELECT place FROM bookmarks WHERE name = ?", (name,))
        return None if row is None else int(row[0])

    def fetch(self, ids: Sequence[int]) -> list[Episode]:
        found: dict[int, Episode] = {}
        for part in chunks(ids):
            for row in self._database.all(f"{EPISODE} WHERE e.id IN ({','.join('?' * len(part))})", part):
                found[row[0]] = episode_of(row)
        return [found[one] for one in ids if one in found]

    def keys(self, ids: Sequence[int]) -> Tensor:
        origin = self.origin()
        blobs: dict[int, bytes] = {}
        for part in chunks(ids):
            blobs |= dict(self._database.all(f"SELECT id, key FROM episodes WHERE id IN ({','.join('?' * len(part))})", part))
        flat = np.frombuffer(b"".join(blobs[one] for one in ids), dtype="<f4").astype(np.float32)
        return torch.from_numpy(flat).reshape(len(ids), 0 if origin is None else origin.dim)

    def page(self, scope: Scope, limit: int, after: tuple[int, int] | None = None, newest: bool = False) -> list[Episode]:
        tests, values = conditions(scope)
        if after is not None:
            tests.append(f"(e.time, e.id) {'<' if newest else '>'} (?, ?)")
            values += after
        order = "DESC" if newest else "ASC"
        condition = f" WHERE {' AND '.join(tests)}" if tests else ""
        rows = self._database.all(f"{EPISODE}{condition} ORDER BY e.time {order}, e.id {order} LIMIT ?", (*values, limit))
        return [episode_of(row) for row in rows]

    def count(self, scope: Scope) -> int:
        if self._mirror is not None:
            with self.reading():
                mirror, mask = self._masked(scope)
                return len(mirror) if mask is None else int(mask.sum())
        tests, values = conditions(scope)
        condition = f" WHERE {' AND '.join(tests)}" if tests else ""
        joins = " JOIN sessions s ON s.id = e.session LEFT JOIN speakers p ON p.id = e.speaker" if tests else ""
        row = self._database.one(f"SELECT count(*) FROM episodes e{joins}{condition}", tuple(values))
        return int(row[0])

    def days(self) -> tuple[int, int] | None:
        row = self._database.one("SELECT (SELECT min(time) FROM episodes), (SELECT max(time) FROM episodes)", ())
        # a local day may be one before or after that of UTC
        return None if row[0] is None else (row[0] // DAY - 1, row[1] // DAY + 1)

    def sessions(self) -> list[Session]:
        rows = self._database.all(
            "SELECT s.name, count(*), min(e.time), max(e.time), max(e.id) FROM episodes e JOIN sessions s ON s.id = e.session "
            "GROUP BY s.id ORDER BY 4 DESC, 5 DESC",
            (),
        )
        return [Session(name, count, Moment(first, 0).datetime, Moment(last, 0).datetime) for name, count, first, last, _ in rows]

    def speakers(self) -> list[str]:
        # a speaker stays in the table when the last episode is forgotten
        rows = self._database.all("SELECT name FROM speakers p WHERE EXISTS (SELECT 1 FROM episodes WHERE speaker = p.id)", ())
        return sorted(name for (name,) in rows)

    def nearest(self, cue: Tensor, scope: Scope, num: int) -> Nearest:
        with self.reading():
            mirror, mask = self._masked(scope)
            index = self._proposer(mirror) if mask is None else None
            if index is not None:
                found = index.nearest(mirror, cue, num)
            else:
                found = mirror.matrix.nearest(cue, num, None if mask is None else torch.from_numpy(mask))
            count = len(mirror) if mask is None else int(mask.sum())
            return Nearest(mirror.ids_of(found.rows), found.scores, count, found.mean, found.deviation)

    def compare(self, cue: Tensor, ids: Tensor) -> Tensor:
        with self.reading():
            mirror = self._current()
            return mirror.matrix.compare(cue, torch.from_numpy(mirror.rows(ids.numpy())))

    def postings(self, terms: Sequence[str], scope: Scope, budget: int) -> Postings:
        with self.reading():
            connection = self._database.connection
            mirror, mask = self._masked(scope)
            known = []
            for term in set(terms):
                row = connection.execute("SELECT doc FROM words_known WHERE term = ?", (term,)).fetchone()
                if row is not None and row[0]:
                    known.append((row[0], term))
            known.sort()
            chosen: list[tuple[int, str]] = []
            spent = 0
            for frequency, term in known:
                if chosen and spent + frequency > budget:
                    break
                chosen.append((frequency, term))
                spent += frequency
            ids, tallies = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
            for _, term in chosen:
                rows = connection.execute("SELECT doc, count(*) FROM words_found WHERE term = ? GROUP BY doc", (term,)).fetchall()
                table = np.array(rows, dtype=np.int64).reshape(-1, 2)
                ids.append(table[:, 0])
                tallies.append(table[:, 1])
            every, count = np.concatenate(ids), np.concatenate(tallies)
            places = np.repeat(np.arange(len(chosen)), [len(one) for one in tallies[1:]])
            rows_of = mirror.rows(every)
            if mask is not None:
                inside = mask[rows_of]
                every, count, places, rows_of = every[inside], count[inside], places[inside], rows_of[inside]
            lengths = mirror.column("length")[rows_of]
            total = len(mirror)
            return Postings(
                tuple(term for _, term in chosen),
                tuple(frequency for frequency, _ in chosen),
                torch.from_numpy(every),
                torch.from_numpy(places),
                torch.from_numpy(count),
                torch.from_numpy(lengths),
                total,
                mirror.words / total if total else 0.0,
            )

    def around(self, ids: Sequence[int], reach: int, scope: Scope) -> Neighbours:
        with self.reading():
            if self._mirror is None and scope.everything:
                # who only looks at neighbours need not read all keys
                return self._looked_up(ids, reach)
            mirror, mask = self._masked(scope)
            every = np.array(ids, dtype=np.int64)
            every = every[mirror.held(every)]
            found = [mirror.around(row, reach) for row in mirror.rows(every).tolist()]
            none = np.empty(0, dtype=np.int64)
            of = np.repeat(every, np.array([len(rows) for rows, _ in found], dtype=np.int64))
            near, lags = (np.concatenate([none, *column]) for column in (zip(*found) if found else ((), ())))
            if mask is not None:
                inside = mask[near]
                of, near, lags = of[inside], near[inside], lags[inside]
            return Neighbours(torch.from_numpy(of), torch.from_numpy(lags), torch.from_numpy(mirror.column("ids")[near]))

    def _looked_up(self, ids: Sequence[int], reach: int) -> Neighbours:
        connection = self._database.connection
        of, lags, near = [], [], []
        for one in ids:
            place = connection.execute("SELECT session, time, id FROM episodes WHERE id = ?", (one,)).fetchone()
            if place is None:
                continue
            for sign, compare, order in ((1, ">", "ASC"), (-1, "<", "DESC")):
                rows = connection.execute(
                    f"SELECT id FROM episodes WHERE session = ? AND (time, id) {compare} (?, ?) ORDER BY time {order}, id {order} LIMIT ?",
                    (*place, reach),
                )
                for step, (other,) in enumerate(rows, start=1):
                    of.append(one)
                    lags.append(sign * step)
                    near.append(other)
        return Neighbours(*(torch.tensor(column, dtype=torch.int64) for column in (of, lags, near)))

    def facts(self, ids: Tensor) -> Facts:
        with self.reading():
            mirror = self._current()
            rows = mirror.rows(ids.numpy())
            names: dict[int, str | None] = dict(self._database.all("SELECT id, name FROM speakers", ()))
            names[NONE] = None
            return Facts(
                torch.from_numpy(mirror.column("day")[rows]), tuple(names[code] for code in mirror.column("speaker")[rows].tolist())
            )

    def _proposer(self, mirror: Mirror) -> Approximate | None:
        """The approximate index, brought up to date; None where none is asked for, or none serves."""
        if not self._approximate or not len(mirror):
            return None
        if self._near is None:
            self._near = Approximate(self._database.path, mirror.matrix.dim)
        self._near.follow(mirror, self._database.connection)
        return self._near

    def _masked(self, scope: Scope) -> tuple[Mirror, Any]:
        mirror = self._current()
        if self._mask is None or self._mask[0] != (scope, mirror.revision, self._generation):
            self._mask = ((scope, mirror.revision, self._generation), mirror.mask(scope, self._database.connection))
        return mirror, self._mask[1]

    def _current(self) -> Mirror:
        connection = self._database.connection
        if self._mirror is None or self._generation != self._database.generation:
            self._generation = self._database.generation
            origin = self._held_origin(connection)
            self._mirror, self._followed = Mirror(1 if origin is None else origin.dim, self.similarity), 0
            if origin is None:
                empty, self._mirror = self._mirror, None
                return empty
        if self._followed != self._database.transaction:
            # what is read in one transaction does not change
            self._mirror.follow(connection)
            self._followed = self._database.transaction
        return self._mirror

    def _held_origin(self, connection: sqlite3.Connection) -> Origin | None:
        held = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('embedder', 'dim', 'probe')"))
        if "embedder" not in held:
            return None
        probe = None if held["probe"] is None else torch.from_numpy(np.frombuffer(held["probe"], dtype="<f4").astype(np.float32))
        return Origin(held["embedder"], held["dim"], probe)

    def check(self) -> list[str]:
        found = [row[0] for row in self._database.all("PRAGMA integrity_check", ()) if row[0] != "ok"]
        found += [
            f"an episode of {row[0]} names a row of {row[2]} that is not there"
            for row in self._database.all("PRAGMA foreign_key_check", ())
        ]
        origin = self.origin()
        if origin is not None:
            rows = self._database.all("SELECT id FROM episodes WHERE length(key) != ?", (4 * origin.dim,))
            found += [f"episode {one}: its key has not {origin.dim} numbers" for (one,) in rows]
        rows = self._database.all("SELECT id FROM episodes WHERE length > 0 AND id NOT IN (SELECT id FROM words_docsize)", ())
        found += [f"episode {one}: its words are not in the index" for (one,) in rows]
        rows = self._database.all("SELECT id FROM words_docsize WHERE id NOT IN (SELECT id FROM episodes)", ())
        found += [f"the index of words names episode {one}, which is not there" for (one,) in rows]
        return found
