"""FeatureMemory: patterns as one sum of features, T = Σφ(ξ); as large with a million patterns as with one.

E(x) = -(1/β) log max(φ(x)·T, ε) ≈ -(1/β) log Σ exp(-(β/2)|x - ξ|²), descended by x ← x - α dE/dx (DrDAM, Hoover et al. 2024).
Cues and states [batch, dim], sums over patterns [value, feature].
"""

import math
import warnings
from typing import Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.features import FeatureMap
from ammon.shapes import Energies, Rows, States, Weights, check_count, check_positive, check_rows

# features held at a time while patterns are summed
ROOM = 2**24


class FeatureMemory(Memory):
    """A dense memory in the space of random features: adding a pattern adds its features, forgetting it subtracts them.

    With values it descends among the keys and in its last step reads Σ v φ(ξ)·φ(x) / max(φ(x)·T, ε), the average of the values
    weighted by the kernel; its size is then that of value_dim + 1 sums. What lies so far from all patterns that φ(x)·T ≤ ε stays.
    Errors of φ(x)·T fall as 1/sqrt(Y) with Y frequencies and grow with the number of patterns and, relative to E, with β.
    accuracy: the standard error of φ(x)·T that is asked for, in units of one pattern's own term; `write` warns with the number of
    frequencies that it takes, Y ≥ N/(2 accuracy²) for SinCos with N patterns, where the map has fewer.
    """

    def __init__(self, features: FeatureMap, rate: float = 0.1, steps: int = 300, eps: float = 1e-5, accuracy: float | None = None) -> None:
        super().__init__()
        check_positive("FeatureMemory", "rate", rate)
        check_count("FeatureMemory", "steps", steps)
        if not 0 <= eps < math.inf:
            raise ValueError(f"FeatureMemory: eps must be >= 0 and finite, got {eps}.")
        if accuracy is not None:
            check_positive("FeatureMemory", "accuracy", accuracy)
        self.features, self.dim = features, features.dim
        self.rate, self.steps, self.eps, self.accuracy = float(rate), steps, float(eps), accuracy
        # the first sum is T, the others are those of the values' entries
        self.register_buffer("sums", torch.zeros(0, features.num_features))
        self.register_buffer("like", torch.empty(0))
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.sums: Tensor
        self.like: Tensor  # of the dtype and on the device of what was written: sums of half precision are kept in float32
        self.written: Tensor  # patterns held, of which with a value of their own

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, len(self.sums) - 1 if self._hetero else None)
        if len(self) == 0:
            value_dim = 0 if values is None else values.shape[1]
            wide = torch.promote_types(patterns.dtype, torch.float32)
            self.features.to(device=patterns.device, dtype=wide)
            self.like = torch.empty(0, dtype=patterns.dtype, device=patterns.device)
            self.sums = torch.zeros(1 + value_dim, self.features.num_features, dtype=wide, device=patterns.device)
        self._warn(patterns)
        self._add(patterns, values, 1)

    def forget(self, patterns: Rows, values: Rows | None = None) -> None:
        """Take away patterns that were written, and with them their values; what was never written would leave a hole."""
        where = "FeatureMemory.forget"
        check_rows(where, "pattern", patterns, self.dim)
        if len(patterns) > len(self):
            raise ValueError(f"{where}: {len(patterns)} patterns to forget, {len(self)} are held; give rows that were written.")
        if (values is not None) != self._hetero or (values is not None and values.shape != (len(patterns), len(self.sums) - 1)):
            held = f"values of dim {len(self.sums) - 1}" if self._hetero else "no values"
            raise ValueError(f"{where}: the memory holds {held}; give each pattern as it was written.")
        self._add(patterns, values, -1)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.like)
        settling = {"steps": self.steps, **settling}
        return settle(lambda state, rows: self._step(state), cue, read=self._read if self._hetero else None, **settling)

    def energy(self, state: States) -> Energies:
        check_cue(self, "energy", state, self.like)
        overlap = (self.features(state) @ self.sums[0]).clamp_min(max(self.eps, torch.finfo(self.sums.dtype).tiny))
        return (-torch.log(overlap) / self.features.beta).to(state.dtype)

    def gradient(self, state: States) -> States:
        """dE/dx = -Jᵀ T/(β φ(x)·T), in closed form [batch, dim]; 0 where φ(x)·T ≤ ε."""
        check_cue(self, "gradient", state, self.like)
        return self._gradient(state).to(state.dtype)

    def weights(self, cue: States) -> Weights:
        raise TypeError("FeatureMemory.weights: the patterns are superposed in one sum, so none has a weight of its own.")

    def __len__(self) -> int:
        return int(self.written[0])

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    def _step(self, state: Tensor) -> Tensor:
        return (state - self.rate * self._gradient(state)).to(state.dtype)

    def _read(self, state: Tensor) -> Tensor:
        overlaps: Tensor = self.features(state) @ self.sums.mT
        return (overlaps[:, 1:] / overlaps[:, :1].clamp_min(max(self.eps, torch.finfo(overlaps.dtype).tiny))).to(state.dtype)

    def _gradient(self, state: Tensor) -> Tensor:
        total = self.sums[0]
        overlap = (self.features(state) @ total).unsqueeze(-1)
        reached = overlap > max(self.eps, torch.finfo(total.dtype).tiny)
        pulled = self.features.pull(state, total.expand(*state.shape[:-1], -1))
        return torch.where(reached, -pulled / (self.features.beta * torch.where(reached, overlap, torch.ones_like(overlap))), 0)

    @torch.no_grad()
    def _add(self, patterns: Tensor, values: Tensor | None, sign: int) -> None:
        sums, size = self.sums.clone(), max(1, ROOM // self.features.num_features)
        for start in range(0, len(patterns), size):
            some = slice(start, start + size)
            features = self.features(patterns[some].to(self.like))
            sums[0] += sign * features.sum(0)
            if values is not None:
                sums[1:] += sign * values[some].to(sums).mT @ features
        change = torch.tensor([len(patterns), 0 if values is None else len(patterns)], device=self.written.device)
        self.written = self.written + sign * change
        # with nothing left, what is left of the sums is rounding
        self.sums = sums if len(self) else torch.zeros_like(sums)

    def _warn(self, patterns: Tensor) -> None:
        if self.accuracy is None:
            return
        needed = self.features.needed(len(self) + len(patterns), self.accuracy, patterns)
        if needed > self.features.num_frequencies:
            warnings.warn(
                f"FeatureMemory.write: with {len(self) + len(patterns)} patterns a standard error of {self.accuracy} takes {needed:.3g} "
                f"frequencies, this map has {self.features.num_frequencies}; make a larger map, or ask for less accuracy.",
                stacklevel=3,
            )

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # sums for values of another size, or in another dtype, are no error: they replace these
        for name in ("sums", "like"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        self.features.to(self.sums.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args)
