"""Context: what was recalled brings up what happened around it.

`Spread` is one step of reinstatement in CMR (Polyn, Norman & Kahana 2009; Howard & Kahana 2002) with localist items: a hit brings
back the context it was studied in, which holds earlier items with weight ρ^lag, and is held by later ones likewise.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ammon.episodes.base import Engine, Neighbours
from ammon.episodes.records import Scope


class Context(Protocol):
    """What hits [hit], by how much they stand out, add to the episodes around them.

    Gives ids [pair] of episodes, which hit each of them is owed to (index), and how much it gets [pair].
    """

    @property
    def reach(self) -> int: ...

    def reinstate(
        self, engine: Engine, cue: Tensor | None, hits: Tensor, strengths: Tensor, scope: Scope
    ) -> tuple[Tensor, Tensor, Tensor]: ...


@dataclass(frozen=True)
class Spread:
    """forward · ρ^(k-1) of a hit's strength to what came k places after it, backward · ρ^(k-1) to what came before; up to `reach`."""

    forward: float = 0.5
    backward: float = 0.3
    rho: float = 0.7
    reach: int = 6

    def __post_init__(self) -> None:
        if not (0 <= self.rho <= 1 and 0 <= self.forward < float("inf") and 0 <= self.backward < float("inf")):
            raise ValueError(
                f"Spread: forward and backward of at least 0 and rho in [0, 1] are needed, got {self.forward}, {self.backward}, {self.rho}."
            )
        if not (isinstance(self.reach, int) and 0 <= self.reach <= 1000):
            raise ValueError(f"Spread: reach must be a whole number from 0 to 1000, got {self.reach!r}.")

    def kernel(self, lags: Tensor) -> Tensor:
        """What a hit of strength 1 gives to an episode `lags` places after it."""
        sides = torch.where(lags > 0, self.forward, self.backward)
        return sides * self.rho ** (lags.abs() - 1).double()

    def reinstate(self, engine: Engine, cue: Tensor | None, hits: Tensor, strengths: Tensor, scope: Scope) -> tuple[Tensor, Tensor, Tensor]:
        near: Neighbours = engine.around(hits.tolist(), self.reach, scope)
        place = {one: index for index, one in enumerate(hits.tolist())}
        source = torch.tensor([place[one] for one in near.of_ids.tolist()], dtype=torch.int64)
        return near.ids, source, strengths[source] * self.kernel(near.lags)
