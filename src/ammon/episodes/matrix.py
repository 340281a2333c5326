"""Matrix: the keys of a store as one tensor [row, dim], scanned exactly.

Large stores are scanned in bfloat16 first, then the best again in float32. How far a bfloat16 score can be off is known, so it is also
known whether a better one may have been missed; then more are compared again.
Only the scan itself uses threads: on a busy machine each start of threads for a little work costs more than the scan.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ammon.parts.similarity import Cosine, Dot, Similarity

# rows from which half the bytes are worth two passes
LARGE = 200_000
# a rounding to bfloat16 is off by 2^-9 at most: of the cue, of the key, of the score; the sums inside are in float32
ROUNDING = 3 * 2.0**-9
# shorter keys are not brought to length 1 (as in torch's normalize)
SMALLEST = 1e-12


class Found(NamedTuple):
    """Rows [found], best first, their scores, and the mean and deviation over all rows that were in question."""

    rows: Tensor
    scores: Tensor
    mean: float
    deviation: float


class KeyMatrix:
    """Keys that grow at the end, in amortised constant time. Those compared by cosine are held at length 1."""

    def __init__(self, dim: int, similarity: Similarity, large: int = LARGE) -> None:
        self.dim, self.similarity, self.large = dim, similarity, large
        self.count = 0
        self._room: NDArray[np.float32] = np.empty((0, dim), dtype=np.float32)
        self._coarse: Tensor | None = None
        self._longest = 0.0

    @property
    def keys(self) -> Tensor:
        """[row, dim]; shares memory."""
        return torch.from_numpy(self._room[: self.count])

    def reserve(self, count: int) -> None:
        """Make room for so many rows at once."""
        if count > len(self._room):
            grown = np.empty((count, self.dim), dtype=np.float32)
            grown[: self.count] = self._room[: self.count]
            self._room = grown

    def append(self, keys: NDArray[np.float32]) -> None:
        needed = self.count + len(keys)
        if needed > len(self._room):
            self.reserve(max(needed, 5 * self.count // 4))
        self._room[self.count : needed] = self._held(keys)
        self.count = needed
        self._refresh(slice(needed - len(keys), needed))

    def overwrite(self, rows: NDArray[np.int64], keys: NDArray[np.float32]) -> None:
        self._room[rows] = self._held(keys)
        if self._coarse is not None:
            self._coarse[torch.from_numpy(rows)] = torch.from_numpy(self._room[rows]).bfloat16()
            self._longest = max(self._longest, float(torch.from_numpy(self._room[rows]).norm(dim=-1).max()))

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Leave only these rows [row]."""
        kept = self._room[: self.count][mask]
        self._room, self.count, self._coarse = kept, len(kept), None

    def cue(self, cue: Tensor) -> Tensor:
        return torch.from_numpy(self._held(cue.numpy()[None])[0])

    def compare(self, cue: Tensor, rows: Tensor) -> Tensor:
        """Similarities [row] of some rows; the same key has the same similarity wherever it stands."""
        if isinstance(self.similarity, Cosine | Dot):
            return torch.from_numpy(np.einsum("rd,d->r", self._rows(rows.numpy()), self.cue(cue).numpy()))
        found: Tensor = self.similarity(cue[None], self.keys[rows])[0]
        return found

    def nearest(self, cue: Tensor, num: int, mask: Tensor | None = None) -> Found:
        """The `num` rows nearest to the cue [dim] where the mask [row] is True."""
        if mask is not None:
            rows = torch.from_numpy(np.flatnonzero(mask.numpy()))
            if 8 * len(rows) < self.count:
                return _best(self.compare(cue, rows), num, rows)
            if len(rows) == self.count:
                mask = None
        if self.count >= self.large and isinstance(self.similarity, Cosine | Dot):
            return self._twice(self.cue(cue), num, mask)
        return _best(self._product(cue, self.keys), num, None, mask)

    def _rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Keys [row] of these rows; those of a session often stand in one piece, which need not be copied."""
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
            return self._room[rows[0] : rows[-1] + 1]
        return self._room.take(rows, axis=0)

    def _product(self, cue: Tensor, keys: Tensor) -> Tensor:
        if isinstance(self.similarity, Cosine | Dot):
            return torch.mv(keys, self.cue(cue))
        found: Tensor = self.similarity(cue[None], keys)[0]
        return found

    def _twice(self, cue: Tensor, num: int, mask: Tensor | None) -> Found:
        """Coarse scores of all, exact ones of the best; more of them until the coarse score of the rest cannot hide a better one."""
        coarse = self._rough(cue)
        slack = ROUNDING * float(cue.norm()) * self._longest
        tried = 2 * num
        while True:
            rough = _best(coarse, tried, None, mask)
            exact = self.compare(cue, rough.rows)
            order = exact.argsort(descending=True, stable=True)[:num]
            found = Found(rough.rows[order], exact[order], rough.mean, rough.deviation)
            if len(rough.rows) < tried or float(found.scores[-1]) >= float(rough.scores[-1]) + slack:
                return found
            tried *= 4

    def _rough(self, cue: Tensor) -> Tensor:
        if self._coarse is None:
            self._coarse = torch.empty(0, self.dim, dtype=torch.bfloat16)
            self._refresh(slice(0, self.count))
        # one product: each further one would start the threads again
        return torch.mv(self._coarse[: self.count], cue.bfloat16()).float()

    def _refresh(self, rows: slice) -> None:
        """Bring the coarse copy up to date, if there is one."""
        if self._coarse is None:
            return
        fresh = torch.from_numpy(self._room[rows])
        if len(self._coarse) < len(self._room):
            grown = torch.empty(len(self._room), self.dim, dtype=torch.bfloat16)
            grown[: min(len(self._coarse), rows.start)] = self._coarse[: rows.start]
            self._coarse = grown
        self._coarse[rows] = fresh.bfloat16()
        self._longest = max(self._longest, float(fresh.norm(dim=-1).max())) if len(fresh) else self._longest

    def _held(self, keys: NDArray[np.float32]) -> NDArray[np.float32]:
        if not isinstance(self.similarity, Cosine):
            return keys
        lengths = np.sqrt(np.einsum("rd,rd->r", keys, keys))
        held: NDArray[np.float32] = keys / np.maximum(lengths, SMALLEST)[:, None]
        return held


def _best(scores: Tensor, num: int, rows: Tensor | None, mask: Tensor | None = None) -> Found:
    """The `num` largest, of equal ones those of the smallest row, and the moments of all."""
    values = scores.numpy()
    asked = values if mask is None else values[mask.numpy()]
    if not len(asked):
        return Found(torch.zeros(0, dtype=torch.int64), torch.zeros(0), 0.0, 0.0)
    mean = float(asked.mean(dtype=np.float64))
    deviation = float(np.square(asked - np.float32(mean)).mean(dtype=np.float64)) ** 0.5
    num = min(num, len(asked))
    least = np.partition(asked, len(asked) - num)[len(asked) - num]
    high = values >= least
    chosen = np.flatnonzero(high if mask is None else high & mask.numpy())
    if len(chosen) > num:
        above, ties = chosen[values[chosen] > least], chosen[values[chosen] == least]
        chosen = np.concatenate([above, ties[: num - len(above)]])
    best = torch.from_numpy(chosen[np.argsort(-values[chosen], kind="stable")])
    return Found(best if rows is None else rows[best], scores[best], mean, deviation)
