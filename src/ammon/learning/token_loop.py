"""Token loop: the recurrence of a memory that learns by surprise as it is written, one token after the other. Slow; the reference."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from ammon.learning.fast_weights import Fast, Gates, Held, Network, like, surprise
from ammon.learning.orthogonal import move, sizes


@dataclass(frozen=True)
class TokenLoop:
    """u_t = ∇|f(k_t) - v_t|² at the chunk's start; S_t = η S - θ u; M_t = (1 - α) M + S_t; y_t = M_t(q_t) (Behrouz et al., eq. 13-15).

    orthogonal: S_t = η S - u; M_t = (1 - α) M + θ NS(S_t), NS of so many Newton-Schulz steps (Behrouz et al. 2025, eq. 32-33).
    """

    orthogonal: int | None = None

    def plan(self, gates: Gates) -> Gates:
        return gates

    def part(self, plan: Gates, index: int) -> Gates:
        return Gates(*(gate[index] for gate in plan))

    def chunk(
        self, network: Network, held: Held, keys: Tensor, values: Tensor, queries: Tensor | None, plan: Gates, limit: float | None
    ) -> tuple[Tensor | None, Fast, Fast]:
        read = vmap(vmap(network))
        weights, momentum, outputs = held.weights, held.momentum, []
        for t in range(keys.shape[2]):
            step, keep, decay, valid = (gate[..., t] for gate in plan)
            before, after = sizes(step, valid, self.orthogonal)
            gradient = surprise(network, held.anchor, keys[:, :, t : t + 1], values[:, :, t : t + 1], limit)
            momentum = tuple(like(keep, s) * s - like(before, s) * u[:, :, 0] for s, u in zip(momentum, gradient))
            moves = (move(s, w.ndim - 2, self.orthogonal) for s, w in zip(momentum, weights))
            weights = tuple(like(1 - decay, w) * w + like(after, w) * moved for w, moved in zip(weights, moves))
            if queries is not None:
                outputs.append(read(weights, queries[:, :, t]))
        return (torch.stack(outputs, 2) if outputs else None), weights, momentum
