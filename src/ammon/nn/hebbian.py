"""HebbianMemory: items and contexts bound in two matrices per head, the dense alternative to a bank of slots (Polyn et al. 2009).

x [batch, time, dim] → y [batch, time, dim]. Its size is fixed; what it reads is a sum over all items, so it has no separation.
"""

import math

import torch
from torch import Tensor, nn

from ammon.dynamics.drift import decay, direction, drift
from ammon.nn.drifting import Drift
from ammon.nn.packing import packing
from ammon.nn.state import Mode, State, check_input, check_rows_of, check_state, record, replace_rows
from ammon.shapes import check_count

# tokens whose outer products are never formed
BLOCK = 64


@record
class HebbianState(State):
    """The associations and the context that drifts."""

    contexts_of_items: Tensor  # M^FC [batch, head, entry, context]
    items_of_contexts: Tensor  # M^CF [batch, head, context, entry]
    context: Tensor  # [batch, head, context]


class HebbianMemory(nn.Module):
    """Per token and head: M^FC ← (1 - δ) M^FC + k c, M^CF ← (1 - δ) M^CF + c v (outer products), with c drifted by the token.

    Read: the query brings a context, c_in' = the direction of (1 - g) c_in + g q M^FC, the context drifts to it, c' = ρ c + β c_in', and
    recalls c' M^CF. A token reads what it has written. k and q are of length 1; δ, g and the drift of recall are learned per head; decay
    is δ at first. normalised per head, as sums grow.
    """

    def __init__(self, dim: int, heads: int = 1, context: int | Drift = 16, decay: float = 0.01) -> None:
        super().__init__()
        where = "HebbianMemory"
        check_count(where, "dim", dim)
        check_count(where, "heads", heads)
        if dim % heads:
            raise ValueError(f"{where}: dim must be a multiple of heads, got {dim} and {heads}.")
        if not 0 < decay < 1:
            raise ValueError(f"{where}: decay must be in (0, 1), got {decay}.")
        self.dim, self.heads = dim, heads
        self.context = Drift(dim, heads, context) if isinstance(context, int) else context
        if self.context.heads != heads:
            raise ValueError(f"{where}: the context has {self.context.heads} heads, the memory {heads}; give both the same.")
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.norm = nn.RMSNorm(dim // heads, eps=1e-6)
        self.forget = nn.Parameter(torch.full((heads,), math.log(decay / (1 - decay))))
        self.reinstated, self.drift = nn.Parameter(torch.zeros(heads)), nn.Parameter(torch.zeros(heads))

    def init_state(self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> HebbianState:
        """The state of `batch` rows that have seen nothing; in float32 at least, as sums grow."""
        check_count("HebbianMemory.init_state", "batch", batch)
        like = self.out.weight
        dtype = torch.promote_types(dtype or like.dtype, torch.float32)
        fc = torch.zeros(batch, self.heads, self.dim // self.heads, self.context.size, dtype=dtype, device=device or like.device)
        return HebbianState(fc, fc.mT.contiguous(), self.context.begin(batch, dtype).to(fc.device))

    def reset(self, state: HebbianState, rows: Tensor) -> HebbianState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("HebbianMemory.reset", state, rows)
        return replace_rows(state, self.init_state(state.batch, state.context.device), rows)

    def forward(
        self, x: Tensor, state: HebbianState | None = None, *, mask: Tensor | None = None, mode: Mode = "read-write"
    ) -> tuple[Tensor, HebbianState]:
        """What each token recalls, and the state after the last.

        mask [batch, time]: True where a token is there; the others change nothing and recall zeros. mode: "read-only" binds nothing and
        fades nothing (only context drifts on), "write-only" gives zeros.
        """
        check_input("HebbianMemory", x, mask, self.dim, mode)
        fresh = self.init_state(len(x), self.out.weight.device)
        if state is None:
            state = fresh
        else:
            check_state("HebbianMemory", state, fresh)
        if not x.shape[1]:
            return torch.zeros_like(x), state
        places = packing(mask)
        rows, dtype = places.pack(x), state.context.dtype
        inputs, contexts = self.context(rows, state.context)
        count = None if places.count is None else places.count.reshape(-1, 1, 1, 1).expand(-1, 1, *contexts.shape[2:])
        after = contexts[:, -1] if count is None else contexts.gather(1, count).squeeze(1)
        used = self.context.used(contexts)
        now, bound = used[:, 1:].transpose(1, 2), used[:, :-1] if self.context.association == "previous" else used[:, 1:]
        queries, keys, values = self.project(rows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).to(dtype)
        queries, keys = direction(queries), direction(keys)
        size = (
            torch.ones_like(x[:, :, 0]).bool()
            if places.count is None
            else torch.arange(x.shape[1], device=x.device) < places.count[:, None]
        )
        shown = size[:, None, :, None]
        keys, values = (torch.where(shown, part, torch.zeros_like(part)) for part in (keys, values))
        fc, cf, bound = state.contexts_of_items, state.items_of_contexts, bound.transpose(1, 2)
        writes = mode != "read-only"
        brought, fc = self._sums(queries, keys, bound, fc, size, writes)
        share, beta = torch.sigmoid(self.reinstated.to(dtype))[:, None, None], torch.sigmoid(self.drift.to(dtype))[:, None]
        cue = drift(now, direction((1 - share) * inputs.transpose(1, 2) + share * brought), beta)
        read, cf = self._sums(cue, bound, values, cf, size, writes)
        state = HebbianState(fc, cf, after)
        if mode == "write-only":
            return torch.zeros_like(x), state
        normed = self.norm(read.to(self.norm.weight.dtype)).transpose(1, 2).flatten(2)
        return places.unpack(self.out(normed).to(x.dtype)), state

    def _sums(self, asked: Tensor, keys: Tensor, values: Tensor, held: Tensor, there: Tensor, writes: bool) -> tuple[Tensor, Tensor]:
        """asked · M_t with M_t = (1 - δ) M_{t-1} + k_t v_t, block by block, and M after all: [batch, head, time, ...]."""
        if not writes:
            return asked @ held, held
        keep = 1 - torch.sigmoid(self.forget.to(held.dtype))
        found = []
        for start in range(0, asked.shape[2], BLOCK):
            part = slice(start, start + BLOCK)
            q, k, v = asked[:, :, part], keys[:, :, part], values[:, :, part]
            powers = decay(keep, q.shape[2])
            # (1 - δ)^(tokens of the block so far), and to its end: tokens that are not there stand last and fade nothing
            number = there[:, part].sum(1)
            faded = keep[:, None].pow(torch.arange(1, q.shape[2] + 1, device=q.device))
            found.append(((q @ k.mT) * powers) @ v + faded[..., None] * (q @ held))
            left = (number[:, None] - 1 - torch.arange(q.shape[2], device=q.device)).clamp_min(0)
            weights = keep[:, None].pow(left[:, None])[..., None] * there[:, None, part, None]
            held = keep[:, None].pow(number[:, None, None])[..., None] * held + (weights * k).mT @ v
        return torch.cat(found, 2), held

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}"
