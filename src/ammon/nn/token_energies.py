"""The energies of tokens: attention between them and patterns that all of them share (Hoover et al. 2023, eq. 4 and 7).

Normalised tokens g [batch, token, dim] give energies [batch] and pulls -dE/dg [batch, token, dim]. Both in plain operations that
differentiate any number of times; `nn/token_descent.py` does the same in few passes.
"""

import math

import torch
from torch import Tensor, nn

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
        self.queries = nn.Parameter(torch.randn(heads, head_dim, dim) / math.sqrt(dim))
        self.keys = nn.Parameter(torch.randn(heads, head_dim, dim) / math.sqrt(dim))

    def forward(self, g: Tensor, seen: Tensor | None = None) -> Tensor:
        """E [batch]. seen [batch or 1, 1, query, key]: True where the query sees the key; None: everywhere."""
        return -(self.sums(self.scores(g)[0], seen) / self.beta).sum((1, 2))

    def pull(self, g: Tensor, seen: Tensor | None = None) -> Tensor:
        """-dE/dg."""
        scores, queries, keys = self.scores(g)
        weights = self.weights(scores, seen)
        asked, asks = weights @ keys, weights.mT @ queries
        towards = torch.einsum("bhty,hyd->btd", asked, self.queries)
        return towards + torch.einsum("bhty,hyd->btd", asks, self.keys)

    def scores(self, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """β K · Q [batch, head, query, key], queries and keys [batch, head, token, entry]."""
        queries, keys = (torch.einsum("btd,hyd->bhty", g, weight) for weight in (self.queries, self.keys))
        return self.beta * (queries @ keys.mT), queries, keys

    @staticmethod
    def sums(scores: Tensor, seen: Tensor | None) -> Tensor:
        """log Σ exp [batch, head, query] in at least float32, 0 where a query sees nothing."""
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if seen is None:
            return torch.logsumexp(scores, -1)
        some = seen.any(-1)
        # a row of nothing but -inf would have the gradient NaN
        hidden = (~seen & some[..., None]).expand_as(scores)
        return torch.where(some, torch.logsumexp(scores.masked_fill(hidden, -torch.inf), -1), 0.0)

    @staticmethod
    def weights(scores: Tensor, seen: Tensor | None) -> Tensor:
        """softmax over the keys [batch, head, query, key], all 0 where a query sees nothing."""
        if seen is None:
            return torch.softmax(scores, -1)
        hidden = (~seen).expand_as(scores)
        # the least finite score, not -inf: a row that sees nothing stays finite on its way to 0
        return torch.softmax(scores.masked_fill(hidden, torch.finfo(scores.dtype).min), -1).masked_fill(hidden, 0.0)

    def extra_repr(self) -> str:
        heads, entries, dim = self.queries.shape
        return f"dim={dim}, heads={heads}, head_dim={entries}, beta={self.beta:g}"


class PatternEnergy(nn.Module):
    """E = -½ Σ_B Σ_m relu(ξ_m · g_B)²: a dense memory whose patterns all tokens share. Concave in g, so any step of its own goes down."""

    def __init__(self, dim: int, memories: int) -> None:
        super().__init__()
        check_count("PatternEnergy", "dim", dim)
        check_count("PatternEnergy", "memories", memories)
        self.patterns = nn.Parameter(torch.randn(memories, dim) / math.sqrt(dim))

    def forward(self, g: Tensor) -> Tensor:
        """E [batch]."""
        hidden = torch.relu(g @ self.patterns.mT)
        return -hidden.to(torch.promote_types(hidden.dtype, torch.float32)).square().sum((1, 2)) / 2

    def pull(self, g: Tensor) -> Tensor:
        """-dE/dg."""
        return torch.relu(g @ self.patterns.mT) @ self.patterns

    def extra_repr(self) -> str:
        return f"dim={self.patterns.shape[1]}, memories={self.patterns.shape[0]}"
