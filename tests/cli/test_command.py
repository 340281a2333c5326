"""The command line as a user types it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ammon.experiments.recall
from ammon import __version__
from ammon.catalog import CATALOG
from ammon.cli.main import main

Typed = Callable[..., tuple[int, str, str]]


def in_a_process(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    # a continuous-integration host may ask for colours, which is not what is tested
    environment = {key: value for key, value in os.environ.items() if key not in ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS")}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def is_no_blank(path: Path) -> bool:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"), dtype=float)
    return min(pixels.shape) > 200 and pixels.std() > 10


def test_help_and_version_import_no_torch(tmp_path: Path) -> None:
    code = """
import sys
from ammon.cli.main import main
for option in ("--help", "--version"):
    try:
        main([option])
    except SystemExit as left:
        assert left.code == 0
print(sorted({"torch", "numpy", "matplotlib", "sklearn"} & set(sys.modules)))
"""
    ran = in_a_process("-c", code, folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-2:] == [f"ammon {__version__}", "[]"]


def test_recall_in_a_process_leaves_pictures_numbers_and_no_escape_codes(tmp_path: Path) -> None:
    ran = in_a_process("-m", "ammon", "recall", "--patterns", "5", "--memory", "hopfield", "--memory", "modern_hopfield", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "\x1b" not in ran.stdout
    assert ran.stdout.split()[-3:] == [str(Path("recall") / name) for name in ("recall.png", "energy.png", "recall.csv")]


def test_no_command_shows_the_help(typed: Typed) -> None:
    code, out, err = typed()
    assert (code, err) == (0, "")
    assert "recall" in out
    assert "list" in out


def test_list_names_every_memory_and_its_paper(typed: Typed) -> None:
    code, out, err = typed("list")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()}
    for name, entry in CATALOG.items():
        for cell in (entry.keys, entry.values, entry.similarity, entry.separation, entry.activation, entry.paper):
            assert cell in lines[name]


def test_recall_asks_every_memory_that_takes_images_and_draws_what_they_say(typed: Typed) -> None:
    code, out, err = typed("recall", "--patterns", "10", "--out", "here/and/there")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert set(ammon.experiments.recall.fitting()) <= set(lines)
    assert "100%" in lines["modern_hopfield"]
    assert "0%" in lines["hopfield"]
    assert lines["minerva2"][-3] == "-"
    assert lines["hopfield"][-3] == "yes"
    for name in ("recall.png", "energy.png"):
        assert is_no_blank(Path("here/and/there") / name)


def test_the_numbers_are_those_of_the_table(typed: Typed) -> None:
    code, out, _ = typed("recall", "--memory", "exponential", "--patterns", "50", "--corrupt", "mask:0.5")
    assert code == 0
    header, row = Path("recall/recall.csv").read_text().splitlines()
    numbers = dict(zip(header.split(","), row.split(","), strict=True))
    assert numbers["memory"] == "exponential"
    assert (numbers["num_patterns"], numbers["dim"], numbers["corruptions"], numbers["seed"]) == ("50", "64", "mask:0.5", "0")
    assert 0 < float(numbers["exact"]) < 1
    assert f"{float(numbers['exact']):.0%}" in out
    assert f"{float(numbers['error']):.3f}" in out


def test_corruptions_are_applied_in_the_order_given(typed: Typed) -> None:
    def error(*kinds: str) -> float:
        typed("recall", "--memory", "kohonen", "--patterns", "30", *(word for kind in kinds for word in ("--corrupt", kind)))
        return float(Path("recall/recall.csv").read_text().splitlines()[1].split(",")[5])

    # what is masked last stays black, what is masked first is blurred over
    first, last = error("mask:0.5", "blur:1.0"), error("blur:1.0", "mask:0.5")
    assert first != last
    assert first == error("mask:0.5", "blur:1.0")


def test_the_seed_decides_the_cues(typed: Typed) -> None:
    def error(seed: str) -> str:
        typed("recall", "--memory", "kohonen", "--seed", seed)
        return Path("recall/recall.csv").read_text().splitlines()[1].split(",")[5]

    assert error("1") == error("1") != error("2")


def test_images_may_come_from_a_folder_or_an_archive(typed: Typed, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 12, 10), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{index}.png")
    np.savez(tmp_path / "colour.npz", images=np.stack([pixels] * 3, -1))
    for source, size in (("pictures", "12 × 10"), ("colour.npz", "12 × 10 × 3")):
        code, out, _ = typed("recall", "--data", source, "--patterns", "6", "--memory", "diffusion", "--corrupt", "flip:0.1")
        assert code == 0
        assert size in out
        assert "100%" in out
        assert is_no_blank(Path("recall/recall.png"))


def test_without_an_energy_no_old_picture_of_one_stays(typed: Typed) -> None:
    typed("recall", "--memory", "amari")
    assert Path("recall/energy.png").exists()
    code, out, _ = typed("recall", "--memory", "minerva2")
    assert code == 0
    assert "energy.png" not in out
    assert not Path("recall/energy.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recal"], "recal"),
        (["recall", "--pattern", "3"], "--pattern"),
        (["recall", "surplus"], "surplus"),
        (["recall", "--patterns", "few"], "--patterns"),
        (["recall", "--patterns", "0"], "--patterns: at least 1 image must be stored, got 0"),
        (["recall", "--patterns", "5000"], "'digits' has 1797"),
        (["recall", "--seed", "-1"], "--seed"),
        (["recall", "--seed", str(2**63)], "--seed"),
        (["recall", "--memory", "hopfeld"], "did you mean hopfield?"),
        (["recall", "--memory", "willshaw"], "takes sparse data and recalls no images"),
        (["recall", "--memory", "#"], "no memory is called '#'"),
        (["recall", "--corrupt", "mask"], "got 'mask'"),
        (["recall", "--corrupt", "mask:half"], "got 'mask:half'"),
        (["recall", "--corrupt", "smudge:0.5"], "got 'smudge:0.5'"),
        (["recall", "--corrupt", "mask:1.5"], "between 0 and 1, got 1.5"),
        (["recall", "--corrupt", "flip:nan"], "between 0 and 1, got nan"),
        (["recall", "--corrupt", "noise:-1"], "got -1"),
        (["recall", "--corrupt", "blur:0"], "got 0"),
        (["recall", "--data", "missing.npz"], "missing.npz"),
        (["recall", "--data", "notes.txt"], "notes.txt"),
        (["recall", "--data", "broken.npz"], "broken.npz"),
        (["recall", "--data", "empty"], "empty"),
        (["recall", "--data", "broken"], "portrait.png"),
        (["recall", "--out", "notes.txt"], "--out"),
        (["recall", "--out", "notes.txt/below"], "--out"),
        (["recall", "--memory", "amari", "--out", "taken"], "recall.png"),
    ],
)
def test_wrong_input_is_one_line_and_the_code_2(typed: Typed, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "notes.txt").write_text("no images")
    (tmp_path / "broken.npz").write_bytes(b"PK but no archive")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "portrait.png").write_text("no picture")
    (tmp_path / "taken" / "recall.png").mkdir(parents=True)
    code, _, err = typed(*arguments)
    assert code == 2
    assert err.startswith("ammon: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert said in err


def test_a_missing_extra_is_one_line_too(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = typed("recall")
    assert (code, err.count("\n")) == (2, 1)
    assert "ammon[images]" in err


def test_a_defect_is_not_hidden_as_wrong_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def defect(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(ammon.experiments.recall, "attempt", defect)
    with pytest.raises(ValueError, match="a defect"):
        main(["recall", "--out", str(tmp_path)])


def test_ctrl_c_leaves_quietly_with_130(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ammon.experiments.recall, "attempt", interrupted)
    assert typed("recall") == (130, "", "")
