"""Lists: what people studied and what they recalled, as padded tensors.

list      lists of all subjects, one after the other
position  serial positions of study;  output  positions of recall;  unit  the different items of one list, in the order of first study
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

NONE, OTHER = -1, -2  # nothing here (any more); a recall of something that was not in the list


@dataclass(frozen=True)
class Lists:
    """Lists of items studied and recalled; with the same number of recalls or not, of the same length or not.

    ValueError, with subject and list, where a recall names a unit that the list has not.
    """

    study: Int[Tensor, "list position"]  # unit studied at each position, NONE beyond the end
    recalls: Int[Tensor, "list output"]  # unit recalled, OTHER or, at the end, NONE
    items: Int[Tensor, "list unit"]  # index of each unit in `names`, NONE where a list has fewer units
    names: tuple[Hashable, ...]  # the pool of items
    subject: Int[Tensor, " list"]  # index in `subjects`
    subjects: tuple[Hashable, ...]
    numbers: tuple[Hashable, ...]  # what each list is called
    sources: Int[Tensor, "list position"] | None = None  # the source (task, voice, ...) of each studied item, from 0; NONE beyond the end

    def __post_init__(self) -> None:
        count = len(self.study)
        lengths = {len(self.recalls), len(self.items), len(self.subject), len(self.numbers), count}
        if lengths != {count} or count == 0:
            raise ValueError(
                f"Lists: study, recalls, items, subject and numbers must be of as many lists, at least 1, got {sorted(lengths)}."
            )
        units = (self.items != NONE).sum(-1, keepdim=True)
        for what, rows in (("study", self.study), ("recalls", self.recalls)):
            wrong = (rows >= units) | (rows < OTHER)
            if bool(wrong.any()):
                row = int(wrong.any(-1).nonzero()[0])
                bad = int(rows[row][wrong[row]][0])
                raise ValueError(f"Lists: {self.label(row)}: {what} names unit {bad}, the list has units 0 to {int(units[row]) - 1}.")
        ended = (self.recalls == NONE).cummax(-1).values if self.recalls.shape[1] else self.recalls == NONE
        broken = (ended & (self.recalls != NONE)).any(-1)
        if bool(broken.any()):
            raise ValueError(f"Lists: {self.label(int(broken.nonzero()[0]))}: a recall comes after the end (-1) of the recalls.")

    def __len__(self) -> int:
        return len(self.study)

    def label(self, row: int) -> str:
        """How a message names a list."""
        return f"subject {self.subjects[int(self.subject[row])]}, list {self.numbers[row]}"

    @property
    def lengths(self) -> Int[Tensor, " list"]:
        """Studied positions of each list."""
        return (self.study != NONE).sum(-1)

    @property
    def num_recalls(self) -> Int[Tensor, " list"]:
        return (self.recalls != NONE).sum(-1)

    def at(self, rows: Tensor | Sequence[int]) -> "Lists":
        """These lists, with all subjects kept."""
        rows = torch.as_tensor(rows)
        rows = rows.nonzero().squeeze(-1) if rows.dtype == torch.bool else rows
        numbers = tuple(self.numbers[row] for row in rows.tolist())
        sources = None if self.sources is None else self.sources[rows]
        return replace(
            self,
            study=self.study[rows],
            recalls=self.recalls[rows],
            items=self.items[rows],
            subject=self.subject[rows],
            numbers=numbers,
            sources=sources,
        )

    def of(self, subjects: Sequence[Hashable]) -> "Lists":
        """The lists of these subjects, who are then the only ones, in this order."""
        unknown = [subject for subject in subjects if subject not in self.subjects]
        if unknown:
            raise ValueError(f"Lists.of: there is no subject {unknown[0]!r}; there are {', '.join(map(str, self.subjects))}.")
        order = torch.tensor([self.subjects.index(subject) for subject in subjects])
        place = torch.full((len(self.subjects),), NONE)
        place[order] = torch.arange(len(order))
        kept = self.at(place[self.subject] != NONE)
        return replace(kept, subject=place[kept.subject], subjects=tuple(subjects))

    def clean(self) -> "Lists":
        """Without repeats and intrusions, as likelihoods of models that cannot make them need (Kragel, Morton & Polyn 2015)."""
        recalls = torch.full_like(self.recalls, NONE)
        # an item's first recall: no earlier output is the same unit
        same = self.recalls.unsqueeze(-1) == self.recalls.unsqueeze(-2)
        repeat = same.tril(-1).any(-1)
        kept = (self.recalls >= 0) & ~repeat
        place = kept.cumsum(-1) - 1
        row, column = kept.nonzero(as_tuple=True)
        recalls[row, place[row, column]] = self.recalls[row, column]
        most = int(kept.sum(-1).max()) if recalls.shape[1] else 0
        return replace(self, recalls=recalls[:, :most])

    def times(self, copies: int) -> "Lists":
        """Each list so many times. Copies are numbered on by the largest number; those of lists with other names are (name, copy)."""
        again = self.at(torch.arange(len(self)).repeat_interleave(copies))
        whole = [number for number in self.numbers if isinstance(number, int)]
        stride = max(whole, default=0)
        numbers = tuple(
            number + copy * stride if isinstance(number, int) and len(whole) == len(self) else (number, copy)
            for number in self.numbers
            for copy in range(copies)
        )
        return replace(again, numbers=self.numbers if copies == 1 else numbers)

    def dirty(self) -> Tensor:
        """The lists with repeats or intrusions, as a mask [list]."""
        same = self.recalls.unsqueeze(-1) == self.recalls.unsqueeze(-2)
        repeat = (same.tril(-1).any(-1)) & (self.recalls >= 0)
        return (repeat | (self.recalls == OTHER)).any(-1)


def once(
    lengths: Sequence[int] | Tensor,
    subjects: Tensor | None = None,
    names: Sequence[Hashable] | None = None,
    items: Tensor | None = None,
    sources: Tensor | None = None,
) -> Lists:
    """Lists of these lengths in which each item is studied once, still without recalls: what a simulation starts from."""
    lengths = torch.as_tensor(lengths)
    most = int(lengths.max())
    units = torch.arange(most).expand(len(lengths), most)
    study = torch.where(units < lengths.unsqueeze(-1), units, NONE)
    if items is None:
        items = study
    if names is None:
        names = [f"item {number + 1}" for number in range(int(items.max()) + 1)]
    subject = torch.zeros(len(lengths), dtype=torch.int64) if subjects is None else subjects
    people = tuple(range(1, int(subject.max()) + 2))
    recalls = torch.empty(len(lengths), 0, dtype=torch.int64)
    return Lists(study, recalls, items, tuple(names), subject, people, tuple(range(1, len(lengths) + 1)), sources)
