"""LearnedDenseMemory: a dense memory whose memories are hidden patterns, fewer than what they were learned from (Krotov & Hopfield 2016).

With labels it is their classifier, f(x) = tanh Σ_μ [F(h_μ with the label at +1) - F(h_μ with it at -1)], labels waiting at -1, one update.
Without, units of ±1 descend E(s) = -Σ F(Ws). Cues [batch, dim], weights [hidden, dim + label], F(h) = relu(h/T)ⁿ.
"""

from copy import copy
from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.dynamics.sweep import sweep
from ammon.learning.base import Fit
from ammon.learning.dense import ErrorDescent, Hidden, contexts, fields
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.separations import RectifiedPower
from ammon.shapes import Energies, Index, Rows, States, Weights, check_bipolar, check_count


class LearnedDenseMemory(Memory):
    """Patterns in [-1, 1] with labels in [-1, 1], +1 for what holds; or patterns of ±1 alone, each unit then completed from the others.

    With labels one recall is one update and gives the labels [batch, label] in (-1, 1); `classify` names the largest. Without, units are
    updated one by one, in turn or in an order drawn from `generator`, for at most `steps` sweeps, and the energy never rises.
    rehearse: all patterns are kept and learned anew, from the same start, at each write; with False only the new ones are learned, on
    top of what is there, and the old may be lost: see `ammon.memories.rehearsal`, and the rule's `consolidation`.
    """

    def __init__(self, dim: int, rule: ErrorDescent | None = None, steps: int = 20, rehearse: bool = True) -> None:
        super().__init__()
        check_count("LearnedDenseMemory", "dim", dim)
        check_count("LearnedDenseMemory", "steps", steps)
        self.dim, self.rule, self.steps, self.rehearse = dim, rule or ErrorDescent(), steps, rehearse
        for name, tensor in self.rule.begin(dim, 0, torch.empty(0))._asdict().items():
            self.register_buffer(_buffer(name), tensor)
        self.register_buffer("like", torch.empty(0))
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.matrix: Tensor
        self.like: Tensor  # of the dtype and on the device of what was written: weights of half precision are kept in float32
        self.written: Tensor  # patterns, of which with labels of their own
        if rehearse:
            self.keys, self.values = Bank(dim), Bank()

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self._labels if self._hetero else None)
        if values is None:
            check_bipolar("LearnedDenseMemory.write", "pattern", patterns)
        else:
            _check_range("LearnedDenseMemory.write", "pattern", patterns)
            _check_range("LearnedDenseMemory.write", "label", values)
        if not len(patterns):
            return
        like = self.like if len(self) else patterns.new_empty(0)
        keys, labels = patterns.detach().to(like), None if values is None else values.detach().to(like)
        if self.rehearse and len(self):
            keys = torch.cat([self.keys.rows, keys])
            labels = None if labels is None else torch.cat([self.values.rows, labels])
        fresh = self.rehearse or not len(self)
        state = self.rule.begin(self.dim, 0 if labels is None else labels.shape[1], like) if fresh else self._state
        for name, tensor in self.rule.learn(state, keys, labels)._asdict().items():
            setattr(self, _buffer(name), tensor)
        self.like = like
        if self.rehearse:
            self.keys.append(patterns)
            if values is not None:
                self.values.append(values)
        self.written = self.written + torch.tensor([len(patterns), 0 if values is None else len(values)], device=self.written.device)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.like)
        if self._hetero:
            _check_range("LearnedDenseMemory.recall", "cue", cue)
            settling = {"steps": 1, **settling}
            if settling["steps"] != 1:
                raise ValueError(f"LearnedDenseMemory.recall: labels are read once; got steps={settling['steps']}.")
            return settle(lambda state, rows: state, cue, read=self._read, **settling)
        check_bipolar("LearnedDenseMemory.recall", "cue", cue)
        settling = {"steps": self.steps, **settling}
        generator, clamp = settling.get("generator"), settling.get("clamp")
        flips = HiddenFields(self.matrix, self._separation)

        def in_turn(state: Tensor, rows: Tensor) -> Tensor:
            # one order for the whole batch: an item's answer does not depend on its batch mates
            order = None if generator is None else torch.randperm(self.dim, generator=generator, device=generator.device).to(state.device)
            return sweep(flips, state, order, None if clamp is None else ~clamp[rows])

        return settle(in_turn, cue, **settling)

    def classify(self, cue: States) -> Int[Tensor, " batch"]:
        """The label that each cue calls up most."""
        check_cue(self, "classify", cue, self.like)
        if not self._hetero:
            raise TypeError("LearnedDenseMemory.classify: nothing was written with labels, so there is none to give.")
        _check_range("LearnedDenseMemory.classify", "cue", cue)
        return self._fields(cue).argmax(-1)

    def energy(self, state: States) -> Energies:
        if self._hetero:
            raise TypeError("LearnedDenseMemory.energy: labels are read once, which descends nothing, so there is no energy.")
        check_cue(self, "energy", state, self.like)
        check_bipolar("LearnedDenseMemory.energy", "state", state)
        return -self._separation.value(state.to(self.matrix) @ self.matrix.mT).to(state.dtype)

    def weights(self, cue: States) -> Weights:
        raise TypeError("LearnedDenseMemory.weights: hidden patterns are no patterns that were written, so none of these has a weight.")

    def __len__(self) -> int:
        return int(self.written[0])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={len(self)}, hidden={len(self.matrix)}, n={self.rule.n:g}"

    @property
    def fit(self) -> Fit | None:
        """What the last fit found, its residual being the largest error of any completion; None while nothing is written."""
        return self._state.fit if len(self) else None

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    @property
    def _labels(self) -> int:
        return self.matrix.shape[1] - self.dim

    @property
    def _state(self) -> Hidden:
        return Hidden(**{name: getattr(self, _buffer(name)) for name in Hidden._fields})

    @property
    def _separation(self) -> RectifiedPower:
        return RectifiedPower(self.rule.n, unit=float(self._state.temperature))

    def _fields(self, cue: Tensor) -> Tensor:
        context = contexts(cue.to(self.matrix), self._labels)
        return fields(self.matrix, context, slice(self.dim, None), self.rule.n, float(self._state.temperature))

    def _read(self, cue: Tensor) -> Tensor:
        return torch.tanh(self._fields(cue)).to(cue.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # weights to another number of labels, or in another dtype, are no error: they replace these
        for name in (*map(_buffer, Hidden._fields), "like"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


class HiddenFields:
    """The fields of a sweep: of each unit, the energy at -1 less that at +1, from carried h = Ws; only their sign is told."""

    def __init__(self, matrix: Float[Tensor, "hidden dim"], separation: RectifiedPower) -> None:
        self.units, self.separation = matrix.mT.contiguous(), separation  # [dim, hidden]

    def arrange(self, order: Index) -> "HiddenFields":
        """The same, its units in this order."""
        arranged = copy(self)
        arranged.units = self.units[order]
        return arranged

    def begin(self, state: Tensor) -> Float[Tensor, "row hidden"]:
        """h of the states."""
        return state.to(self.units) @ self.units

    def field(self, carried: Tensor, spins: Tensor, units: slice) -> Float[Tensor, "row unit"]:
        """The sign of each unit's field, its own vote left out."""
        return self._compared(carried.unsqueeze(1), spins, units)

    def field_after(self, carried: Tensor, last: Tensor, spins: Tensor, units: slice) -> Float[Tensor, "item unit"]:
        """The same where each unit has its own row of `carried`, named by `last`."""
        return self._compared(carried[last], spins, units)

    def change(self, units: Index, new: Float[Tensor, " index"]) -> Float[Tensor, "index hidden"]:
        """How h moves when units[k] becomes new[k], row by row."""
        return self.units[units].mul_(2 * new.to(self.units.dtype).unsqueeze(-1))

    def _compared(self, carried: Tensor, spins: Tensor, units: slice) -> Tensor:
        others = carried - spins.to(carried).unsqueeze(-1) * self.units[units]
        return self.separation.contrast(others + self.units[units], others - self.units[units])


def _buffer(name: str) -> str:
    return name if name == "matrix" else f"learned_{name}"


def _check_range(where: str, what: str, rows: Tensor) -> None:
    largest = float(rows.detach().abs().amax()) if rows.numel() else 0.0
    if largest > 1:
        raise ValueError(f"{where}: the {what} must be in [-1, 1], got entries up to {largest:.3g}; e.g. 2 x - 1 for [0, 1].")
