"""`ammon train energy-transformer` as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ammon.cli.main import main
from ammon.recipes.energy_transformer import made_again

SMALL = ("--patch", "2", "--dim", "8", "--heads", "2", "--descents", "2", "--every", "2", "--batch", "16")


def train(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["train", "energy-transformer", *SMALL, *arguments])
    captured = capsys.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, captured.out, captured.err


def images(folder: Path, colours: bool = False) -> str:
    generator = np.random.default_rng(0)
    path = folder / "images.npz"
    np.savez(path, images=generator.integers(0, 255, (60, 6, 8, 3) if colours else (60, 6, 8), dtype=np.uint8))
    return str(path)


@pytest.mark.parametrize("colours", [False, True])
def test_it_writes_rows_a_checkpoint_and_a_picture_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], colours: bool
) -> None:
    given = ("--data", images(tmp_path, colours), "--out", str(tmp_path / "out"))
    code, out, _ = train(capsys, *given, "--steps", "4")
    assert code == 0
    assert "step 4: held-out error" in out
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert {"loss", "held_loss", "rate", "norm", "seconds"} <= set(rows[0])
    assert (tmp_path / "out" / "completion.png").read_bytes().startswith(b"\x89PNG")
    assert made_again(tmp_path / "out").shape == ((3 if colours else 1), 6, 8)
    code, out, _ = train(capsys, *given, "--steps", "6")
    assert "step 6: held-out error" in out
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 3
    code, _, err = train(capsys, *given, "--steps", "6", "--step", "0.2")
    assert code == 2
    assert "of another training: step is 0.1 there, 0.2 here" in err


@pytest.mark.slow
def test_two_processes_of_torchrun_write_what_one_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--data", images(tmp_path), "--steps", "4")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ammon", "train"]
    command = [*launcher, "energy-transformer", *SMALL, *given, "--out", str(tmp_path / "two")]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 4: held-out error") == 1
    assert train(capsys, *given, "--out", str(tmp_path / "one"))[0] == 0
    two, one = ([json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("two", "one"))
    assert [row["step"] for row in two] == [2, 4]
    for row, wanted in zip(two, one, strict=True):
        # sums over rows in another order
        assert row["held_loss"] == pytest.approx(wanted["held_loss"], rel=1e-4)
    assert (tmp_path / "two" / "completion.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--patch", "3"), "6 × 8 pixels do not fall into patches of 3 × 3"),
        (("--patch", "0"), "size must be a whole number of at least 1"),
        (("--dim", "9"), "multiple of the heads"),
        (("--memories", "-1"), "memories must be a whole number of at least 1"),
        (("--descents", "0"), "steps must be a whole number of at least 1"),
        (("--step", "0"), "step must be positive"),
        (("--share", "0"), "share must be above 0"),
        (("--held", "0"), "--held: a share above 0 and below 1"),
        (("--batch", "100"), "a batch needs 100"),
        (("--block", "both"), '"energy" or "standard"'),
        (("--steps", "0"), "steps must be a whole number of at least 1"),
        (("--device", "nowhere"), "--device: 'nowhere' cannot be used"),
        (("--data", "nosuch.npz"), "nothing at 'nosuch.npz'"),
    ],
)
def test_wrong_input_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    given = ("--data", images(tmp_path), "--out", str(tmp_path / "out"), "--steps", "2")
    code, _, err = train(capsys, *given, *arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
