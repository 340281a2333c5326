"""Approximate: an index of near neighbours beside the store (usearch), which may be deleted at any time and is then made anew.

It only proposes rows; their similarities are computed again exactly. Moments come from rows spread evenly over the store.
"""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ammon.episodes.matrix import Found
from ammon.episodes.mirror import Mirror

# proposals for each episode that is asked for, and rows from which the moments are taken
PROPOSALS = 4
SAMPLE = 8192


class Approximate:
    """The index of one store, in `<store>.usearch` with its revision beside it."""

    def __init__(self, store: Path, dim: int) -> None:
        try:
            from usearch.index import Index
        except ImportError as error:
            raise ImportError("Episodes.open: approximate=True needs usearch; install it: pip install 'ammon[index]'.") from error
        self.path, self.note = Path(f"{store}.usearch"), Path(f"{store}.usearch.json")
        self._make: Callable[[], Any] = lambda: Index(ndim=dim, metric="ip", dtype="bf16")
        self._index: Any = self._make()
        self.revision = 0
        self._saved = 0
        if self.path.exists() and self.note.exists():
            try:
                said = json.loads(self.note.read_text())
                if said["dim"] == dim and said["size"] == self.path.stat().st_size:
                    self._index.load(str(self.path))
                    self.revision = self._saved = int(said["revision"])
            except (OSError, ValueError, KeyError, RuntimeError):
                # a cache that cannot be read is made again
                self._index, self.revision = self._make(), 0

    def follow(self, mirror: Mirror, connection: sqlite3.Connection) -> None:
        """Take in what was written since the index was last brought up to date."""
        if self.revision == mirror.revision:
            return
        if self.revision > mirror.revision:
            self._index, self.revision = self._make(), 0
        changed, gone = (
            np.array([one for (one,) in connection.execute(f"SELECT id FROM {table} WHERE revision > ?", (self.revision,))], dtype=np.int64)
            for table in ("episodes", "deleted")
        )
        if self.revision:
            for one in np.concatenate([changed, gone]):
                if int(one) in self._index:
                    self._index.remove(int(one))
        if len(changed):
            rows = torch.from_numpy(mirror.rows(changed))
            self._index.add(changed.astype(np.uint64), mirror.matrix.keys[rows].numpy())
        self.revision = mirror.revision

    def nearest(self, mirror: Mirror, cue: Tensor, num: int) -> Found:
        """As `KeyMatrix.nearest`, among what the index proposes."""
        unit = mirror.matrix.cue(cue)
        asked = min(PROPOSALS * num, len(self._index))
        matches = self._index.search(unit.numpy(), asked)
        rows = torch.from_numpy(np.sort(mirror.rows(matches.keys.astype(np.int64))))
        exact = mirror.matrix.compare(cue, rows)
        best = exact.argsort(descending=True, stable=True)[:num]
        step = max(1, mirror.matrix.count // SAMPLE)
        sample = mirror.matrix.compare(cue, torch.arange(0, mirror.matrix.count, step))
        return Found(rows[best], exact[best], float(sample.mean()), float(sample.std(correction=0)))

    def save(self) -> None:
        """Keep the index for the next time, if it changed; where that cannot be done it is made again."""
        if self.revision == self._saved:
            return
        partial = Path(f"{self.path}.{os.getpid()}.partial")
        try:
            self._index.save(str(partial))
            size = partial.stat().st_size
            # the note goes first and comes back last: it must never speak of another file
            self.note.unlink(missing_ok=True)
            os.replace(partial, self.path)
            self.note.write_text(json.dumps({"dim": self._index.ndim, "revision": self.revision, "size": size}))
            self._saved = self.revision
        except (OSError, RuntimeError):
            partial.unlink(missing_ok=True)
