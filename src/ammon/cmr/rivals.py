"""Rivals: models to be compared on the same recalls, by name; and the table of their comparison."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.cmr.choice import PowerChoice
from ammon.cmr.fitting import Fit
from ammon.cmr.layers import ContextCue, ItemCue, Items, Pool, Source
from ammon.cmr.lists import Lists
from ammon.cmr.model import CMR


@dataclass(frozen=True)
class Rival:
    """A model to fit, what is fixed in it, and what it needs beside the recalls: "similarity", "source" or nothing."""

    says: str
    fixed: Mapping[str, float]
    needs: str | None = None


RIVALS = {
    "localist": Rival("temporal context only", {}),
    "item-cue": Rival("similarity with the item recalled last is added to the support", {}, "similarity"),
    "context-cue": Rival("similarity inside the weights from context to items", {}, "similarity"),
    "source": Rival("a second context layer of sources", {}, "source"),
    "power": Rival("choice by the power rule a^τ", {}),
    "no-start": Rival("the start of the list is not reinstated", {"beta_start": 0.0}),
    "no-primacy": Rival("all positions are learned alike", {"primacy_scale": 0.0, "primacy_decay": 1.0}),
    "no-retrieval": Rival("recalled items bring back no studied context", {"learn_fc": 0.0}),
}


def make(name: str, similarity: Pool | None = None) -> CMR:
    """The model of a rival. ValueError if there is none of that name or what it needs is missing."""
    if name not in RIVALS:
        raise ValueError(f"rivals: no model is called {name!r}; there are {', '.join(RIVALS)}.")
    if RIVALS[name].needs == "similarity":
        if similarity is None:
            raise ValueError(f"rivals: the model {name} needs a similarity between the items.")
        return CMR(semantics=ItemCue(similarity) if name == "item-cue" else ContextCue(similarity, diagonal=False))
    if name == "source":
        return CMR((Items(), Source()))
    return CMR(choice=PowerChoice()) if name == "power" else CMR()


def bounds(name: str) -> dict[str, tuple[float, float]]:
    """What a rival searches beside the parameters that every model needs."""
    if name == "source":
        return {"beta_enc.source": (0, 1), "beta_rec.source": (0, 1), "learn_cf.source": (0, 1)}
    return {"sensitivity": (0.1, 20.0)} if name == "power" else {}


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


def chance(lists: Lists) -> float:
    """Log likelihood of the recalls if each item left were as likely and stopping as frequent as it was at each output: a floor to beat."""
    count, lengths = lists.num_recalls, lists.lengths
    total = 0.0
    for output in range(int(count.max()) + 1):
        here = count >= output
        stop, going = int((count == output).sum()), int((count > output).sum())
        if stop and going:
            total += stop * math.log(stop / (stop + going)) + going * math.log(going / (stop + going))
        left = (lengths - output)[here & (count > output)]
        total -= float(left.double().log().sum())
    return total


def names_needing(what: str) -> Sequence[str]:
    return [name for name, rival in RIVALS.items() if rival.needs == what]
