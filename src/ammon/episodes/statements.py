"""Statements: pieces of SQL for a store in SQLite, and how its rows become records."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ammon.episodes.records import DAY, Episode, Moment, Scope

# values of one statement
MANY = 500
EPISODE = (
    "SELECT e.id, e.text, s.name, e.time, e.zone, p.name, e.metadata, e.strength, e.uses, e.used "
    "FROM episodes e JOIN sessions s ON s.id = e.session LEFT JOIN speakers p ON p.id = e.speaker "
)


def conditions(scope: Scope) -> tuple[list[str], list[Any]]:
    """A scope as conditions of SQL on e, s and p."""
    tests: list[str] = []
    values: list[Any] = []
    for test, value in (
        ("s.name = ?", scope.session),
        ("p.name = ?", scope.speaker),
        ("e.time >= ?", scope.since),
        ("e.time < ?", scope.until),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)
    for name, allowed in scope.where:
        tests.append(f"e.id IN (SELECT episode FROM labels WHERE name = ? AND value IN ({','.join('?' * len(allowed))}))")
        values += (name, *allowed)
    if scope.days is not None:
        periods = [f"(e.time + e.zone * 60000000) BETWEEN {first * DAY} AND {(last + 1) * DAY - 1}" for first, last in scope.days]
        tests.append(f"({' OR '.join(periods) or 'FALSE'})")
    return tests, values


def episode_of(row: Sequence[Any]) -> Episode:
    one, text, session, time, zone, speaker, metadata, strength, uses, used = row
    last = None if used is None else Moment(used, 0).datetime
    return Episode(one, text, session, Moment(time, zone).datetime, speaker, json.loads(metadata), strength, uses, last)


def index_text(tally: Mapping[str, int]) -> str:
    """Terms as a text for the index, in an order that does not depend on the text's."""
    return " ".join(term for term in sorted(tally) for _ in range(tally[term]))


def metadata_text(metadata: Mapping[str, Any]) -> str:
    return json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)


def chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[start : start + MANY] for start in range(0, len(ids), MANY))
