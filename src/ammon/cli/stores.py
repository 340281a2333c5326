"""Stores: which store of episodes a command means, and how it is opened."""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ammon.cli.refusal import Refusal, refusing

if TYPE_CHECKING:
    from ammon.episodes.records import Episode
    from ammon.episodes.store import Episodes

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="PATH|URL", help="A file, or postgresql://...; AMMON_STORE, else a file in your data folder."),
]
Session = Annotated[str | None, typer.Option(metavar="NAME", help="Only this session.")]
Speaker = Annotated[str | None, typer.Option(metavar="NAME", help="Only what this one said.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="From this time on, e.g. 2023-05-08.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")]
Where = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only where metadata has this value; repeatable.")]


def default_place() -> Path:
    """Where the user's own store is."""
    home = Path.home()
    if sys.platform == "darwin":
        folder = home / "Library" / "Application Support"
    elif os.name == "nt":
        folder = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    else:
        folder = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return folder / "ammon" / "episodes.db"


def open_store(place: str | None, *, create: bool, embedder: str | None = None) -> "Episodes":
    """The store, with refusals in one line. embedder: "hashing", or a model of sentence-transformers."""
    from ammon.episodes.embed import Hashing, SentenceTransformer
    from ammon.episodes.store import Episodes

    given = place or os.environ.get("AMMON_STORE")
    with refusing():
        if not given:
            given = str(default_place())
            if create:
                Path(given).parent.mkdir(parents=True, exist_ok=True)
        if not create and "://" not in given and not Path(given).exists():
            raise Refusal(f"there is no store at {given}; begin one with `ammon remember FILE`, or name another with --store.")
        made = None if embedder is None else Hashing() if embedder == "hashing" else SentenceTransformer(embedder)
        return Episodes.open(given, embedder=made, create=create)


def where_of(texts: list[str] | None) -> dict[str, Any] | None:
    """NAME=VALUE as conditions; a value that reads as JSON may be meant as such or as text."""
    import json

    found: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Refusal(f"--where: NAME=VALUE is needed, got {text!r}.")
        meant: list[Any] = [value]
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        if isinstance(read, str | int | float | bool | None) and read != value:
            meant.append(read)
        found[name] = [*found.get(name, []), *meant]
    return found or None


def shown(text: str | None, width: int = 300) -> str:
    """A text in one line, cut where it is long."""
    line = " ".join((text or "(a vector without text)").split())
    return line if len(line) <= width else line[: width - 1] + "…"


def clock(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M")


def as_json(episode: "Episode") -> dict[str, Any]:
    """An episode as `export` writes it and `import` reads it."""
    return {
        "id": episode.id,
        "text": episode.text,
        "session": episode.session,
        "time": episode.time.isoformat(),
        "speaker": episode.speaker,
        "metadata": dict(episode.metadata),
        "strength": episode.strength,
        "uses": episode.uses,
    }
