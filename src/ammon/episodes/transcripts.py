"""Transcripts: files of text, JSON lines and chat exports in, one entry per line, turn or message out, or what is wrong with it.

Chats are read by the names that programs use: text, content or message; speaker, role, author, sender, from or user; time, timestamp,
date, created_at or ts; lists of messages, of conversations that hold messages, and ChatGPT's mapping of them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ammon.episodes import accept
from ammon.episodes.records import moment

Format = Literal["auto", "text", "jsonl", "chat"]

TEXT = ("text", "content", "message", "body")
SPEAKER = ("speaker", "role", "author", "sender", "from", "user", "name")
TIME = ("time", "timestamp", "date", "created_at", "create_time", "ts", "datetime")
SESSION = ("session", "session_id", "conversation", "conversation_id", "thread", "channel", "title", "name")
MESSAGES = ("messages", "chat_messages", "conversation", "turns")
# "[08/05/2023, 13:56:12] Ann: hello" and "08/05/2023, 13:56 - Ann: hello"; the day stands first unless it cannot
WHATSAPP = re.compile(
    r"^\u200e?\[?(\d{1,2})[./](\d{1,2})[./](\d{2,4}),? (\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s?([AaPp])\.?[Mm]\.?)?\]?(?: -)? "
    r"([^:]{1,80}): (.*)$"
)


@dataclass(frozen=True)
class Entry:
    """One episode of a file; what the file does not say is None. number: of its line or message, from 1."""

    number: int
    text: str
    session: str | None = None
    time: Any = None
    speaker: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    key: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Malformed:
    """A line or message that cannot be remembered, and why."""

    number: int
    reason: str


def read(content: str, form: Format = "auto") -> list[Entry | Malformed]:
    """The entries of a file in order. "auto" takes JSON lines, chats and text for what they look like."""
    if form not in ("auto", "text", "jsonl", "chat"):
        raise ValueError(f"the form must be auto, text, jsonl or chat, got {form!r}.")
    content = content.removeprefix("\ufeff")
    if form == "auto":
        form = _guess(content)
    made = {"text": _lines, "jsonl": _json_lines, "chat": _chat}[form](content)
    return [_checked(one) for one in made]


def _guess(content: str) -> Format:
    first = next((line.strip() for line in content.splitlines() if line.strip()), "")
    if WHATSAPP.match(first):
        return "chat"
    if first[:1] == "{":
        try:
            return "jsonl" if isinstance(json.loads(first), dict) and len(content.strip().splitlines()) > 1 else "chat"
        except ValueError:
            # a chat that is spread over lines, or a first line that is broken
            return "chat" if _whole(content) is not None else "jsonl"
    return "chat" if first[:1] == "[" and _whole(content) is not None else "text"


def _whole(content: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _lines(content: str) -> Iterator[Entry]:
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield Entry(number, line.strip())


def _json_lines(content: str) -> Iterator[Entry | Malformed]:
    # not splitlines: JSON may hold other line ends inside its texts
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            yield Malformed(number, f"no JSON ({error})")
            continue
        yield _message(number, found, None)


def _chat(content: str) -> Iterable[Entry | Malformed]:
    first = next((line for line in content.splitlines() if line.strip()), "")
    if WHATSAPP.match(first):
        return _whatsapp(content)
    found = _whole(content)
    if found is None:
        return [Malformed(1, "this is neither JSON nor a chat that is known")]
    entries = list(_messages(found, None))
    return [
        Entry(number, one.text, one.session, one.time, one.speaker, one.metadata)
        if isinstance(one, Entry)
        else Malformed(number, one.reason)
        for number, one in enumerate(entries, start=1)
    ]


def _messages(found: Any, session: str | None) -> Iterator[Entry | Malformed]:
    """Walk lists of messages, and conversations that hold them."""
    if isinstance(found, list):
        for number, one in enumerate(found, start=1):
            holds = isinstance(one, dict) and ("mapping" in one or any(isinstance(one.get(name), list) for name in MESSAGES))
            yield from _messages(one, session or f"conversation {number}") if holds else [_message(number, one, session)]
        return
    if not isinstance(found, dict):
        yield Malformed(1, f"a message must be an object, got {type(found).__name__}")
        return
    named = next((found[name] for name in SESSION if isinstance(found.get(name), str) and found[name].strip()), session)
    if isinstance(found.get("mapping"), dict):
        nodes = [node.get("message") for node in found["mapping"].values() if isinstance(node, dict)]
        said = [node for node in nodes if isinstance(node, dict) and _said(node)]
        yield from (_message(number, one, named) for number, one in enumerate(said, start=1))
        return
    lists = [found[name] for name in MESSAGES if isinstance(found.get(name), list)]
    yield from _messages(lists[0], named) if lists else [_message(1, found, named)]


def _message(number: int, found: Any, session: str | None) -> Entry | Malformed:
    if isinstance(found, str):
        return Entry(number, found, session)
    if not isinstance(found, dict):
        return Malformed(number, f"an object with a text is needed, got {type(found).__name__}")
    text = _said(found)
    if text is None:
        return Malformed(number, f"no text: none of {', '.join(TEXT)} holds any")
    used = {name for name in TEXT if name in found}
    speaker = next((name for name in SPEAKER if _name(found.get(name))), None)
    when = next((name for name in TIME if isinstance(found.get(name), str | int | float) and found[name] != ""), None)
    place = next((name for name in SESSION if name != speaker and isinstance(found.get(name), str)), None)
    used |= {name for name in (speaker, when, place, "metadata", "key", "id", "strength", "uses", "used") if name}
    extra = found.get("metadata") or {}
    if not isinstance(extra, dict):
        return Malformed(number, f"metadata must be an object, got {type(extra).__name__}")
    rest = {name: value for name, value in found.items() if name not in used and isinstance(value, str | int | float | bool)}
    at = None if when is None else found[when]
    if isinstance(at, str) and re.fullmatch(r"\d+(\.\d+)?", at):
        at = float(at)
    key = found.get("key")
    try:
        numbers = None if key is None else tuple(float(one) for one in key)
    except (TypeError, ValueError):
        return Malformed(number, "the key must be a list of numbers")
    return Entry(
        number,
        text,
        found[place] if place else session,
        at,
        _name(found.get(speaker)) if speaker else None,
        {**rest, **extra},
        numbers,
    )


def _said(found: Mapping[str, Any]) -> str | None:
    """The text of a message, its parts put together."""
    for name in TEXT:
        value = found.get(name)
        if isinstance(value, dict):
            value = value.get("parts") or value.get("text")
        if isinstance(value, list):
            parts = [part if isinstance(part, str) else part.get("text", "") if isinstance(part, dict) else "" for part in value]
            value = "".join(str(part) for part in parts)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _name(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("name") or value.get("role")
    return value if isinstance(value, str) and value.strip() else None


def _whatsapp(content: str) -> Iterator[Entry]:
    """A message runs on until the next line that begins one."""
    held: Entry | None = None
    for number, line in enumerate(content.splitlines(), start=1):
        if not (match := WHATSAPP.match(line)):
            if held is not None and line.strip():
                held = Entry(held.number, f"{held.text}\n{line}", None, held.time, held.speaker)
            continue
        if held is not None and held.text.strip():
            yield held
        first, second, year, hour, minute, seconds, half, speaker, text = match.groups()
        day, month = (int(first), int(second)) if int(second) <= 12 and not (half and int(first) <= 12) else (int(second), int(first))
        hours = int(hour) % 12 + (12 if half in "Pp" else 0) if half else int(hour)
        try:
            time = datetime(int(year) % 100 + 2000, month, day, hours, int(minute), int(seconds or 0), tzinfo=UTC)
        except ValueError:
            time = None
        held = Entry(number, text, None, time, speaker.strip())
    if held is not None and held.text.strip():
        yield held


def _checked(entry: Entry | Malformed) -> Entry | Malformed:
    """Malformed where the store would refuse it."""
    if isinstance(entry, Malformed):
        return entry
    try:
        accept.text(entry.text, "")
        for what, name in (("session", entry.session), ("speaker", entry.speaker)):
            if name is not None:
                accept.text(name, "", what, accept.LONGEST_NAME)
        accept.metadata(entry.metadata, "")
        if entry.time is not None:
            moment(entry.time, "")
    except (TypeError, ValueError) as error:
        return Malformed(entry.number, str(error).removeprefix(": ").rstrip("."))
    return entry
