"""`ammon plot --gif`, and wrong input for the experiments beside capacity and basins."""

from pathlib import Path

import pytest

from ammon.cli.main import main


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    said = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, said.out, said.err


def test_a_gif_is_written_beside_the_figure_and_refused_where_nothing_moves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    landscape, still = str(tmp_path / "landscape"), str(tmp_path / "still")
    small = ("--grid", "side=5", "--grid", "paths=2", "--grid", "beta=20", "--memory", "modern_hopfield", "--workers", "1")
    assert typed(capsys, "run", "energy_landscape", *small, "--out", landscape)[0] == 0
    code, out, _ = typed(capsys, "plot", landscape, "--gif")
    assert code == 0
    assert out.split() == [str(Path(landscape) / f"energy_landscape.{kind}") for kind in ("png", "gif")]
    assert (Path(landscape) / "energy_landscape.gif").read_bytes()[:6] == b"GIF89a"

    one = ("--grid", "dim=10", "--grid", "load=0.1", "--trials", "1", "--memory", "hopfield", "--workers", "1")
    assert typed(capsys, "run", "spurious", *one, "--out", still)[0] == 0
    code, _, err = typed(capsys, "plot", still, "--gif")
    assert code == 2
    assert "no moving picture" in err
    assert err.count("\n") == 1


WRONG = {
    "a memory that does not fit": (("emergence", "--memory", "dense"), "log-sum-ReLU"),
    "a width of 0": (("ridge", "--grid", "gamma=0"), "gamma"),
    "an unknown rehearsal": (("sequential", "--grid", "rehearsal=some"), "rehearsal"),
    "images that are not there": (("similarity_separation", "--grid", "images=nowhere"), "nowhere"),
    "a key of another experiment": (("sequence", "--grid", "instances=3"), "instances"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_in_one_line_before_anything_is_written(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments, said = WRONG[case]
    code, out, err = typed(capsys, "run", *arguments, "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
