"""Race: leaky competing accumulators choose what is recalled, and when (Usher & McClelland 2001; Polyn et al. 2009, eq. A5).

x ← max(0, x + (a - K x - L (Σ x - x)) dt/τ + η N(0, 1) sqrt(dt/τ)); the first to reach its threshold is retrieved, and all start anew.
Each list has its own race; one clock serves all. There is no likelihood in closed form.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ammon.cmr.lists import NONE
from ammon.cmr.parameters import Rows

# where an item that was retrieved before is held, as a part of its threshold (Polyn et al. 2009)
HELD = 0.95


class Network(Protocol):
    """What is raced in: supports of units, and a context that drifts to what was retrieved."""

    def support(self, pairs: Int[Tensor, " pair"]) -> Float[Tensor, "pair unit"]: ...

    def bring(self, pairs: Int[Tensor, " pair"], unit: Int[Tensor, " pair"]) -> Float[Tensor, " pair"]:
        """Context drifts; returns c_in · c of before, by which a retrieval is accepted or rejected."""
        ...


@dataclass(frozen=True)
class AccumulatorRace:
    """A choice by a race until the time is over.

    step, limit: in ms. competitors: only so many, the strongest, race each other; all if None. repeats: items may be retrieved again,
    over a threshold 1 + ω that falls back to 1 by the factor α with every retrieval (Lohnas et al. 2015, eq. 13); else they only compete.
    """

    step: float = 100.0
    limit: float = 90_000.0
    competitors: int | None = None
    repeats: bool = False
    outputs: int | None = None  # recall ends with so many reported; as many as there are units if None

    @property
    def needs(self) -> tuple[str, ...]:
        names = ("race_leak", "race_inhibition", "race_noise", "race_time_constant")
        return (*names, "repeat_omega", "repeat_alpha") if self.repeats else names

    def logits(self, support: Tensor, values: Rows, clip: bool) -> Tensor:
        raise TypeError("AccumulatorRace: a race has no likelihood in closed form; simulate it, or fit with SoftmaxChoice or PowerChoice.")


@dataclass(frozen=True)
class Raced:
    """Units reported and when, in ms from the start of recall; NONE and NaN beyond the last."""

    units: Int[Tensor, "pair output"]
    times: Float[Tensor, "pair output"]


@torch.no_grad()
def run(network: Network, race: AccumulatorRace, values: Rows, present: Bool[Tensor, "pair unit"], generator: torch.Generator) -> Raced:
    """Recall of all pairs at once, until the time is over or as many were reported as may be."""
    count, units = present.shape
    width = min(race.competitors or units, units)
    most = race.outputs or units
    rate = race.step / values("race_time_constant")
    leak, inhibition = (values("race_leak") * rate).unsqueeze(-1), (values("race_inhibition") * rate).unsqueeze(-1)
    noise = (values("race_noise") * rate.sqrt()).unsqueeze(-1)
    drive = torch.zeros(count, width, dtype=rate.dtype)
    racer = torch.zeros(count, width, dtype=torch.int64)
    level = torch.zeros_like(drive)
    threshold = torch.ones(count, units, dtype=rate.dtype)
    retrieved = torch.zeros_like(present)
    said = torch.full((count, most), NONE)
    times = torch.full((count, most), torch.nan, dtype=rate.dtype)
    number = torch.zeros(count, dtype=torch.int64)

    def line_up(pairs: Tensor) -> None:
        """A new race: the strongest items that the list has, from 0."""
        support = network.support(pairs).clamp_min(0).masked_fill(~present[pairs], -1)
        strongest, racer[pairs] = support.topk(width, -1)
        drive[pairs] = rate[pairs].unsqueeze(-1) * strongest.clamp_min(0)
        level[pairs] = 0

    active = torch.arange(count)
    line_up(active)
    for tick in range(1, int(race.limit / race.step) + 1):
        x = level[active]
        kick = torch.randn(len(active), width, generator=generator, dtype=x.dtype)
        x = x + drive[active] - leak[active] * x - inhibition[active] * (x.sum(-1, keepdim=True) - x) + noise[active] * kick
        x = x.clamp_min(0)
        line = threshold[active].gather(-1, racer[active])
        over = (x >= line) & present[active].gather(-1, racer[active])
        if not race.repeats:
            before = retrieved[active].gather(-1, racer[active])
            x = torch.where(over & before, HELD * line, x)
            over &= ~before
        level[active] = x
        crossed = over.any(-1)
        if not bool(crossed.any()):
            continue
        pairs = active[crossed]
        # of several that cross in one step, any
        draw = torch.rand(over[crossed].shape, generator=generator, dtype=x.dtype).masked_fill(~over[crossed], -1)
        winner = racer[pairs].gather(-1, draw.argmax(-1, keepdim=True)).squeeze(-1)
        match = network.bring(pairs, winner)
        reported = match >= values("match_threshold")[pairs]
        told = pairs[reported]
        said[told, number[told]] = winner[reported]
        times[told, number[told]] = tick * race.step
        number[told] += 1
        retrieved[pairs, winner] = True
        if race.repeats:
            threshold[pairs] = 1 + values("repeat_alpha")[pairs].unsqueeze(-1) * (threshold[pairs] - 1)
            threshold[pairs, winner] = 1 + values("repeat_omega")[pairs]
        active = active[number[active] < most]
        if not len(active):
            break
        line_up(pairs[number[pairs] < most])
    longest = int(number.max()) if count else 0
    return Raced(said[:, :longest], times[:, :longest])
