"""Server: one connection to a database server, its transactions, and what the server says, in words that help.

A lost connection is made again at the next call; a call that loses it is not repeated, for it may have been done.
"""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.psycopg import register_vector
from psycopg import Connection, errors

from ammon.episodes.address import Address
from ammon.episodes.tables import bring_up

# levels of synchronous_commit that wait for the disk of this server at least
WAITING = ("on", "remote_apply", "remote_write")


class Server:
    """The connection of one engine; threads take turns. `lasting`: whether a write waits for the disk."""

    def __init__(self, address: Address, create: bool, lasting: bool) -> None:
        self.address, self.lasting = address, lasting
        self._create = create
        self._lock = threading.RLock()
        self._open: Connection[Any] | None = None
        self._owner = os.getpid()
        self._depth = 0
        self._closed = False
        with self._lock, self.saying("open"):
            self.connection()

    def connection(self) -> Connection[Any]:
        """The connection, made anew if it was lost or belongs to another process."""
        if self._closed:
            raise ValueError(f"Episodes: the store {self.address.shown} is closed; open it again.")
        if self._open is None or self._open.closed or self._owner != os.getpid():
            self._open = None
            connection = self._connect()
            try:
                bring_up(connection, self.address.schema, self.address.shown, self._create)
                with connection.transaction():
                    register_vector(connection)
                    [level] = connection.execute("SHOW synchronous_commit").fetchone() or ["on"]
                    if not self.lasting:
                        connection.execute("SET synchronous_commit = off")
                    elif level not in WAITING:
                        connection.execute("SET synchronous_commit = on")
            except BaseException:
                connection.close()
                raise
            # once seen, a store that is gone is not begun again
            self._open, self._owner, self._create = connection, os.getpid(), False
        return self._open

    def _connect(self) -> Connection[Any]:
        shown = self.address.shown
        # the library's own errors may repeat the password
        try:
            psycopg.conninfo.conninfo_to_dict(self.address.conninfo)
        except psycopg.ProgrammingError as error:
            said = str(error).strip() if "URI query parameter" in str(error) else "see the libpq manual on connection URIs"
            raise ValueError(f"Episodes.open: {shown} is no URL of a server ({said}).") from None
        try:
            return psycopg.connect(self.address.conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            said = " ".join(str(error).split())
        if "authentication failed" in said or "no password supplied" in said or "no pg_hba.conf entry" in said:
            raise PermissionError(f"Episodes.open: {shown} refused the user or the password ({_short(said)}).")
        if "database" in said and "does not exist" in said:
            raise FileNotFoundError(f"Episodes.open: the server of {shown} has no such database; make it first, by createdb.")
        raise ConnectionError(
            f"Episodes.open: {shown} cannot be reached ({_short(said)}); is the server running, and are host and port right?"
        )

    @contextmanager
    def writing(self, method: str) -> Iterator[Connection[Any]]:
        """One transaction that writes: wholly done once it ends, or not at all."""
        with self._lock, self.saying(method):
            connection = self.connection()
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            try:
                yield connection
            except BaseException:
                _roll_back(connection)
                raise
            try:
                connection.execute("COMMIT")
            except psycopg.OperationalError as error:
                if not connection.closed:
                    raise
                raise ConnectionError(
                    f"Episodes.{method}: the connection to {self.address.shown} was lost while this was being written; "
                    "look whether it is there before you try again."
                ) from error

    @contextmanager
    def reading(self, method: str = "") -> Iterator[Connection[Any]]:
        """All reads within see one state."""
        with self._lock, self.saying(method):
            outer = self._depth == 0 or self._open is None or self._owner != os.getpid()
            connection = self.connection() if outer or self._open is None else self._open
            if outer:
                self._depth = 0
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            self._depth += 1
            try:
                yield connection
            except BaseException:
                if outer:
                    _roll_back(connection)
                raise
            else:
                if outer:
                    connection.execute("COMMIT")
            finally:
                self._depth -= 1

    def close(self) -> None:
        with self._lock:
            if self._open is not None and self._owner == os.getpid():
                self._open.close()
            self._open, self._closed = None, True

    @contextmanager
    def saying(self, method: str) -> Iterator[None]:
        """Errors of the server as errors of the library; a failed write has left nothing behind."""
        where, place = f"Episodes.{method}".rstrip("."), self.address.shown
        try:
            yield
        except (errors.DiskFull, errors.OutOfMemory) as error:
            raise OSError(
                errno.ENOSPC,
                f"{where}: there is no room left on the server of {place} ({_short(str(error))}); nothing of this call was written",
            ) from error
        except (errors.ReadOnlySqlTransaction, errors.InsufficientPrivilege) as error:
            raise PermissionError(f"{where}: {place} cannot be written by this user or at this server ({_short(str(error))}).") from error
        except (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable, errors.QueryCanceled) as error:
            raise TimeoutError(f"{where}: {place} was busy ({_short(str(error))}); nothing was changed, try again.") from error
        except (errors.UndefinedTable, errors.InvalidSchemaName) as error:
            raise FileNotFoundError(f"{where}: the tables of {place} are gone ({_short(str(error))}).") from error
        except psycopg.OperationalError as error:
            raise ConnectionError(
                f"{where}: the connection to {place} was lost ({_short(str(error))}); nothing of this call was written, try again."
            ) from error


def numbers(vector: Any) -> NDArray[np.float32]:
    """A vector as the server gave it, as an array."""
    return np.array(vector.to_numpy() if hasattr(vector, "to_numpy") else vector, dtype=np.float32)


def _roll_back(connection: Connection[Any]) -> None:
    try:
        connection.execute("ROLLBACK")
    except psycopg.OperationalError:
        # the server has rolled back already
        connection.close()


def _short(said: str) -> str:
    """The first sentence of what the server said."""
    return " ".join(said.split())[:300].rstrip(". ")
