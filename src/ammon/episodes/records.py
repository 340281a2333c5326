"""Records: what goes into a store of episodes and what comes back, all frozen.

Times are kept as microseconds since 1970 UTC together with the offset of the clock they were read from, so that "8 May" means the day
it was where the episode happened.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import torch
from torch import Tensor

Scalar = str | int | float | bool | None
When = datetime | str | int | float

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# a longer value of metadata can be kept but not asked for
LONGEST_FILTER = 200
DAY = 86_400_000_000
MINUTE = 60_000_000


class Moment(NamedTuple):
    """A time: microseconds since 1970 UTC, and minutes by which the local clock was ahead."""

    micros: int
    zone: int

    @property
    def day(self) -> int:
        """Days since 1970 on the local calendar."""
        return (self.micros + self.zone * MINUTE) // DAY

    @property
    def datetime(self) -> datetime:
        return (EPOCH + timedelta(microseconds=self.micros)).astimezone(timezone(timedelta(minutes=self.zone)))


@dataclass(frozen=True)
class Draft:
    """An episode before it has a place in the store."""

    text: str | None
    session: str
    moment: Moment
    speaker: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Episode:
    """What happened. strength: how many episodes were merged into it; uses and used: how often and when last it was reinforced."""

    id: int
    text: str | None
    session: str
    time: datetime
    speaker: str | None
    metadata: Mapping[str, Any]
    strength: float = 1.0
    uses: int = 0
    used: datetime | None = None


@dataclass(frozen=True)
class Scope:
    """Which episodes are meant: all that fulfil every condition. since and until: microseconds, until excluded.

    where: names of metadata, each with the values allowed, as JSON. days: first and last local day of periods, of which one must hold it.
    """

    session: str | None = None
    since: int | None = None
    until: int | None = None
    speaker: str | None = None
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    days: tuple[tuple[int, int], ...] | None = None

    @property
    def everything(self) -> bool:
        return self == Scope()


@dataclass(frozen=True)
class Session:
    """A session of the store: how many episodes, the first and the last."""

    name: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Origin:
    """Where a store's keys come from: the embedder's name, their dim, and the key of a fixed sentence that tells models apart."""

    embedder: str
    dim: int
    probe: Tensor | None = None


@dataclass(frozen=True)
class Parts:
    """What a score is the sum of. content: of the key; words: in common with the cue; context: what happened around better matches."""

    content: float = 0.0
    words: float = 0.0
    context: float = 0.0
    date: float = 0.0
    speaker: float = 0.0

    @property
    def total(self) -> float:
        return self.content + self.words + self.context + self.date + self.speaker


@dataclass(frozen=True)
class Recollected:
    """An episode that came back, and why. weight: its share after separation, over what was recalled.

    similarity: of its key to the cue; matched: words of the cue in it; reinstated_by: episodes whose context brought it up.
    """

    episode: Episode
    score: float
    parts: Parts
    weight: float
    similarity: float | None = None
    matched: tuple[str, ...] = ()
    reinstated_by: tuple[int, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Seconds of one recall: embedding the cue, comparing keys, looking up words, the context, all together."""

    embed: float
    content: float
    words: float
    context: float
    total: float


@dataclass(frozen=True)
class Recollection:
    """What `Episodes.recall` gives, best first. searched: how many episodes were in question."""

    items: tuple[Recollected, ...]
    searched: int
    timing: Timing

    @property
    def episodes(self) -> list[Episode]:
        return [item.episode for item in self.items]

    @property
    def scores(self) -> Tensor:
        """Scores [k], descending."""
        return torch.tensor([item.score for item in self.items])

    @property
    def weights(self) -> Tensor:
        """Weights [k] after separation."""
        return torch.tensor([item.weight for item in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Recollected]:
        return iter(self.items)


@dataclass(frozen=True)
class Consolidation:
    """What `Episodes.consolidate` did."""

    merged: int
    dropped: int
    left: int


def moment(value: When, where: str) -> Moment:
    """A time in any of the forms a user may give: datetime, ISO 8601, seconds since 1970. Without an offset it is taken as UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(f"{where}: a time such as 2023-05-08T13:56+02:00 is needed, got {value!r}.") from error
    if isinstance(value, bool) or not isinstance(value, datetime | int | float):
        raise TypeError(f"{where}: the time must be a datetime, an ISO 8601 string or seconds since 1970, got {type(value).__name__}.")
    if isinstance(value, int | float):
        if not math.isfinite(value) or not -6e10 < value < 2.5e11:
            raise ValueError(f"{where}: seconds since 1970 within the years 1 to 9999 are needed, got {value}.")
        return Moment(round(value * 1_000_000), 0)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    ahead = value.utcoffset() or timedelta()
    return Moment((value - EPOCH) // timedelta(microseconds=1), ahead // timedelta(minutes=1))


def canonical(value: Scalar, where: str) -> str:
    """A value of metadata as the JSON text by which it is looked up; 1 and 1.0 and True are told apart as JSON does."""
    if not isinstance(value, str | int | float | bool | None):
        raise TypeError(f"{where}: where must give text, numbers, true, false or null, or lists of them, got {type(value).__name__}.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST_FILTER:
        raise ValueError(f"{where}: where compares values of up to {LONGEST_FILTER} characters, got {len(text)}; filter by a shorter one.")
    return text


def labels(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The names and values of metadata that `where` can ask for: its plain values that are short enough."""
    found = []
    for name, value in metadata.items():
        if isinstance(value, str | int | float | bool | None) and len(json.dumps(value, ensure_ascii=False)) <= LONGEST_FILTER:
            found.append((name, canonical(value, "metadata")))
    return found


def conditions(where: Mapping[str, Scalar | Sequence[Scalar]] | None, method: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """`where` as it stands in a Scope."""
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise TypeError(f"{method}: where must be a mapping of metadata names to values, got {type(where).__name__}.")
    found = []
    for name, value in where.items():
        if not isinstance(name, str):
            raise TypeError(f"{method}: where must name metadata by text, got {name!r}.")
        allowed = value if isinstance(value, list | tuple | set | frozenset) else [value]
        found.append((name, tuple(sorted({canonical(one, method) for one in allowed}))))  # type: ignore[arg-type]
    return tuple(sorted(found))
