"""Stack: blocks one after the other, their states as one. x [batch, time, dim] → y [batch, time, dim]."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ammon.nn.state import State, check_input, check_rows_of, record


@record
class StackState(State):
    """The state of each block that has one, in order."""

    blocks: tuple[State, ...]


class Stack(nn.Module):
    """Blocks that keep the width, then a norm. A block with `init_state` has a state; any other is a module of tokens, as `FeedForward`."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        dims = [getattr(block, "dim", None) for block in blocks]
        if not blocks or None in dims or len(set(dims)) != 1:
            said = ", ".join(f"{type(block).__name__} of dim {dim}" for block, dim in zip(blocks, dims)) or "none"
            raise ValueError(f"Stack: blocks of one dim are needed, at least one, got {said}.")
        self.dim = int(dims[0] or 0)
        self.blocks, self.norm = nn.ModuleList(blocks), nn.RMSNorm(self.dim)
        if not self._holding():
            raise ValueError("Stack: no block has a state, so no token would see another; add attention or a memory.")

    def init_state(self, batch: int) -> StackState:
        """The state of `batch` rows that have seen nothing."""
        return StackState(tuple(block.init_state(batch) for block in self._holding()))

    def reset(self, state: StackState, rows: Tensor) -> StackState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        check_rows_of("Stack.reset", state, rows)
        return StackState(tuple(block.reset(part, rows) for block, part in zip(self._holding(), state.blocks, strict=True)))

    def forward(self, x: Tensor, state: StackState | None = None, *, mask: Tensor | None = None) -> tuple[Tensor, StackState]:
        """What the last block gives, normalised, and the states after the last token. mask [batch, time]: True where a token is there;
        the others give zeros."""
        check_input("Stack", x, mask, self.dim, "read-write")
        count = len(self._holding())
        if state is not None and not isinstance(state, StackState):
            raise TypeError(f"Stack: the state must be a StackState, got a {type(state).__name__}; use what this stack returned.")
        if state is not None and len(state.blocks) != count:
            raise ValueError(f"Stack: the state is of {len(state.blocks)} blocks, the stack has {count} with one; it is of another.")
        parts = iter([None] * count if state is None else state.blocks)
        x = x if mask is None else x.masked_fill(~mask[..., None], 0)
        after = []
        for block in self.blocks:
            if hasattr(block, "init_state"):
                x, part = block(x, next(parts), mask=mask)
                after.append(part)
            else:
                x = block(x)
        y = self.norm(x)
        return y if mask is None else y.masked_fill(~mask[..., None], 0), StackState(tuple(after))

    def _holding(self) -> list[Any]:
        return [block for block in self.blocks if hasattr(block, "init_state")]
