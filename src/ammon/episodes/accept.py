"""Accept: what a user gives to the store, checked and brought to one form; else one sentence that says what is wrong."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from ammon.episodes.base import Engine
from ammon.episodes.records import Draft, Scope, When, conditions, moment
from ammon.shapes import check_rows

LONGEST_TEXT = 1_000_000
LONGEST_NAME = 500
LONGEST_METADATA = 100_000
# everything that no text file should hold: control characters but tab and line ends, and halves of characters
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def text(value: Any, where: str, what: str = "text", longest: int = LONGEST_TEXT) -> str:
    """The text, if it can be stored and found again."""
    if not isinstance(value, str):
        raise TypeError(f"{where}: the {what} must be text, got {type(value).__name__}.")
    if not value.strip():
        raise ValueError(f"{where}: the {what} is empty; give at least one character that is not a space.")
    if len(value) > longest:
        raise ValueError(f"{where}: the {what} has {len(value):,} characters, {longest:,} are allowed; split it into several.")
    if found := UNPRINTABLE.search(value):
        code, at = f"U+{ord(found[0]):04X}", found.start()
        raise ValueError(f"{where}: the {what} holds the control character {code} at place {at}; take it out or replace it first.")
    return value


def metadata(value: Any, where: str) -> dict[str, Any]:
    """A copy that JSON can hold."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{where}: metadata must be a mapping with text as names, got {type(value).__name__}.")
    try:
        written = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
        written.encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: metadata must be what JSON can hold ({error}); turn the rest into text first.") from error
    if len(written) > LONGEST_METADATA:
        raise ValueError(f"{where}: metadata takes {len(written):,} characters as JSON, {LONGEST_METADATA:,} are allowed; keep less.")
    if "\\u0000" in written:
        raise ValueError(f"{where}: metadata holds the control character U+0000; take it out first.")
    found: dict[str, Any] = json.loads(written)
    return found


def one_key(value: Any, where: str) -> Tensor:
    """One key [dim], float32 on the CPU; rows of one are taken too."""
    try:
        key = torch.as_tensor(value).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{where}: the cue must be text or a vector of numbers, got {type(value).__name__}.") from error
    key = key[None] if key.ndim == 1 else key
    check_rows(where, "cue", key, None)
    if len(key) != 1 or not key.shape[1]:
        raise ValueError(f"{where}: one cue [dim] is recalled at a time, got shape {list(key.shape)}; call once for each.")
    return key[0]


def drafts(texts: Sequence[str] | None, count: int, session: Any, time: Any, speaker: Any, metadata_: Any, where: str) -> tuple[Draft, ...]:
    """Episodes to write; session, time, speaker and metadata are one for all or one for each."""
    now = datetime.now(UTC)
    sessions = _each(session, count, "session", where, str)
    times = _each(time, count, "time", where, When)
    speakers = _each(speaker, count, "speaker", where, str)
    extras = _each(metadata_, count, "metadata", where, Mapping)
    found = []
    for at in range(count):
        here = where if count == 1 else f"{where}: episode {at}"
        found.append(
            Draft(
                None if texts is None else text(texts[at], here),
                text(sessions[at], here, "session", LONGEST_NAME),
                moment(now if times[at] is None else times[at], here),
                None if speakers[at] is None else text(speakers[at], here, "speaker", LONGEST_NAME),
                metadata(extras[at], here),
            )
        )
    return tuple(found)


def scope(engine: Engine, method: str, session: Any, since: Any, until: Any, speaker: Any, where: Any) -> Scope:
    """The episodes that the conditions of a call mean. ValueError for a session or a speaker that the store does not know."""
    begin = None if since is None else moment(since, method).micros
    end = None if until is None else moment(until, method).micros
    if begin is not None and end is not None and begin >= end:
        raise ValueError(f"{method}: since must be before until, got {since} and {until}.")
    for what, name, alone in (("session", session, Scope(session=session)), ("speaker", speaker, Scope(speaker=speaker))):
        if name is None:
            continue
        text(name, method, what, LONGEST_NAME)
        if not engine.count(alone):
            names = [one.name for one in engine.sessions()] if what == "session" else engine.speakers()
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "none yet"
            raise ValueError(f"{method}: there is no {what} {name!r}; there are: {shown}.")
    return Scope(session, begin, end, speaker, conditions(where, method))


def _each(value: Any, count: int, what: str, where: str, one: Any) -> Sequence[Any]:
    if value is None or isinstance(value, one) or not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{where}: {count} episodes came with {len(value)} of {what}; give one for all or one for each.")
    return value
