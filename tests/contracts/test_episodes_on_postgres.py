"""What a store on a database server must do beside the contract of all engines: its URL, its rights, its index, several at once, crashes.

The server is real (`conftest.py`).
"""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ammon.episodes.blend import Blend
from ammon.episodes.embed import Hashing
from ammon.episodes.store import Episodes
from ammon.parts.similarity import Dot, Euclidean, Hamming, Manhattan

psycopg = pytest.importorskip("psycopg", reason="no psycopg; pip install 'ammon[postgres]' tests the engine of database servers too")

Fresh = Callable[[], str]


def directions(count: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def schema_of(place: str) -> str:
    return place.rpartition("store=")[2]


@pytest.fixture
def place(postgres_place: Fresh) -> str:
    return postgres_place()


# -- the URL


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:pa@ssw0rd@host/db", "write @ as %40"),
        ("postgresql://me:pa/ssw0rd@host/db", "write @ as %40"),
        ("postgresql://me:pa#ssw0rd@host/db", "write @ as %40"),
        ("postgresql://me:pa?ssw0rd@host/db", "write @ as %40"),
        ("postgresql://me:pa:ssw0rd@host/db", "write @ as %40"),
        ("postgresql://me:pa%ssw0rd@host/db", "write @ as %40"),
        ("postgresql://me:ssw0rd@host:port/db", "a port from 1 to 65535"),
        ("postgresql://me:ssw0rd@host:99999/db", "a port from 1 to 65535"),
        ("postgresql://me:ssw0rd@host/db?store=Robert'); DROP", "store= must be a name"),
        ("postgresql://me:ssw0rd@host/db?store=pg_catalog", "store= must be a name"),
        ("postgresql://me:ssw0rd@host/db?colour=red", 'invalid URI query parameter: "colour"'),
        ("mysql://me:ssw0rd@host/db", "no engine serves mysql://"),
    ],
)
def test_a_malformed_url_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Episodes.open(url)
    assert message in str(caught.value)
    assert "ssw0rd" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_cannot_be_reached_is_named_in_one_line() -> None:
    with pytest.raises(ConnectionError) as caught:
        Episodes.open("postgresql://me:secret@127.0.0.1:1/db?store=diary")
    said = str(caught.value)
    assert said.startswith("Episodes.open: postgresql://me@127.0.0.1:1/db?store=diary cannot be reached (")
    assert "secret" not in said
    assert "\n" not in said


def test_a_wrong_password_and_a_missing_database_are_told_apart(postgres: str, place: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as admin:
        [rules] = admin.execute("SHOW hba_file").fetchone()
        admin.execute("DROP ROLE IF EXISTS guarded")
        admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        old = Path(rules).read_text()
        Path(rules).write_text("local all guarded scram-sha-256\n" + old)
        admin.execute("SELECT pg_reload_conf()")
    with pytest.raises(PermissionError, match="refused the user or the password") as caught:
        Episodes.open(place.replace("postgres:@", "guarded:wr0ng@"))
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="has no such database"):
        Episodes.open(place.replace("/postgres?", "/nowhere?"))


# -- whose tables, and of which version


def test_tables_of_another_program_are_left_alone(postgres: str, place: str) -> None:
    schema = schema_of(place)
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {schema}")
        admin.execute(f"CREATE TABLE {schema}.episodes (title text)")
        with pytest.raises(ValueError, match=rf"schema {schema} of .* holds tables of another program; name another one"):
            Episodes.open(place)
        admin.execute(f"CREATE TABLE {schema}.about (version int)")
        with pytest.raises(ValueError, match="another program"):
            Episodes.open(place)
        assert admin.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", (schema,)).fetchone() == (2,)


def test_an_empty_schema_made_by_an_administrator_is_used(postgres: str, place: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {schema_of(place)}")
    with Episodes.open(place) as store:
        assert store.remember("hello") == [1]


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(postgres: str, place: str) -> None:
    Episodes.open(place).close()
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"UPDATE {schema_of(place)}.about SET version = 99")
        with pytest.raises(ValueError, match=r"newer version of ammon \(tables of version 99.*Install that version"):
            Episodes.open(place)
        assert admin.execute(f"SELECT version FROM {schema_of(place)}.about").fetchone() == (99,)


def test_an_older_store_is_brought_up_once_and_wholly(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ammon.episodes import tables

    with Episodes.open(place) as store:
        store.remember("kept")
    good = (*tables.MIGRATIONS, ("ALTER TABLE episodes ADD COLUMN mood text", "UPDATE episodes SET mood = 'fine'"))
    monkeypatch.setattr(tables, "MIGRATIONS", (*good[:-1], (*good[-1], "SELECT 1 / 0")))
    with pytest.raises(psycopg.errors.DivisionByZero):
        Episodes.open(place)
    monkeypatch.setattr(tables, "MIGRATIONS", good)
    opened: list[Episodes] = []
    several = [threading.Thread(target=lambda: opened.append(Episodes.open(place))) for _ in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert len(opened) == 4
    for store in opened:
        assert [e.text for e in store.iterate()] == ["kept"]
        store.close()


# -- rights


def test_a_user_who_may_only_read_can_recall_and_is_told_why_not_to_write(postgres: str, place: str) -> None:
    with Episodes.open(place) as store:
        store.remember("the kettle is on")
    schema = schema_of(place)
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"DROP ROLE IF EXISTS reader_{schema}")
        admin.execute(f"CREATE ROLE reader_{schema} LOGIN")
        admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader_{schema}")
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader_{schema}")
    mine = place.replace("postgres:@", f"reader_{schema}:@")
    with Episodes.open(mine) as store:
        assert store.recall("kettle").items[0].matched == ("kettle",)
        for write in (lambda: store.remember("more"), lambda: store.forget(1), lambda: store.reinforce(1)):
            with pytest.raises(PermissionError, match="cannot be written by this user"):
                write()
        assert len(store) == 1
    with pytest.raises(PermissionError, match="cannot be written by this user"):
        Episodes.open(f"{mine}_new")


def test_a_user_with_the_rights_that_the_page_names_can_write(postgres: str, place: str) -> None:
    Episodes.open(place).close()
    schema = schema_of(place)
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"DROP ROLE IF EXISTS writer_{schema}")
        admin.execute(f"CREATE ROLE writer_{schema} LOGIN")
        admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO writer_{schema}")
        admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO writer_{schema}")
        admin.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO writer_{schema}")
    with Episodes.open(place.replace("postgres:@", f"writer_{schema}:@")) as store:
        ids = store.remember(["the kettle is on", "tea"], speaker="Ann", metadata={"a": 1})
        store.update(ids[0], text="the kettle is off")
        store.reinforce(ids)
        store.forget(ids[1])
        assert [e.text for e in store.iterate()] == ["the kettle is off"]
        assert store.check() == []


# -- the same answers


def test_both_engines_recall_the_same(place: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    words = ["red", "blue", "cat", "dog", "sea", "sun", "old", "new", "Ann", "café", "tall", "May"]
    chosen = torch.randint(0, len(words), (400, 6), generator=generator).tolist()
    texts = [" ".join(words[w] for w in row) for row in chosen]
    days = torch.randint(1, 29, (400,), generator=generator).tolist()
    with Episodes.open(place) as one, Episodes.open(tmp_path / "same.db") as other:
        for store in (one, other):
            ids = store.remember(
                texts,
                session=[f"s{n % 7}" for n in range(400)],
                speaker=[("Ann", "Bob", None)[n % 3] for n in range(400)],
                time=[f"2023-05-{day:02d}T12:00:00+09:00" for day in days],
                metadata=[{"third": n % 3 == 0, "name": "n" * (n % 300)} for n in range(400)],
            )
            store.forget(ids[5:40:3])
            store.update(ids[50], text="something else about a cat", session="s1")
            store.reinforce(ids[60:70], time="2024-01-01")
            store.consolidate(merge=0.999)
        assert [(e.text, e.time, e.strength, e.uses, e.used) for e in one.iterate()] == [
            (e.text, e.time, e.strength, e.uses, e.used) for e in other.iterate()
        ]
        place_of = dict(zip((e.id for e in other.iterate()), (e.id for e in one.iterate())))
        chooses: list[dict[str, Any]] = [
            {},
            {"session": "s3"},
            {"speaker": "Ann", "where": {"third": True}},
            {"since": "2023-05-10", "until": "2023-05-20"},
            {"where": {"name": ["n" * 7, "n" * 8]}},
        ]
        for cue in ("red cat", "what did Ann see on May 8th?", "old café in the sun", "nothing of the kind"):
            for choose in chooses:
                for blend in (Blend(), Blend(speaker=1.0, postings=200)):
                    mine, right = one.recall(cue, k=12, blend=blend, **choose), other.recall(cue, k=12, blend=blend, **choose)
                    assert [e.id for e in mine.episodes] == [place_of[e.id] for e in right.episodes], (cue, choose)
                    assert torch.allclose(mine.scores, right.scores, atol=1e-4)
                    assert mine.searched == right.searched
                    assert [i.matched for i in mine] == [i.matched for i in right]
                    assert [len(i.reinstated_by) for i in mine] == [len(i.reinstated_by) for i in right]
        assert one.check() == other.check() == []


@pytest.mark.parametrize("similarity", [Dot(), Euclidean(), Manhattan()])
def test_other_similarities_are_compared_at_the_server_too(place: str, tmp_path: Path, similarity: Any) -> None:
    keys, cue = 3 * directions(40), directions(1, seed=9)[0]
    with Episodes.open(place, similarity=similarity) as one, Episodes.open(tmp_path / "same.db", similarity=similarity) as other:
        found = []
        for store in (one, other):
            store.remember(keys=keys)
            found.append(store.recall(cue, k=40, blend=Blend(context=None)))
        assert [e.id for e in found[0].episodes] == [e.id for e in found[1].episodes]
        right = [item.similarity for item in found[1]]
        # sums of 24 float32 terms
        assert [item.similarity for item in found[0]] == pytest.approx(right, rel=1e-5, abs=1e-4)


def test_a_key_of_zeros_is_similar_to_nothing(place: str) -> None:
    with Episodes.open(place) as store:
        store.remember(keys=torch.cat([torch.zeros(1, 8), torch.eye(8)]))
        found = store.recall(torch.eye(8)[2], k=9, blend=Blend(context=None))
        assert [item.similarity for item in found] == [1.0] + [0.0] * 8
        assert all(item.similarity == 0 for item in store.recall(torch.zeros(8)))


def test_long_names_and_large_keys_are_kept(place: str) -> None:
    name = "".join(chr(0x4E00 + n % 5000) for n in range(20_000))
    with Episodes.open(place) as store:
        [one] = store.remember(
            keys=directions(1, 16_000), session="語" * 500, speaker="人" * 500, metadata={name: "x" * 150}, bookmark=(name, 7)
        )
        assert [e.id for e in store.iterate(where={name: "x" * 150})] == [one]
        assert [e.id for e in store.iterate(session="語" * 500, speaker="人" * 500)] == [one]
        assert store.bookmarked(name) == 7
        assert torch.equal(store.keys([one]), directions(1, 16_000))
    with Episodes.open(f"{place}_more") as store, pytest.raises(ValueError, match="keys of up to 16,000 entries, got 16,001"):
        store.remember(keys=directions(1, 16_001))


# -- the index


def test_candidates_of_the_index_are_ranked_exactly_and_miss_little(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ammon.episodes.nearness.SCANNED", 400)
    monkeypatch.setattr("ammon.episodes.nearness.SAMPLE", 1024)
    # keys in clusters, as those of texts are
    keys = directions(60, 32, seed=3).repeat_interleave(50, 0) + 0.7 * directions(3000, 32, seed=4)
    cues = directions(60, 32, seed=3)[:12] + 0.7 * directions(12, 32, seed=5)
    blend = Blend(words=0.0, context=None)
    with Episodes.open(place, approximate=True) as near, Episodes.open(place) as exact:
        extra = [{"fifth": n % 5 == 0, "most": n % 8 != 0} for n in range(3000)]
        near.remember(keys=keys, session=[f"s{n % 40}" for n in range(3000)], metadata=extra)
        for choose in ({}, {"where": {"most": True}}, {"where": {"fifth": True}}, {"session": "s3"}):
            shared = 0
            for cue in cues:
                mine, right = near.recall(cue, k=10, blend=blend, **choose), exact.recall(cue, k=10, blend=blend, **choose)
                assert mine.searched == right.searched
                similar = {item.episode.id: item.similarity for item in right}
                both = [item for item in mine if item.episode.id in similar]
                assert all(item.similarity == similar[item.episode.id] for item in both)
                shared += len(both)
                # where the index serves, the moments are those of about 900: off by 1/30 of a deviation, at scores up to 3
                assert torch.allclose(mine.scores[:3], right.scores[:3], atol=0.3)
            assert shared >= 0.97 * 10 * len(cues), choose
        with psycopg.connect(place.partition("&store")[0]) as admin:
            made = admin.execute("SELECT schemaname FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'").fetchall()
        assert (schema_of(place),) in made
        # what is written later is found too
        [new] = near.remember(keys=cues[:1] * 5)
        assert near.recall(cues[0], k=1, blend=blend).episodes[0].id == new


def test_what_an_index_or_a_server_cannot_do_is_said(place: str) -> None:
    with pytest.raises(ValueError, match="compares keys by Cosine, Dot, Euclidean, Manhattan, not by Hamming"):
        Episodes.open(place, similarity=Hamming())
    with Episodes.open(place) as store:
        store.remember(keys=directions(1, 4001))
    with pytest.raises(ValueError, match=r"up to 4000 entries, the store has 4001; open it with approximate=False"):
        Episodes.open(place, approximate=True)


# -- several at once, and crashes


def test_many_writers_and_readers_at_once_lose_nothing_and_see_whole_batches(place: str) -> None:
    batches, size = 12, 3
    Episodes.open(place, embedder=Hashing(32)).close()
    wrong: list[Any] = []
    ready = threading.Event()

    def write(name: str) -> None:
        try:
            with Episodes.open(place, embedder=Hashing(32)) as store:
                for n in range(batches):
                    ids = store.remember([f"{name} says {n} {part}" for part in range(size)], session=name, speaker=name)
                    if n % 3 == 0:
                        # reads of one and writes of another meet at the same rows
                        store.reinforce(ids[::-1])
        except Exception as error:
            wrong.append(error)

    def read() -> None:
        try:
            with Episodes.open(place, embedder=Hashing(32)) as store:
                while not ready.is_set():
                    found = Counter((e.session, (e.text or "").split()[2]) for e in store.iterate(batch=10_000))
                    if any(count != size for count in found.values()):
                        wrong.append(found)
                    store.recall("says 3", k=5)
        except Exception as error:
            wrong.append(error)

    writers = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ready.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    with Episodes.open(place) as store:
        assert len(store) == 4 * batches * size
        assert {s.name: s.count for s in store.sessions()} == {f"w{n}": batches * size for n in range(4)}
        assert store.check() == []


def test_writers_of_the_same_episodes_in_any_order_do_not_wait_for_each_other_for_ever(place: str) -> None:
    with Episodes.open(place) as store:
        ids = store.remember([f"number {n}" for n in range(40)])
    wrong: list[Exception] = []

    def work(order: list[int]) -> None:
        try:
            with Episodes.open(place) as store:
                for _ in range(15):
                    store.reinforce(order)
                    store._engine.delete(order[:3])
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(order,)) for order in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with Episodes.open(place) as store:
        assert len(store) == 34
        assert store.check() == []


def test_a_lost_connection_is_said_once_and_made_again(postgres: str, place: str) -> None:
    with Episodes.open(place) as store, psycopg.connect(postgres, autocommit=True) as admin:
        store.remember("early")
        mine = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ammon' AND query LIKE 'COMMIT%'"
        admin.execute(mine)
        with pytest.raises(ConnectionError, match=r"was lost .*nothing of this call was written, try again"):
            store.remember("lost")
        store.remember("later")
        assert [e.text for e in store.iterate()] == ["early", "later"]
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ammon'")
        with pytest.raises(ConnectionError, match="was lost"):
            store.recall("later")
        assert store.recall("later", k=1).episodes[0].text == "later"


def test_a_store_whose_tables_were_dropped_is_not_begun_again(postgres: str, place: str) -> None:
    with Episodes.open(place) as store:
        store.remember("hello")
        with psycopg.connect(postgres, autocommit=True) as admin:
            admin.execute(f"DROP SCHEMA {schema_of(place)} CASCADE")
        with pytest.raises(FileNotFoundError, match=r"the tables of .* are gone"):
            store.recall("hello")


def test_a_forked_process_has_its_own_connection(place: str) -> None:
    script = (
        "import os, sys\n"
        "from ammon.episodes.store import Episodes\n"
        "store = Episodes.open(sys.argv[1])\n"
        "store.remember('of the parent')\n"
        "if os.fork() == 0:\n"
        "    store.remember('of the child')\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "store.remember('of the parent again')\n"
        "print(len(store), len(store.recall('child', k=1).items[0].matched))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, place], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "1"]


# writes batches of three, and says so in a file once a batch is acknowledged; is killed at random moments
WRITERS = """
import os, random, signal, sys, time
from ammon.episodes.embed import Hashing
from ammon.episodes.store import Episodes
place, said, runs, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
draw = random.Random(seed)
for run in range(runs):
    heard, ready = os.pipe()
    child = os.fork()
    if child == 0:
        out = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        store = Episodes.open(place, embedder=Hashing(32))
        os.write(ready, b".")
        for batch in range(100_000):
            store.remember([f"run {run} batch {batch} part {part}" for part in range(3)], session=f"{run} {batch}",
                           metadata=[{"part": part} for part in range(3)], bookmark=(f"run {run}", batch))
            os.write(out, f"{run} {batch}\\n".encode())
    os.close(ready)
    if not os.read(heard, 1):
        sys.exit("the writer failed to begin")
    time.sleep(draw.uniform(0.0, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(heard)
"""


def killed(place: str, said: Path, runs: int, seed: int) -> None:
    subprocess.run([sys.executable, "-c", WRITERS, place, str(said), str(runs), str(seed)], check=True, timeout=600)


def whole(place: str, said: Path, runs: int) -> None:
    acknowledged = [tuple(map(int, line.split())) for line in said.read_text().splitlines()]
    with Episodes.open(place, create=False) as store:
        held = {session.name: session.count for session in store.sessions()}
        assert {f"{run} {batch}" for run, batch in acknowledged} <= set(held)
        assert set(held.values()) <= {3}
        for run in range(runs):
            batches = [int(name.split()[1]) for name in held if name.split()[0] == str(run)]
            # the number that was kept with the last batch is that of the last batch
            assert store.bookmarked(f"run {run}") == max(batches, default=None)
        assert store.check() == []


def test_every_acknowledged_episode_outlives_a_killed_writer(place: str, tmp_path: Path) -> None:
    killed(place, tmp_path / "said", 20, seed=1)
    whole(place, tmp_path / "said", 20)


@pytest.mark.slow
def test_every_acknowledged_episode_outlives_200_killed_writers(place: str, tmp_path: Path) -> None:
    killed(place, tmp_path / "said", 200, seed=2)
    whole(place, tmp_path / "said", 200)
