"""Choice: from the support of each item to the logits of recalling it next; and when recall stops.

Support [pair, output, unit], logits of the same shape; stop probabilities [pair, output].
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ammon.cmr.parameters import Rows

Support = Float[Tensor, "pair output unit"]
Marked = Bool[Tensor, "pair output unit"]
# what cymr and the MATLAB code keep supports and stop probabilities above
LEAST = 1e-6


class Choice(Protocol):
    """How the next item is chosen. `needs`: the parameters it reads."""

    @property
    def needs(self) -> tuple[str, ...]: ...

    def logits(self, support: Support, values: Rows, clip: bool) -> Support:
        """Logits of the choice. clip: supports at least 1e-6, as cymr has them, at the price of a gradient of 0 below."""
        ...


@dataclass(frozen=True)
class SoftmaxChoice:
    """P ∝ exp(2 a / T) (Kragel, Morton & Polyn 2015)."""

    needs: ClassVar[tuple[str, ...]] = ("temperature",)

    def logits(self, support: Support, values: Rows, clip: bool) -> Support:
        support = support.clamp_min(LEAST) if clip else support
        return support * (2 / values("temperature"))[:, None, None]


@dataclass(frozen=True)
class PowerChoice:
    """P ∝ a^τ, a Luce choice of sharpened supports (Howard & Kahana 2002; Gunn & Polyn 2025)."""

    needs: ClassVar[tuple[str, ...]] = ("sensitivity",)

    def logits(self, support: Support, values: Rows, clip: bool) -> Support:
        # the smooth way is the larger root of x² - a x = ¼ LEAST²: a where a is large, never 0, with a slope everywhere
        positive = support.clamp_min(LEAST) if clip else (support + (support.square() + LEAST**2).sqrt()) / 2
        return values("sensitivity")[:, None, None] * positive.clamp_min(torch.finfo(positive.dtype).tiny).log()


class Stop(Protocol):
    """When recall ends. `needs`: the parameters it reads."""

    @property
    def needs(self) -> tuple[str, ...]: ...

    def probability(self, support: Support, recalled: Marked, left: Marked, output: Tensor, values: Rows) -> Tensor:
        """The probability [pair, output] that nothing more is recalled at these output positions (from 0), in [1e-6, 1 - 1e-6].

        recalled, left: units of the list that were recalled before, and those that were not.
        """
        ...


@dataclass(frozen=True)
class PositionStop:
    """X1 exp(X2 output) (Kragel, Morton & Polyn 2015)."""

    needs: ClassVar[tuple[str, ...]] = ("stop_scale", "stop_growth")

    def probability(self, support: Support, recalled: Marked, left: Marked, output: Tensor, values: Rows) -> Tensor:
        growth = values("stop_growth").unsqueeze(-1) * output
        # a probability, so the exponent needs no more than what makes it 1; without this, inf times 0 in the gradient
        return _probability(values("stop_scale").unsqueeze(-1) * torch.exp(growth.clamp_max(300)))


@dataclass(frozen=True)
class StrengthStop:
    """X1 + exp(-X2 Σ a of the items left)."""

    needs: ClassVar[tuple[str, ...]] = ("stop_scale", "stop_growth")

    def probability(self, support: Support, recalled: Marked, left: Marked, output: Tensor, values: Rows) -> Tensor:
        left = torch.where(left, support.clamp_min(0), 0).sum(-1)
        return _probability(values("stop_scale").unsqueeze(-1) + torch.exp(-(values("stop_growth").unsqueeze(-1) * left).clamp_min(-300)))


@dataclass(frozen=True)
class RatioStop:
    """X1 + exp(-X2 Σ a of the items left / Σ a of those recalled); X1 before the first recall."""

    needs: ClassVar[tuple[str, ...]] = ("stop_scale", "stop_growth")

    def probability(self, support: Support, recalled: Marked, left: Marked, output: Tensor, values: Rows) -> Tensor:
        support = support.clamp_min(LEAST)
        done = torch.where(recalled, support, 0).sum(-1)
        some = done > 0
        ratio = torch.where(left, support, 0).sum(-1) / torch.where(some, done, torch.ones_like(done))
        rest = torch.exp(-(values("stop_growth").unsqueeze(-1) * ratio).clamp_min(-300))
        return _probability(values("stop_scale").unsqueeze(-1) + torch.where(some, rest, torch.zeros_like(rest)))


def _probability(raw: Tensor) -> Tensor:
    return raw.clamp(LEAST, 1 - LEAST)
