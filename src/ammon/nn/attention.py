"""Attention: the working memory of a transformer. Causal, with rotary positions, over all that came before or a sliding window of it.

x [batch, time, dim] → y [batch, time, dim]. Positions count the tokens of each row that are there.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.nn.packing import last, packing
from ammon.nn.state import Mode, State, check_input, check_rows_of, check_state, record, replace_rows
from ammon.shapes import check_count


@record
class AttentionState(State):
    """The keys, rotated, and values that later tokens may see, oldest first."""

    keys: Tensor  # [batch, slot, head, entry]
    values: Tensor  # [batch, slot, head, entry]
    there: Tensor  # bool [batch, slot]
    seen: Tensor  # [batch], tokens so far


class Attention(nn.Module):
    """Softmax attention; token t sees itself, the `window` - 1 tokens before it (None: all) and `persistent` learned tokens before all.

    The persistent tokens have no position. A window runs in blocks, so its cost is linear in time.
    """

    def __init__(self, dim: int, heads: int = 1, window: int | None = None, persistent: int = 0, base: float = 10000.0) -> None:
        super().__init__()
        check_count("Attention", "dim", dim)
        check_count("Attention", "heads", heads)
        if window is not None:
            check_count("Attention", "window", window)
        if dim % (2 * heads):
            raise ValueError(f"Attention: dim must be a multiple of 2 · heads, as positions turn pairs, got {dim} and {heads}.")
        if persistent < 0:
            raise ValueError(f"Attention: persistent must be at least 0, got {persistent}.")
        self.dim, self.heads, self.window, self.base = dim, heads, window, base
        self.project = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.num_persistent = persistent
        self.persistent = nn.Parameter(torch.randn(persistent, dim)) if persistent else None

    def init_state(self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> AttentionState:
        """The state of `batch` rows that have seen nothing."""
        check_count("Attention.init_state", "batch", batch)
        return self._state(batch, 0 if self.window is None else self.window - 1, device, dtype)

    def reset(self, state: AttentionState, rows: Tensor) -> AttentionState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("Attention.reset", state, rows)
        return replace_rows(state, self._state(state.batch, state.keys.shape[1], state.keys.device), rows)

    def forward(
        self, x: Tensor, state: AttentionState | None = None, *, mask: Tensor | None = None, mode: Mode = "read-write"
    ) -> tuple[Tensor, AttentionState]:
        """What each token sees of itself and those before it, and the state after the last.

        mask [batch, time]: True where a token is there. mode: "read-only" gives back the state as it was, "write-only" gives zeros.
        """
        check_input("Attention", x, mask, self.dim, mode)
        begun = state is not None
        if state is None:
            state = self.init_state(x.shape[0], x.device, self.out.weight.dtype)
        else:
            slots = state.keys.shape[1] if self.window is None and isinstance(state, AttentionState) else max(0, (self.window or 1) - 1)
            check_state("Attention", state, self._state(x.shape[0], slots, self.out.weight.device))
        time = x.shape[1]
        if not time:
            return torch.zeros_like(x), state
        places = packing(mask)
        positions = state.seen[:, None] + torch.arange(time, device=x.device)
        queries, keys, values = self.project(places.pack(x)).reshape(*x.shape[:2], 3, self.heads, -1).unbind(2)
        queries, keys = rotate(queries, positions, self.base), rotate(keys, positions, self.base)
        new = torch.ones_like(positions, dtype=torch.bool)
        if places.count is not None:
            new = torch.arange(time, device=x.device) < places.count[:, None]
        longer = AttentionState(
            torch.cat([state.keys, keys.to(state.keys.dtype)], 1),
            torch.cat([state.values, values.to(state.values.dtype)], 1),
            torch.cat([state.there, new], 1),
            state.seen + new.sum(1),
        )
        y = torch.zeros_like(x)
        if mode != "write-only":
            mixed = self._windowed(queries, longer, time) if self.window else self._whole(queries, longer, time, begun)
            y = places.unpack(self.out(mixed.flatten(2)).to(x.dtype))
        if mode == "read-only":
            return y, state
        if self.window is None:
            return y, longer
        keys, values, there = (last(rows, places.count, self.window - 1, time) for rows in (longer.keys, longer.values, longer.there))
        return y, AttentionState(keys, values, there, longer.seen)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, window={self.window}, persistent={self.num_persistent}"

    def _whole(self, queries: Tensor, held: AttentionState, time: int, begun: bool) -> Tensor:
        """[batch, time, head, entry]: what is there in the state, and the new tokens up to each."""
        if not begun and self.persistent is None:
            # tokens that are not there stand last, so that none that is there sees them
            return _attend(queries, held.keys, held.values, None)
        slots = held.keys.shape[1]
        order = torch.arange(slots, device=queries.device)
        own = order[slots - time :, None]
        seen = (order <= own) & (held.there[:, None] | (order == own))
        keys, values, always = self._first(held.keys, held.values)
        return _attend(queries, keys, values, torch.cat([always.expand(*seen.shape[:2], -1), seen], -1)[:, None])

    def _windowed(self, queries: Tensor, held: AttentionState, time: int) -> Tensor:
        """The same by blocks of queries, each with its own keys and the window before them."""
        before = cast(int, self.window) - 1
        block = min(before + 1, time)
        number = -(-time // block)
        spare = number * block - time

        def blocks(rows: Tensor, size: int) -> Tensor:
            """[batch · block, size, ...]."""
            rows = functional.pad(rows, [0, 0] * (rows.ndim - 2) + [0, spare])
            return rows.unfold(1, size, block).movedim(-1, 2).flatten(0, 1)

        keys, values, always = self._first(blocks(held.keys, before + block), blocks(held.values, before + block))
        there = blocks(held.there, before + block)[:, None]
        order, own = (
            torch.arange(before + block, device=queries.device),
            torch.arange(before, before + block, device=queries.device)[:, None],
        )
        seen = (order <= own) & (order >= own - before) & (there | (order == own))
        mixed = _attend(blocks(queries, block), keys, values, torch.cat([always.expand(*seen.shape[:2], -1), seen], -1)[:, None])
        return mixed.reshape(len(queries), number * block, *mixed.shape[2:])[:, :time]

    def _first(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values after the persistent ones, and that these are always seen."""
        count = self.num_persistent
        always = torch.ones(1, 1, count, dtype=torch.bool, device=keys.device)
        if self.persistent is None:
            return keys, values, always
        weight = self.project.weight[self.dim :]
        rows = functional.linear(self.persistent, weight).reshape(1, count, 2, self.heads, -1).expand(len(keys), -1, -1, -1, -1)
        return torch.cat([rows[:, :, 0].to(keys.dtype), keys], 1), torch.cat([rows[:, :, 1].to(values.dtype), values], 1), always

    def _state(self, batch: int, slots: int, device: torch.device | str | None, dtype: torch.dtype | None = None) -> AttentionState:
        keys = self.out.weight.new_zeros(batch, slots, self.heads, self.dim // self.heads, device=device, dtype=dtype)
        there = torch.zeros(batch, slots, dtype=torch.bool, device=keys.device)
        return AttentionState(keys, torch.zeros_like(keys), there, torch.zeros(batch, dtype=torch.int64, device=keys.device))


def rotate(rows: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary positions (Su et al. 2021): entries i and i + half of [batch, time, head, entry] turn by position · base^(-i/half)."""
    half = rows.shape[-1] // 2
    dtype = torch.promote_types(rows.dtype, torch.float32)
    frequencies = base ** (-torch.arange(half, device=rows.device, dtype=dtype) / half)
    angles = (positions[..., None].to(dtype) * frequencies).unsqueeze(2)
    first, second = rows[..., :half], rows[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1).to(rows.dtype)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
    """Torch's attention over [batch, time, head, entry]; without `seen` causal."""
    q, k, v = (part.transpose(1, 2) for part in (queries.to(keys.dtype), keys, values))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None).transpose(1, 2)
