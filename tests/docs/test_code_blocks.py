"""What the pages say is so: code runs, commands and files exist, tables and signatures are those of the code."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import typer
from torch import nn

import ammon as am
from ammon.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text()) if kind == language]


def spans(page: Path) -> list[str]:
    """What stands between backticks outside blocks."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text()))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_every_python_block_of_a_page_runs_after_the_ones_before_it(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{name_of(page)}, python block {number}", "exec"), names)


def test_the_readme_and_the_tutorial_have_python_blocks() -> None:
    for page in ("README.md", "docs/tutorial.md", "docs/index.md"):
        assert blocks(ROOT / page, "python")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for span in spans(page) for target in re.findall(r"^make ([a-z]+)", span)}
    assert named <= targets
    assert {"run", "test"} <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_ammon_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    command = typer.main.get_command(app)
    options = {"": {flag for option in command.params for flag in option.opts}}
    for name, sub in command.commands.items():
        options[name] = {flag for option in sub.params for flag in option.opts}
        for inner, part in getattr(sub, "commands", {}).items():
            options[f"{name} {inner}"] = {flag for option in part.params for flag in option.opts}
    for span in spans(page):
        if not span.startswith("ammon "):
            continue
        words = span.split()[1:]
        names = [" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in options]
        name = "" if words[0].startswith("-") else (names or [words[0]])[0]
        assert name in options, span
        assert {word for word in words if word.startswith("--")} <= options[name], span


def table(page: Path, first: str) -> list[list[str]]:
    """The cells of the table whose first heading is `first`, without its head."""
    lines = page.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("\\|", "|") for cell in line.strip("|").split(" | ")])
    return rows


def test_the_table_of_the_readme_is_the_catalogue() -> None:
    catalogue = [
        [f"`{name}`", entry.keys, entry.values, entry.similarity, entry.separation, entry.activation, entry.data, entry.paper]
        for name, entry in am.CATALOG.items()
    ]
    assert table(ROOT / "README.md", "name") == catalogue


def test_each_memory_has_one_section_and_the_changelog_counts_them() -> None:
    sections = re.findall(r"^### `(\w+)`$", (ROOT / "docs/memories.md").read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(am.CATALOG)
    assert re.search(rf"\b{len(am.CATALOG)} entries", " ".join((ROOT / "CHANGELOG.md").read_text().split()))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_local_link_and_image_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", BLOCK.sub("", page.read_text())):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.partition("#")[0]).is_file(), target


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 300_000, picture.name


def test_the_papers_page_names_only_files_and_tests_that_exist() -> None:
    named = [span for span in spans(ROOT / "docs/papers.md") if ".py" in span]
    assert len(named) > 30
    for span in named:
        path, _, test = span.partition("::")
        file = ROOT / path if path.startswith("tests/") else ROOT / "src/ammon" / path
        assert file.is_file(), span
        assert not test or re.search(rf"^def {test}\(", file.read_text(), re.MULTILINE), span


def test_every_file_of_paper_tests_is_on_the_papers_page() -> None:
    text = (ROOT / "docs/papers.md").read_text()
    for file in (ROOT / "tests/papers").glob("test_*.py"):
        assert file.name in text


def plain_signature(thing: object) -> str:
    """The arguments and their defaults, without types and self."""
    if inspect.isclass(thing) and thing.__init__ is nn.Module.__init__:
        return "()"
    parts, starred = [], False
    for parameter in inspect.signature(thing).parameters.values():  # type: ignore[arg-type]
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        parts.append(stars + parameter.name + ("" if parameter.default is parameter.empty else f"={parameter.default!r}"))
    return f"({', '.join(parts)})"


REFERENCE = re.findall(r"^- `(ammon\.[\w.]+)(\([^`]*\))?`", (ROOT / "docs/api.md").read_text(), re.MULTILINE)


def find(path: str) -> object:
    """What a dotted name names: a module as far as there is one, then attributes."""
    thing: object = am
    for depth, part in enumerate(path.split(".")[1:], start=2):
        if not hasattr(thing, part):
            importlib.import_module(".".join(path.split(".")[:depth]))
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize(("path", "signature"), REFERENCE)
def test_the_reference_gives_signatures_as_they_are(path: str, signature: str) -> None:
    assert signature == (plain_signature(find(path)) if signature else "")


def test_the_reference_names_every_public_name() -> None:
    named = {path.split(".")[1] for path, _ in REFERENCE}
    assert set(am.__all__) - {"__version__"} <= named
