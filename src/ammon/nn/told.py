"""Told: what a caller says of tokens beside x, for episodic memories that take it. Each [batch, time], None where nothing is said."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ammon.nn.state import Mode

WHOLE = (torch.int64, torch.int32)
# by name: what it must be, and the memory that takes it
NEEDED = {
    "boundary": ("bool", "True at first tokens", "every token is written by itself", "write=Segments()"),
    "surprise": ("floating or bool", "how much each token surprises", "it writes without", "strength=Surprising()"),
    "items": ("whole numbers", "which item each token is", "it knows no associations of items", "semantics=Semantics(...)"),
}


@dataclass(frozen=True)
class Told:
    """boundary: a new segment begins. surprise: how much a token surprises. items: which item of the semantics it is, -1 for none."""

    boundary: Tensor | None = None
    surprise: Tensor | None = None
    items: Tensor | None = None

    def only(self, takes: frozenset[str]) -> dict[str, Tensor | None]:
        """What a memory takes, as the arguments of its call."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in takes}

    def map(self, function: Callable[[Tensor], Tensor]) -> "Told":
        """The same of function(tensor)."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return Told(**{name: None if tensor is None else function(tensor) for name, tensor in given})

    def check(self, where: str, x: Tensor, takes: frozenset[str], mode: Mode) -> None:
        """Refuse what is of another kind or shape, what the memory does not take, and that it is not told what it needs."""
        if self.surprise is None and "surprise" in takes and mode != "read-only":
            raise ValueError(f"{where}: it writes by surprise, and none is given; give surprise=, or a block with one neural memory.")
        if self.items is None and "items" in takes:
            raise ValueError(f"{where}: it was made with semantics, and no items are given; give items=, -1 for tokens that are none.")
        for name, (kind, said, without, remedy) in NEEDED.items():
            given: Any = getattr(self, name)
            if given is None:
                continue
            if name not in takes:
                raise ValueError(f"{where}: {name}= is given, and {without}; make the memory with {remedy}.")
            if not isinstance(given, Tensor) or given.shape != x.shape[:2] or not _is(kind, given):
                got = f"{given.dtype} {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
                raise ValueError(f"{where}: {name} must be {kind} [batch, time] = {list(x.shape[:2])}, {said}, got {got}.")


def _is(kind: str, given: Tensor) -> bool:
    if kind == "whole numbers":
        return given.dtype in WHOLE
    return given.dtype == torch.bool or (kind != "bool" and given.is_floating_point())
