"""ExpansionMemory: a fixed expansion, then one matrix learned by a local rule; f(x) = activation(W φ(x)), W = Σ ξ φ(ξ)ᵀ.

The Hebbian reading of random-feature memories (Hoover et al. 2024): each weight changes by the product of its two activities alone,
and W φ(x) = Σ ξ φ(ξ)·φ(x) is what a dense memory with the kernel of φ computes, up to an error that falls as 1/sqrt(features).
Cues [batch, dim], features [batch, feature], weights [dim, feature] and, for values, [value_dim, feature].
"""

from typing import Any, Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.learning.base import Rule
from ammon.learning.hebb import Hebb
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.memories.pairwise import PairwiseMemory
from ammon.parts.features import Expansion
from ammon.parts.lagrangians import Identity, Lagrangian, Sign
from ammon.shapes import Energies, Rows, States, Weights, check_bipolar, check_count, check_rows

# features held at a time while patterns are written
ROOM = 2**24


class ExpansionMemory(Memory):
    """Constant in size: (dim + value_dim) × features numbers, whatever the number of patterns; written one at a time or together.

    With N patterns far from each other and from the cue the field of a unit has noise sqrt(N/features) of what a pattern itself gives
    (`ammon.analysis.expansion_theory`), so it takes some ten features per pattern. With values it settles among the keys and reads the
    values in its last step, by weights of their own.
    rule: any rule that learns online; Hebb's by default. activation: Sign by default, for patterns and values of ±1.
    """

    def __init__(self, expansion: Expansion, rule: Rule[Any] | None = None, activation: Lagrangian | None = None, steps: int = 20) -> None:
        super().__init__()
        check_count("ExpansionMemory", "steps", steps)
        rule = Hebb() if rule is None else rule
        if not rule.online:
            raise ValueError(
                f"ExpansionMemory: {type(rule).__name__} needs all patterns together; give a rule that learns online, e.g. Hebb()."
            )
        self.dim, self.expansion, self.rule, self.steps = expansion.dim, expansion, rule, steps
        self.activation: Lagrangian = Sign() if activation is None else activation
        # both are read linearly here, and activated afterwards
        self.among = PairwiseMemory(expansion.num_features, rule, Identity())
        self.contents = PairwiseMemory(expansion.num_features, rule, Identity())
        self.register_buffer("like", torch.empty(0))
        self.like: Tensor  # of the dtype and on the device of what was written: weights of half precision are kept in float32

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, len(self.contents.matrix) if self._hetero else None)
        self._check_signs("write", "pattern", patterns)
        if values is not None:
            self._check_signs("write", "value", values)
        if len(self) == 0:
            self.like = torch.empty(0, dtype=patterns.dtype, device=patterns.device)
            self.expansion.to(device=patterns.device, dtype=_wide(patterns))
        for some in self._parts(len(patterns)):
            rows = patterns[some].detach().to(self.like)
            features = self.expansion(rows)
            self.among.write(features, rows.to(features))
            if values is not None:
                self.contents.write(features, values[some].detach().to(features))

    def forget(self, patterns: Rows, values: Rows | None = None) -> None:
        """Take away patterns that were written, and with them their values, by the same product with the opposite sign.

        What was never written would leave a hole. TypeError unless the rule is Hebb's, without forgetting of its own.
        """
        check_rows("ExpansionMemory.forget", "pattern", patterns, self.dim)
        if (values is not None) != self._hetero:
            raise ValueError(
                f"ExpansionMemory.forget: the memory holds {'' if self._hetero else 'no '}values; give each pattern as it was written."
            )
        for some in self._parts(len(patterns)):
            rows = patterns[some].detach().to(self.like)
            features = self.expansion(rows)
            if values is not None:
                self.contents.forget(features, values[some].detach().to(features))
            self.among.forget(features, rows.to(features))

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.like)
        self._check_signs("recall", "cue", cue)
        settling = {"steps": self.steps, **settling}
        read = (lambda state: self._read(state, self.contents)) if self._hetero else None
        return settle(lambda state, rows: self._read(state, self.among), cue, read=read, **settling)

    def energy(self, state: States) -> Energies:
        raise TypeError("ExpansionMemory.energy: features of finite number read no gradient, so recall descends no energy.")

    def weights(self, cue: States) -> Weights:
        raise TypeError("ExpansionMemory.weights: the patterns are superposed in one matrix, so none has a weight of its own.")

    def __len__(self) -> int:
        return len(self.among)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, features={self.expansion.num_features}, patterns={len(self)}, steps={self.steps}"

    @property
    def _hetero(self) -> bool:
        return len(self.contents) > 0

    def _read(self, state: Tensor, learned: PairwiseMemory) -> Tensor:
        features = self.expansion(state)
        field = features @ learned.matrix.mT.to(features)
        activated: Tensor = self.activation(field)
        return activated.to(state.dtype)

    def _parts(self, count: int) -> list[slice]:
        size = max(1, ROOM // self.expansion.num_features)
        return [slice(start, start + size) for start in range(0, count, size)]

    def _check_signs(self, method: str, what: str, rows: Tensor) -> None:
        if isinstance(self.activation, Sign):
            check_bipolar(f"ExpansionMemory.{method}", what, rows)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # another dtype is no error: what is loaded replaces what is here
        if prefix + "like" in state_dict:
            self.like = torch.empty_like(state_dict[prefix + "like"])
            self.expansion.to(_wide(self.like))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _wide(rows: Tensor) -> torch.dtype:
    return torch.promote_types(rows.dtype, torch.float32)
