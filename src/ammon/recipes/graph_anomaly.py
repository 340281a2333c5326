"""Node anomalies: an Energy Transformer over the edges of one graph learns from the labels of some nodes, and is scored on the others.

The protocol of node anomaly detection (Tang et al. 2022; Hoover et al. 2023, section 5): a share of the nodes is labelled for training;
of the rest a third chooses the threshold and the step, two thirds are scored. Macro-F1 and area under the curve.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.datasets.graphs import AnomalousGraph
from ammon.nn.energy_transformer import EnergyTransformer
from ammon.nn.graph_classifiers import NodeClassifier
from ammon.training.plan import Plan
from ammon.training.trainer import Moment, train


@dataclass(frozen=True)
class Score:
    """Of the nodes that neither trained nor chose the threshold."""

    macro_f1: float
    auc: float


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


def detector(features: int, *, dim: int = 32, heads: int = 4, descents: int = 4, step: float = 0.5, seed: int = 0) -> NodeClassifier:
    """A new detector of two classes."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        block = EnergyTransformer(dim, heads, head_dim=dim // heads, memories=2 * dim, steps=descents, step=step)
        return NodeClassifier(block, features, 2)


def detect(
    graph: AnomalousGraph, *, labelled: float = 0.4, plan: Plan, model: NodeClassifier | None = None, seeing: bool = True, seed: int = 0
) -> Score:
    """Train on a split drawn from the seed and score the rest. seeing: False hides the edges, so that each node is judged by itself."""
    from sklearn.metrics import f1_score, roc_auc_score

    train_on, choose_by, scored = split(graph.anomalous, labelled, torch.Generator().manual_seed(seed))
    model = detector(graph.features.shape[1], seed=seed) if model is None else model
    features, edges = graph.features[None], (graph.edges if seeing else torch.zeros_like(graph.edges))[None]
    targets = graph.anomalous.long()
    # both classes weigh alike
    counts = torch.bincount(targets[train_on], minlength=2)
    weight = counts.sum() / (2.0 * counts)
    best: list[Tensor] = []
    least = float("inf")

    def loss(called: nn.Module, moment: Moment) -> Tensor:
        return functional.cross_entropy(called(features, edges)[0, train_on], targets[train_on], weight)

    def measure(called: nn.Module) -> dict[str, float]:
        nonlocal best, least
        logits = called(features, edges)[0]
        held = float(functional.cross_entropy(logits[choose_by], targets[choose_by], weight))
        if held < least:
            least, best = held, [logits.softmax(-1)[:, 1].clone()]
        return {"loss": held}

    train(model, loss, plan, measure=measure)
    chances = best[0]

    def f1(nodes: Tensor, threshold: float) -> float:
        return float(f1_score(targets[nodes], (chances[nodes] >= threshold).long(), average="macro", zero_division=0))

    threshold = max((i / 20 for i in range(1, 20)), key=lambda value: f1(choose_by, value))
    return Score(f1(scored, threshold), float(roc_auc_score(targets[scored], chances[scored])))
