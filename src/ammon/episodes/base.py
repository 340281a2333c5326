"""Engine: what a store of episodes asks of its database. SQL stays behind it, scoring above it.

Ids are int64 tensors [episode], scores float32; an engine orders by score, equal scores by id. Two engines must give the same answers
to the same calls (`tests/contracts/test_episodes.py`).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from ammon.episodes.records import Draft, Episode, Origin, Scope, Session


class Nearest(NamedTuple):
    """The episodes whose keys are most similar to a cue [found], best first; and over all `searched` of the scope the mean and the
    standard deviation (of the population) of their similarity."""

    ids: Tensor
    scores: Tensor
    searched: int
    mean: float
    deviation: float


class Postings(NamedTuple):
    """Where words occur, in the scope: one entry per word and episode [posting].

    terms: the words looked up, rarest first; frequencies: in how many episodes of the whole store each occurs [term]; term: index
    into `terms`; counts: how often; lengths: words in the episode. total and mean_length: over all episodes of the store.
    """

    terms: tuple[str, ...]
    frequencies: tuple[int, ...]
    ids: Tensor
    term: Tensor
    counts: Tensor
    lengths: Tensor
    total: int
    mean_length: float


class Neighbours(NamedTuple):
    """Who stands near whom in a session, by (time, id) [pair]: ids[i] came lags[i] places after (before, if negative) of_ids[i]."""

    of_ids: Tensor
    lags: Tensor
    ids: Tensor


class Facts(NamedTuple):
    """What is compared besides keys and words: the local day [episode], and who spoke."""

    days: Tensor
    speakers: tuple[str | None, ...]


class Engine(Protocol):
    """A database of episodes. Writing calls are one transaction each: wholly done once they return, or not at all."""

    place: str

    def origin(self) -> Origin | None:
        """Where the keys come from; None while nothing was written."""

    def append(self, drafts: Sequence[Draft], keys: Tensor, origin: Origin, bookmark: tuple[str, int] | None = None) -> list[int]:
        """Write episodes with their keys [episode, dim]; ids ascend. ValueError if `origin` is not that of the store.

        bookmark: a name and a number kept in the same transaction, so that an import that was cut short can go on.
        """

    def change(self, changes: Sequence[tuple[int, Draft, Tensor | None]]) -> None:
        """Put other contents, and another key [dim] unless None, in the place of episodes that exist."""

    def reinforce(self, ids: Sequence[int], micros: int) -> int:
        """One use more, at that time; how many there were."""

    def delete(self, ids: Sequence[int], merged: Mapping[int, Sequence[int]] | None = None) -> int:
        """Delete, and how many there were. merged: the ids that remain, each with the deleted whose strength and uses it takes."""

    def bookmark(self, name: str) -> int | None:
        """The number kept under this name."""

    def reading(self) -> AbstractContextManager[None]:
        """All reads within see one state of the store."""

    def fetch(self, ids: Sequence[int]) -> list[Episode]:
        """The episodes of these ids in their order; those that do not exist are left out."""

    def keys(self, ids: Sequence[int]) -> Tensor:
        """The keys of episodes that exist, as they were given [episode, dim]."""

    def page(self, scope: Scope, limit: int, after: tuple[int, int] | None = None, newest: bool = False) -> list[Episode]:
        """Up to `limit` episodes by (time, id), after (with `newest` before) that (microseconds, id)."""

    def count(self, scope: Scope) -> int: ...

    def days(self) -> tuple[int, int] | None:
        """The first and the last local day of the store."""

    def sessions(self) -> list[Session]:
        """By their last episode, the latest first."""

    def speakers(self) -> list[str]:
        """Who ever spoke, in alphabetical order."""

    def nearest(self, cue: Tensor, scope: Scope, num: int) -> Nearest:
        """The `num` (fewer if there are fewer) episodes nearest to the cue [dim], exact."""

    def compare(self, cue: Tensor, ids: Tensor) -> Tensor:
        """Similarities of these episodes to the cue [dim]: [episode]."""

    def postings(self, terms: Sequence[str], scope: Scope, budget: int) -> Postings:
        """Where the terms occur. The rarest come first, and as many as have `budget` postings together (in the store), at least one."""

    def around(self, ids: Sequence[int], reach: int, scope: Scope) -> Neighbours:
        """Up to `reach` places before and after each, within its session; those outside the scope are counted but left out."""

    def facts(self, ids: Tensor) -> Facts: ...

    def snapshot(self, path: Path) -> None:
        """A copy as it is now, as a store in one SQLite file; a file of that name is replaced only once the copy is whole."""

    def check(self) -> list[str]:
        """What is wrong with the store, in words; nothing if it is whole."""

    def close(self) -> None: ...
