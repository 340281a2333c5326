"""Induction: does attention that matches and then copies, as an induction head does, recall with the lags of CMR? (Ji-An et al. 2024)

One head finds where the item recalled last was studied and brings its context; a second takes that as its query against the contexts of
study. Its attention, averaged over items by lag, is held against transitions drawn from CMR.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.analysis import figures
from ammon.analysis.rows import groups, line, rate
from ammon.cmr.key_value import circuit
from ammon.cmr.lists import once
from ammon.cmr.model import CMR
from ammon.dynamics.drift import drift
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.stored import with_interval

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

LAGS = 5


@torch.no_grad()
def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    """Attention of the circuit from every item that may come first, against draws of CMR: a row for each lag."""
    length, lists = int(point["length"]), int(point["trials"])
    model = CMR(association="previous" if point["association"] == "previous" else "new")
    values = {name: float(point[name]) for name in ("beta_enc", "learn_fc", "learn_cf", "temperature")}
    values |= {"beta_start": 0.0, "primacy_scale": 0.0, "primacy_decay": 1.0}
    heads = circuit(length, **values, previous=point["association"] == "previous")
    items = torch.eye(length, dtype=torch.float64)
    # the first head: from each item to its context; the second: from that, mixed into the query there is, to the next item
    query = drift(heads.context.expand(length, -1), heads.brought(items), float(point["beta_rec"]))
    pattern = heads.attention(query, items == 0)

    rest = {"beta_rec": float(point["beta_rec"]), "stop_scale": 0.0, "stop_growth": 0.0}
    drawn = model.simulate(once([length] * lists), {**values, **rest}, generator=generator).lists.recalls
    first, second = drawn[:, 0], drawn[:, 1]
    starts = torch.bincount(first, minlength=length).double()
    rows: list[Row] = []
    for lag in range(-LAGS, LAGS + 1):
        if not lag:
            continue
        # lags that the list allows, from where recall began
        possible = (torch.arange(length) + lag).clamp(0, length - 1) == torch.arange(length) + lag
        chances = starts * possible
        if not float(chances.sum()):
            continue
        asked = possible[first]
        rows.append(
            {
                "lag": lag,
                "attention": float((chances * _at(pattern, lag)).sum() / chances.sum()),
                **rate("recall", [int(((second - first == lag) & asked).sum())], [int(asked.sum())]),
            }
        )
    return rows


def _at(pattern: Float[Tensor, "unit unit"], lag: int) -> Float[Tensor, " unit"]:
    """Attention of each item to the one at that lag; 0 where there is none."""
    units = pattern.shape[0]
    place = torch.arange(units) + lag
    inside = (place >= 0) & (place < units)
    return pattern[torch.arange(units), place.clamp(0, units - 1)] * inside


def draw(table: "pa.Table") -> "Figure":
    curves = groups(table, "association", "beta_rec", "beta_enc")
    figure, axes = figures.panels(1, len(curves), high=1.9)
    for panel, ((association, beta_rec, beta_enc), rows) in zip(axes, curves.items()):
        for side in (-1, 1):
            some = [row for row in rows if row["lag"] * side > 0]
            if some:
                figures.measured(panel, *line(some, "lag", "recall"), name="CMR, drawn" if side > 0 else "")
                attention = line(some, "lag", "attention")
                figures.theory(panel, attention.x, attention.y, name="attention" if side > 0 else "")
        title = f"{association} context, β = {beta_enc:g} and {beta_rec:g}"
        figures.label(panel, "lag (positions of study)", "conditional response probability", title)
        panel.set_ylim(bottom=0)
        figures.legend(panel)
    return figure


EXPERIMENT = Experiment(
    name="induction",
    question="Does attention that matches and then copies, as an induction head does, recall with the lags of CMR?",
    protocol=(
        "A trial is a list of distinct items, studied and recalled by CMR without a stop. The second recall is counted by its lag from the "
        "first, among the lags that the list allows there: the conditional response probability, with Wilson's 95 % interval. "
        "Attention: one head finds the context of the item recalled first, a second takes it, drifted into the context at "
        "hand, as its query against the contexts of study; its weights are averaged over the first recalls drawn (Ji-An et al. 2024)."
    ),
    axes={
        "association": Axis("context to which items are bound", ("new", "previous"), choices=("new", "previous")),
        "beta_enc": Axis("drift of context at study", (0.7,), least=0, most=1),
        "beta_rec": Axis("drift of context at recall", (0.8,), least=0, most=1),
        "learn_fc": Axis("share of learned item-to-context associations", (0.5,), least=0, most=1),
        "learn_cf": Axis("share of learned context-to-item associations", (0.9,), least=0, most=1),
        "temperature": Axis("of the choice", (0.3,), least=1e-3),
        "length": Axis("items of a list", (16,), kind=int, least=2),
    },
    columns={
        "lag": Column("position of the second recall less that of the first", "positions", type=int),
        "attention": Column("mean weight of attention at this lag"),
        **with_interval("recall", "conditional response probability of CMR at this lag"),
    },
    measure=measure,
    draw=draw,
    trials=20_000,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
