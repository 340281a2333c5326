"""SequenceMemory: the value of a pattern is the next one, and f is iterated; sign(Σ_μ ξ_i^(μ+1) f(m_μ^i)).

The overlap m_μ^i = Σ_(j≠i) ξ_j^μ s_j leaves the unit's own vote out. Patterns, cues and states [batch, dim] hold only -1 and +1.
"""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Literal, Unpack

import torch
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.memories.bank import Bank
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.parts.lagrangians import Lagrangian, Sign
from ammon.shapes import Energies, Rows, States, Weights, check_bipolar, check_count, check_positive

End = Literal["held", "cyclic", "open"]


@dataclass(frozen=True)
class Mixed:
    """A term that holds the pattern of now, beside `drive` times the one that leads on from the state `delay` steps ago.

    With drive > 1 each pattern stays for delay + 1 steps, with drive < 1 for ever (Sompolinsky & Kanter 1986; Chaudhry et al. 2023).
    """

    drive: float = 2.5
    delay: int = 0

    def __post_init__(self) -> None:
        check_positive("Mixed", "drive", self.drive)
        if self.delay < 0:
            raise ValueError(f"Mixed: delay must be at least 0 steps, got {self.delay}.")


class SequenceMemory(Memory):
    """Asymmetric Hopfield networks (Power(2)), dense (Power(d + 1)) and exponential (Softmax) sequence memories (Chaudhry et al. 2023).

    Each `write` without values is one sequence, in the order of its rows; with values it is single transitions pattern → value.
    One step of recall is one transition, so `recall(cue, steps=k, keep=True).trajectory` is the sequence from the cue on. An item
    that no longer changes, or that alternates between two states, stops there as in every recall.
    end: of a sequence: "held" keeps its last pattern, "cyclic" goes on with its first, "open" leaves what follows undefined.
    mixed: a term that holds each pattern for a while. pseudo_inverse: f of the overlaps freed from the correlations between
    patterns, f(O⁺m), for patterns that look alike; no vote is left out there. steps: per recall, unless the call says otherwise.
    """

    def __init__(
        self,
        dim: int,
        separation: Lagrangian,
        end: End = "held",
        mixed: Mixed | None = None,
        pseudo_inverse: bool = False,
        steps: int = 1,
    ) -> None:
        super().__init__()
        check_count("SequenceMemory", "dim", dim)
        check_count("SequenceMemory", "steps", steps)
        check_end("SequenceMemory", end)
        # TypeError for a separation that is no sum over patterns: leaving a vote out has no short form then
        steepness = separation.steepness(2.0)
        if not pseudo_inverse and steepness > _finest(torch.float64):
            raise ValueError(
                f"SequenceMemory: terms of this separation grow by {steepness:.0e} from one overlap to the next, which float64 cannot "
                "take apart again; lower its β or n, or use Maximum in an AssociativeMemory."
            )
        self.dim, self.end, self.mixed, self.pseudo_inverse, self.steps = dim, end, mixed, pseudo_inverse, steps
        self.separation = separation
        self.keys, self.nexts = Bank(dim), Bank()
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.written: Tensor  # patterns, of which with a value of their own
        self._made: tuple[tuple[object, ...], _Transitions] | None = None

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, self.nexts.dim if self.written[1] else None)
        check_bipolar("SequenceMemory.write", "pattern", patterns)
        if values is not None:
            check_bipolar("SequenceMemory.write", "value", values)
            keys, nexts = patterns, values
        else:
            keys, nexts = transitions("SequenceMemory", patterns, self.end)
        self.keys.append(keys)
        self.nexts.append(nexts)
        self.written = self.written + torch.tensor([len(patterns), 0 if values is None else len(values)], device=self.written.device)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.keys.rows)
        check_bipolar("SequenceMemory.recall", "cue", cue)
        settling = {"steps": self.steps, **settling}
        transitions = self._transitions()
        if self.nexts.rows.shape[1] != self.dim:
            if settling["steps"] != 1:
                raise ValueError(f"SequenceMemory.recall: values of another size are read once; got steps={settling['steps']}.")
            return settle(lambda state, rows: state, cue, read=lambda state: transitions.step(state, state), **settling)
        if self.mixed is None or not self.mixed.delay:
            return settle(lambda state, rows: transitions.step(state, state), cue, **settling)
        return self._delayed(cue, self.mixed.delay, transitions, settling)

    def energy(self, state: States) -> Energies:
        raise TypeError("SequenceMemory.energy: a state that moves on to the next descends nothing, so there is no energy.")

    def weights(self, cue: States) -> Weights:
        """How strongly one step mixes the successor of each key, no vote left out: [batch, key]; "open" has no key for a last pattern."""
        check_cue(self, "weights", cue, self.keys.rows)
        return self.separation.weights(self._transitions().scores(cue)).to(cue.dtype)

    def __len__(self) -> int:
        return int(self.written[0])

    def _delayed(self, cue: Tensor, delay: int, transitions: "_Transitions", settling: Settling) -> Recall:
        """Settle the states of the last steps together, newest first: only a whole history that stays the same has stopped."""
        whole: Settling = {**settling}
        clamp = settling.get("clamp")
        if clamp is not None and clamp.shape == cue.shape:
            whole["clamp"] = clamp.unsqueeze(1).expand(-1, delay + 1, -1)

        def update(history: Tensor, rows: Tensor) -> Tensor:
            return torch.cat([transitions.step(history[:, 0], history[:, -1]).unsqueeze(1), history[:, :-1]], 1)

        found = settle(update, cue.unsqueeze(1).repeat(1, delay + 1, 1), **whole)
        trajectory = None if found.trajectory is None else found.trajectory[:, :, 0]
        return replace(found, state=found.state[:, 0], trajectory=trajectory)

    def _transitions(self) -> "_Transitions":
        """The transitions ready for products, made anew only when they have changed."""
        keys, nexts = self.keys.rows, self.nexts.rows
        made_of = (keys.data_ptr(), len(keys), keys.dtype, keys.device, nexts.data_ptr())
        if self._made is None or self._made[0] != made_of:
            self._made = made_of, _Transitions(keys, nexts, self.separation, self.mixed, self.pseudo_inverse)
        return self._made[1]


def transitions(where: str, patterns: Tensor, end: End) -> tuple[Tensor, Tensor]:
    """What is followed, and by what, in one sequence [pattern, dim]. ValueError for an open sequence of one pattern."""
    if end != "open":
        return patterns, torch.cat([patterns[1:], patterns[:1] if end == "cyclic" else patterns[-1:]])
    if len(patterns) < 2:
        raise ValueError(f'{where}.write: an open sequence needs at least 2 patterns, got {len(patterns)}; end="held" keeps a single one.')
    return patterns[:-1], patterns[1:]


def check_end(where: str, end: str) -> None:
    """Refuse an end of sequences that there is not."""
    if end not in ("held", "cyclic", "open"):
        raise ValueError(f'{where}: end must be "held", "cyclic" or "open", got {end!r}.')


class _Transitions:
    """One step of recall as matrix products, at least in float32.

    For ±1 the overlap without a unit's own vote, h - ξ_i s_i, is h - 1 or h + 1. So with the even and odd part of f,
    e = (f(h+1) + f(h-1))/2 and o = (f(h+1) - f(h-1))/2, for any f: Σ_μ y_i f(h - ξ_i s_i) = (e Y)_i - s_i (o (Y∘X))_i.
    """

    def __init__(self, keys: Tensor, nexts: Tensor, separation: Lagrangian, mixed: Mixed | None, pseudo_inverse: bool) -> None:
        # the even and the odd part cancel down to f(h - 1): float64 where float32 would keep too few digits
        coarse = keys.dtype == torch.float64 or separation.steepness(2.0) > _finest(torch.float32)
        wide = torch.float64 if coarse else torch.float32
        self.separation, self.mixed = separation, mixed
        # kept alive, so that no other tensor can come to lie where these do and be taken for them
        self.made_of = keys, nexts
        self.keys, self.nexts = keys.to(wide), nexts.to(wide)
        self.excludes = not pseudo_inverse and keys.shape[1] == nexts.shape[1]
        self.own = self.nexts * self.keys if self.excludes else None
        self.compared = _duals(keys).to(wide) if pseudo_inverse else self.keys

    def step(self, state: Tensor, past: Tensor) -> Tensor:
        """The next state ±1, led on from `past`; with a mixed network also held by `state`."""
        now, then = state.to(self.keys.dtype), past.to(self.keys.dtype)
        sources = [then] if self.mixed is None or self.nexts.shape[1] != self.keys.shape[1] else [then, now]
        # all scores together, since the separation may scale each row by a factor of its own
        shifts = (-1.0, 1.0) if self.excludes else (0.0,)
        scores = torch.cat([self.scores(source) + shift for source in sources for shift in shifts], -1)
        weights = torch.split(self.separation.direction(scores), len(self.keys), -1)
        field = self._read(weights[: len(shifts)], self.nexts, self.own, then)
        if self.mixed is not None and len(sources) == 2:
            # a pattern held is its own successor, so its product with itself is 1 everywhere
            field = self.mixed.drive * field + self._read(weights[len(shifts) :], self.keys, None, now)
        return Sign().activation(field).to(state.dtype)

    def scores(self, state: Tensor) -> Tensor:
        """Overlaps, every vote counted; with the pseudo-inverse D at the pattern that the state is and 0 at the others."""
        return state.to(self.keys.dtype) @ self.compared.mT

    def _read(self, weights: tuple[Tensor, ...], contents: Tensor, own: Tensor | None, state: Tensor) -> Tensor:
        if not self.excludes:
            return weights[0] @ contents
        even, odd = (weights[1] + weights[0]) / 2, (weights[1] - weights[0]) / 2
        return even @ contents - state * (odd.sum(-1, keepdim=True) if own is None else odd @ own)


def _duals(keys: Tensor) -> Tensor:
    """O⁺X with O = XXᵀ/D: rows whose product with pattern ν is D for μ = ν and 0 else, if the patterns are independent."""
    wide = keys.double()
    rank = int(torch.linalg.matrix_rank(wide))
    if rank < len(keys):
        warnings.warn(
            f"SequenceMemory: the {len(keys)} patterns that have a successor span only {rank} dimensions, so the pseudo-inverse cannot "
            "tell them all apart; it gives the least-norm answer.",
            stacklevel=4,
        )
    inverse: Tensor = torch.linalg.pinv(wide)
    return keys.shape[1] * inverse.mT


def _finest(dtype: torch.dtype) -> float:
    """The growth between neighbouring overlaps at which ten binary digits of their difference are still right."""
    return math.ldexp(1 / torch.finfo(dtype).eps, -10)
