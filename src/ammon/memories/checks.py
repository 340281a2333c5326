"""Checks: what every memory asks of the rows that come in, said in one place."""

from torch import Tensor

from ammon.memories.base import Memory
from ammon.shapes import check_rows


def check_cue(memory: Memory, method: str, cue: Tensor, stored: Tensor) -> None:
    """Refuse a cue (or a state) that the memory cannot answer. `stored` is a tensor of what it holds."""
    where = f"{type(memory).__name__}.{method}"
    if len(memory) == 0:
        raise ValueError(f"{where}: the memory is empty; write patterns first.")
    check_rows(where, "cue", cue, memory.dim)
    if cue.dtype != stored.dtype or cue.device != stored.device:
        held, got = f"{stored.dtype} on {stored.device}", f"{cue.dtype} on {cue.device}"
        raise TypeError(
            f"{where}: the memory holds {held}, the cue is {got}; bring them together, e.g. cue.to(memory_dtype) or memory.to(...)."
        )


def check_pair(memory: Memory, patterns: Tensor, values: Tensor | None, value_dim: int | None) -> None:
    """Refuse patterns and values that do not go with each other or with what was written. value_dim: of values held, else None."""
    where = f"{type(memory).__name__}.write"
    check_rows(where, "pattern", patterns, memory.dim)
    if values is None:
        if value_dim is not None:
            raise ValueError(f"{where}: this memory holds values of dim {value_dim}; write values with these patterns too.")
        return
    check_rows(where, "value", values, value_dim)
    if len(values) != len(patterns):
        raise ValueError(f"{where}: {len(patterns)} patterns came with {len(values)} values; give one value per pattern.")
    if value_dim is None and len(memory):
        raise ValueError(f"{where}: the {len(memory)} patterns held have no values; write these without values, or all with.")
