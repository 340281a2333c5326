"""What every experiment must do, and what a run promises: the same rows whatever measures them, and nothing lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

import ammon as am
from ammon.catalog import CATALOG
from ammon.experiments.base import Value
from ammon.experiments.grid import name_of, points, seed_of
from ammon.experiments.laboratory import EXPERIMENTS
from ammon.experiments.store import PARTS

CAPACITY = EXPERIMENTS["capacity"]
SMALL: dict[str, tuple[Value, ...]] = {"dim": (20, 30), "flips": (0.0, 0.1), "cues": (4,)}


@pytest.fixture(scope="module")
def small() -> pa.Table:
    return CAPACITY.run(SMALL, trials=3, seed=5, workers=1)


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / PARTS).iterdir()}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_asks_and_of_what(name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert experiment.name == name
    assert experiment.question.endswith("?")
    assert "\n" not in experiment.question + experiment.protocol
    assert len(experiment.protocol) > 100
    assert experiment.axes
    assert experiment.columns
    assert all(axis.meaning for axis in experiment.axes.values())
    assert all(column.meaning for column in experiment.columns.values())
    assert set(experiment.memories) <= set(CATALOG)
    assert all(experiment.fits(CATALOG[memory]) for memory in experiment.memories)
    # few_shot takes scikit-learn's digits where no file is named
    if "data" in set(experiment.axes) - set(experiment.grid) and name != "few_shot":
        with pytest.raises(ValueError, match="data=FILE"):
            points(experiment, None, None, None)
        return
    asked = points(experiment, None, None, None)
    assert len({name_of(name, point, 0) for point in asked}) == len(asked)
    # what an axis gives by default it also takes
    assert points(experiment, experiment.grid, None, None) == asked


def test_a_point_is_named_by_all_that_it_is() -> None:
    point = {"memory": "hopfield", "dim": 10, "flips": 0.1, "trials": 3}
    names = [name_of("capacity", point, 0), name_of("capacity", point, 1), name_of("basins", point, 0)]
    names += [name_of("capacity", {**point, key: value}, 0) for key, value in (("dim", 11), ("flips", 0.2), ("trials", 4))]
    assert len(set(names)) == len(names)
    assert name_of("capacity", dict(reversed(point.items())), 0) == names[0]
    assert len({seed_of(name) for name in names}) == len(names)
    assert all(0 <= seed_of(name) < 2**63 for name in names)


def test_ranges_and_lists_are_spread_in_the_order_of_the_grid() -> None:
    asked = points(CAPACITY, {"dim": ["10:30:3", 100], "flips": ["0:0.3:4"], "load": ["0.01:1:3:log"]}, ["dense", "hopfield"], 2)
    assert len(asked) == 2 * 4 * 4 * 3
    assert list(dict.fromkeys(point["dim"] for point in asked)) == [10, 20, 30, 100]
    assert list(dict.fromkeys(point["flips"] for point in asked)) == [0.0, 0.1, 0.2, 0.3]
    assert list(dict.fromkeys(point["load"] for point in asked)) == [0.01, 0.1, 1.0]
    assert [point["memory"] for point in asked] == ["dense"] * 48 + ["hopfield"] * 48
    assert points(CAPACITY, {"n": ["3,4"[0], 4]}, ["dense"], None)[0]["n"] == 3


def test_two_workers_give_the_rows_of_one_in_the_same_order(small: pa.Table) -> None:
    assert CAPACITY.run(SMALL, trials=3, seed=5, workers=2).equals(small)


def test_other_points_in_the_grid_do_not_change_a_row(small: pa.Table) -> None:
    alone = CAPACITY.run({**SMALL, "dim": (30,), "flips": (0.1,)}, trials=3, seed=5, workers=1)
    mask = [dim == 30 and flips == 0.1 for dim, flips in zip(small.column("dim").to_pylist(), small.column("flips").to_pylist())]
    assert small.filter(pa.array(mask)).equals(alone)
    assert not CAPACITY.run({**SMALL, "dim": (30,), "flips": (0.1,)}, trials=3, seed=6, workers=1).equals(alone)


def test_from_python_as_the_readme_says(small: pa.Table) -> None:
    assert am.experiments.capacity.run is not None
    frame = small.to_pandas()
    assert list(frame.columns[:3]) == ["memory", "dim", "flips"]
    assert frame["critical"].notna().all()


def test_a_folder_that_is_complete_is_read_and_not_measured_again(small: pa.Table, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert CAPACITY.run(SMALL, trials=3, seed=5, workers=1, out=tmp_path / "run", watch=lambda *state: seen.append(state)).equals(small)
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    seen.clear()
    assert CAPACITY.run(
        SMALL, trials=3, seed=5, engine="dask:nobody-is-asked", out=tmp_path / "run", watch=lambda *s: seen.append(s)
    ).equals(small)
    assert seen == [(4, 4)]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_a_run_killed_at_once_goes_on_where_it_stopped(tmp_path: Path) -> None:
    grid = {"dim": tuple(range(120, 144, 4)), "flips": (0.1,), "cues": (10,), "level": (0.5,)}
    words = [word for key, values in grid.items() for word in ("--grid", f"{key}={','.join(map(str, values))}")]
    command = [sys.executable, "-m", "ammon", "run", "capacity", *words, "--trials", "10", "--workers", "1", "--out", "killed"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "killed" / PARTS
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (folder.is_dir() and len(list(folder.glob("*.parquet"))) >= 2):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = parts(tmp_path / "killed")
    kept = {name: rows for name, rows in kept.items() if name.endswith(".parquet")}
    assert 2 <= len(kept) < 6
    stamps = {name: (folder / name).stat().st_mtime_ns for name in kept}
    resumed = CAPACITY.run(grid, trials=10, out=tmp_path / "killed", workers=1)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == stamps
    whole = CAPACITY.run(grid, trials=10, out=tmp_path / "whole", workers=1)
    assert resumed.equals(whole)
    now = {name: rows for name, rows in parts(tmp_path / "killed").items() if name.endswith(".parquet")}
    assert now == parts(tmp_path / "whole")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A Dask scheduler and two workers, processes of this machine."""
    place = tmp_path / "scheduler.json"
    ways = [
        ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)],
        *[
            ["distributed.cli.dask_worker", "--scheduler-file", str(place), "--no-dashboard", "--no-nanny", "--nthreads", "1"]
            for _ in range(2)
        ],
    ]
    running = []
    try:
        for way in ways:
            running.append(
                subprocess.Popen([sys.executable, "-m", *way], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            deadline = time.monotonic() + 60
            while not place.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        yield _address(place)
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(timeout=30)


def _address(place: Path) -> str:
    import json

    return str(json.loads(place.read_text())["address"])


def test_a_dask_cluster_of_two_processes_gives_the_same_rows(cluster: str, small: pa.Table, tmp_path: Path) -> None:
    from distributed import Client

    with Client(cluster, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        assert CAPACITY.run(SMALL, trials=3, seed=5, engine=f"dask:{cluster}", out=tmp_path / "cluster").equals(small)
        # the work was done there, and by both
        both = client.run(lambda: (os.getpid(), "ammon.experiments.capacity" in sys.modules))
    assert len({pid for pid, _ in both.values()} - {os.getpid()}) == 2
    assert all(worked for _, worked in both.values())
    CAPACITY.run(SMALL, trials=3, seed=5, workers=1, out=tmp_path / "local")
    assert parts(tmp_path / "cluster") == parts(tmp_path / "local")


def test_networks_recalled_in_smaller_groups_give_the_same_rows(small: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    import ammon.experiments.trials

    monkeypatch.setattr(ammon.experiments.trials, "ROOM", 1)
    assert CAPACITY.run(SMALL, trials=3, seed=5, workers=1).equals(small)


def test_recall_falls_with_load_and_the_intervals_hold_it(small: pa.Table) -> None:
    for row in small.to_pylist():
        assert 0 <= row["rate_low"] <= row["rate"] <= row["rate_high"] <= 1
        assert row["asked"] == 3 * min(4, row["patterns"])
    by_point: dict[tuple[int, float], list[int]] = {}
    for row in small.to_pylist():
        by_point.setdefault((row["dim"], row["flips"]), []).append(row["patterns"])
    assert all(first < second for counts in by_point.values() for first, second in pairwise(counts))


BROKEN = [
    ("{", "is broken"),
    ("{}", "is broken"),
    ('{"format": "ammon experiment, version 1", "experiment": "capacity"}', "is broken"),
    ('{"format": "something else"}', "is broken"),
    ("\0\xff", "is broken"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_broken_manifest_is_refused_and_nothing_is_touched(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        CAPACITY.run(SMALL, trials=3, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_text() == text


def test_a_folder_of_something_else_or_of_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match=r"holds no manifest\.json"):
        CAPACITY.run(SMALL, trials=3, out=tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        CAPACITY.run(SMALL, trials=3, out=tmp_path / "mine.txt")
    small = {**SMALL, "dim": (20,), "flips": (0.0,)}
    CAPACITY.run(small, trials=2, out=tmp_path / "run", workers=1)
    before = parts(tmp_path / "run")
    for other, said in (
        ({"grid": SMALL, "trials": 2}, "another grid"),
        ({"grid": small, "trials": 3}, "another trials, 2, not 3"),
        ({"grid": small, "trials": 2, "seed": 1}, "another seed, 0, not 1"),
    ):
        with pytest.raises(ValueError, match=said):
            CAPACITY.run(out=tmp_path / "run", **other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another experiment"):
        EXPERIMENTS["basins"].run({"dim": (20,), "load": (0.1,)}, trials=2, out=tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    said = manifest.read_text()
    manifest.write_text(said.replace(f'"ammon": "{am.__version__}"', '"ammon": "0.0.1"'))
    with pytest.raises(ValueError, match=r"made with ammon 0\.0\.1"):
        CAPACITY.run(small, trials=2, out=tmp_path / "run")
    manifest.write_text(said)
    assert parts(tmp_path / "run") == before


def test_a_broken_part_is_named_and_measured_again_once_it_is_deleted(tmp_path: Path) -> None:
    small = {**SMALL, "dim": (20,), "flips": (0.0,)}
    first = CAPACITY.run(small, trials=2, out=tmp_path, workers=1)
    (part,) = (tmp_path / PARTS).iterdir()
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=part.name):
        CAPACITY.run(small, trials=2, out=tmp_path, workers=1)
    assert part.read_bytes() == whole[: len(whole) // 2]
    part.unlink()
    assert CAPACITY.run(small, trials=2, out=tmp_path, workers=1).equals(first)
    assert part.read_bytes() == whole


@pytest.mark.parametrize("memory", CATALOG)
def test_every_memory_of_the_catalogue_is_measured_by_capacity_and_basins(memory: str) -> None:
    """Two patterns in many units, without corruption: most memories must recall them, and all must be measured."""
    grid = {"dim": (64,), "load": (2 / 64,), "flips": (0.0,), "cues": (2,)}
    (row,) = CAPACITY.run(grid, memories=[memory], trials=2, workers=1).to_pylist()
    assert row["patterns"] == 2
    assert row["synapses"] > 0
    assert row["critical"] is None
    # random features need more of them than fit a test, and unbinding alone is only a hint
    if memory not in ("random_features", "holographic", "sparse_distributed"):
        assert row["rate"] == 1
    few = {"dim": (64,), "load": (2 / 64,), "cues": (2,), "levels": (3,), "repeats": (1,), "shown": (2,)}
    rows = EXPERIMENTS["basins"].run(few, memories=[memory], trials=2, workers=1).to_pylist()
    levels = [row for row in rows if row["kind"] == "level"]
    assert [(row["flips"], row["step"]) for row in levels] == [(flips, step) for flips in (0.0, 0.25, 0.5) for step in (0, 1, 2)]
    assert all(0 <= row["rate_low"] <= row["rate"] <= row["rate_high"] <= 1 for row in levels)
    patterns = [row for row in rows if row["kind"] == "pattern"]
    assert len(patterns) == (2 if CATALOG[memory].task == "sequence" else 4)
    assert all(0 <= row["radius"] <= 0.5 for row in patterns)
