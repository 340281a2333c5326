"""State: what a memory layer holds between two calls, as a frozen record of tensors, the batch axis first.

A layer keeps no contents of its own: state goes in and comes out. A record may hold tensors, tuples of tensors, and records.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeVar, dataclass_transform

import torch
from torch import Tensor
from torch.export import register_dataclass

# what a call does to the contents: reads after writing, leaves them as they are, or writes and gives zeros
Mode = Literal["read-write", "read-only", "write-only"]
MODES: tuple[Mode, ...] = ("read-write", "read-only", "write-only")


class State:
    """What all records share; make one with `@record`."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The same record of function(tensor)."""
        return type(self)(**{field.name: _map(getattr(self, field.name), function) for field in fields(self)})  # type: ignore[arg-type]

    def join(self, other: Self, function: Callable[[Tensor, Tensor], Tensor]) -> Self:
        """The same record of function(own tensor, the other's)."""
        return type(self)(
            **{field.name: _join(getattr(self, field.name), getattr(other, field.name), function) for field in fields(self)}  # type: ignore[arg-type]
        )

    def named(self) -> dict[str, Tensor]:
        """Every tensor by its path, e.g. "memory.weights.0"."""
        return {name: tensor for field in fields(self) for name, tensor in _named(field.name, getattr(self, field.name))}  # type: ignore[arg-type]

    def detach(self) -> Self:
        """Without the history of gradients: truncates backpropagation through time here."""
        return self.map(Tensor.detach)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """On another device, floating tensors in another dtype; counts and positions stay whole numbers."""
        return self.map(lambda tensor: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None))

    def select(self, rows: Tensor) -> Self:
        """The rows of the batch at the indices [new batch], e.g. the beams that go on."""
        return self.map(lambda tensor: tensor.index_select(0, rows))

    @property
    def batch(self) -> int:
        """How many rows it holds."""
        return next(iter(self.named().values())).shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, a tensor that stands in two places counted once."""
        return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in self.named().values()}.values())


S = TypeVar("S", bound=State)


@dataclass_transform(frozen_default=True, eq_default=False)
def record(cls: type[S]) -> type[S]:
    """A class of `State` as a frozen dataclass, known to torch as a pytree."""
    made = dataclass(frozen=True, eq=False)(cls)
    register_dataclass(made)
    return made


def replace_rows(state: S, fresh: S, rows: Tensor) -> S:
    """`state` with the rows [batch], True where they begin anew, taken from `fresh`."""

    def choose(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(rows.reshape(-1, *[1] * (old.ndim - 1)), new.to(old.dtype), old)

    return state.join(fresh, choose)


def check_state(where: str, state: Any, fresh: State) -> None:
    """Refuse a state that this layer could not have made: other kind, batch, sizes, dtype or device than those of `fresh`."""
    if type(state) is not type(fresh):
        raise TypeError(
            f"{where}: the state must be a {type(fresh).__name__}, got a {type(state).__name__}; "
            "use this layer's init_state, or what it returned."
        )
    given, needed = state.named(), fresh.named()
    if given.keys() != needed.keys():
        raise ValueError(f"{where}: the state has the tensors {', '.join(given)}, needed {', '.join(needed)}; it is of another module.")
    for name, tensor in needed.items():
        got = given[name]
        if got.shape[0] != tensor.shape[0]:
            raise ValueError(f"{where}: the state is of {got.shape[0]} rows, the input of {tensor.shape[0]}; select or reset its rows.")
        if got.shape != tensor.shape:
            raise ValueError(
                f"{where}: the state's {name} has shape {list(got.shape)}, this layer needs {list(tensor.shape)}; it is of another module."
            )
        if got.dtype != tensor.dtype or got.device != tensor.device:
            raise ValueError(
                f"{where}: the state's {name} is {got.dtype} on {got.device}, this layer needs {tensor.dtype} on {tensor.device}; "
                "move it by state.to."
            )


def check_input(where: str, x: Any, mask: Any, dim: int, mode: str) -> None:
    """Refuse what is not floating [batch, time, dim], a mask that is not bool [batch, time], and a mode that is none."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = f"{x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{where}: x must be a floating tensor, got a {got}; embed tokens first.")
    if x.ndim != 3 or x.shape[-1] != dim or not len(x):
        raise ValueError(f"{where}: x must be [batch, time, {dim}] with at least one row, got {list(x.shape)}.")
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        got = f"{mask.dtype} tensor" if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{where}: the mask must be a bool tensor, True where a token is there, got a {got}; use mask.bool().")
    if mask is not None and mask.shape != x.shape[:2]:
        raise ValueError(f"{where}: the mask must be [batch, time] = {list(x.shape[:2])}, got {list(mask.shape)}.")
    if mode not in MODES:
        raise ValueError(f"{where}: mode must be one of {', '.join(MODES)}, got {mode!r}.")


def check_rows_of(where: str, state: State, rows: Any) -> None:
    """Refuse what is not a bool tensor over the batch of the state."""
    if not isinstance(rows, Tensor) or rows.dtype != torch.bool or rows.shape != (state.batch,):
        got = f"{rows.dtype} {list(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise ValueError(f"{where}: rows must be bool [{state.batch}], True where a row begins anew, got {got}.")


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    return value.map(function) if isinstance(value, State) else tuple(_map(item, function) for item in value)


def _join(value: Any, other: Any, function: Callable[[Tensor, Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value, other)
    if isinstance(value, State):
        return value.join(other, function)
    return tuple(_join(mine, yours, function) for mine, yours in zip(value, other, strict=True))


def _named(path: str, value: Any) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(path, value)]
    if isinstance(value, State):
        return [(f"{path}.{name}", tensor) for name, tensor in value.named().items()]
    return [pair for index, item in enumerate(value) for pair in _named(f"{path}.{index}", item)]
