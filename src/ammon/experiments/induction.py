"""Induction: does attention that matches and then copies, as an induction head does, recall with the lags of CMR? (Ji-An et al. 2024)

One head finds where the item recalled last was studied and brings its context; a second takes that as its query against the contexts of
study. Its attention, averaged over items by lag, is held against transitions drawn from CMR.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.cmr.attention import circuit
from ammon.cmr.lists import once
from ammon.cmr.model import CMR
from ammon.dynamics.drift import drift

LAGS = 5


@dataclass(frozen=True)
class Point:
    """One setting of the model. previous: items are bound to the context before them."""

    beta_enc: float = 0.7
    beta_rec: float = 0.8
    learn_fc: float = 0.5
    learn_cf: float = 0.9
    temperature: float = 0.3
    length: int = 16
    previous: bool = False
    lists: int = 20_000
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """Conditional response probabilities at lags -5..-1, 1..5 after the first recall, by both ways; distance is their root mean square."""

    lags: tuple[int, ...]
    attention: tuple[float, ...]
    cmr: tuple[float, ...]
    standard_error: tuple[float, ...]  # of the draws
    distance: float


@torch.no_grad()
def measure(point: Point) -> Row:
    """Attention of the circuit from every item that may come first, against draws of CMR."""
    model = CMR(association="previous" if point.previous else "new")
    values = {
        "beta_enc": point.beta_enc, "beta_start": 0.0, "learn_fc": point.learn_fc, "learn_cf": point.learn_cf, "primacy_scale": 0.0,
        "primacy_decay": 1.0, "temperature": point.temperature,
    }  # fmt: skip
    heads = circuit(point.length, **values, previous=point.previous)
    items = torch.eye(point.length, dtype=torch.float64)
    # the first head: from each item to its context; the second: from that, mixed into the query there is, to the next item
    query = drift(heads.context.expand(point.length, -1), heads.brought(items), point.beta_rec)
    pattern = heads.attention(query, items == 0)

    rest = {"beta_rec": point.beta_rec, "stop_scale": 0.0, "stop_growth": 0.0}
    generator = torch.Generator().manual_seed(point.seed)
    drawn = model.simulate(once([point.length] * point.lists), {**values, **rest}, generator=generator).lists.recalls
    first, second = drawn[:, 0], drawn[:, 1]
    starts = torch.bincount(first, minlength=point.length).double()
    lags = [lag for lag in range(-LAGS, LAGS + 1) if lag]
    attention, cmr, error = [], [], []
    for lag in lags:
        # lags that the list allows, from where recall began
        possible = (torch.arange(point.length) + lag).clamp(0, point.length - 1) == torch.arange(point.length) + lag
        chances = starts * possible
        total = chances.sum()
        attention.append(float((chances * _at(pattern, lag)).sum() / total))
        share = float(((second - first == lag) & possible[first]).sum() / total)
        cmr.append(share)
        error.append(float((share * (1 - share) / total) ** 0.5))
    distance = torch.tensor(attention).sub(torch.tensor(cmr)).square().mean().sqrt()
    return Row(tuple(lags), tuple(attention), tuple(cmr), tuple(error), float(distance))


def _at(pattern: Float[Tensor, "unit unit"], lag: int) -> Float[Tensor, " unit"]:
    """Attention of each item to the one at that lag; 0 where there is none."""
    units = pattern.shape[0]
    place = torch.arange(units) + lag
    inside = (place >= 0) & (place < units)
    return pattern[torch.arange(units), place.clamp(0, units - 1)] * inside
