"""Classifiers of nodes and of graphs: nodes are tokens that see their neighbours (Hoover et al. 2023, section 5).

Features [batch, node, feature], edges [batch, node, node] (True where the first node sees the second; each also sees itself) and, where
the place in the graph should tell, positions [batch, node, entry], e.g. `laplacian_positions`. mask [batch, node]: True where a node is.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.nn.graph_blocks import GraphBlock
from ammon.shapes import check_count


class NodeClassifier(nn.Module):
    """Logits of each node, read from its token before and after the block: what a node is, and what its neighbours made of it.

    They are read by a network of one hidden layer, as whether both agree is no linear question.
    """

    def __init__(self, block: GraphBlock, features: int, classes: int, positions: int = 0) -> None:
        super().__init__()
        check_count("NodeClassifier", "classes", classes)
        self.embed = Nodes(block.dim, features, positions)
        self.block = block
        self.norms = nn.ModuleList([nn.LayerNorm(block.dim), nn.LayerNorm(block.dim)])
        self.read = nn.Sequential(nn.Linear(2 * block.dim, block.dim), nn.GELU(), nn.Linear(block.dim, classes))

    def forward(self, features: Tensor, edges: Tensor, positions: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Logits [batch, node, class]."""
        before = self.embed(features, positions)
        after = self.block(before, edges=_with_itself(edges), mask=mask)
        logits: Tensor = self.read(torch.cat([norm(tokens) for norm, tokens in zip(self.norms, (before, after), strict=True)], -1))
        return logits


class GraphClassifier(nn.Module):
    """Logits of each graph, read from one token more that sees all nodes and is seen by all."""

    def __init__(self, block: GraphBlock, features: int, classes: int, positions: int = 0) -> None:
        super().__init__()
        check_count("GraphClassifier", "classes", classes)
        self.embed = Nodes(block.dim, features, positions)
        self.block, self.norm = block, nn.LayerNorm(block.dim)
        self.whole = nn.Parameter(0.02 * torch.randn(block.dim))
        self.read = nn.Linear(block.dim, classes)

    def forward(self, features: Tensor, edges: Tensor, positions: Tensor | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Logits [batch, class]."""
        nodes = self.embed(features, positions)
        tokens = torch.cat([self.whole.expand(len(nodes), 1, -1), nodes], 1)
        seen = functional.pad(_with_itself(edges), (1, 0, 1, 0), value=True)
        there = None if mask is None else functional.pad(mask, (1, 0), value=True)
        whole = self.block(tokens, edges=seen, mask=there)[:, 0]
        logits: Tensor = self.read(self.norm(whole))
        return logits


class Nodes(nn.Module):
    """Tokens [batch, node, dim] of features and positions, both linear."""

    def __init__(self, dim: int, features: int, positions: int = 0) -> None:
        super().__init__()
        check_count("Nodes", "features", features)
        self.features = nn.Linear(features, dim)
        self.positions = nn.Linear(positions, dim, bias=False) if positions else None

    def forward(self, features: Tensor, positions: Tensor | None = None) -> Tensor:
        if (positions is None) != (self.positions is None):
            raise ValueError("Nodes: give positions exactly if the classifier was made for them.")
        tokens: Tensor = self.features(features)
        return tokens if self.positions is None else tokens + self.positions(positions)


def laplacian_positions(edges: Tensor, count: int, mask: Tensor | None = None) -> Tensor:
    """The eigenvectors [batch, node, count] of the smallest non-zero eigenvalues of 1 - D^(-½) A D^(-½), of undirected edges, 0 beyond.

    Of length √nodes. The sign of each is arbitrary: draw it anew in training (Dwivedi et al. 2021). Zeros where no node is.
    """
    if edges.dtype != torch.bool or edges.ndim != 3 or edges.shape[1] != edges.shape[2]:
        raise ValueError(f"laplacian_positions: edges must be bool [batch, node, node], got {edges.dtype} {list(edges.shape)}.")
    if not torch.equal(edges, edges.mT):
        raise ValueError("laplacian_positions: edges must be undirected; use edges | edges.mT.")
    found = edges.new_zeros(*edges.shape[:2], count, dtype=torch.float32)
    for item, own in enumerate(edges):
        nodes = torch.arange(len(own), device=own.device) if mask is None else mask[item].nonzero().squeeze(-1)
        links = own[nodes][:, nodes].double().fill_diagonal_(0)
        degrees = links.sum(-1)
        scale = torch.where(degrees > 0, degrees, 1.0).rsqrt()
        # a node without neighbours has no place: its entry is an eigenvector of its own with the eigenvalue 0
        laplacian = torch.diag((degrees > 0).double()) - scale[:, None] * links * scale
        values, vectors = torch.linalg.eigh(laplacian)
        useful = vectors[:, values > 1e-9][:, :count] * len(nodes) ** 0.5
        found[item, nodes, : useful.shape[1]] = useful.float()
    return found


def _with_itself(edges: Tensor) -> Tensor:
    if edges.dtype != torch.bool or edges.ndim != 3 or edges.shape[1] != edges.shape[2]:
        raise ValueError(f"graph classifier: edges must be bool [batch, node, node], got {edges.dtype} {list(edges.shape)}.")
    return edges | torch.eye(edges.shape[1], dtype=torch.bool, device=edges.device)
