"""A trace: pairs superposed in one row, of which each new pair leaves a share (Murdock 1982; Plate 1995).

What was written is counted beside it: pairs, of which with a value of their own, and the entries of those values.
"""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from ammon.memories.base import Memory
from ammon.memories.checks import check_pair
from ammon.shapes import Rows


class Traced(Protocol):
    """A memory that keeps one trace. clean_up: a memory of the single items, if any."""

    dim: int
    clean_up: Memory | None
    trace: Tensor  # [dim]
    written: Tensor  # [3], the counts


def superpose(memory: Traced, patterns: Rows, values: Rows | None, retention: float, events: Callable[[Tensor, Tensor], Tensor]) -> None:
    """trace ← retentionⁿ trace + Σ_i retention^(n-1-i) event_i of n pairs, as if they came one after the other.

    events(keys, items) are the rows that stand for pairs of keys with items, both [pattern, dim]: values filled up with zeros, or the
    patterns themselves. The items are written to the clean-up first, since it may refuse them.
    """
    count, own, value_dim = memory.written.tolist()
    check_pair(cast(Memory, memory), patterns, values, value_dim if own else None)
    if values is not None and values.shape[1] > memory.dim:
        raise ValueError(
            f"{type(memory).__name__}.write: the values have dim {values.shape[1]}, the memory {memory.dim}; a binding holds no more "
            "entries than its keys, so widen the keys."
        )
    trace = memory.trace if count else patterns.new_zeros(memory.dim)
    keys = patterns.detach().to(trace)
    items = keys if values is None else functional.pad(values.detach().to(trace), (0, memory.dim - values.shape[1]))
    if memory.clean_up is not None:
        memory.clean_up.write(items)
    # each has been left over as often as others came after it
    kept = retention ** torch.arange(len(keys) - 1, -1, -1, dtype=trace.dtype, device=trace.device)
    memory.trace = retention ** len(keys) * trace + kept @ events(keys, items)
    own_now, dim_now = (0, 0) if values is None else (len(values), values.shape[1])
    memory.written = memory.written.new_tensor([count + len(keys), own + own_now, max(value_dim, dim_now)])
