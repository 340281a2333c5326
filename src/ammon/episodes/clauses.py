"""Clauses: the pieces of SQL of a store on a server: a scope as conditions on the episodes e, and the indexes kept beside the episodes."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from ammon.episodes.records import DAY, Draft, Scope, labels

# changes of the sums that are kept apart before they are added up
TALLIES = 256


def conditions(scope: Scope) -> tuple[list[str], list[Any]]:
    """A scope as conditions of SQL on e."""
    tests: list[str] = []
    values: list[Any] = []
    for test, value in (
        ("e.session = %s", scope.session),
        ("e.speaker = %s", scope.speaker),
        ("e.time >= %s", scope.since),
        ("e.time < %s", scope.until),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)
    for name, allowed in scope.where:
        tests.append("e.id IN (SELECT episode FROM labels WHERE label = ANY(%s))")
        values.append([_label(name, value) for value in allowed])
    if scope.days is not None:
        periods = [f"(e.time + e.zone * 60000000::int8) BETWEEN {first * DAY} AND {(last + 1) * DAY - 1}" for first, last in scope.days]
        tests.append(f"({' OR '.join(periods) or 'FALSE'})")
    return tests, values


def where(tests: Sequence[str], word: str = "WHERE") -> str:
    """Conditions as they follow a word of SQL."""
    return f"{word} {' AND '.join(tests)}" if tests else ""


def introduce(connection: Connection[Any], drafts: Sequence[Draft]) -> None:
    """Know the speakers; in one order, so that two writers cannot wait for each other."""
    names = sorted({draft.speaker for draft in drafts if draft.speaker is not None})
    if names:
        connection.execute("INSERT INTO speakers SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (names,))


def locked(connection: Connection[Any], ids: Sequence[int]) -> dict[int, int]:
    """Lengths of the episodes that exist, held until the transaction ends; in one order, so that no two writers wait for each other."""
    rows = connection.execute("SELECT id, length FROM episodes WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (sorted(set(ids)),))
    return dict(rows.fetchall())


def index(connection: Connection[Any], rows: Sequence[tuple[int, Draft, Counter[str]]]) -> None:
    """Enter the terms and the labels of new episodes."""
    if any(tally for _, _, tally in rows):
        with connection.cursor().copy("COPY words FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["text", "int8", "int4", "int4"])
            for one, _, tally in rows:
                for term, count in sorted(tally.items()):
                    copy.write_row((term, one, count, tally.total()))
    found = {(_label(name, value), one) for one, draft, _ in rows for name, value in labels(draft.metadata)}
    if found:
        with connection.cursor().copy("COPY labels FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["bytea", "int8"])
            for pair in sorted(found):
                copy.write_row(pair)


def unindex(connection: Connection[Any], ids: Sequence[int]) -> None:
    """Take out the terms and the labels of episodes."""
    connection.execute("DELETE FROM words WHERE episode = ANY(%s)", (list(ids),))
    connection.execute("DELETE FROM labels WHERE episode = ANY(%s)", (list(ids),))


def add(connection: Connection[Any], episodes: int, words: int) -> None:
    """Change the sums of episodes and words; changes are added up by whoever finds many."""
    connection.execute("INSERT INTO tally (episodes, words) VALUES (%s, %s)", (episodes, words))
    connection.execute(
        "WITH gone AS (DELETE FROM tally WHERE (SELECT count(*) FROM tally) > %s "
        "AND id IN (SELECT id FROM tally FOR UPDATE SKIP LOCKED) RETURNING episodes, words) "
        "INSERT INTO tally (episodes, words) SELECT sum(episodes), sum(words) FROM gone HAVING count(*) > 0",
        (TALLIES,),
    )


def _label(name: str, value: str) -> bytes:
    """A digest of 16 bytes of a name and a value of metadata."""
    return hashlib.blake2b(f"{len(name)} {name}{value}".encode(), digest_size=16).digest()
