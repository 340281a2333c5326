"""Forgetting: what is left of each task after each later one was learned. Curves [after, task], in [0, 1]."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.memories.base import Memory
from ammon.memories.rehearsal import Study, Task, alone

Score = Callable[[Memory, Task], float]
Curve = Float[Tensor, "after task"]


def forgetting_curve(
    make: Callable[[], Memory], tasks: Sequence[Task], score: Score, study: Study | None = None, *, generator: torch.Generator
) -> Curve:
    """The score of every task after every task, the tasks being studied in order by one fresh memory.

    study: how a task is written, `alone` by default. Row k holds the scores after task k: left of the diagonal what is remembered, right
    of it what is not learned yet. `tasks` stay as they are.
    """
    if not tasks:
        raise ValueError("forgetting_curve: there are no tasks; give at least one.")
    memory = make()
    rows = []
    for number, task in enumerate(tasks):
        (study or alone)(memory, task, tasks[:number], generator)
        rows.append([score(memory, each) for each in tasks])
    return torch.tensor(rows, dtype=torch.float64)


def retained(curve: Curve) -> float:
    """The mean score over all tasks after the last one."""
    return float(curve[-1].mean())


def forgotten(curve: Curve) -> float:
    """The mean loss of score from the moment when a task was learned to the end, over all tasks but the last (Lopez-Paz & Ranzato 2017,
    backward transfer with its sign changed). 0 for a single task."""
    learned = curve.diagonal()
    return float((learned - curve[-1])[:-1].mean()) if len(learned) > 1 else 0.0


def held(memory: Memory, task: Task) -> float:
    """The fraction of patterns (or of their values) that recall gives back exactly, from the patterns themselves."""
    wanted = task.patterns if task.values is None else task.values
    return float((memory.recall(task.patterns).state == wanted).all(-1).double().mean())


def agreed(memory: Memory, task: Task) -> float:
    """The fraction of patterns whose largest recalled value is where the task's own is: accuracy of a classifier."""
    if task.values is None:
        raise ValueError("agreed: the task has no values to agree with; score it by `held`.")
    return float((memory.recall(task.patterns).state.argmax(-1) == task.values.argmax(-1)).double().mean())
