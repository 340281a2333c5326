"""Mirror: what recall reads of every episode, held in memory and brought up to date with the file, whoever wrote it.

Each write raises the store's revision and marks with it what it wrote or deleted, so only what is new is read again. Rows are in the
order of ids.
"""

import sqlite3
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ammon.episodes.matrix import KeyMatrix
from ammon.episodes.records import DAY, MINUTE, Scope
from ammon.parts.similarity import Similarity

COLUMNS = ("ids", "session", "speaker", "time", "day", "length")
# rows that stay in the processor's cache on their way
CHUNK = 1024
NONE = -1


class Mirror:
    """Columns [row] and keys [row, dim] of all episodes. Deleted rows are masked, and taken out when they are a quarter."""

    def __init__(self, dim: int, similarity: Similarity) -> None:
        self.revision = 0
        self.matrix = KeyMatrix(dim, similarity)
        self.words = 0
        self._room: dict[str, NDArray[np.int64]] = {name: np.empty(0, dtype=np.int64) for name in COLUMNS}
        self._live: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)
        self._dead = 0
        # by session, as far as they were asked for
        self._orders: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return self.matrix.count - self._dead

    def column(self, name: str) -> NDArray[np.int64]:
        return self._room[name][: self.matrix.count]

    def follow(self, connection: sqlite3.Connection) -> None:
        """Read what was written since. Call it inside a transaction, so that it is one state of the file."""
        [revision] = connection.execute("SELECT value FROM meta WHERE name = 'revision'").fetchone()
        if revision == self.revision:
            return
        if revision < self.revision:
            # another file was put in this one's place
            self.__init__(self.matrix.dim, self.matrix.similarity)  # type: ignore[misc]
        if self.revision:
            gone = connection.execute("SELECT id FROM deleted WHERE revision > ?", (self.revision,)).fetchall()
            self._remove(np.array([one for (one,) in gone], dtype=np.int64))
        else:
            self.matrix.reserve(connection.execute("SELECT count(*) FROM episodes").fetchone()[0])
        rows = connection.execute(
            "SELECT id, session, ifnull(speaker, -1), time, zone, length, key FROM episodes WHERE revision > ? ORDER BY id"
            if self.revision
            else "SELECT id, session, ifnull(speaker, -1), time, zone, length, key FROM episodes WHERE ? = 0 ORDER BY id",
            (self.revision,),
        )
        while chunk := rows.fetchmany(CHUNK):
            self._take(chunk)
        self.revision = int(revision)

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of ids that are there."""
        found: NDArray[np.int64] = self.column("ids").searchsorted(ids)
        return found

    def held(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which ids are there [id]."""
        rows = np.minimum(self.rows(ids), max(self.matrix.count - 1, 0))
        if not self.matrix.count:
            return np.zeros(len(ids), dtype=np.bool_)
        found: NDArray[np.bool_] = (self.column("ids")[rows] == ids) & self._live[rows]
        return found

    def mask(self, scope: Scope, connection: sqlite3.Connection) -> NDArray[np.bool_] | None:
        """Which rows are in the scope; None if all are."""
        if scope.everything and not self._dead:
            return None
        mask: NDArray[np.bool_] = self._live[: self.matrix.count].copy()
        for column, table, name in (("session", "sessions", scope.session), ("speaker", "speakers", scope.speaker)):
            if name is not None:
                code = connection.execute(f"SELECT id FROM {table} WHERE name = ?", (name,)).fetchone()
                mask &= self.column(column) == (-2 if code is None else code[0])
        if scope.since is not None:
            mask &= self.column("time") >= scope.since
        if scope.until is not None:
            mask &= self.column("time") < scope.until
        if scope.days is not None:
            day = self.column("day")
            mask &= np.logical_or.reduce([(day >= first) & (day <= last) for first, last in scope.days] or [np.zeros_like(mask)])
        for name, values in scope.where:
            marks = ",".join("?" * len(values))
            # one text of numbers is read faster than as many rows
            statement = f"SELECT ifnull(group_concat(episode), '') FROM labels WHERE name = ? AND value IN ({marks})"
            [found] = connection.execute(statement, (name, *values)).fetchone()
            ids = np.fromstring(found, dtype=np.int64, sep=",")
            rows = self.rows(ids)
            has = np.zeros(len(mask) + 1, dtype=np.bool_)
            has[rows[self.column("ids").take(rows, mode="clip") == ids]] = True
            mask &= has[:-1]
        return mask

    def around(self, row: int, reach: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Up to `reach` rows before and after this one in its session by (time, id), and how many places after it each stands."""
        code = int(self.column("session")[row])
        if code not in self._orders:
            rows = np.flatnonzero((self.column("session") == code) & self._live[: self.matrix.count])
            rows = rows[np.argsort(self.column("time")[rows], kind="stable")]
            self._orders[code] = rows, self.column("time")[rows]
        rows, times = self._orders[code]
        time = self.column("time")[row]
        first, last = times.searchsorted(time), times.searchsorted(time, side="right")
        place = int(first + rows[first:last].searchsorted(row))
        begin, end = max(0, place - reach), min(place + reach + 1, len(rows))
        near = np.concatenate([rows[begin:place], rows[place + 1 : end]])
        return near, np.array([*range(begin - place, 0), *range(1, end - place)], dtype=np.int64)

    def _take(self, chunk: Iterable[tuple[int, int, int, int, int, int, bytes]]) -> None:
        """New rows at the end, known ones in their place."""
        ids, session, speaker, time, zone, length, blobs = zip(*chunk)
        keys = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(ids), self.matrix.dim)
        times, zones = np.array(time, dtype=np.int64), np.array(zone, dtype=np.int64)
        fresh = {
            "ids": np.array(ids, dtype=np.int64),
            "session": np.array(session, dtype=np.int64),
            "speaker": np.array(speaker, dtype=np.int64),
            "time": times,
            "day": (times + zones * MINUTE) // DAY,
            "length": np.array(length, dtype=np.int64),
        }
        for code in np.unique(fresh["session"]).tolist():
            self._orders.pop(code, None)
        known = self.held(fresh["ids"])
        if known.any():
            # they may have left a session, or another place in it
            self._orders.clear()
            rows = self.rows(fresh["ids"][known])
            self.words += int(fresh["length"][known].sum() - self.column("length")[rows].sum())
            for name in COLUMNS:
                self._room[name][rows] = fresh[name][known]
            self.matrix.overwrite(rows, keys[known])
        new = ~known
        count = self.matrix.count
        needed = count + int(new.sum())
        if needed > len(self._live):
            size = max(needed, 5 * count // 4)
            self._room = {name: _grown(column, count, size) for name, column in self._room.items()}
            self._live = _grown(self._live, count, size)
        for name in COLUMNS:
            self._room[name][count:needed] = fresh[name][new]
        self._live[count:needed] = True
        self.words += int(fresh["length"][new].sum())
        self.matrix.append(keys[new])

    def _remove(self, ids: NDArray[np.int64]) -> None:
        self._orders.clear()
        rows = self.rows(ids[self.held(ids)])
        self.words -= int(self.column("length")[rows].sum())
        self._live[rows] = False
        self._dead += len(rows)
        if 4 * self._dead > self.matrix.count:
            live = self._live[: self.matrix.count].copy()
            self._room = {name: column[: self.matrix.count][live] for name, column in self._room.items()}
            self.matrix.keep(live)
            self._live = np.ones(self.matrix.count, dtype=np.bool_)
            self._dead = 0

    def ids_of(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.column("ids"))[rows]


def _grown(column: NDArray[np.generic], count: int, size: int) -> NDArray:  # type: ignore[type-arg]
    grown = np.empty(size, dtype=column.dtype)
    grown[:count] = column[:count]
    return grown
