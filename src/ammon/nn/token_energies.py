"""The energy of attention between tokens, with a mask of its own for each item (Hoover et al. 2023, eq. 4).

Normalised tokens g [batch, token, dim] give energies [batch] and pulls -dE/dg [batch, token, dim]. `energies/attention.py` has the
same formula, `parts/mutual.py`, as a synapse of networks; `nn/token_descent.py` descends it in few passes.
"""

import math

import torch
from torch import Tensor, nn

from ammon.parts.mutual import project, pulls, weigh, worth
from ammon.parts.separations import Softmax
from ammon.shapes import check_count, check_positive


class AttentionEnergy(nn.Module):
    """E = -(1/β) Σ_h Σ_C log Σ_B exp(β K_hB · Q_hC), over the keys B that query C sees.

    Its pull has two terms: what a token's query asks for, and what the queries of others ask of its key. Attention has only the first.
    A query that sees no key counts 0.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, beta: float | None = None) -> None:
        super().__init__()
        for name, count in (("dim", dim), ("heads", heads), ("head_dim", head_dim)):
            check_count("AttentionEnergy", name, count)
        self.beta = 1 / math.sqrt(head_dim) if beta is None else float(beta)
        check_positive("AttentionEnergy", "beta", self.beta)
        self.separation = Softmax(self.beta)
        self.queries = nn.Parameter(torch.randn(heads, head_dim, dim) / math.sqrt(dim))
        self.keys = nn.Parameter(torch.randn(heads, head_dim, dim) / math.sqrt(dim))

    def forward(self, g: Tensor, seen: Tensor | None = None) -> Tensor:
        """E [batch] in at least float32. seen [batch or 1, 1, query, key]: True where the query sees the key; None: everywhere."""
        return -worth(g, g, self.queries.mT, self.keys.mT, self.separation, seen)

    def pull(self, g: Tensor, seen: Tensor | None = None) -> Tensor:
        """-dE/dg."""
        asks, asked = pulls(g, g, self.queries.mT, self.keys.mT, self.separation, seen)
        return asks + asked

    def weights(self, g: Tensor, seen: Tensor | None = None) -> Tensor:
        """Attention [batch, head, query, key], all 0 where a query sees nothing."""
        return weigh(project(g, self.queries.mT), project(g, self.keys.mT), self.separation, seen)

    def extra_repr(self) -> str:
        heads, entries, dim = self.queries.shape
        return f"dim={dim}, heads={heads}, head_dim={entries}"
