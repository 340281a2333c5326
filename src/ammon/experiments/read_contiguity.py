"""Read contiguity: do the reads of an episodic layer with a drifting context fall off by lag as free recall does, the next item first?

The weights are set, not learned: items in, items asked for again, and how the layer weighs the slots of the other items by their lag.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ammon.analysis import figures
from ammon.analysis.rows import groups, line, mean
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.stored import with_interval
from ammon.nn.drifting import Drift
from ammon.nn.episodic import EpisodicMemory

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

LAGS = 5


def reader(start: Tensor, length: int, *, beta: float, beta_rec: float, share: float, match: float, hops: int) -> EpisodicMemory:
    """A bank of one head that takes items as they are: keys, values, queries and inputs to context are the items themselves.

    start [dim]: the context before the first item.
    """
    dim = len(start)
    memory = EpisodicMemory(dim, 1, length, context=Drift(dim, 1, dim, beta), match=match, hops=hops)
    assert memory.context is not None
    identity = torch.eye(dim)
    with torch.no_grad():
        for linear in (memory.read.query, memory.read.out, memory.context.project):
            linear.weight.copy_(identity)
        memory.store.weight.copy_(identity.repeat(2, 1))
        memory.context.start.copy_(start)
        if memory.read.reinstated is not None and memory.read.drift is not None:
            for parameter, value in ((memory.read.reinstated, share), (memory.read.drift, beta_rec)):
                parameter.fill_(torch.logit(torch.tensor(value)))
    return memory


@torch.no_grad()
def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    """Weights of the other items by lag, given that another item is read: a row for each lag."""
    dim, length, lists = int(point["dim"]), int(point["length"]), int(point["trials"])
    settings = {name: float(point[name]) for name in ("beta", "beta_rec", "share", "match")}
    memory = reader(torch.randn(dim, generator=generator), length, **settings, hops=int(point["hops"]))
    items = torch.nn.functional.normalize(torch.randn(lists, length, dim, generator=generator), dim=-1)
    _, state = memory(items, mode="write-only")
    # every item asks alone, from the context at the end of its list
    cues = items.flatten(0, 1).unsqueeze(1)
    held = state.select(torch.arange(lists).repeat_interleave(length))
    weights = memory.weights(cues, held)[:, 0, 0].reshape(lists, length, length)
    others = weights * (1 - torch.eye(length))
    others = others / others.sum(-1, keepdim=True).clamp_min(torch.finfo(others.dtype).tiny)
    return [{"lag": lag, **mean("weight", _at(others, lag).tolist())} for lag in range(-LAGS, LAGS + 1) if lag and abs(lag) < length]


def _at(weights: Tensor, lag: int) -> Tensor:
    """The mean weight at a lag in each list, over the items that have such a neighbour: [list]."""
    return weights.diagonal(lag, -2, -1).mean(-1)


def draw(table: "pa.Table") -> "Figure":
    curves = groups(table, "hops", "share", "beta", "beta_rec")
    figure, axes = figures.panels(1, len(curves), high=1.9)
    for panel, ((hops, share, beta, beta_rec), rows) in zip(axes, curves.items()):
        for side in (-1, 1):
            some = [row for row in rows if row["lag"] * side > 0]
            if some:
                figures.measured(panel, *line(some, "lag", "weight"))
        title = f"hops: {hops}, share {share:g}, β = {beta:g} and {beta_rec:g}" if hops else f"no hop, β = {beta:g}"
        figures.label(panel, "lag (positions of study)", "weight of the read", title)
        panel.set_ylim(bottom=0)
    return figure


def _check(point: Point) -> None:
    if int(point["length"]) < 2:
        raise ValueError("read_contiguity: a list needs at least 2 items.")


EXPERIMENT = Experiment(
    name="read_contiguity",
    question="Do the reads of an episodic layer with a drifting context fall off by lag as free recall does, the next item first?",
    protocol=(
        "A trial is a list of random items of length 1, written token by token into a bank with a drifting context (no training: all "
        "projections are the identity). Then each item asks alone, from the context at the end of the list. Its read weights of the other "
        "slots, as shares of 1, are averaged by lag, over the items that have a neighbour at that lag; intervals are Student's 95 % over "
        "lists. A hop reinstates: context drifts by β to the direction of (1 - share) · the item's own input + share · the context read."
    ),
    axes={
        "hops": Axis("reinstatements of context in a read", (1,), kind=int, least=0),
        "share": Axis(
            "share of the context read in what is reinstated, the rest is the item's own", (0.1, 0.5, 0.9), least=1e-6, most=1 - 1e-6
        ),
        "beta": Axis("drift of context at study", (0.6,), least=1e-6, most=1 - 1e-6),
        "beta_rec": Axis("drift of context at a hop", (0.9,), least=1e-6, most=1 - 1e-6),
        "match": Axis("weight of the match of contexts", (6.0,), least=1e-6),
        "length": Axis("items of a list", (16,), kind=int, least=2),
        "dim": Axis("entries of an item", (64,), kind=int, least=1),
    },
    columns={
        "lag": Column("position of the item read less that of the item that asks", "positions", type=int),
        **with_interval("weight", "mean share of the read at this lag"),
    },
    measure=measure,
    draw=draw,
    check=_check,
    trials=50,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
