"""`ammon remember`: a file into a store of episodes, one a line, turn or message. An import that was cut short goes on."""

import hashlib
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ammon.cli.refusal import Refusal, refusing
from ammon.cli.stores import Store, open_store

if TYPE_CHECKING:
    from ammon.episodes.store import Episodes
    from ammon.episodes.transcripts import Entry

# episodes of one transaction: what an interruption can cost at most
BATCH = 256
# faults that are shown one by one
SHOWN = 5


def remember(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Text, JSON lines or a chat export; - is the standard input.")],
    store: Store = None,
    session: Annotated[str | None, typer.Option(metavar="NAME", help="Where the file names none; by default its name.")] = None,
    speaker: Annotated[str | None, typer.Option(metavar="NAME", help="Who speaks, where the file does not say.")] = None,
    time: Annotated[str | None, typer.Option(metavar="TIME", help="When, where the file does not say; by default now.")] = None,
    form: Annotated[
        Literal["auto", "text", "jsonl", "chat"], typer.Option("--form", help="How the file is read.", show_default="auto")
    ] = "auto",
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="hashing|MODEL",
            help="What makes keys of texts: for a new store, or that of the store.",
            show_default="that of the store",
        ),
    ] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Leave malformed lines out; else one of them leaves all out.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Import a file that was imported already once more.")] = False,
) -> None:
    """Remember a file: one episode for each line, turn or message."""
    content = _content(file)
    # torch takes a second to import: only once a command runs
    from ammon.episodes.transcripts import Malformed, read

    found = read(content, form)
    faults = [one for one in found if isinstance(one, Malformed)]
    entries = [one for one in found if not isinstance(one, Malformed)]
    said = "; ".join(f"line {one.number}: {one.reason}" for one in faults[:SHOWN])
    said += f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    if faults and not skip:
        raise Refusal(f"{file}: {said}. Nothing was remembered; mend it, or leave such lines out with --skip.")
    if not entries:
        raise Refusal(f"{file}: there is nothing to remember in it{f' ({said})' if said else ''}.")
    name = session or ("default" if file == "-" else Path(file).stem)
    with open_store(store, create=True, embedder=embedder) as opened:
        made, done = _import(opened, entries, content, (name, speaker, time), again)
        typer.echo(
            f"{made} episodes remembered in {opened.place}" + (f", {done} were there already (--again imports them anew)" if done else "")
        )
    if faults:
        typer.echo(f"left out: {said}", err=True)


def _content(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Refusal(f"{file}: a file that can be read is needed ({error.strerror}).") from error
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"{file}: this is no text in UTF-8 (byte {error.start}); convert it first.") from error


def _import(
    store: "Episodes", entries: "list[Entry]", content: str, otherwise: tuple[str, str | None, str | None], again: bool
) -> tuple[int, int]:
    """Write what is not there yet, a batch at a time; how many were written, and how many were there."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    session, speaker, time = otherwise
    # the same content under the same names is the same import
    digest = hashlib.sha256("\0".join([content, session, speaker or "", time or ""]).encode()).hexdigest()
    bookmark = f"import {digest}"
    with refusing():
        done = 0 if again else store.bookmarked(bookmark) or 0
        console = Console(stderr=True)
        columns = (TextColumn("remembering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=len(entries), completed=done)
            place, rest = done, iter(entries[done:])
            while batch := list(islice(rest, BATCH)):
                place += len(batch)
                store.remember(
                    [one.text for one in batch],
                    session=[one.session or session for one in batch],
                    time=_times([one.time for one in batch], time),
                    speaker=[one.speaker or speaker for one in batch],
                    metadata=[one.metadata for one in batch],
                    keys=_keys(batch),
                    bookmark=(bookmark, place),
                )
                bar.update(task, completed=place)
    return len(entries) - done, done


def _times(times: list[Any], otherwise: str | None) -> Any:
    """Each entry's time, else the one given, else now."""
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    return [one if one is not None else otherwise or now for one in times]


def _keys(batch: "list[Entry]") -> Any:
    """The keys that an export holds, if each of its episodes has one."""
    import torch

    if any(one.key is None for one in batch) or len({len(one.key or ()) for one in batch}) != 1:
        return None
    return torch.tensor([one.key for one in batch])
