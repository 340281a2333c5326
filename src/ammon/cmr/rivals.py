"""Rivals: models to be compared on the same recalls, by name; and the table of their comparison."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.cmr.choice import PowerChoice
from ammon.cmr.fitting import Fit
from ammon.cmr.layers import ContextCue, ItemCue, Items, Pool, Source
from ammon.cmr.model import CMR


@dataclass(frozen=True)
class Rival:
    """A model to fit: how it is made of a similarity between items, what is fixed in it, what is searched beside what every model needs."""

    says: str
    make: Callable[[Any], CMR]
    fixed: Mapping[str, float] = field(default_factory=dict)
    search: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    needs: str | None = None  # "similarity", "source" or nothing


# one unit of learning sets the scale of weights, and as in the paper the others may be 100 times as large
WIDE = {"sensitivity": (0.1, 100.0), **dict.fromkeys(("shared_cf", "pre_cf", "primacy_scale", "primacy_decay"), (0.0, 100.0))}
RIVALS = {
    "localist": Rival("temporal context only", lambda _: CMR()),
    "item-cue": Rival(
        "similarity with the item recalled last is added to the support", lambda pool: CMR(semantics=ItemCue(pool)), needs="similarity"
    ),
    "context-cue": Rival(
        "similarity inside the weights from context to items",
        lambda pool: CMR(semantics=ContextCue(pool, diagonal=False)),
        needs="similarity",
    ),
    "source": Rival(
        "a second context layer of sources",
        lambda _: CMR((Items(), Source())),
        search=dict.fromkeys(("beta_enc.source", "beta_rec.source", "learn_cf.source"), (0.0, 1.0)),
        needs="source",
    ),
    "power": Rival("choice by the power rule a^τ", lambda _: CMR(choice=PowerChoice()), search={"sensitivity": (0.1, 20.0)}),
    "base": Rival(
        "BaseCMR of Gunn & Polyn 2025: power choice, multiplicative primacy, supports of its own and shared",
        lambda _: CMR(choice=PowerChoice(), primacy="multiplicative"),
        {"learn_cf": 1.0},
        WIDE,
    ),
    "base-item-cue": Rival(
        "the same, with similarity as in item-cue",
        lambda pool: CMR(semantics=ItemCue(pool), choice=PowerChoice(), primacy="multiplicative"),
        {"learn_cf": 1.0},
        {**WIDE, "semantic": (0.0, 100.0)},
        "similarity",
    ),
    "no-start": Rival("the start of the list is not reinstated", lambda _: CMR(), {"beta_start": 0.0}),
    "no-primacy": Rival("all positions are learned alike", lambda _: CMR(), {"primacy_scale": 0.0, "primacy_decay": 1.0}),
    "no-retrieval": Rival("recalled items bring back no studied context", lambda _: CMR(), {"learn_fc": 0.0}),
}


def make(name: str, similarity: Pool | None = None) -> CMR:
    """The model of a rival. ValueError if there is none of that name or what it needs is missing."""
    if name not in RIVALS:
        raise ValueError(f"rivals: no model is called {name!r}; there are {', '.join(RIVALS)}.")
    if RIVALS[name].needs == "similarity" and similarity is None:
        raise ValueError(f"rivals: the model {name} needs a similarity between the items.")
    return RIVALS[name].make(similarity)


def weights(criteria: Float[Tensor, "model subject"]) -> Float[Tensor, "model subject"]:
    """exp(-Δ/2) over their sum (Burnham & Anderson 2002; Wagenmakers & Farrell 2004): of AIC or BIC, smaller being better."""
    return torch.softmax(-criteria / 2, 0)


@dataclass(frozen=True)
class Ranking:
    """One model among its rivals, summed over subjects."""

    name: str
    num_parameters: int
    log_likelihood: float
    aic: float
    bic: float
    delta: float  # AIC above that of the best
    weight: float  # mean over subjects of the AIC weight
    best_for: int  # subjects whose AIC it has lowest


def rank(fits: Mapping[str, Fit]) -> list[Ranking]:
    """The models from best to worst by the sum of AIC. ValueError if they were not fitted to the same subjects and events."""
    first = next(iter(fits.values()))
    for name, fit in fits.items():
        if fit.subjects != first.subjects or not torch.equal(fit.num_events, first.num_events):
            raise ValueError(f"rank: {name} was fitted to other recalls than {next(iter(fits))}; fit all to the same lists.")
    aic = torch.stack([fit.aic for fit in fits.values()])
    share, best, least = weights(aic).mean(-1), aic.argmin(0), float(aic.sum(-1).min())
    rows = [
        Ranking(
            name, fit.num_parameters, float(fit.log_likelihood.sum()), float(fit.aic.sum()), float(fit.bic.sum()),
            float(fit.aic.sum()) - least, float(share[number]), int((best == number).sum()),
        )
        for number, (name, fit) in enumerate(fits.items())
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row.aic)
