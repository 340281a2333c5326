"""Metrics: rows of numbers by step, one JSON object a line, as they come. A row is there whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

Row = Mapping[str, float | int]


def read_rows(path: str | os.PathLike[str], until: int | None = None) -> list[dict[str, float | int]]:
    """The rows of a file up to a step, in order; a last line that was cut short is left out. No file: no rows."""
    file = Path(path)
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
    return [row for row in rows if until is None or row["step"] <= until]


def write_rows(path: str | os.PathLike[str], rows: list[dict[str, float | int]]) -> None:
    """Put the rows in place of what the file held."""
    file = Path(path)
    partial = file.with_name(file.name + ".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(partial, file)


def append_row(path: str | os.PathLike[str], row: Row) -> None:
    """Add a row at the end."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row)) + "\n")
