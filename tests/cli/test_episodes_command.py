"""`ammon remember`, `ammon ask` and `ammon episodes` as a user types them."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ammon.cli.remember
from ammon.episodes.store import Episodes

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Typed:
    """The same, with the default store in the empty folder."""
    monkeypatch.delenv("AMMON_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "platform", "linux")
    return typed


LINES = """\
{"text": "I signed up for a pottery class", "speaker": "Ann", "session": "mon", "time": "2023-05-08T12:00:00"}
{"text": "Where is it?", "speaker": "Bob", "session": "mon", "time": "2023-05-08T12:01:00"}

{"content": "In the old mill", "role": "Ann", "session": "mon", "timestamp": 1683547320, "mood": "good"}
"""
# what each form of chat holds: speaker, session, text
CHATS = {
    "openai.json": ('[{"role": "user", "content": "hello"}, {"role": "assistant", "content": [{"type": "text", "text": "hi"}]}]', "openai"),
    "claude.json": (
        '[{"name": "trip", "chat_messages": [{"sender": "user", "text": "hello"}, {"sender": "assistant", "text": "hi"}]}]',
        "trip",
    ),
    "chatgpt.json": (
        '[{"title": "trip", "mapping": {"a": {"message": {"author": {"role": "user"}, "content": {"parts": ["hello"]}, "create_time": 1}}, '
        '"b": {"message": null}, "c": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["hi"]}, "create_time": 2}}}}]',
        "trip",
    ),
    "whatsapp.txt": ("[08/05/2023, 13:56:12] user: hello\n[08/05/2023, 13:57:00] assistant: hi\n", "whatsapp"),
    "slack.json": (
        '[{"user": "user", "text": "hello", "ts": "1700000000.5"}, {"user": "assistant", "text": "hi", "ts": "1700000001"}]',
        "slack",
    ),
    "telegram.json": (
        '{"name": "trip", "messages": [{"from": "user", "text": "hello", "date": "2023-05-08T12:00:00"}, '
        '{"from": "assistant", "text": ["hi"], "date": "2023-05-08T12:01:00"}]}',
        "trip",
    ),
}


def test_lines_are_remembered_and_asked_for_with_reasons(typed: Typed) -> None:
    Path("talk.jsonl").write_text(LINES)
    code, out, err = typed("remember", "talk.jsonl")
    assert (code, err) == (0, "")
    assert out.startswith("3 episodes remembered in ")
    assert Path("data/ammon/episodes.db").is_file()
    code, out, err = typed("ask", "who did pottery on 8 May 2023?", "--k", "1")
    assert (code, err) == (0, "")
    assert "→ Ann: I signed up for a pottery class" in out
    assert "Bob: Where is it?" in out
    assert "content" in out
    assert "words: pottery" in out
    assert "of the date that is named" in out
    code, out, _ = typed("ask", "mill", "--k", "2", "--json", "--where", "mood=good")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["text"] for row in rows] == ["In the old mill"]
    assert rows[0]["score"] == pytest.approx(sum(rows[0]["parts"].values()))
    assert rows[0]["metadata"] == {"mood": "good"}


def test_a_text_is_an_episode_a_line_and_comes_from_the_standard_input_too(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("notes.txt").write_text("first line\n\n  second line  \n")
    assert typed("remember", "notes.txt", "--store", "a.db", "--speaker", "me", "--time", "2024-01-01")[0] == 0
    with Episodes.open("a.db") as store:
        assert [(e.text, e.session, e.speaker, e.time.year) for e in store.iterate()] == [
            ("first line", "notes", "me", 2024),
            ("second line", "notes", "me", 2024),
        ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    assert typed("remember", "-", "--store", "a.db")[:2] == (0, "1 episodes remembered in a.db\n")


@pytest.mark.parametrize("name", sorted(CHATS))
def test_chat_exports_are_read(typed: Typed, name: str) -> None:
    content, session = CHATS[name]
    Path(name).write_text(content)
    code, _, err = typed("remember", name, "--store", "a.db")
    assert (code, err) == (0, "")
    with Episodes.open("a.db") as store:
        assert [(e.speaker, e.session, e.text) for e in store.iterate()] == [("user", session, "hello"), ("assistant", session, "hi")]


def test_a_malformed_line_is_named_and_all_or_only_it_is_left_out(typed: Typed) -> None:
    Path("bad.jsonl").write_text('{"text": "good"}\n{"text": oops}\n{"no": "text"}\n{"text": "bell \\u0007"}\n[1]\n')
    code, out, err = typed("remember", "bad.jsonl", "--store", "a.db")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    for said in (
        "line 2: no JSON",
        "line 3: no text",
        "line 4: the text holds the control character U+0007",
        "line 5: an object with a text",
    ):
        assert said in err
    assert not Path("a.db").exists()
    code, out, err = typed("remember", "bad.jsonl", "--store", "a.db", "--skip")
    assert code == 0
    assert out.startswith("1 episodes remembered")
    assert "line 2: no JSON" in err


def test_an_import_that_was_cut_short_goes_on(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("long.txt").write_text("".join(f"line {number}\n" for number in range(20)))
    monkeypatch.setattr(ammon.cli.remember, "BATCH", 6)
    real, calls = Episodes.remember, []

    def interrupted(self: Episodes, *given: object, **named: object) -> list[int]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Episodes, "remember", interrupted)
    assert typed("remember", "long.txt", "--store", "a.db")[0] == 130
    monkeypatch.setattr(Episodes, "remember", real)
    assert typed("remember", "long.txt", "--store", "a.db")[1].startswith("8 episodes remembered in a.db, 12 were there already")
    with Episodes.open("a.db") as store:
        assert [e.text for e in store.iterate()] == [f"line {number}" for number in range(20)]
    assert typed("remember", "long.txt", "--store", "a.db")[1].startswith("0 episodes")
    assert typed("remember", "long.txt", "--store", "a.db", "--again")[1].startswith("20 episodes")


def test_what_is_exported_is_imported_again(typed: Typed) -> None:
    Path("talk.jsonl").write_text(LINES)
    typed("remember", "talk.jsonl", "--store", "a.db")
    for option in ((), ("--keys",)):
        code, out, _ = typed("episodes", "export", "out.jsonl", "--store", "a.db", *option)
        assert (code, out) == (0, "3 episodes written to out.jsonl\n")
        assert not Path("out.jsonl.partial").exists()
        assert typed("episodes", "import", "out.jsonl", "--store", "b.db")[0] == 0
        with Episodes.open("a.db") as one, Episodes.open("b.db") as other:
            assert [(e.text, e.session, e.time, e.speaker, e.metadata) for e in one.iterate()] == [
                (e.text, e.session, e.time, e.speaker, e.metadata) for e in other.iterate()
            ]
        typed("episodes", "forget", "--store", "b.db", "--since", "1970-01-01")
    code, out, err = typed("episodes", "export", "--store", "a.db")
    assert len([json.loads(line) for line in out.splitlines()]) == 3
    assert err == "3 episodes written to -\n"


def test_a_store_is_listed_shown_measured_checked_copied_and_forgotten_from(typed: Typed) -> None:
    Path("talk.jsonl").write_text(LINES)
    typed("remember", "talk.jsonl", "--store", "a.db")
    assert [line.split()[0] for line in typed("episodes", "list", "--store", "a.db", "--limit", "2")[1].splitlines()] == ["id", "2", "3"]
    shown = typed("episodes", "show", "2", "--store", "a.db")[1]
    assert "before: #1" in shown
    assert shown.endswith("Where is it?\n")
    said = typed("episodes", "stats", "--store", "a.db")[1]
    assert "episodes: 3" in said
    assert "hashing-384" in said
    assert typed("episodes", "check", "--store", "a.db")[:2] == (0, "ok: 3 episodes\n")
    assert typed("episodes", "snapshot", "b.db", "--store", "a.db")[0] == 0
    assert typed("episodes", "forget", "2", "--store", "a.db")[:2] == (0, "1 episodes forgotten, 2 left\n")
    assert typed("episodes", "check", "--store", "b.db")[1] == "ok: 3 episodes\n"
    assert typed("episodes")[0] == 0


def test_a_damaged_store_is_found_out(typed: Typed) -> None:
    Path("notes.txt").write_text("".join(f"line {number} of many words\n" for number in range(300)))
    typed("remember", "notes.txt", "--store", "a.db")
    data = bytearray(Path("a.db").read_bytes())
    at = len(data) // 2
    data[at : at + 2000] = bytes(2000)
    Path("a.db").write_bytes(data)
    code, out, err = typed("episodes", "check", "--store", "a.db")
    assert code in (1, 2)
    assert out or "damaged" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask", "x", "--store", "none.db"), "there is no store at none.db; begin one with `ammon remember FILE`"),
        (("ask", "x"), "there is no store at"),
        (("ask", "", "--store", "a.db"), "the cue is empty"),
        (("ask", "x", "--k", "0", "--store", "a.db"), "k must be a whole number of at least 1, got 0"),
        (("ask", "x", "--session", "no", "--store", "a.db"), "there is no session 'no'; there are: mon"),
        (("ask", "x", "--since", "soon", "--store", "a.db"), "a time such as 2023-05-08T13:56"),
        (("ask", "x", "--where", "mood", "--store", "a.db"), "--where: NAME=VALUE is needed, got 'mood'"),
        (("ask", "x", "--store", "talk.jsonl"), "talk.jsonl is no store of episodes"),
        (("ask", "x", "--store", "ftp://host/x"), "no engine serves ftp://"),
        (("remember", "none.txt"), "none.txt: a file that can be read is needed"),
        (("remember", "empty.txt"), "there is nothing to remember in it"),
        (("remember", "binary"), "this is no text in UTF-8 (byte 1)"),
        (("remember", "talk.jsonl", "--store", "nowhere/a.db"), "there is no folder nowhere"),
        (("remember", "talk.jsonl", "--store", "."), "is a folder"),
        (("remember", "talk.jsonl", "--store", "a.db", "--embedder", "sentence-transformers/other"), "not from sentence-transformers:"),
        (("episodes", "forget", "--store", "a.db"), "this would forget everything"),
        (("episodes", "show", "99", "--store", "a.db"), "there is no episode 99"),
        (("episodes", "snapshot", "a.db", "--store", "a.db"), "is the store itself"),
        (("episodes", "export", "nowhere/x", "--store", "a.db"), "No such file"),
        (("episodes", "nothing"), "No such command"),
    ],
)
def test_wrong_input_ends_in_one_line_and_exit_code_2(typed: Typed, arguments: tuple[str, ...], message: str) -> None:
    Path("talk.jsonl").write_text(LINES)
    Path("empty.txt").write_text("\n \n")
    Path("binary").write_bytes(b"a\xff\xfe")
    typed("remember", "talk.jsonl", "--store", "a.db")
    code, out, err = typed(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert "Traceback" not in err


def test_the_environment_names_the_store(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "AMMON_STORE", "mine.db")
    Path("notes.txt").write_text("a line\n")
    assert typed("remember", "notes.txt")[1] == "1 episodes remembered in mine.db\n"
    # what looks like SQL, and what looks like a query of the index of words, are text
    for cue in ("'; DROP TABLE episodes; --", 'NEAR("a" b) OR *'):
        assert typed("ask", cue)[0] == 0
    assert typed("episodes", "check")[1] == "ok: 1 episodes\n"
