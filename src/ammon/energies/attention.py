"""Attention as a synapse: E = -Σ_head Σ_query L(keys · query), L = logsumexp(β·)/β (Hoover et al. 2023, eq. 5).

Layers of tokens [token, dim]; activations [batch, token, dim]. A layer of tokens that attends to itself is named twice, and then
is fed both as query and as key: the second term is what ordinary attention lacks.
"""

import torch
from torch import Tensor

from ammon.energies.base import Places, Shape, Synapse, places
from ammon.energies.synapses import check_joined, hold
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.mutual import pulls, worth
from ammon.parts.separations import Softmax
from ammon.shapes import Energies, check_count


class Attention(Synapse):
    """Joins (queries, keys) through W_Q [head, dim, head_dim] and W_K [head, dim of keys, head_dim].

    separation: softmax with β = 1/sqrt(head_dim) by default. others: a token does not attend to itself (for a layer named twice).
    mask [query, key]: True where a query may attend, e.g. the adjacency of a graph. A query that may attend to none has no energy.
    """

    query: Tensor
    key: Tensor

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        separation: Lagrangian | None = None,
        others: bool = False,
        mask: Tensor | None = None,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        hold(self, "query", query, learnable)
        hold(self, "key", key, learnable)
        if query.ndim != 3 or key.ndim != 3 or query.shape[0] != key.shape[0] or query.shape[2] != key.shape[2]:
            raise ValueError(
                "Attention: query and key must be [head, dim, head_dim] with the same heads and head_dim, "
                f"got {list(query.shape)} and {list(key.shape)}."
            )
        if mask is not None and (mask.dtype != torch.bool or mask.ndim != 2):
            raise ValueError(f"Attention: the mask must be bool [query, key], got {mask.dtype} {list(mask.shape)}.")
        self.separation = separation or Softmax(query.shape[2] ** -0.5)
        self.others, self.learnable = others, learnable
        self.mask: Tensor | None
        self.register_buffer("mask", mask)

    @classmethod
    def drawn(cls, dim: int, heads: int, head_dim: int, *, generator: torch.Generator, others: bool = False) -> "Attention":
        """Gaussian weights of standard deviation 1/sqrt(dim), to be learned, for one layer that attends to itself."""
        for name, value in (("dim", dim), ("heads", heads), ("head_dim", head_dim)):
            check_count("Attention.drawn", name, value)
        query, key = torch.randn(2, heads, dim, head_dim, generator=generator, device=generator.device) * dim**-0.5
        return cls(query, key, others=others, learnable=True)

    def forward(self, *activations: Tensor) -> Energies:
        queries, keys = activations
        return -worth(queries, keys, self.query, self.key, self.separation, self._seen(keys)).to(queries.dtype)

    def pulls(self, *activations: Tensor, at: Places = None) -> tuple[Tensor, ...]:
        queries, keys = activations
        return pulls(queries, keys, self.query, self.key, self.separation, self._seen(keys), places(at, activations))

    def check(self, where: str, shapes: tuple[Shape, ...]) -> None:
        check_joined(where, shapes, 2)
        for what, shape, weight in (("queries", shapes[0], self.query), ("keys", shapes[1], self.key)):
            if len(shape) != 2 or shape[1] != weight.shape[1]:
                raise ValueError(f"{where}: the {what} must be a layer [token, {weight.shape[1]}], got {list(shape)}.")
        tokens = [shapes[0][0], shapes[1][0]]
        if self.others and tokens[0] != tokens[1]:
            raise ValueError(f"{where}: others=True needs as many queries as keys, got {tokens[0]} and {tokens[1]}.")
        if self.mask is not None and list(self.mask.shape) != tokens:
            raise ValueError(f"{where}: the mask is {list(self.mask.shape)}, the layers have {tokens[0]} and {tokens[1]} tokens.")

    def extra_repr(self) -> str:
        return f"heads={len(self.query)}, head_dim={self.query.shape[2]}, others={self.others}"

    def _seen(self, keys: Tensor) -> Tensor | None:
        """Who may attend to whom [1, 1, query, key], None for all to all."""
        seen = self.mask
        if self.others:
            apart = ~torch.eye(keys.shape[1], dtype=torch.bool, device=keys.device)
            seen = apart if seen is None else seen & apart
        return seen if seen is None else seen[None, None]
