"""Similarity: how much a cue looks like each stored key.

Cues [*lead, query, dim] and keys [*lead, pattern, dim] give scores [*lead, query, pattern]; larger is more alike.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ammon.shapes import Cues, Keys, Scores

Potential = Literal["dual", "inside", "none"]


class Similarity(nn.Module):
    """The contract of a similarity.

    potential: how f becomes the descent of an energy. "dual": the energy needs the dual of the state's own Lagrangian;
    "inside": the scores themselves fall off with distance; "none": f is no gradient step, so there is no energy.
    """

    potential: Potential = "none"

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        """Scores [*lead, query, pattern]."""
        raise NotImplementedError

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        """The gradient of Σ weights · scores with respect to the cues: where the weighted patterns draw them. TypeError if none."""
        raise TypeError(f"{type(self).__name__}.pull: this similarity has no gradient; settle with one of Dot, Cosine, Euclidean.")


class Dot(Similarity):
    """x · ξ."""

    potential: Potential = "dual"

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        return cues @ keys.mT

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        return weights @ keys


class Cosine(Similarity):
    """x · ξ / (|x| |ξ|), in [-1, 1]; 0 for an empty row."""

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        return _unit(cues) @ _unit(keys).mT

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        keys, direction = _unit(keys), _unit(cues)
        along = (weights * (direction @ keys.mT)).sum(-1, keepdim=True)
        return (weights @ keys - along * direction) / _length(cues)


class Euclidean(Similarity):
    """-|x - ξ|²/2. With softmax(β), β = 1/σ² of Gaussian noise on the cue."""

    potential: Potential = "inside"

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        # far from the origin |x|² - 2x·ξ + |ξ|² loses its digits; distances don't change with the origin
        origin = keys.mean(-2, keepdim=True)
        cues, keys = cues - origin, keys - origin
        scores = cues @ keys.mT - keys.square().sum(-1).unsqueeze(-2) / 2 - cues.square().sum(-1, keepdim=True) / 2
        return scores.clamp_max(0)

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        return weights @ keys - weights.sum(-1, keepdim=True) * cues


class Manhattan(Similarity):
    """-Σ|x - ξ|."""

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        return -_distance(cues, keys, 1.0)

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        # pattern by pattern: all signs at once would hold [query, pattern, dim]
        total = torch.zeros_like(cues)
        for pattern in range(keys.shape[-2]):
            sign = torch.sign(keys[..., pattern, :].unsqueeze(-2) - cues)
            total = total + weights[..., pattern].unsqueeze(-1) * sign
        return total


class Hamming(Similarity):
    """Minus the number of entries that differ. No gradient."""

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        return -_distance(cues, keys, 0.0)


Relevant = Literal["either", "both", "cosine"]


class NormalisedDot(Similarity):
    """x · ξ / N, N the relevant features: MINERVA 2's similarity (Hintzman 1984).

    "either" counts features that are not 0 in the cue or in the trace (Hintzman), "both" those not 0 in both (Arndt &
    Hirshman 1998), "cosine" divides by the norms. A pair with no relevant feature scores 0. The zeros of a cue are held fixed in `pull`.
    """

    def __init__(self, relevant: Relevant = "either") -> None:
        super().__init__()
        if relevant not in ("either", "both", "cosine"):
            raise ValueError(f'NormalisedDot: relevant must be "either", "both" or "cosine", got {relevant!r}.')
        self.relevant = relevant

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        if self.relevant == "cosine":
            return Cosine().forward(cues, keys)
        return (cues @ keys.mT) / self._count(cues, keys)

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        if self.relevant == "cosine":
            return Cosine().pull(cues, keys, weights)
        return (weights / self._count(cues, keys)) @ keys

    def _count(self, cues: Tensor, keys: Tensor) -> Tensor:
        # counted in float32: half precision cannot count beyond a few hundred
        in_cue, in_key = (cues != 0).float(), (keys != 0).float()
        both = in_cue @ in_key.mT
        count = both if self.relevant == "both" else in_cue.sum(-1, keepdim=True) + in_key.sum(-1).unsqueeze(-2) - both
        return count.clamp_min(1).to(cues.dtype)


def _length(rows: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return length.clamp_min(torch.finfo(rows.dtype).tiny)


def _unit(rows: Tensor) -> Tensor:
    return rows / _length(rows)


def _distance(cues: Tensor, keys: Tensor, p: float) -> Tensor:
    # cdist has no half precision
    if cues.dtype in (torch.float16, torch.bfloat16):
        return torch.cdist(cues.float(), keys.float(), p=p).to(cues.dtype)
    return torch.cdist(cues, keys, p=p)
