"""Rehearsal: how a new task is written into a memory that would forget the old ones.

A task is patterns [pattern, dim], with or without values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ammon.memories.base import Memory
from ammon.shapes import Rows, check_count

Cues = Callable[[int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Task:
    """What is to be learned together."""

    patterns: Rows
    values: Rows | None = None


class Study(Protocol):
    """Writes a new task into the memory, which changes. seen: the tasks before it."""

    def __call__(self, memory: Memory, new: Task, seen: Sequence[Task], generator: torch.Generator) -> None: ...


def alone(memory: Memory, new: Task, seen: Sequence[Task], generator: torch.Generator) -> None:
    """The new task and nothing else."""
    memory.write(new.patterns, new.values)


@dataclass(frozen=True)
class Rehearsal:
    """With `count` of the patterns seen before, drawn anew for each task (Ratcliff 1990; Robins 1995)."""

    count: int

    def __post_init__(self) -> None:
        check_count("Rehearsal", "count", self.count)

    def __call__(self, memory: Memory, new: Task, seen: Sequence[Task], generator: torch.Generator) -> None:
        if not seen:
            return alone(memory, new, seen, generator)
        old = _joined(seen)
        chosen = torch.randperm(len(old.patterns), generator=generator)[: self.count].to(old.patterns.device)
        again = Task(old.patterns[chosen], None if old.values is None else old.values[chosen])
        return alone(memory, _joined([again, new]), seen, generator)


@dataclass(frozen=True)
class PseudoRehearsal:
    """With `count` items that the memory itself makes of random cues: what it answers now, it is to answer then (Robins 1995;
    in Hopfield networks Robins & McCallum 1998). No old pattern is kept.

    cues: draws so many cues [count, dim]; random ±1 by default. With values the pair is the cue and its answer, else the answer alone.
    """

    count: int
    cues: Cues | None = None

    def __post_init__(self) -> None:
        check_count("PseudoRehearsal", "count", self.count)

    def __call__(self, memory: Memory, new: Task, seen: Sequence[Task], generator: torch.Generator) -> None:
        if not len(memory):
            return alone(memory, new, seen, generator)
        cues = _signs(self.count, memory.dim, generator) if self.cues is None else self.cues(self.count, generator)
        cues = cues.to(new.patterns)
        answers = memory.recall(cues).state
        own = Task(answers) if new.values is None else Task(cues, answers.to(new.values))
        return alone(memory, _joined([own, new]), seen, generator)


def _signs(count: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (count, dim), generator=generator, device=generator.device).float() * 2 - 1


def _joined(tasks: Sequence[Task]) -> Task:
    values = [task.values for task in tasks if task.values is not None]
    if values and len(values) < len(tasks):
        raise ValueError("Rehearsal: some tasks have values and some have none; give all or none of them values.")
    return Task(torch.cat([task.patterns for task in tasks]), torch.cat(values) if values else None)
