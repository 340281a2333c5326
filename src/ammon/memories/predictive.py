"""PredictiveMemory: a recurrent predictive-coding network that has learned the covariance of its patterns (Tang et al. 2023).

Each unit is predicted from all others, errors descend E(x) = (x - μ)·(S + λ)⁻¹(x - μ)/2, and at rest a cue with known entries is completed
to the mean of a normal distribution given these: x_m = μ_m + S_mk (S_kk + λ)⁻¹ (x_k - μ_k). Here rest is found at once, by that closed
form; `ammon.learning.predictive` holds the loops that come to it. Cues [batch, dim], moments of units [dim + value_dim].
"""

from typing import Unpack

import torch
from jaxtyping import Bool
from torch import Tensor

from ammon.dynamics.settle import Recall, Settling, settle
from ammon.learning.predictive import Moments, gather
from ammon.memories.base import Memory
from ammon.memories.checks import check_cue, check_pair
from ammon.shapes import Energies, Rows, States, Weights, check_count, check_positive


class PredictiveMemory(Memory):
    """Constant in size, (dim + value_dim)² numbers; written one at a time or together, to the same moments.

    ridge: λ as a share of the mean variance of a unit, the noise that recall expects in a cue. With `clamp` the entries known stay, and the
    others are predicted from them. Without, every entry may be wrong by the noise: recall draws the cue towards what the patterns span.
    Values are more units, never known: one step predicts them from the cue.
    """

    def __init__(self, dim: int, ridge: float = 1e-3, steps: int = 1) -> None:
        super().__init__()
        check_count("PredictiveMemory", "dim", dim)
        check_count("PredictiveMemory", "steps", steps)
        check_positive("PredictiveMemory", "ridge", ridge)
        self.dim, self.ridge, self.steps = dim, float(ridge), steps
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scatter", torch.zeros(dim, dim))
        self.register_buffer("like", torch.empty(0))
        self.register_buffer("written", torch.zeros(2, dtype=torch.int64))
        self.mean: Tensor
        self.scatter: Tensor  # Σ (x - μ)(x - μ)ᵀ
        self.like: Tensor  # of the dtype and on the device of what was written: moments of half precision are kept in float32
        self.written: Tensor  # patterns, of which with a value of their own

    def write(self, patterns: Rows, values: Rows | None = None) -> None:
        check_pair(self, patterns, values, len(self.mean) - self.dim if self._hetero else None)
        if not len(patterns):
            return
        if not len(self):
            self.like = patterns.new_empty(0)
        rows = patterns.detach() if values is None else torch.cat([patterns.detach(), values.detach().to(patterns)], -1)
        held = Moments(len(self), self.mean, self.scatter) if len(self) else None
        moments = gather(held, rows.to(self.like).to(torch.promote_types(self.like.dtype, torch.float32)))
        self.mean, self.scatter = moments.mean, moments.scatter
        self.written = self.written + torch.tensor([len(patterns), 0 if values is None else len(values)], device=self.written.device)

    def recall(self, cue: States, **settling: Unpack[Settling]) -> Recall:
        check_cue(self, "recall", cue, self.like)
        settling = {"steps": 1 if self._hetero else self.steps, **settling}
        clamp = settling.get("clamp")
        if self._hetero:
            everything = torch.ones(self.dim, dtype=torch.bool, device=cue.device)
            return settle(lambda state, rows: self._filtered(state), cue, read=lambda state: self._predicted(state, everything), **settling)
        if clamp is None or clamp.shape != cue.shape:
            return settle(lambda state, rows: self._filtered(state), cue, **settling)
        return settle(lambda state, rows: self._completed(state, clamp[rows]), cue, **settling)

    def energy(self, state: States) -> Energies:
        """E up to its normal constant: half the squared distance from the mean, in units of the spread (Mahalanobis). [batch]"""
        check_cue(self, "energy", state, self.like)
        away = state.to(self.mean) - self.mean[: self.dim]
        energy: Tensor = (away * self._solve(away)).sum(-1) / 2
        return energy.to(state.dtype)

    def weights(self, cue: States) -> Weights:
        raise TypeError("PredictiveMemory.weights: the patterns are superposed in their moments, so none has a weight of its own.")

    def covariance(self) -> Tensor:
        """S + λ [dim, dim]."""
        covariance = self.scatter[: self.dim, : self.dim] / max(1, len(self))
        total: Tensor = covariance + self._noise() * torch.eye(self.dim, dtype=covariance.dtype, device=covariance.device)
        return total

    def predictions(self) -> Tensor:
        """W [dim, dim], by which each unit is predicted from all others: -Ω_ij/Ω_ii, Ω = (S + λ)⁻¹; no unit predicts itself."""
        precision = torch.linalg.inv(self.covariance())
        weights: Tensor = -precision / precision.diagonal().unsqueeze(-1)
        weights.fill_diagonal_(0)
        return weights

    def __len__(self) -> int:
        return int(self.written[0])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, patterns={len(self)}, ridge={self.ridge:g}, steps={self.steps}"

    @property
    def _hetero(self) -> bool:
        return bool(self.written[1] > 0)

    def _noise(self) -> Tensor:
        """λ: a share of the mean variance; of the mean square while there is no variance, as with one pattern."""
        variance = self.scatter.diagonal()[: self.dim].mean() / max(1, len(self))
        size = self.mean[: self.dim].square().mean()
        floor = torch.finfo(variance.dtype).eps ** 0.5
        return (self.ridge * torch.maximum(variance, floor * size)).clamp_min(torch.finfo(variance.dtype).tiny ** 0.5)

    def _solve(self, rows: Tensor) -> Tensor:
        """(S + λ)⁻¹ of each row."""
        solved: Tensor = torch.cholesky_solve(rows.mT, torch.linalg.cholesky(self.covariance())).mT
        return solved

    def _filtered(self, state: Tensor) -> Tensor:
        """The mean of the patterns' distribution given the state with noise of variance λ in every entry."""
        away = state.to(self.mean) - self.mean[: self.dim]
        return (state.to(self.mean) - self._noise() * self._solve(away)).to(state.dtype)

    def _completed(self, state: Tensor, known: Bool[Tensor, "batch dim"]) -> Tensor:
        """The entries that are not known, from those that are; items with the same ones together."""
        new = state.clone()
        masks, which = torch.unique(known, dim=0, return_inverse=True)
        for number, mask in enumerate(masks):
            items = (which == number).nonzero().squeeze(-1)
            if not bool(mask.all()):
                new[items] = torch.where(mask, state[items], self._predicted(state[items], mask)[:, : self.dim])
        return new

    def _predicted(self, state: Tensor, mask: Tensor) -> Tensor:
        """All units, or the values, given the entries of this mask: μ + S_·k (S_kk + λ)⁻¹ (x_k - μ_k)."""
        known = mask.nonzero().squeeze(-1)
        wanted = slice(self.dim, None) if self._hetero else slice(None)
        away = state.to(self.mean)[:, known] - self.mean[known]
        lower = torch.linalg.cholesky(self.covariance()[known][:, known])
        solved = torch.cholesky_solve(away.mT, lower).mT
        return (self.mean[wanted] + solved @ self.scatter[known][:, wanted] / max(1, len(self))).to(state.dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # moments of more units, or in another dtype, are no error: they replace these
        for name in ("mean", "scatter", "like"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)
