"""Joint: the states of several memories that one block runs side by side, by the names of the memories."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ammon.nn.episodic import EpisodicMemory
from ammon.nn.neural import NeuralMemory
from ammon.nn.packing import only
from ammon.nn.state import Mode, State, check_input, check_rows_of, record
from ammon.nn.told import Told


@record
class JointState(State):
    """The state of each memory, in the order of their names."""

    parts: tuple[State, ...]


class Memories(nn.Module):
    """Memories of one width by name. Each is a layer of the usual contract; only `EpisodicMemory` is told more (`Told`).

    A memory that writes by surprise (`Surprising`) takes that of the neural memory beside it, unless the caller gives another.
    """

    def __init__(self, where: str, memories: Mapping[str, nn.Module], least: int = 1) -> None:
        super().__init__()
        if not isinstance(memories, Mapping) or len(memories) < least:
            raise ValueError(
                f"{where}: at least {least} named memories are needed, e.g. {{'episodic': EpisodicMemory(64)}}, got {memories!r}."
            )
        widths = {name: getattr(memory, "dim", None) for name, memory in memories.items()}
        if None in widths.values() or len(set(widths.values())) != 1:
            raise ValueError(f"{where}: all memories must be layers of one dim, got {', '.join(f'{n}: {w}' for n, w in widths.items())}.")
        self.where, self.dim = where, int(next(iter(widths.values())))  # type: ignore[arg-type]
        self.layers = nn.ModuleDict(dict(memories))
        self._feels = [name for name, memory in memories.items() if isinstance(memory, NeuralMemory)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.layers)

    def init_state(self, batch: int) -> JointState:
        return JointState(tuple(layer.init_state(batch) for layer in self._callable()))

    def reset(self, state: JointState, rows: Tensor) -> JointState:
        check_rows_of(f"{self.where}.reset", state, rows)
        return JointState(tuple(layer.reset(part, rows) for layer, part in zip(self._callable(), state.parts, strict=True)))

    def check(self, x: Tensor, state: Any, mask: Tensor | None, mode: str) -> None:
        """Refuse what is no input of the block, or a state of another."""
        check_input(self.where, x, mask, self.dim, mode)
        if state is None:
            return
        if not isinstance(state, JointState):
            raise TypeError(f"{self.where}: the state must be a JointState, got a {type(state).__name__}; use what this block returned.")
        if len(state.parts) != len(self.layers):
            raise ValueError(
                f"{self.where}: the state is of {len(state.parts)} memories, the block has {len(self.layers)}; it is of another."
            )

    def forward(self, x: Tensor, state: JointState | None, mask: Tensor | None, mode: Mode, told: Told) -> tuple[list[Tensor], JointState]:
        """What each memory gives for x, and the states after."""
        parts: Sequence[Any] = [None] * len(self.layers) if state is None else state.parts
        if told.surprise is None and mode != "read-only":
            told = replace(told, surprise=self._surprise(x, parts, mask))
        given, after = [], []
        for layer, part in zip(self._callable(), parts, strict=True):
            y, part = ask(layer, x, part, mask, mode, told)
            given.append(y)
            after.append(part)
        return given, JointState(tuple(after))

    def _surprise(self, x: Tensor, parts: Sequence[Any], mask: Tensor | None) -> Tensor | None:
        if not any(isinstance(layer, EpisodicMemory) and "surprise" in layer.takes for layer in self._callable()):
            return None
        if len(self._feels) != 1:
            known = ", ".join(self._feels) or "none"
            raise ValueError(f"{self.where}: a memory writes by surprise; give surprise=, or one neural memory beside it, got {known}.")
        neural: Any = self.layers[self._feels[0]]
        found: Tensor = neural.surprise(x, parts[self.names.index(self._feels[0])], mask=mask)
        return found

    def _callable(self) -> list[Any]:
        return list(self.layers.values())


class Joint(nn.Module):
    """What blocks of several memories share: their states stand side by side."""

    memories: Memories

    def init_state(self, batch: int) -> JointState:
        """The state of `batch` rows that have seen nothing, in the order of the memories."""
        return self.memories.init_state(batch)

    def reset(self, state: JointState, rows: Tensor) -> JointState:
        """The state with the rows [batch] that are True as if they had seen nothing."""
        return self.memories.reset(state, rows)


class InTurn(Joint):
    """Blocks whose layers go in turn. There is no mode: what a layer writes depends on what the ones before it have read."""

    def forward(
        self,
        x: Tensor,
        state: JointState | None = None,
        *,
        mask: Tensor | None = None,
        boundary: Tensor | None = None,
        surprise: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, JointState]:
        """y and the states after the last token; mask, boundary, surprise, items: as for each of the memories."""
        self.memories.check(x, state, mask, "read-write")
        x = only(x, mask)
        parts: Sequence[Any] = [None] * len(self.memories.layers) if state is None else state.parts
        y, after = self.pass_on(x, parts, mask, Told(boundary, surprise, items))
        return only(y, mask), JointState(tuple(after))

    def pass_on(self, x: Tensor, parts: Sequence[Any], mask: Tensor | None, told: Told) -> tuple[Tensor, Sequence[State]]:
        """The same of input that was checked, zero where no token is, and of the state of each memory, None for a fresh one."""
        raise NotImplementedError


def ask(layer: Any, x: Tensor, state: Any, mask: Tensor | None, mode: Mode, told: Told) -> tuple[Tensor, Any]:
    """One call of a layer; an episodic memory is told what it takes."""
    more = told.only(layer.takes) if isinstance(layer, EpisodicMemory) else {}
    y, after = layer(x, state, mask=mask, mode=mode, **more)
    return y, after
