"""SphericalMemory: patterns are compared after a map that was learned to keep them apart; what is mixed are the patterns themselves.

f(x) = Σ ξ w(ξ)/Σ w(ξ), w(ξ) = exp(β Φ(ξ)·Φ(x))/|W ξ|, Φ(x) = W x/|W x|: U-Hop (Wu et al. 2024), with every pattern divided by the length of
its image. The code of f(x) is then the softmax average of the codes, brought to length 1, so the energy
-log Σ exp(β Φ(ξ)·Φ(x))/β never rises. Cues and states [batch, dim].
"""

from typing import Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.learning.spherical_code import SphericalCode, encode, nearest
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.retrieve import pool, retrieve, weigh
from ammon.parts.separations import Softmax
from ammon.parts.similarity import Dot
from ammon.shapes import Energies, Rows, States, Weights, check_count


class SphericalMemory(Memory):
    """Keeps its patterns, and learns the map anew from all of them at each `write`, from the same start.

    With values it settles among the keys and reads the values, mixed by the same weights, in its last step. `memory.nearest`: the cosine
    of the nearest two codes, which learning lowers. A cue whose image is 0 has no code: it recalls the mean of all patterns.
    """

    def __init__(self, dim: int, code: SphericalCode, beta: float = 32.0, steps: int = 20) -> None:
        super().__init__()
        check_count("SphericalMemory", "dim", dim)
        check_count("SphericalMemory", "steps", steps)
        self.separation = Softmax(beta)
        self.dim, self.code, self.beta, self.steps = dim, code, float(beta), steps
        self.keys, self.values = Bank(dim), Bank()
        self.register_buffer("matrix", code.begin(dim, torch.empty(0)))
        self.matrix: Tensor  # W [code, dim]

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self.values.dim if len(self.values) else None)
        if values is not None:
            self.values.append(values)
        self.keys.append(patterns)
        rows = self.keys.rows
        self.matrix = self.code.learn(self.code.begin(self.dim, rows).to(rows.device), rows)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.keys.rows)
        settling = {"steps": self.steps, **settling}
        codes, bias = self._codes()

        def mix(state: Tensor, contents: Tensor) -> Tensor:
            cues, contents = encode(self.matrix, state.to(self.matrix))[0], contents.to(codes)
            return retrieve(cues, codes, contents, Dot(), self.separation, bias=bias.expand(len(cues), -1)).to(state.dtype)

        read = (lambda state: mix(state, self.values.rows)) if len(self.values) else None
        return settle(lambda state, rows: mix(state, self.keys.rows), cue, read=read, **settling)

    def energy(self, state: States) -> Energies:
        check_cue(self, "energy", state, self.keys.rows)
        pooled: Tensor = pool(encode(self.matrix, state.to(self.matrix))[0], self._codes()[0], Dot(), self.separation)
        return -pooled.to(state.dtype)

    def weights(self, cue: States) -> Weights:
        check_cue(self, "weights", cue, self.keys.rows)
        codes, bias = self._codes()
        weights: Tensor = weigh(encode(self.matrix, cue.to(self.matrix))[0], codes, Dot(), self.separation, bias=bias)
        return weights.to(cue.dtype)

    def __len__(self) -> int:
        return len(self.keys)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, code_dim={self.code.code_dim}, patterns={len(self)}, beta={self.beta:g}, steps={self.steps}"

    @property
    def nearest(self) -> float:
        """The cosine of the smallest angle between two codes; -1 for fewer than two patterns."""
        return float(nearest(self._codes()[0]))

    def _codes(self) -> tuple[Tensor, Tensor]:
        """The codes of the patterns, and what the lengths of their images add to the scores [1, pattern]."""
        codes, lengths = encode(self.matrix, self.keys.rows.to(self.matrix))
        # a pattern without an image counts like one of length 1
        safe = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
        return codes, -safe.log().unsqueeze(0) / self.beta

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        if prefix + "matrix" in state_dict:
            self.matrix = torch.empty_like(state_dict[prefix + "matrix"])
        super()._load_from_state_dict(state_dict, prefix, *args)
