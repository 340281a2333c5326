"""Graphs with anomalies: nodes in communities, some of which have the features of another community than their neighbours'.

What a node is says nothing of whether it is an anomaly; only beside its neighbours it can be told.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ammon.shapes import check_count


@dataclass(frozen=True)
class AnomalousGraph:
    """One undirected graph."""

    features: Tensor  # [node, feature]
    edges: Tensor  # bool [node, node]
    anomalous: Tensor  # bool [node]


def anomalous_graph(
    nodes: int = 1000,
    communities: int = 5,
    features: int = 16,
    degree: float = 10.0,
    apart: float = 0.9,
    noise: float = 0.5,
    share: float = 0.1,
    generator: torch.Generator | None = None,
) -> AnomalousGraph:
    """Edges at random, `degree` per node in the mean, a share `apart` of them within communities (planted partition).

    Features are the community's mean, drawn from N(0, 1), plus noise; a share of the nodes takes the mean of another community.
    """
    for name, count in (("nodes", nodes), ("communities", communities), ("features", features)):
        check_count("anomalous_graph", name, count)
    if communities < 2 or not 0 < share < 1 or not 0 <= apart <= 1:
        raise ValueError(
            f"anomalous_graph: 2 communities, 0 < share < 1 and 0 <= apart <= 1 are needed, got {communities}, {share}, {apart}."
        )
    own = torch.arange(nodes) % communities
    within = own[:, None] == own
    likely = torch.where(within, apart * degree / (nodes / communities), (1 - apart) * degree / (nodes - nodes / communities))
    upper = (torch.rand(nodes, nodes, generator=generator) < likely).triu(1)
    anomalous = torch.zeros(nodes, dtype=torch.bool)
    anomalous[torch.randperm(nodes, generator=generator)[: max(1, round(share * nodes))]] = True
    shown = (own + anomalous * torch.randint(1, communities, (nodes,), generator=generator)) % communities
    means = torch.randn(communities, features, generator=generator)
    values = means[shown] + noise * torch.randn(nodes, features, generator=generator)
    return AnomalousGraph(values, upper | upper.mT, anomalous)
