"""A small transformer learns a small task within seconds: the loss falls, and answers get far better than chance."""

import torch
from torch import nn

from ammon.datasets.tasks import Questions, associative_recall
from ammon.experiments.trained import answered, examined, teach
from ammon.nn.configurations import Size


def drawn(batch: int, generator: torch.Generator) -> Questions:
    return associative_recall(batch, length=16, pairs=2, vocabulary=8, generator=generator)


def test_a_model_learns_to_recall_what_was_bound() -> None:
    taught = teach(
        drawn,
        8,
        "neural",
        Size(dim=32, heads=1, chunk=4),
        {"steps": 100, "batch": 32, "rate": 1e-2, "enough": 0.97, "every": 25},
        generator=torch.Generator().manual_seed(0),
    )
    rows = taught.trained.rows
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    right, asked = examined(taught.model, drawn, 64, torch.Generator().manual_seed(1))
    # of the two values that were shown a guess takes the right one in half of the cases
    assert sum(right) / sum(asked) > 0.9
    assert taught.row["steps_to_90"] == taught.trained.first("held_accuracy", 0.9)
    assert taught.row["trained_steps"] == rows[-1]["step"]


class Saying(nn.Module):
    """Says what the targets are, but for the first question of each sequence."""

    def __init__(self, questions: Questions) -> None:
        super().__init__()
        self.found = questions.targets.clamp(min=0)
        first = (questions.targets >= 0).float().argmax(1)
        rows = torch.arange(len(self.found))
        self.found[rows, first] = 1 - (self.found[rows, first] == 1).long()

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        return nn.functional.one_hot(self.found, 8), None


def test_answers_are_counted_per_sequence() -> None:
    questions = drawn(5, torch.Generator().manual_seed(0))
    assert answered(Saying(questions), questions) == ([11] * 5, [12] * 5)
    assert answered(Saying(questions), questions, kind=1) == ([0] * 5, [0] * 5)
