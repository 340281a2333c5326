"""Titans: three ways to join attention and a memory that learns while it is used (Behrouz et al. 2024, section 4).

Each block normalises first and adds its answer to x [batch, time, dim]. The paper's ⊗ is norm(y) · σ(norm(m)), each norm with a vector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.nn.attention import Attention, AttentionState, rotate
from ammon.nn.neural import NeuralMemory, NeuralState
from ammon.nn.packing import only, packing
from ammon.nn.state import State, check_input, check_rows_of, check_state, record, replace_rows


@record
class JoinedState(State):
    """The states of both."""

    attention: AttentionState
    memory: NeuralState


@record
class ContextState(State):
    """What `MemoryAsContext` holds: its memory, and the segment so far as attention sees it, what was recalled (0) and the tokens (1)."""

    keys: Tensor  # [batch, slot, 2, head, entry]
    values: Tensor  # [batch, slot, 2, head, entry]
    memory: NeuralState


class MemoryAsGate(nn.Module):
    """MAG: y = attention(x), m = memory(x), o = y ⊗ m."""

    def __init__(self, attention: Attention, memory: NeuralMemory) -> None:
        super().__init__()
        _same_dim("MemoryAsGate", attention.dim, memory.dim)
        self.dim, self.attention, self.memory = memory.dim, attention, memory
        self.norm, self.gate = nn.RMSNorm(memory.dim), Gate(memory.dim)

    def init_state(self, batch: int) -> JoinedState:
        """The state of `batch` rows that have seen nothing."""
        return JoinedState(self.attention.init_state(batch), self.memory.init_state(batch))

    def reset(self, state: JoinedState, rows: Tensor) -> JoinedState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("MemoryAsGate.reset", state, rows)
        return JoinedState(self.attention.reset(state.attention, rows), self.memory.reset(state.memory, rows))

    def forward(self, x: Tensor, state: JoinedState | None = None, *, mask: Tensor | None = None) -> tuple[Tensor, JoinedState]:
        """x + o and the state after the last token. mask [batch, time]: True where a token is there; the others give zeros."""
        attended, remembered = _parts("MemoryAsGate", self, x, mask, state)
        x = only(x, mask)
        normed = self.norm(x)
        y, attended = self.attention(normed, attended, mask=mask)
        m, remembered = self.memory(normed, remembered, mask=mask)
        return only(x + self.gate(y, m), mask), JoinedState(attended, remembered)


class MemoryAsLayer(nn.Module):
    """MAL: o = attention(memory(x))."""

    def __init__(self, attention: Attention, memory: NeuralMemory) -> None:
        super().__init__()
        _same_dim("MemoryAsLayer", attention.dim, memory.dim)
        self.dim, self.attention, self.memory = memory.dim, attention, memory
        self.norm = nn.RMSNorm(memory.dim)

    def init_state(self, batch: int) -> JoinedState:
        """The state of `batch` rows that have seen nothing."""
        return JoinedState(self.attention.init_state(batch), self.memory.init_state(batch))

    def reset(self, state: JoinedState, rows: Tensor) -> JoinedState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("MemoryAsLayer.reset", state, rows)
        return JoinedState(self.attention.reset(state.attention, rows), self.memory.reset(state.memory, rows))

    def forward(self, x: Tensor, state: JoinedState | None = None, *, mask: Tensor | None = None) -> tuple[Tensor, JoinedState]:
        """x + o and the state after the last token. mask [batch, time]: True where a token is there; the others give zeros."""
        attended, remembered = _parts("MemoryAsLayer", self, x, mask, state)
        x = only(x, mask)
        y, remembered = self.memory(self.norm(x), remembered, mask=mask)
        o, attended = self.attention(y, attended, mask=mask)
        return only(x + o, mask), JoinedState(attended, remembered)


class MemoryAsContext(nn.Module):
    """MAC: h = M(q) with the weights from before the segment; y = attention([P, h, x]); the memory learns y; o = y ⊗ M(y).

    A segment is a chunk of the memory. Each token sees the persistent tokens P, and of its segment only h and x up to itself: h of a later
    token would tell of that token, though the weights do not. M(y) is read as each token is written, not after the segment.
    """

    def __init__(self, memory: NeuralMemory, heads: int = 1, persistent: int = 0) -> None:
        super().__init__()
        self.dim, self.memory, self.heads, self.num_persistent = memory.dim, memory, heads, persistent
        # attention's own checks of these arguments
        attention = Attention(memory.dim, heads, None, persistent)
        self.project, self.out, self.persistent = attention.project, attention.out, attention.persistent
        self.ask = nn.Linear(memory.dim, memory.dim, bias=False)
        self.norm, self.gate = nn.RMSNorm(memory.dim), Gate(memory.dim)

    def init_state(self, batch: int) -> ContextState:
        """The state of `batch` rows that have seen nothing."""
        keys = self.out.weight.new_zeros(batch, self.memory.rule.chunk - 1, 2, self.heads, self.dim // self.heads)
        return ContextState(keys, torch.zeros_like(keys), self.memory.init_state(batch))

    def reset(self, state: ContextState, rows: Tensor) -> ContextState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("MemoryAsContext.reset", state, rows)
        return replace_rows(state, self.init_state(state.batch), rows)

    def forward(self, x: Tensor, state: ContextState | None = None, *, mask: Tensor | None = None) -> tuple[Tensor, ContextState]:
        """x + o and the state after the last token. mask [batch, time]: True where a token is there; the others give zeros."""
        check_input("MemoryAsContext", x, mask, self.dim, "read-write")
        fresh, begun = self.init_state(len(x)), state is not None
        if state is None:
            state = fresh
        check_state("MemoryAsContext", state, fresh)
        time, chunk = x.shape[1], self.memory.rule.chunk
        if not time:
            return torch.zeros_like(x), state
        places = packing(mask)
        rows = self.norm(places.pack(x))
        new = torch.arange(time, device=x.device).expand(len(x), -1)
        inside = new < (time if places.count is None else places.count[:, None])
        if time == 1:
            o, state = self._segment(rows, inside, state.memory.filled[:, None], state, begun)
        else:
            # token j of a row goes to slot filled + j, so that the segments of all rows begin at the same slots
            begin = state.memory.filled[:, None]
            slots = torch.arange(-(-(time + (chunk - 1 if begun else 0)) // chunk) * chunk, device=x.device)
            index = slots - begin
            there = (index >= 0) & (index < time)
            index = index.clamp(0, time - 1)
            there &= inside.gather(1, index)
            aligned = rows.gather(1, index[..., None].expand(-1, -1, self.dim))
            found = []
            position = torch.arange(chunk, device=x.device).expand(len(x), -1)
            for start in range(0, aligned.shape[1], chunk):
                part = slice(start, start + chunk)
                # from the second segment on, all rows stand at the start of a chunk
                some, state = self._segment(aligned[:, part], there[:, part], position, state, begun and not start)
                found.append(some)
            o = torch.cat(found, 1).gather(1, (begin + new)[..., None].expand(-1, -1, self.dim))
        return only(x + places.unpack(o), mask), state

    def _segment(self, rows: Tensor, there: Tensor, position: Tensor, state: ContextState, begun: bool) -> tuple[Tensor, ContextState]:
        """Tokens [batch, slot, dim] of one segment, at these positions of it; those that are not `there` change nothing."""
        filled, size = state.memory.filled, rows.shape[1]
        recalled = self.memory.recall(state.memory.anchor, self.ask(rows))
        queries = rotate(self._heads(functional.linear(rows, self.project.weight[: self.dim])), position)
        both = torch.stack([recalled, rows], 2).flatten(1, 2)
        keys, values = self._heads(functional.linear(both, self.project.weight[self.dim :]), 2).unbind(2)
        keys = rotate(keys, position.repeat_interleave(2, 1)).reshape(len(rows), size, 2, *queries.shape[2:])
        values = values.reshape(keys.shape)
        # earlier slots of the segment, then the new ones, each as what was recalled and the token
        slots = torch.arange(state.keys.shape[1], device=rows.device)
        earlier = (slots < filled[:, None])[:, None].expand(-1, size, -1)
        own = torch.eye(size, dtype=torch.bool, device=rows.device)
        now = torch.ones_like(own).tril() & (there[:, None] | own)
        seen = torch.cat([earlier, now], 2).repeat_interleave(2, 2)
        all_keys = torch.cat([state.keys, keys.to(state.keys.dtype)], 1).flatten(1, 2)
        all_values = torch.cat([state.values, values.to(state.values.dtype)], 1).flatten(1, 2)
        if self.persistent is not None:
            fixed = self._heads(functional.linear(self.persistent, self.project.weight[self.dim :])[None], 2).expand(
                len(rows), -1, -1, -1, -1
            )
            all_keys, all_values = torch.cat([fixed[:, :, 0], all_keys], 1), torch.cat([fixed[:, :, 1], all_values], 1)
            seen = functional.pad(seen, (self.num_persistent, 0), value=True)
        q, k, v = (part.transpose(1, 2) for part in (queries.to(all_keys.dtype), all_keys, all_values))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None])
        y = self.out(mixed.transpose(1, 2).flatten(2)).to(rows.dtype)
        m, memory = self.memory.run(y, state.memory, there, "read-write", not begun)
        return self.gate(y, m), ContextState(*self._keep(state, keys, values, position, memory.filled), memory)

    def _keep(self, state: ContextState, keys: Tensor, values: Tensor, position: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the segment so far, zeros beyond: new ones at their positions, none once the segment is full."""
        slots = torch.arange(state.keys.shape[1], device=keys.device)
        index = slots - position[:, :1]
        old, held = slots < state.memory.filled[:, None], slots < filled[:, None]
        index = index.clamp(0, keys.shape[1] - 1)

        def choose(before: Tensor, new: Tensor) -> Tensor:
            wide = index[..., None, None, None].expand(*index.shape, *new.shape[2:])
            kept = torch.where(old[..., None, None, None], before, new.gather(1, wide).to(before.dtype))
            return torch.where(held[..., None, None, None], kept, torch.zeros_like(kept))

        return choose(state.keys, keys), choose(state.values, values)

    def _heads(self, rows: Tensor, parts: int = 1) -> Tensor:
        shape = (*rows.shape[:2], self.heads, -1) if parts == 1 else (*rows.shape[:2], parts, self.heads, self.dim // self.heads)
        return rows.reshape(shape)


class Gate(nn.Module):
    """⊗: norm(y) · σ(norm(m)), each norm with a learned vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.answer, self.memory = nn.RMSNorm(dim), nn.RMSNorm(dim)

    def forward(self, y: Tensor, m: Tensor) -> Tensor:
        gated: Tensor = self.answer(y) * torch.sigmoid(self.memory(m))
        return gated


def _parts(
    where: str, block: MemoryAsGate | MemoryAsLayer, x: Tensor, mask: Tensor | None, state: JoinedState | None
) -> tuple[AttentionState | None, NeuralState | None]:
    check_input(where, x, mask, block.dim, "read-write")
    if state is None:
        return None, None
    if not isinstance(state, JoinedState):
        raise TypeError(f"{where}: the state must be a JoinedState, got a {type(state).__name__}; use what this block returned.")
    return state.attention, state.memory


def _same_dim(where: str, one: int, other: int) -> None:
    if one != other:
        raise ValueError(f"{where}: attention has dim {one}, the memory {other}; give both the same.")
