"""The commands of the laboratory as a user types them."""

import base64
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ammon.experiments.laboratory import EXPERIMENTS

Typed = Callable[..., tuple[int, str, str]]
QUICK = ("--grid", "dim=20,40", "--grid", "flips=0.1", "--grid", "cues=3", "--trials", "2", "--workers", "1")


def test_experiments_lists_every_experiment_and_its_question(typed: Typed) -> None:
    code, out, err = typed("experiments")
    assert (code, err) == (0, "")
    lines = out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
    assert all(experiment.question in out for experiment in EXPERIMENTS.values())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_with_a_name_says_protocol_keys_and_columns(typed: Typed, name: str) -> None:
    code, out, err = typed("experiments", name)
    assert (code, err) == (0, "")
    words = set(out.split())
    assert set(EXPERIMENTS[name].axes) <= words
    assert set(EXPERIMENTS[name].columns) <= words
    assert " ".join(EXPERIMENTS[name].protocol.split())[:60] in " ".join(out.split())


def test_run_leaves_rows_and_a_figure_plot_draws_it_again_and_report_holds_all(typed: Typed, tmp_path: Path) -> None:
    code, out, err = typed("run", "capacity", *QUICK, "--out", "mine")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert out.split()[-2:] == [str(Path("mine") / "parts"), str(Path("mine") / "capacity.png")]
    rows = pq.read_table(tmp_path / "mine" / "parts")
    assert set(rows.column("dim").to_pylist()) == {20, 40}

    picture = tmp_path / "mine" / "capacity.png"
    with Image.open(picture) as image:
        first = np.asarray(image)
    assert first.std() > 10
    picture.unlink()
    assert typed("plot", "mine") == (0, f"{Path('mine') / 'capacity.png'}\n", "")
    with Image.open(picture) as image:
        assert np.array_equal(np.asarray(image), first)

    assert typed("report", "mine") == (0, f"{Path('mine') / 'report.html'}\n", "")
    page = (tmp_path / "mine" / "report.html").read_text(encoding="utf-8")
    assert EXPERIMENTS["capacity"].question in page
    assert "design effect" in page
    assert "torch" in page
    assert "Seed 0" in page
    assert "ammon run capacity --memory hopfield --grid dim=20,40 --grid flips=0.1" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    shown = re.search(r'src="data:image/png;base64,([^"]+)"', page)
    assert shown
    assert base64.b64decode(shown[1])[:4] == b"\x89PNG"
    assert page.count("<tr>") > len(rows)


def test_a_run_without_a_folder_is_named_after_its_experiment(typed: Typed, tmp_path: Path) -> None:
    assert typed("run", "capacity", *QUICK)[0] == 0
    assert (tmp_path / "capacity" / "manifest.json").is_file()
    # the same again measures nothing, and says the same
    stamp = (tmp_path / "capacity" / "manifest.json").stat().st_mtime_ns
    assert typed("run", "capacity", *QUICK)[0] == 0
    assert (tmp_path / "capacity" / "manifest.json").stat().st_mtime_ns == stamp


def test_plot_of_a_run_that_is_not_complete_draws_what_there_is_and_says_so(typed: Typed, tmp_path: Path) -> None:
    typed("run", "capacity", *QUICK, "--out", "half")
    part, *_ = sorted((tmp_path / "half" / "parts").iterdir())
    part.unlink()
    code, out, err = typed("plot", "half")
    assert code == 0
    assert "1 points are not measured yet" in err
    assert out.strip().endswith("capacity.png")


WRONG = {
    "unknown experiment": (("run", "capacty"), "did you mean capacity?"),
    "unknown experiment to describe": (("experiments", "basin"), "did you mean basins?"),
    "unknown memory": (("run", "capacity", "--memory", "hopfeld"), "did you mean hopfield?"),
    "unknown key": (("run", "capacity", "--grid", "dims=3"), "did you mean dim?"),
    "key of another memory": (("run", "capacity", "--memory", "dense", "--memory", "hopfield", "--grid", "n=3"), "hopfield takes no n"),
    "no values": (("run", "capacity", "--grid", "dim="), "key=a,b,c or key=lo:hi:n[:log] is needed"),
    "an empty value": (("run", "capacity", "--grid", "dim=1,,2"), "key=a,b,c or key=lo:hi:n[:log] is needed"),
    "a key twice": (("run", "capacity", "--grid", "dim=10", "--grid", "dim=20"), "dim is given twice"),
    "no number": (("run", "capacity", "--grid", "dim=many"), "a number is needed"),
    "not finite": (("run", "capacity", "--grid", "flips=nan"), "a finite number is needed"),
    "no whole number": (("run", "capacity", "--grid", "dim=10.5"), "a whole number is needed"),
    "a range without a count": (("run", "capacity", "--grid", "dim=10:20"), "lo:hi:n"),
    "a range of an unknown kind": (("run", "capacity", "--grid", "dim=10:20:3:lin"), "lo:hi:n:log"),
    "a range in equal ratios from 0": (("run", "capacity", "--grid", "load=0:1:3:log"), "must be positive"),
    "too large": (("run", "capacity", "--grid", "flips=1.5"), "from 0 to 1 is needed"),
    "unknown criterion": (("run", "capacity", "--grid", "criterion=exct"), "did you mean exact?"),
    "no trials": (("run", "capacity", "--trials", "0"), "trials must be a whole number of at least 1"),
    "an argument that the memory refuses": (("run", "capacity", "--memory", "dense", "--grid", "n=1"), "n must be a whole number >= 2"),
    "unknown engine": (("run", "capacity", "--engine", "slurm"), "local, dask:ADDRESS"),
    "a cluster without an address": (("run", "capacity", "--engine", "dask:"), "local, dask:ADDRESS"),
    "workers of another engine": (("run", "capacity", "--engine", "ray", "--workers", "2"), "of the engine local"),
    "no data": (("run", "capacity", "--grid", "data=nowhere"), "nothing at 'nowhere'"),
    "data of another size": (("run", "capacity", "--grid", "data=digits"), "run with dim=64"),
    "more than the data hold": (
        ("run", "capacity", "--grid", "data=digits", "--grid", "dim=64", "--grid", "load=100"),
        "more patterns than",
    ),
    "an experiment without memories": (("run", "local_rules", "--memory", "hopfield"), "takes no memory"),
    "no folder to plot": (("plot", "nowhere"), "does not exist"),
    "no folder to report": (("report", "nowhere"), "does not exist"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_ends_in_one_line_and_leaves_nothing(typed: Typed, name: str, tmp_path: Path) -> None:
    arguments, said = WRONG[name]
    code, out, err = typed(*arguments, *(("--out", "here") if arguments[0] == "run" else ()))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_that_does_not_fit_the_memory_names_those_that_do(typed: Typed) -> None:
    particular = next((e for e in EXPERIMENTS.values() if e.memories and "willshaw" not in e.fitting()), None)
    if particular is None:
        pytest.skip("every experiment takes every memory")
    code, _, err = typed("run", particular.name, "--memory", "willshaw")
    assert code == 2
    assert "willshaw does not fit" in err
    assert particular.fitting()[0] in err


def test_a_cluster_that_does_not_answer_is_one_line_and_nothing_is_lost(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ammon.experiments.engines.PATIENCE", 1)
    code, _, err = typed("run", "capacity", "--engine", "dask:tcp://127.0.0.1:9", "--out", "here")
    assert code == 2
    assert "no Dask scheduler answers" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_folder_is_left_as_it_is(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("keep")
    for command in (("run", "capacity", *QUICK, "--out", "thesis"), ("plot", "thesis"), ("report", "thesis")):
        code, _, err = typed(*command)
        assert code == 2
        assert "holds no manifest.json" in err
    assert [path.name for path in (tmp_path / "thesis").rglob("*")] == ["chapter.txt"]
