"""Transfer: a store on a server copied into a store in one file, with its ids, in the order of ids."""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from psycopg import Connection

from ammon.episodes.records import Draft, Moment, Origin
from ammon.episodes.server import numbers
from ammon.episodes.sqlite import SQLite

BATCH = 1000
ROWS = "SELECT id, text, session, time, zone, speaker, metadata, strength, uses, used, key FROM episodes WHERE id > %s ORDER BY id LIMIT %s"


def into_file(connection: Connection[Any], path: Path, origin: Origin | None) -> None:
    """Everything that the connection's transaction sees. A file of that name is replaced only once the copy is whole."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Episodes.snapshot: there is no folder {path.parent}; make it first.")
    partial = path.with_name(path.name + ".partial")
    _remove(partial)
    try:
        copy = SQLite(partial, durability="NORMAL")
        try:
            if origin is not None:
                _fill(connection, copy, partial, origin)
        finally:
            copy.close()
        beside = sqlite3.connect(partial)
        try:
            with beside:
                beside.executemany(
                    "INSERT OR REPLACE INTO bookmarks VALUES (?, ?)", connection.execute("SELECT name, place FROM bookmarks").fetchall()
                )
            beside.execute("PRAGMA journal_mode = DELETE").fetchone()
        finally:
            beside.close()
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        _remove(partial)


def _fill(connection: Connection[Any], copy: SQLite, file: Path, origin: Origin) -> None:
    last = 0
    while rows := connection.execute(ROWS, (last, BATCH), binary=True).fetchall():
        for run in _runs(rows):
            drafts = [
                Draft(text, session, Moment(time, zone), speaker, json.loads(extra))
                for _, text, session, time, zone, speaker, extra, *_ in run
            ]
            keys = np.stack([numbers(row[-1]) for row in run])
            _count_from(file, run[0][0])
            copy.append(drafts, torch.from_numpy(keys), origin)
        beside = sqlite3.connect(file)
        try:
            with beside:
                beside.executemany(
                    "UPDATE episodes SET strength = ?, uses = ?, used = ? WHERE id = ?",
                    [(strength, uses, used, one) for one, *_, strength, uses, used, _ in rows],
                )
        finally:
            beside.close()
        last = rows[-1][0]


def _runs(rows: Sequence[Any]) -> Iterator[list[Any]]:
    """Rows in runs of successive ids."""
    run: list[Any] = []
    for row in rows:
        if run and row[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append(row)
    yield run


def _count_from(file: Path, first: int) -> None:
    """The next id that the file gives."""
    beside = sqlite3.connect(file)
    try:
        with beside:
            beside.execute("DELETE FROM sqlite_sequence WHERE name = 'episodes'")
            beside.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('episodes', ?)", (first - 1,))
    finally:
        beside.close()


def _remove(partial: Path) -> None:
    for name in ("", "-wal", "-shm"):
        partial.with_name(partial.name + name).unlink(missing_ok=True)
