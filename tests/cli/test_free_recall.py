"""`ammon free-recall` as a user types it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ammon.cli.main import main
from ammon.cmr.bayes import Posterior
from ammon.cmr.lists import Lists, once
from ammon.cmr.model import CMR
from ammon.cmr.presets import cymr
from ammon.cmr.psifr_tables import write_table


def ammon(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["free-recall", *map(str, arguments)])
    return int(left.value.code or 0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lists = once([6] * 24, torch.arange(24) // 12, sources=torch.arange(6).expand(24, 6) % 2)
    values = {**cymr().values, "stop_scale": 0.05, "temperature": 0.3}
    drawn = cymr().model.simulate(lists, values, generator=torch.Generator().manual_seed(0)).lists
    path = tmp_path / "data.csv"
    write_table(drawn).to_csv(path, index=False)
    return path


def test_fit_simulate_and_report_hand_on_to_each_other(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert ammon("fit", "--data", table, "--starts", 1, "--out", out) == 0
    said = capsys.readouterr().out
    assert "2 subjects" in said
    assert "log likelihood" in said
    parameters = pd.read_csv(out / "parameters.csv")
    assert parameters["subject"].tolist() == [1, 2]
    assert {"beta_enc", "beta_enc_se", "aic", "bic", "log_likelihood", "n", "k", "converged"} <= set(parameters.columns)
    assert ammon("simulate", "--data", table, "--fit", out, "--copies", 2, "--out", out) == 0
    drawn = pd.read_csv(out / "simulated.csv")
    assert drawn[drawn["trial_type"] == "study"].groupby(["subject", "list"]).ngroups == 48
    assert ammon("report", "--data", table, "--fit", out, "--copies", 2, "--source", "source", "--out", out) == 0
    assert (out / "report.png").stat().st_size > 10_000
    curves = pd.read_csv(out / "curves.csv")
    assert set(curves["curve"]) == {"spc", "pfr", "lag_crp", "clustering"}
    assert "inside the data" in capsys.readouterr().out


def test_what_is_left_out_of_a_fit_is_said(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv(table)
    recalls = frame.index[frame["trial_type"] == "recall"]
    frame.loc[recalls[0], "item"] = "something else"
    frame.to_csv(table, index=False)
    assert ammon("fit", "--data", table, "--starts", 1, "--out", tmp_path / "out") == 0
    assert f"left out: 1 of {len(recalls)} recalls" in capsys.readouterr().out


def test_compare_ranks_models_for_all_and_for_each_subject(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert ammon("compare", "--data", table, "--model", "localist", "--model", "no-start", "--starts", 1, "--out", out) == 0
    assert "mean weight" in capsys.readouterr().out
    found = pd.read_csv(out / "comparison.csv")
    assert len(found) == 4
    assert found.groupby("subject")["aic_weight"].sum().tolist() == pytest.approx([1, 1])
    assert found["k"].tolist().count(9) == found["k"].tolist().count(8) == 2


def test_a_seed_repeats_and_a_preset_with_times_has_times(table: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for out in (first, second):
        assert ammon("simulate", "--data", table, "--preset", "polyn2009", "--source", "source", "--subjects", 1, "--out", out) == 0
    assert (first / "simulated.csv").read_text() == (second / "simulated.csv").read_text()
    assert "time" in pd.read_csv(first / "simulated.csv").columns


def test_a_sampled_fit_shows_the_population_and_can_be_simulated(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nutpie")
    asked = {}

    # sampling nine parameters takes minutes; the draws are tested in tests/laws/test_cmr_bayes.py
    def few(self: CMR, lists: Lists, *, fixed: Any, bounds: Any, **rest: Any) -> Posterior:
        asked.update(rest)
        noise = torch.randn(2, 50, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        held = {**cymr().values, **fixed}
        held.pop("beta_enc")
        return Posterior(self, ("beta_enc",), held, {"beta_enc": (0, 1)}, lists.subjects, noise[:, :, 0], noise[:, :, 1].exp(), noise, 3)

    monkeypatch.setattr(CMR, "fit_bayes", few)
    out = tmp_path / "out"
    assert ammon("fit", "--data", table, "--bayes", "--draws", 50, "--out", out) == 0
    assert (asked["draws"], asked["tune"]) == (50, 50)
    said = capsys.readouterr().out
    assert "2 subjects, 2 chains of 50 draws, 3 divergences" in said
    assert "below 1.01 and above 400 are needed" in said
    rows = pd.read_csv(out / "posterior.csv")
    assert rows["level"].tolist() == ["population", "spread", "subject", "subject"]
    own = pd.read_csv(out / "parameters.csv")
    assert own["beta_enc"].tolist() == pytest.approx(rows["mean"].tolist()[2:])
    assert ammon("simulate", "--data", table, "--fit", out, "--out", out) == 0


def test_sampling_without_its_extra_is_one_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nutpie", None)
    monkeypatch.setitem(sys.modules, "nutpie.compiled_pyfunc", None)
    assert ammon("fit", "--data", table, "--bayes", "--out", tmp_path / "out") == 2
    assert "pip install 'ammon[bayes]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--data", "none.csv"], "--data: a CSV table that can be read is needed, got 'none.csv'"),
        (["fit", "--data", "sample:x"], "no sample table is called 'x'; there are Morton2013, peers_notask"),
        (["fit", "--model", "x", "--data", "TABLE"], "no model is called 'x'; there are localist"),
        (["fit", "--model", "item-cue", "--data", "TABLE"], "a similarity between items is needed; give --similarity"),
        (["fit", "--model", "source", "--data", "TABLE"], "the source of each item is needed; give --source COLUMN"),
        (["fit", "--data", "TABLE", "--subjects", "7"], "there is no subject '7'"),
        (["fit", "--data", "TABLE", "--where", "list"], "--where: COLUMN=VALUE with a column"),
        (["fit", "--data", "TABLE", "--similarity", "none.npz"], "--similarity: an .npz file that can be read is needed"),
        (["fit", "--data", "TABLE", "--starts", "0"], "--starts"),
        (["simulate", "--data", "TABLE", "--preset", "x"], "no preset is called 'x'; there are cymr"),
        (["simulate", "--data", "TABLE", "--preset", "polyn2009"], "give --source COLUMN"),
        (["simulate", "--data", "TABLE", "--preset", "cymr", "--fit", "x"], "only one of them"),
        (["report", "--data", "TABLE", "--fit", "nowhere"], "--fit: a folder in which `ammon free-recall fit` left"),
        (["report", "--data", "TABLE", "--fit", "PARTIAL"], "has no column beta_enc, which fit.json names; fit again"),
        (["fit", "--data", "TABLE", "--model", "item-cue", "--similarity", "OBLONG"], "must be [item, item], got rows of shape [6, 2]"),
        (["fit", "--data", "BROKEN"], "subject 1, list 1, item 'item 2': studied position 1 is there twice"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.read_csv(table)
    frame.loc[(frame["list"] == 1) & (frame["trial_type"] == "study") & (frame["position"] == 2), "position"] = 1
    frame.to_csv("broken.csv", index=False)
    Path("partial").mkdir()
    Path("partial/fit.json").write_text('{"model": "localist", "free": ["beta_enc"], "fixed": {}}')
    Path("partial/parameters.csv").write_text("subject\n1\n")
    np.savez("oblong.npz", names=[f"item {number}" for number in range(1, 7)], similarity=np.ones((6, 2)))
    names = {"TABLE": str(table), "BROKEN": "broken.csv", "PARTIAL": "partial", "OBLONG": "oblong.npz"}
    assert ammon(*(names.get(word, word) for word in arguments)) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
