"""Gated scan: the weights of every token of a chunk at once. For any network; holds a copy of the weights per token."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from ammon.learning.fast_weights import Fast, Gates, Held, Network, like, surprise
from ammon.learning.orthogonal import move, sizes


@dataclass(frozen=True)
class GatedScan:
    """Within a chunk both recurrences are linear, so each is a scan with (a₁, b₁), (a₂, b₂) → (a₂ a₁, a₂ b₁ + b₂).

    orthogonal: Newton-Schulz steps between the two, if any.
    """

    orthogonal: int | None = None

    def plan(self, gates: Gates) -> Gates:
        return gates

    def part(self, plan: Gates, index: int) -> Gates:
        return Gates(*(gate[index] for gate in plan))

    def chunk(
        self, network: Network, held: Held, keys: Tensor, values: Tensor, queries: Tensor | None, plan: Gates, limit: float | None
    ) -> tuple[Tensor | None, Fast, Fast]:
        gradient, (before, after) = surprise(network, held.anchor, keys, values, limit), sizes(plan.step, plan.valid, self.orthogonal)
        momentum = tuple(scan(plan.momentum, -like(before, u) * u, s) for u, s in zip(gradient, held.momentum))
        moves = (like(after, s) * move(s, w.ndim - 2, self.orthogonal) for s, w in zip(momentum, held.weights))
        weights = tuple(scan(1 - plan.decay, moved, w) for moved, w in zip(moves, held.weights))
        outputs = None if queries is None else vmap(vmap(vmap(network)))(weights, queries)
        return outputs, tuple(w[:, :, -1] for w in weights), tuple(s[:, :, -1] for s in momentum)


def scan(gates: Tensor, added: Tensor, start: Tensor) -> Tensor:
    """x_t = gates_t x_{t-1} + added_t from x = start, for all t: gates [batch, head, time], added [batch, head, time, ...]."""
    total = torch.cat([(added[:, :, :1] + like(gates[:, :, :1], added) * start.unsqueeze(2)), added[:, :, 1:]], 2)
    reach = 1
    while reach < gates.shape[2]:
        total = torch.cat([total[:, :, :reach], total[:, :, reach:] + like(gates[:, :, reach:], total) * total[:, :, :-reach]], 2)
        gates = torch.cat([gates[:, :, :reach], gates[:, :, reach:] * gates[:, :, :-reach]], 2)
        reach *= 2
    return total
