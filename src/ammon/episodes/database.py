"""Database: one file of SQLite, its transactions, and what SQLite says in words that help.

One connection serves all threads of a process; a forked process opens its own.
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ammon.episodes.schema import bring_up, version_of

# seconds to wait for another process that writes
PATIENCE = 60.0
HEADER = b"SQLite format 3\0"


class Database:
    """An open store; `generation` changes when the connection is made anew, `transaction` with each that reads."""

    def __init__(self, path: Path, create: bool, durability: str) -> None:
        self.path, self.place, self.durability = path, str(path), durability
        self.generation = self.transaction = 0
        self._lock = threading.RLock()
        self._reading = 0
        self._readonly = False
        self._open: sqlite3.Connection | None = None
        self._owner = -1
        self._look(create)
        with self._lock, self.saying("open"):
            _ = self.connection

    def _look(self, create: bool) -> None:
        if self.path.is_dir():
            raise IsADirectoryError(f"Episodes.open: {self.place} is a folder; give the path of a file.")
        if not self.path.exists():
            if not create:
                raise FileNotFoundError(f"Episodes.open: there is no store at {self.place}.")
            if not self.path.parent.is_dir():
                raise FileNotFoundError(f"Episodes.open: there is no folder {self.path.parent}; make it first, or give another path.")
            if not os.access(self.path.parent, os.W_OK):
                raise PermissionError(f"Episodes.open: the folder {self.path.parent} cannot be written; give another path.")
            return
        try:
            with self.path.open("rb") as file:
                head = file.read(len(HEADER))
        except OSError as error:
            raise PermissionError(f"Episodes.open: {self.place} cannot be read ({error.strerror}).") from error
        if head and head != HEADER:
            raise ValueError(f"Episodes.open: {self.place} is no store of episodes; give the path of one, or of no file.")
        self._readonly = not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK))
        if self._readonly and Path(f"{self.path}-wal").exists():
            raise PermissionError(
                f"Episodes.open: {self.place} has writes that wait in {self.path.name}-wal, but its folder cannot be written; "
                "open it once where it can be."
            )

    @property
    def connection(self) -> sqlite3.Connection:
        # a connection must not cross a fork
        if self._open is None or self._owner != os.getpid():
            if self._owner == 0:
                raise ValueError(f"Episodes: the store {self.place} is closed; open it again.")
            address = f"file:{quote(str(self.path.resolve()))}?{'mode=ro&immutable=1' if self._readonly else 'mode=rwc'}"
            connection = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                version_of(connection, self.place)
                if not self._readonly:
                    connection.execute("PRAGMA journal_mode = WAL").fetchone()
                    connection.execute(f"PRAGMA synchronous = {self.durability}")
                connection.execute("PRAGMA foreign_keys = ON")
                bring_up(connection, self.place)
            except BaseException:
                connection.close()
                raise
            self._open, self._owner, self._reading = connection, os.getpid(), 0
            self.generation += 1
        return self._open

    def close(self) -> None:
        with self._lock:
            if self._open is not None and self._owner == os.getpid():
                self._open.close()
            self._open, self._owner = None, 0
            self.generation += 1

    @contextmanager
    def writing(self, method: str) -> Iterator[tuple[sqlite3.Connection, int]]:
        """One transaction, and the revision that it makes."""
        with self._lock, self.saying(method):
            if self._readonly:
                raise PermissionError(f"Episodes.{method}: {self.place} or its folder cannot be written; copy the store elsewhere first.")
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                [revision] = connection.execute("SELECT value FROM meta WHERE name = 'revision'").fetchone()
                connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'revision'")
                yield connection, revision + 1
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._lock:
            if self._reading and self._owner == os.getpid():
                # inside another one
                yield
                return
            with self.saying("recall"):
                connection = self.connection
                outer = not connection.in_transaction
                if outer:
                    connection.execute("BEGIN")
                    self.transaction += 1
                self._reading = 1
                try:
                    yield
                finally:
                    self._reading = 0
                    if outer and connection.in_transaction:
                        connection.execute("COMMIT")

    def all(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self.reading():
            return self.connection.execute(statement, tuple(values)).fetchall()

    def one(self, statement: str, values: Sequence[Any]) -> Any:
        with self.reading():
            return self.connection.execute(statement, tuple(values)).fetchone()

    def snapshot(self, path: Path) -> None:
        with self._lock, self.saying("snapshot"):
            if path.exists() and self.path.exists() and path.samefile(self.path):
                raise ValueError(f"Episodes.snapshot: {path} is the store itself; give another path.")
            if not path.parent.is_dir():
                raise FileNotFoundError(f"Episodes.snapshot: there is no folder {path.parent}; make it first.")
            partial = path.with_name(path.name + ".partial")
            partial.unlink(missing_ok=True)
            try:
                copy = sqlite3.connect(partial)
                try:
                    self.connection.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE").fetchone()
                finally:
                    copy.close()
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)

    @contextmanager
    def saying(self, method: str) -> Iterator[None]:
        """What SQLite says, in words that help; a failed write has left nothing behind."""
        where = f"Episodes.{method}"
        try:
            yield
        except sqlite3.DatabaseError as error:
            said = str(error)
            if "full" in said or "disk I/O" in said:
                raise OSError(
                    errno.ENOSPC, f"{where}: there is no room left for {self.place} ({said}); nothing of this call was written; free some"
                ) from error
            if "readonly" in said or "unable to open" in said:
                raise PermissionError(f"{where}: {self.place} or its folder cannot be written ({said}); nothing was changed.") from error
            if "locked" in said or "busy" in said:
                raise TimeoutError(f"{where}: another process has been writing to {self.place} for {PATIENCE:.0f} s; try again.") from error
            if "malformed" in said or "not a database" in said:
                raise ValueError(f"{where}: {self.place} is damaged ({said}); go back to a snapshot.") from error
            raise
