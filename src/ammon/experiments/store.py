"""Store: the rows of a run in a folder. What was measured is never measured again, lost or overwritten.

DIR/manifest.json says what was asked, once and for all; DIR/parts/HASH.parquet are the rows of one point, named by its hash, written to
a temporary name and renamed, so that a part is there whole or not at all.
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ammon import __version__
from ammon.experiments.base import Value

MANIFEST, PARTS = "manifest.json", "parts"
FORMAT = "ammon experiment, version 1"
# what rows may depend on: a run does not go on under other versions
DECISIVE = ("ammon", "torch")


def versions() -> dict[str, str]:
    """Of all that rows may depend on."""
    return {"ammon": __version__, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}


@dataclass(frozen=True)
class Manifest:
    """What was asked of which experiment, by what."""

    experiment: str
    grid: Mapping[str, tuple[Value, ...]]  # every key of the points with its values, "memory" among them
    trials: int
    seed: int
    versions: Mapping[str, str]

    def text(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Of a folder that a run has made. ValueError, in one line, for any other."""
    path = folder / MANIFEST
    if not path.is_file():
        what = "does not exist" if not folder.exists() else f"holds no {MANIFEST}"
        raise ValueError(f"{str(folder)!r} {what}, so it is no folder of `ammon run`; name one that is, or run one with --out.")
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if said.pop("format") != FORMAT:
            raise KeyError("format")
        grid = {str(key): tuple(values) for key, values in said.pop("grid").items()}
        manifest = Manifest(grid=grid, **said)
        if not isinstance(manifest.experiment, str) or not isinstance(manifest.seed, int) or not isinstance(manifest.trials, int):
            raise TypeError("experiment, seed or trials")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is broken or of another version ({type(error).__name__}: {error}); nothing was changed: name another folder."
        ) from error
    return manifest


class Store:
    """The parts of one run in a folder. Making one only looks; `begin` writes. ValueError for a folder that is not of this run."""

    def __init__(self, folder: Path, manifest: Manifest, schema: pa.Schema) -> None:
        self.folder, self.manifest, self.schema = folder, manifest, schema
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{str(folder)!r} is a file; name a folder.")
        if folder.is_dir() and any(folder.iterdir()):
            _check_same(folder, read_manifest(folder), manifest)

    def begin(self) -> None:
        """Make the folder and its manifest, if they are not there. OSError if it cannot be written."""
        (self.folder / PARTS).mkdir(parents=True, exist_ok=True)
        if not (self.folder / MANIFEST).exists():
            _write(self.folder / MANIFEST, self.manifest.text().encode())

    def load(self, name: str) -> pa.Table | None:
        """The rows of a point, None if it was not measured. ValueError if its file is broken."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            table = pq.ParquetFile(path).read()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{str(path)!r} is broken; nothing was changed: delete it to have its point measured again.") from error
        if table.schema != self.schema:
            raise ValueError(
                f"{str(path)!r} has other columns than {self.manifest.experiment} gives; nothing was changed: name another folder."
            )
        return table

    def save(self, name: str, rows: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        _write(self._path(name), sink.getvalue().to_pybytes())

    def _path(self, name: str) -> Path:
        return self.folder / PARTS / f"{name}.parquet"


def _check_same(folder: Path, held: Manifest, asked: Manifest) -> None:
    """Refuse a folder whose rows are not those of this run."""
    for what in ("experiment", "grid", "trials", "seed"):
        one, other = getattr(held, what), getattr(asked, what)
        if what == "grid":
            one, other = {key: tuple(values) for key, values in one.items()}, {key: tuple(values) for key, values in other.items()}
        if one != other:
            shown = "" if what == "grid" else f", {one}, not {other}"
            raise ValueError(
                f"{str(folder)!r} holds a run with another {what}{shown}; nothing was changed: name another folder with --out."
            )
    for library in DECISIVE:
        one, other = held.versions.get(library), asked.versions.get(library)
        if one != other:
            raise ValueError(
                f"{str(folder)!r} was made with {library} {one}, here is {other}, and rows may differ; nothing was changed: name "
                "another folder."
            )


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, whenever the process or the machine stops."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
