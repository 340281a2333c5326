"""Graph anomaly: nodes that do not fit their neighbours, found from the labels of some; an Energy Transformer against other blocks.

The protocol of node anomaly detection (Tang et al. 2022; Hoover et al. 2023, section 5): a share of the nodes is labelled for training;
of the rest a third chooses the step and the threshold, two thirds are scored. Macro-F1 and area under the curve.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.analysis import figures
from ammon.analysis.rows import groups, mean
from ammon.datasets.graphs import AnomalousGraph, anomalous_graph
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.stored import with_interval
from ammon.nn.energy_transformer import EnergyTransformer
from ammon.nn.graph_blocks import GraphAttention, GraphBlock, GraphConvolution, NodesAlone
from ammon.nn.graph_classifiers import NodeClassifier
from ammon.training.plan import Plan
from ammon.training.trainer import Moment, train

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

MODELS = ("energy", "attention", "convolution", "alone")
NAMES = {"energy": "Energy Transformer", "attention": "transformer block", "convolution": "graph convolutions", "alone": "without edges"}
# thresholds tried, at even shares of the chances that the choosing nodes get
THRESHOLDS = 100


@dataclass(frozen=True)
class Score:
    """Of the nodes that neither trained nor chose."""

    macro_f1: float
    auc: float


def measure(point: Point, *, generator: torch.Generator) -> Row:
    scores: list[Score] = []
    for _ in range(int(point["trials"])):
        graph = anomalous_graph(
            int(point["nodes"]),
            degree=float(point["degree"]),
            apart=float(point["apart"]),
            noise=float(point["noise"]),
            share=float(point["share"]),
            generator=generator,
        )
        seed = int(torch.randint(2**31, (), generator=generator))
        name, features, dim = str(point["model"]), graph.features.shape[1], int(point["dim"])
        model = detector(name, features, dim=dim, descents=int(point["descents"]), step=float(point["step"]), seed=seed)
        rate, steps = float(point["rate"]), int(point["steps"])
        plan = Plan(steps, rate, warmup=steps // 10, every=max(1, steps // 20), seed=seed)
        scores.append(detect(graph, model, labelled=float(point["labelled"]), plan=plan))
    f1 = [score.macro_f1 for score in scores]
    return {
        **mean("macro_f1", f1),
        "deviation": float(torch.tensor(f1).std(correction=min(1, len(f1) - 1))),
        **mean("auc", [score.auc for score in scores]),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def detector(
    model: str, features: int, *, dim: int = 32, heads: int = 4, descents: int = 2, step: float = 0.2, seed: int = 0
) -> NodeClassifier:
    """A new classifier of two classes around one of the MODELS: an Energy Transformer, or another block of as many parameters."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        energy = EnergyTransformer(dim, heads, head_dim=dim // heads, memories=4 * dim, steps=descents, step=step)
        budget = sum(parameter.numel() for parameter in energy.parameters())
        block: GraphBlock = energy
        if model == "attention":
            block = GraphAttention(dim, heads, budget)
        elif model == "convolution":
            block = GraphConvolution(dim, budget)
        elif model == "alone":
            block = NodesAlone(dim, budget)
        return NodeClassifier(block, features, 2)


def split(anomalous: Tensor, labelled: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes to train on, to choose by and to score, anomalies in the same share in each."""
    parts: list[list[Tensor]] = [[], [], []]
    for kind in (True, False):
        nodes = (anomalous == kind).nonzero().squeeze(-1)
        nodes = nodes[torch.randperm(len(nodes), generator=generator)]
        first = max(1, round(labelled * len(nodes)))
        second = first + max(1, round((len(nodes) - first) / 3))
        for part, some in zip(parts, (nodes[:first], nodes[first:second], nodes[second:]), strict=True):
            part.append(some)
    train_on, choose_by, scored = (torch.cat(part) for part in parts)
    return train_on, choose_by, scored


def detect(graph: AnomalousGraph, model: NodeClassifier, *, labelled: float = 0.4, plan: Plan) -> Score:
    """Train a classifier of two classes on a split drawn from the plan's seed, and score the rest."""
    from sklearn.metrics import f1_score, roc_auc_score

    train_on, choose_by, scored = split(graph.anomalous, labelled, torch.Generator().manual_seed(plan.seed))
    features, edges, targets = graph.features[None], graph.edges[None], graph.anomalous.long()
    # both classes weigh alike
    counts = torch.bincount(targets[train_on], minlength=2)
    weight = counts.sum() / (2.0 * counts)
    chances, least = torch.zeros_like(graph.features[:, 0]), float("inf")

    def loss(called: nn.Module, moment: Moment) -> Tensor:
        return functional.cross_entropy(called(features, edges)[0, train_on], targets[train_on], weight)

    def look(called: nn.Module) -> dict[str, float]:
        nonlocal chances, least
        logits = called(features, edges)[0]
        held = float(functional.cross_entropy(logits[choose_by], targets[choose_by], weight))
        if held < least:
            least, chances = held, logits.softmax(-1)[:, 1].clone()
        return {"loss": held}

    train(model, loss, plan, measure=look)

    def f1(nodes: Tensor, threshold: float) -> float:
        return float(f1_score(targets[nodes], (chances[nodes] >= threshold).long(), average="macro", zero_division=0))

    tried = sorted(set(torch.quantile(chances[choose_by], torch.linspace(0, 1, THRESHOLDS)).tolist()))
    threshold = max(tried, key=lambda value: f1(choose_by, value))
    return Score(f1(scored, threshold), float(roc_auc_score(targets[scored], chances[scored])))


def draw(table: "pa.Table") -> "Figure":
    figure, axes = figures.panels(2, 1, wide=2.6, high=2.6)
    names = [name for name in MODELS if name in set(table.column("model").to_pylist())]
    for panel, (column, title) in zip(axes, (("macro_f1", "macro-F1"), ("auc", "area under the curve")), strict=True):
        for number, ((labelled,), rows) in enumerate(groups(table, "labelled").items()):
            for row in rows:
                place = names.index(row["model"]) + 0.12 * number
                figures.measured(panel, [place], [row[column]], number=number, name="" if row is not rows[0] else f"{labelled:g} labelled")
                panel.plot(
                    [place, place], [row[f"{column}_low"], row[f"{column}_high"]], color=figures.COLOURS[number % len(figures.COLOURS)]
                )
        panel.set_xticks(range(len(names)), [NAMES[name] for name in names], rotation=25, ha="right")
        panel.set_ylim(0.38, 1.03)
        figures.label(panel, "block", title)
    figures.legend(axes[0], loc="lower left")
    return figure


def _check(point: Point) -> None:
    if int(point["dim"]) % 4:
        raise ValueError(f"graph_anomaly: the width must be a multiple of the 4 heads, got dim={point['dim']}.")


EXPERIMENT = Experiment(
    name="graph_anomaly",
    question="Does an Energy Transformer find the nodes of a graph that do not fit their neighbours?",
    protocol=(
        "Each trial draws a graph of 5 communities (planted partition) whose nodes show their community's mean features with noise; some "
        "of them show another community's. Labels of a share of the nodes train a classifier of nodes, each class weighing alike; of the "
        "rest a third chooses the step of training and the threshold, two thirds are scored. All models embed and read alike, and their "
        "blocks have as many parameters. Macro-F1 and area under the curve, 95 % Student intervals over trials."
    ),
    axes={
        "model": Axis("block between embedding and reading", MODELS, choices=MODELS),
        "labelled": Axis("share of the nodes that train", (0.4,), least=0.01, most=0.9),
        "nodes": Axis("of a graph", (1000,), least=50, kind=int),
        "degree": Axis("edges of a node, mean", (10.0,), least=1),
        "apart": Axis("share of edges within communities", (0.9,), least=0, most=1),
        "noise": Axis("of features, in units of the spread of the communities' means", (0.5,), least=0),
        "share": Axis("of the nodes that are anomalies", (0.1,), least=0.01, most=0.5),
        "dim": Axis("width of a token", (32,), kind=int, least=4),
        "descents": Axis("steps of the Energy Transformer", (2,), kind=int, least=1),
        "step": Axis("size of each of these", (0.2,), least=1e-6),
        "steps": Axis("of training", (150,), kind=int, least=1),
        "rate": Axis("largest learning rate", (0.01,), least=1e-6),
    },
    columns={
        **with_interval("macro_f1", "mean of the F1 of anomalies and of the others"),
        "deviation": Column("standard deviation of the macro-F1 over trials"),
        **with_interval("auc", "area under the receiver operating characteristic"),
        "parameters": Column("numbers that training changes", type=int),
    },
    measure=measure,
    draw=draw,
    trials=5,
    needs="no memory of the catalogue",
    check=_check,
)
run = EXPERIMENT.run
