"""Trained: a small transformer trained on a task until it answers, and how well. What the experiments on memory in transformers share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ammon.analysis import figures
from ammon.datasets.tasks import IGNORED, Questions
from ammon.experiments.base import Axis, Column, Point
from ammon.experiments.stored import with_interval
from ammon.nn.configurations import CONFIGURATIONS, Size
from ammon.nn.language_model import MemoryTransformer, next_token_loss
from ammon.training.plan import Plan
from ammon.training.trainer import Moment, Trained, generator_at, train

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# a batch of so many sequences
Draw = Callable[[int, torch.Generator], Questions]
HELD = 128  # sequences on which accuracy is watched while training

AXES: Mapping[str, Axis] = {
    "steps": Axis("steps of training at most", (2000,), kind=int, least=1),
    "enough": Axis("accuracy at which training stops", (0.99,), least=0, most=1),
    "batch": Axis("sequences of a step", (32,), kind=int, least=1),
    "rate": Axis("largest learning rate", (3e-3,), least=1e-6),
    "dim": Axis("width", (64,), kind=int, least=4),
    "heads": Axis("heads", (2,), kind=int, least=1),
    "every": Axis("steps between two looks at the accuracy", (50,), kind=int, least=1),
    "run": Axis("number of the training: its weights and its data are drawn anew", (0, 1, 2), kind=int, least=0),
}
# what lets a training find its way sooner, for experiments that may need it
SEARCH: Mapping[str, Axis] = {
    "beta2": Axis(f"second β of AdamW, where not {Plan.betas[1]}", least=0, most=0.9999),
    "embedding": Axis("standard deviation of the embedding at first, where not 1", least=1e-3),
}
COLUMNS: Mapping[str, Column] = {
    **with_interval("accuracy", "share of new questions answered right, the likeliest token of all"),
    "trained_steps": Column("steps done", type=int),
    "steps_to_90": Column("step at which 90 % were first answered right", type=int),
    "parameters": Column("numbers that training changes", type=int),
}


@dataclass(frozen=True)
class Taught:
    """A model after training."""

    model: MemoryTransformer
    trained: Trained

    @property
    def row(self) -> dict[str, int | None]:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        steps = self.trained.progress.step
        return {"trained_steps": steps, "steps_to_90": self.trained.first("held_accuracy", 0.9), "parameters": parameters}


def teach(
    draw: Draw, vocabulary: int, configuration: str, size: Size, point: Point, *, generator: torch.Generator, watched: int | None = None
) -> Taught:
    """Train a configuration on a task, as `AXES` at this point say; weights and data come from the generator.

    watched: the kind of question of which `enough` must be right, None for all. A point may have `embedding`, see `SEARCH`.
    """
    seed, held_seed = (int(torch.randint(2**31, (), generator=generator)) for _ in range(2))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = MemoryTransformer(vocabulary, CONFIGURATIONS[configuration](size))
    with torch.no_grad():
        model.embedding.weight.mul_(float(point.get("embedding", 1.0)))
    held = draw(HELD, generator_at(held_seed, 0))
    kinds = torch.unique(held.kinds[held.targets != IGNORED]).tolist()

    def loss(model: nn.Module, moment: Moment) -> torch.Tensor:
        some = draw(int(point["batch"]), moment.generator)
        return next_token_loss(model(some.tokens)[0], some.targets)

    def measure(model: nn.Module) -> dict[str, float]:
        shares = {"accuracy": answered(model, held)} | {f"accuracy_{kind}": answered(model, held, kind) for kind in kinds}
        return {name: sum(right) / sum(asked) for name, (right, asked) in shares.items()}

    name = "held_accuracy" if watched is None else f"held_accuracy_{watched}"
    trained = train(model, loss, plan_of(point, seed), measure=measure, enough=lambda row: row[name] >= float(point["enough"]))
    return Taught(model.eval(), trained)


def plan_of(point: Point, seed: int) -> Plan:
    """How to train, as `AXES` at this point say, and `SEARCH` where it is given."""
    steps, betas = int(point["steps"]), (Plan.betas[0], float(point.get("beta2", Plan.betas[1])))
    return Plan(steps, float(point["rate"]), warmup=min(50, steps), betas=betas, every=int(point["every"]), seed=seed)


@torch.no_grad()
def answered(model: nn.Module, questions: Questions, kind: int | None = None) -> tuple[list[int], list[int]]:
    """Per sequence, how many questions were answered right and how many there were; of one kind, or all."""
    found = model(questions.tokens)[0].argmax(-1)
    asked = questions.targets != IGNORED
    if kind is not None:
        asked = asked & (questions.kinds == kind)
    return (asked & (found == questions.targets)).sum(1).tolist(), asked.sum(1).tolist()


def examined(
    model: nn.Module, draw: Draw, sequences: int, generator: torch.Generator, kind: int | None = None, batch: int = 32
) -> tuple[list[int], list[int]]:
    """`answered` for so many new sequences, drawn batch by batch; those without a question left out."""
    right: list[int] = []
    asked: list[int] = []
    for start in range(0, sequences, batch):
        some = answered(model, draw(min(batch, sequences - start), generator), kind)
        right += [r for r, a in zip(*some, strict=True) if a]
        asked += [a for a in some[1] if a]
    return right, asked


def show_models(panel: "Axes", rows: Sequence[Mapping[str, Any]], models: Sequence[str]) -> None:
    """The accuracy of each training as a point above the name of its model; a model has one colour in all panels."""
    names = [name for name in models if any(row["model"] == name for row in rows)]
    names += sorted({row["model"] for row in rows} - set(models))
    for place, name in enumerate(names):
        found = [row["accuracy"] for row in rows if row["model"] == name]
        number = models.index(name) if name in models else len(models)
        figures.measured(panel, [place] * len(found), found, number=number, linestyle="none")
    panel.set_xticks(range(len(names)), names, rotation=30, ha="right")
    panel.set_ylim(0, 1.03)
