"""Competing hidden units: feed-forward features without labels, learned locally (Krotov & Hopfield 2019).

Weights W [hidden, visible]; rows of patterns [pattern, visible]. There are no targets: which unit learns is settled by the competition of
the hidden units themselves, so this is no `Rule` for a memory's weights but a layer of its own.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.learning.base import wide
from ammon.shapes import Rows, check_count, check_positive, check_rows

Hidden = Float[Tensor, "hidden visible"]
Visible = Float[Tensor, "pattern visible"]
Currents = Float[Tensor, "pattern hidden"]


@dataclass(frozen=True)
class CompetingUnits:
    """dW_μ ∝ g_μ (R^p v - <W_μ, v> W_μ) with <W, v> = Σ |W_i|^(p-1) sign(W_i) v_i (Krotov & Hopfield 2019, eqs. 3 and 10).

    For each pattern the unit with the largest <W, v> has g = 1, the one in place `rank` g = -`push` (their Δ), all others 0.
    While a unit's currents are positive where it wins, its weights go to length R in the p-norm: d|W|^p/dt ∝ g <W, v> (R^p - |W|^p).

    power: p >= 1. rank: k >= 2. radius: R. rate: the largest change of a weight in one step, as the changes of a batch are divided by
    the largest of them ("fixed precision", their code). That division makes a batch differ from its patterns one by one: not online.
    """

    power: float = 2.0
    rank: int = 2
    push: float = 0.4
    rate: float = 0.02
    radius: float = 1.0
    local: ClassVar[bool] = True
    online: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.power < float("inf"):
            raise ValueError(f"CompetingUnits: power must be at least 1 and finite, got {self.power}.")
        check_count("CompetingUnits", "rank", self.rank)
        if self.rank < 2:
            raise ValueError(f"CompetingUnits: rank must be at least 2, the unit after the winner, got {self.rank}.")
        if not 0 <= self.push < float("inf"):
            raise ValueError(f"CompetingUnits: push must be >= 0 and finite, got {self.push}.")
        check_positive("CompetingUnits", "rate", self.rate)
        check_positive("CompetingUnits", "radius", self.radius)

    def begin(self, hidden: int, visible: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Hidden:
        """Normal weights: each row of expected p-norm far beyond R, from which it comes down as it learns."""
        check_count("CompetingUnits.begin", "hidden", hidden)
        check_count("CompetingUnits.begin", "visible", visible)
        if hidden < self.rank:
            raise ValueError(f"CompetingUnits.begin: {hidden} hidden units have no place {self.rank}; use more units or a lower rank.")
        return torch.randn(hidden, visible, generator=generator, device=generator.device, dtype=dtype)

    def currents(self, weights: Hidden, patterns: Visible) -> Currents:
        """<W_μ, v> of each hidden unit."""
        return patterns @ (weights if self.power == 2 else weights.sign() * weights.abs() ** (self.power - 1)).mT

    def change(self, weights: Hidden, patterns: Visible) -> Hidden:
        """Σ over the patterns of g (R^p v - <W, v> W), each met with the same weights: two matrix products."""
        current = self.currents(weights, patterns)
        # in order, so that of equal currents the first unit comes first
        places = current.argsort(dim=-1, descending=True, stable=True)
        gate = torch.zeros_like(current).scatter_(1, places[:, self.rank - 1 : self.rank], -self.push).scatter_(1, places[:, :1], 1.0)
        pulled: Tensor = self.radius**self.power * (gate.mT @ patterns)
        return pulled - (gate * current).sum(0).unsqueeze(-1) * weights

    def learn(self, weights: Hidden, patterns: Rows, rate: float | None = None) -> Hidden:
        """The weights after one step on a batch, at the rule's own rate unless one is given."""
        _check(self, weights, patterns)
        if not len(patterns):
            return weights
        learned = wide(weights)
        change = self.change(learned, patterns.to(learned))
        largest = change.abs().amax()
        # a batch that changes nothing stays without effect instead of becoming 0/0
        step = (self.rate if rate is None else rate) / torch.where(largest > 0, largest, torch.ones_like(largest))
        return (learned + step * change).to(weights.dtype)


def train(rule: CompetingUnits, weights: Hidden, patterns: Rows, *, epochs: int, batch: int = 100, generator: torch.Generator) -> Hidden:
    """The weights after so many passes over the patterns, shuffled anew for each, at a rate that falls linearly to 0."""
    check_count("train", "epochs", epochs)
    check_count("train", "batch", batch)
    for epoch in range(epochs):
        order = torch.randperm(len(patterns), generator=generator, device=generator.device).to(patterns.device)
        for rows in torch.split(order, batch):
            weights = rule.learn(weights, patterns[rows], rule.rate * (1 - epoch / epochs))
    return weights


def _check(rule: CompetingUnits, weights: Tensor, patterns: Tensor) -> None:
    check_rows("CompetingUnits.learn", "pattern", patterns, weights.shape[-1])
    if len(weights) < rule.rank:
        raise ValueError(f"CompetingUnits.learn: {len(weights)} hidden units have no place {rule.rank}; use more units or a lower rank.")
