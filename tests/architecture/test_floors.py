"""The house stands as ARCHITECTURE.md and pyproject.toml draw it."""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "ammon"
FILES = sorted(SOURCE.rglob("*.py"))


def floors() -> list[list[str]]:
    """The rooms of each floor that may exist, from the top down."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return [re.findall(r"\w+", layer) for layer in contract["layers"]]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_files_import_only_from_below() -> None:
    linted = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "1 kept, 0 broken" in linted.stdout


def test_architecture_and_readme_name_every_folder() -> None:
    folders = {file.parent.name for file in FILES} - {"ammon"}
    assert folders
    for page in ("ARCHITECTURE.md", "README.md"):
        text = (ROOT / page).read_text()
        assert {folder for folder in folders if f"{folder}/" not in text} == set()


def test_what_the_readme_calls_planned_is_not_there_and_the_rest_is() -> None:
    tree = re.search(r"^src/ammon/\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert tree
    for name, said in re.findall(r"^  (\S+)\s+(.*)$", tree[1], re.MULTILINE):
        path = SOURCE / name
        assert (not path.exists()) == said.startswith("planned:"), name


def test_every_file_that_architecture_names_exists() -> None:
    named = re.findall(r"\b((?:\w+/)*\w+\.py)\b", (ROOT / "ARCHITECTURE.md").read_text())
    assert named
    for name in named:
        # beside the file that the sentence is about, a file of the same folder goes by its name
        assert list(SOURCE.rglob(name)), name


def test_a_files_name_occurs_once_on_its_floor() -> None:
    for floor in floors():
        names = Counter(file.name for room in floor for file in (SOURCE / room).rglob("*.py"))
        repeated = {name for name, count in names.items() if count > 1 and name not in ("__init__.py", "base.py")}
        assert not repeated


def test_no_file_hides_a_second_idea_behind_400_lines() -> None:
    assert {str(file.relative_to(SOURCE)) for file in FILES if len(file.read_text().splitlines()) > 400} == set()


def test_inits_below_the_top_are_empty_but_those_of_rooms_that_users_name() -> None:
    for init in SOURCE.glob("*/**/__init__.py"):
        # found when first used: `am.experiments.capacity`, `am.cmr.CMR`
        assert not init.read_text().strip() or init.parent.name in ("cmr", "experiments"), init


def test_importing_ammon_imports_no_torch() -> None:
    assert run("-c", "import ammon, sys; ammon.__version__; sys.exit('torch' in sys.modules)").returncode == 0
