"""A store in one file outlives what happens to its processes, its disk and its versions."""

import os
import random
import resource
import signal
import sqlite3
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ammon.episodes import schema
from ammon.episodes.store import Episodes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed")

# episodes of one call of `remember`
BATCH = 4
# how long a killed writer may have written, in seconds
LONGEST = 0.12


def fork(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Run `work` in a process of its own, with a function that sends lines; its id, and where its lines come out."""
    out, into = os.pipe()
    with warnings.catch_warnings():
        # newer Pythons warn of forks beside threads; none of ours holds a lock here
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        os.close(into)
        return process, out
    code = 1

    def send(line: str) -> None:
        os.write(into, f"{line}\n".encode())

    try:
        os.close(out)
        work(send)
        code = 0
    except BaseException:
        os.write(into, f"failed {traceback.format_exc()!r}\n".encode())
    finally:
        os._exit(code)


def lines(out: int) -> list[str]:
    """What a process sent, to its end; a line that was cut off is left out."""
    with os.fdopen(out, "rb") as stream:
        return [line.decode().rstrip("\n") for line in stream if line.endswith(b"\n")]


def whole(process: int, out: int) -> list[str]:
    sent = lines(out)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, sent
    return sent


def write_on(path: Path, writer: str) -> Callable[[Callable[[str], None]], None]:
    def work(send: Callable[[str], None]) -> None:
        with Episodes.open(path) as store:
            number = 0
            while True:
                store.remember([f"batch {number} part {part} of {writer}" for part in range(BATCH)], session=f"{writer}-{number}")
                # sent only once it is acknowledged
                send(f"{writer}-{number}")
                number += 1

    return work


def kill_writers(path: Path, times: int, seed: int) -> None:
    draw = random.Random(seed)
    with Episodes.open(path) as store:
        store.remember("the first", session="first")
    promised = {"first"}
    for number in range(times):
        process, out = fork(write_on(path, f"w{number}"))
        time.sleep(draw.uniform(0.0, LONGEST))
        os.kill(process, signal.SIGKILL)
        sent = lines(out)
        os.waitpid(process, 0)
        assert not [line for line in sent if line.startswith("failed")]
        promised |= set(sent)
        with Episodes.open(path, create=False) as store:
            found = {session.name: session.count for session in store.sessions()}
            assert promised <= set(found)
            assert {count for name, count in found.items() if name != "first"} <= {BATCH}
            assert store.check() == []
            promised = set(found)
    assert len(promised) > times / 4
    with Episodes.open(path, create=False) as store:
        last = max(promised - {"first"}, key=lambda name: int(name.split("-")[1]))
        assert len(store.recall(f"batch {last.split('-')[1]} of {last.split('-')[0]}", k=BATCH, session=last)) == BATCH


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    kill_writers(tmp_path / "a.db", times=20, seed=0)


@pytest.mark.slow
def test_a_writer_killed_200_times_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    kill_writers(tmp_path / "a.db", times=200, seed=1)


def write_and_read_at_once(path: Path, seconds: float) -> None:
    Episodes.open(path).close()
    end = time.monotonic() + seconds

    def write(writer: str) -> Callable[[Callable[[str], None]], None]:
        def work(send: Callable[[str], None]) -> None:
            with Episodes.open(path) as store:
                number = 0
                while time.monotonic() < end:
                    ids = store.remember([f"part {part}" for part in range(BATCH)], session=f"{writer}-{number}")
                    send(f"{writer}-{number}")
                    if number % 5 == 4:
                        # the others must follow deletions and updates too
                        store.forget(ids)
                        send(f"gone {writer}-{number}")
                    number += 1

        return work

    def read(send: Callable[[str], None]) -> None:
        most = 0
        with Episodes.open(path) as store:
            while time.monotonic() < end:
                found = store.recall("part 1", k=10**6)
                # a choice of the best would cut batches
                assert len(found) == found.searched
                sessions: dict[str, int] = {}
                for item in found:
                    sessions[item.episode.session] = sessions.get(item.episode.session, 0) + 1
                assert set(sessions.values()) <= {BATCH}, "a reader saw half a batch"
                latest = {name for name in sessions if name.endswith("-0")}
                most = max(most, len(sessions))
                assert len(latest) >= (1 if most else 0)
        send(f"saw {most}")

    writers = [fork(write(name)) for name in ("one", "two")]
    readers = [fork(read) for _ in range(3)]
    written = [line for process, out in writers for line in whole(process, out)]
    seen = [line for process, out in readers for line in whole(process, out)]
    assert len(seen) == 3
    assert any(int(line.split()[1]) > 0 for line in seen)
    gone = {line.removeprefix("gone ") for line in written if line.startswith("gone ")}
    with Episodes.open(path) as store:
        assert {session.name: session.count for session in store.sessions()} == dict.fromkeys(
            {line for line in written if not line.startswith("gone ")} - gone, BATCH
        )
        assert store.check() == []
    assert {line.split("-")[0] for line in written if not line.startswith("gone ")} == {"one", "two"}


def test_two_writers_and_three_readers_at_once_lose_nothing_and_see_no_half_batch(tmp_path: Path) -> None:
    write_and_read_at_once(tmp_path / "a.db", seconds=2.0)


@pytest.mark.slow
def test_two_writers_and_three_readers_for_a_minute(tmp_path: Path) -> None:
    write_and_read_at_once(tmp_path / "a.db", seconds=60.0)


def test_threads_of_one_process_share_a_store(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Episodes.open(tmp_path / "a.db") as store, ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda n: store.remember(f"thread {n}")[0] if n % 3 else len(store.recall("thread", k=5).episodes), range(60)))
        assert len(store) == 40
        assert len({one for n, one in enumerate(ids) if n % 3}) == 40
        assert store.check() == []


def test_a_forked_process_opens_the_store_anew(tmp_path: Path) -> None:
    with Episodes.open(tmp_path / "a.db") as store:
        store.remember("before the fork")
        store.recall("fork")

        def work(send: Callable[[str], None]) -> None:
            store.remember("from the child")
            send(str(len(store.recall("child", k=5))))

        assert whole(*fork(work)) == ["2"]
        assert len(store) == 2
        assert store.check() == []


def test_a_full_disk_is_said_and_leaves_the_store_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Episodes.open(path) as store:
        first = store.remember("it fits")
        before = path.stat().st_size

    def work(send: Callable[[str], None]) -> None:
        # the file may grow by so much and no more; the signal would end the process before SQLite could say it
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (before + 200_000, before + 200_000))
        with Episodes.open(path) as store:
            count = 0
            try:
                while True:
                    store.remember([f"episode {count + part} {'x' * 2000}" for part in range(10)])
                    count += 10
            except OSError as error:
                send(f"{count} {error}")
            assert len(store) == count + 1
            assert store.get(first[0]).text == "it fits"

    [said] = whole(*fork(work))
    count, _, message = said.partition(" ")
    assert "no room left" in message
    assert "nothing of this call was written" in message
    with Episodes.open(path) as store:
        assert len(store) == int(count) + 1
        assert store.check() == []
        store.remember("there is room again")
        assert len(store) == int(count) + 2


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that others may read, with a store in it, that cannot be written."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    with Episodes.open(folder / "a.db") as store:
        store.remember(["the cat sat", "the dog ran"], session="pets")
    (folder / "a.db").chmod(0o444)
    folder.chmod(0o555)
    yield folder
    folder.chmod(stat.S_IRWXU)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_a_folder_that_cannot_be_written_is_read_but_not_written(locked_folder: Path) -> None:
    def work(send: Callable[[str], None]) -> None:
        if os.getuid() == 0:
            # root may write everywhere
            os.setuid(65534)
        with Episodes.open(locked_folder / "a.db") as store:
            send(store.recall("cat", k=1).episodes[0].text or "")
            for write in (lambda: store.remember("no"), lambda: store.forget(1), lambda: store.update(1, text="no")):
                try:
                    write()
                except PermissionError as error:
                    send(str(error))
        try:
            Episodes.open(locked_folder / "b.db")
        except PermissionError as error:
            send(str(error))

    found = whole(*fork(work))
    assert found[0] == "the cat sat"
    assert len(found) == 5
    assert all("cannot be written" in said for said in found[1:])
    assert sorted(file.name for file in locked_folder.iterdir()) == ["a.db"]


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Episodes.open(path) as store:
        store.remember("from the future")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"written by a newer version of ammon \(tables of version 99.*Install that version to open it"):
        Episodes.open(path)
    assert path.read_bytes() == before


def test_a_store_of_an_older_version_is_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    with Episodes.open(path) as store:
        store.remember("from the past")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("ALTER TABLE episodes ADD COLUMN mood TEXT",)))
    with Episodes.open(path) as store:
        assert store.recall("past").episodes[0].text == "from the past"
        store.remember("now")
        assert store.check() == []
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert [row[0] for row in connection.execute("SELECT mood FROM episodes")] == [None, None]
    connection.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    with Episodes.open(path) as store:
        store.remember("from the past")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("ALTER TABLE episodes ADD COLUMN mood TEXT", "no SQL")))
        with pytest.raises(sqlite3.OperationalError):
            Episodes.open(path)
    with Episodes.open(path) as store:
        assert len(store) == 1
        assert store.check() == []


@pytest.mark.parametrize("kind", ["text", "database", "cut off"])
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.db"
    if kind == "text":
        path.write_text("Dear diary, this is no database at all, not even a small one.")
    elif kind == "database":
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE diary (page TEXT)")
        connection.close()
    else:
        with Episodes.open(path) as store:
            store.remember("a story " * 1000)
        path.write_bytes(path.read_bytes()[:5000])
    before = path.read_bytes()
    with (
        pytest.raises(ValueError, match=r"is no store of episodes|is a database of another program|is damaged"),
        Episodes.open(path) as store,
    ):
        store.recall("story")
    assert path.read_bytes()[: len(before)] == before


def test_what_was_kept_with_normal_durability_survives_the_process(tmp_path: Path) -> None:
    def work(send: Callable[[str], None]) -> None:
        store = Episodes.open(tmp_path / "a.db", durability="NORMAL")
        store.remember("written before the end")
        send("done")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    process, out = fork(work)
    assert lines(out) == ["done"]
    os.waitpid(process, 0)
    with Episodes.open(tmp_path / "a.db") as store:
        assert len(store) == 1
