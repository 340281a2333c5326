"""Context: what was recalled brings up what happened around it.

`Spread` is one step of reinstatement in CMR (Polyn, Norman & Kahana 2009; Howard & Kahana 2002) with localist items: a hit brings
back the context it was studied in, which holds earlier items with weight ρ^lag, and is held by later ones likewise.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ammon.dynamics.drift import drift_along
from ammon.episodes.base import Engine, Neighbours
from ammon.episodes.records import Scope
from ammon.shapes import check_count


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

    forward: float = 0.75
    backward: float = 0.45
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
        after = (lags > 0).double()
        return (after * self.forward + (1 - after) * self.backward) * self.rho ** (lags.abs() - 1).double()

    def reinstate(self, engine: Engine, cue: Tensor | None, hits: Tensor, strengths: Tensor, scope: Scope) -> tuple[Tensor, Tensor, Tensor]:
        near: Neighbours = engine.around(hits.tolist(), self.reach, scope)
        place = {one: index for index, one in enumerate(hits.tolist())}
        source = torch.tensor([place[one] for one in near.of_ids.tolist()], dtype=torch.int64)
        return near.ids, source, strengths[source] * self.kernel(near.lags)


@dataclass(frozen=True)
class Drift:
    """A context that drifts with what happens (`dynamics/drift`), reset at each session: a hit gives `weight` · c_hit·c_t to others.

    Here the items of CMR are the keys themselves, so moments count as near that are alike or stand near each other. The contexts are
    made anew from the keys within `reach` places of a hit; what lies further back has faded to ρ^reach.
    """

    beta: float = 0.4
    weight: float = 0.4
    reach: int = 24

    def __post_init__(self) -> None:
        if not (0 < self.beta <= 1 and 0 <= self.weight < float("inf")):
            raise ValueError(f"Drift: beta in (0, 1] and weight of at least 0 are needed, got {self.beta}, {self.weight}.")
        check_count("Drift", "reach", self.reach)

    def reinstate(self, engine: Engine, cue: Tensor | None, hits: Tensor, strengths: Tensor, scope: Scope) -> tuple[Tensor, Tensor, Tensor]:
        # what is not in question is context all the same
        near = engine.around(hits.tolist(), self.reach, Scope())
        inside = engine.around(hits.tolist(), self.reach, scope).ids if not scope.everything else near.ids
        ids, sources, gains = [], [], []
        for place, hit in enumerate(hits.tolist()):
            mine = near.of_ids == hit
            order = near.lags[mine].argsort()
            lags, others = near.lags[mine][order], near.ids[mine][order]
            before = int((lags < 0).sum())
            window = torch.cat([others[:before], torch.tensor([hit]), others[before:]])
            keys = engine.keys(window.tolist()).double()
            contexts = drift_along(torch.zeros(keys.shape[1], dtype=keys.dtype), keys, self.beta)
            overlaps = self.weight * strengths[place] * (contexts @ contexts[before])
            kept = (window != hit) & torch.isin(window, inside)
            ids.append(window[kept])
            gains.append(overlaps[kept])
            sources.append(torch.full((int(kept.sum()),), place, dtype=torch.int64))
        return torch.cat(ids), torch.cat(sources), torch.cat(gains)
