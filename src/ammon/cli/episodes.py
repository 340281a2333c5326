"""`ammon episodes`: look into a store, and keep it: list, show, forget, export, import, stats, check."""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from ammon.cli.refusal import Refusal, refusing
from ammon.cli.remember import remember
from ammon.cli.stores import Session, Since, Speaker, Store, Until, Where, as_json, clock, open_store, shown, where_of
from ammon.cli.tables import show as show_table

app = typer.Typer(add_completion=False, help="Look into a store of episodes, and keep it.")


@app.callback(invoke_without_command=True)
def episodes(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_episodes(
    store: Store = None,
    session: Session = None,
    speaker: Speaker = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many, the latest.")] = 20,
) -> None:
    """The latest episodes, in the order of time."""
    from rich.table import Table
    from rich.text import Text

    conditions = where_of(where)
    with open_store(store, create=False) as opened, refusing():
        found = opened.iterate(session=session, speaker=speaker, since=since, until=until, where=conditions, newest=True, batch=limit)
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("id", justify="right", style="cyan")
        for name in ("time", "session", "speaker", "text"):
            table.add_column(name, overflow="fold")
        for one in reversed(list(islice(found, limit))):
            table.add_row(str(one.id), clock(one.time), Text(one.session), Text(one.speaker or ""), Text(shown(one.text, 100)))
        show_table(table)


@app.command("show")
def show_episode(id: Annotated[int, typer.Argument(metavar="ID")], store: Store = None) -> None:
    """One episode, whole, and what happened around it."""
    with open_store(store, create=False) as opened, refusing():
        episode = opened.get(id)
        before, after = opened.around(id, 2)
        for name, value in as_json(episode).items():
            if name != "text":
                typer.echo(f"{name}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")
        typer.echo(f"before: {', '.join(f'#{one.id}' for one in before) or '-'}")
        typer.echo(f"after: {', '.join(f'#{one.id}' for one in after) or '-'}")
        typer.echo(f"\n{episode.text if episode.text is not None else '(a vector without text)'}")


@app.command("forget")
def forget(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID ...]")] = None,
    store: Store = None,
    session: Session = None,
    speaker: Speaker = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
) -> None:
    """Delete episodes: these ids, or all that fulfil every condition."""
    conditions = where_of(where)
    with open_store(store, create=False) as opened, refusing():
        gone = opened.forget(ids or None, session=session, speaker=speaker, since=since, until=until, where=conditions)
        typer.echo(f"{gone} episodes forgotten, {len(opened)} left")


@app.command("export")
def export(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON lines; - is the standard output.")] = "-",
    store: Store = None,
    keys: Annotated[bool, typer.Option("--keys", help="Write the keys too, so that an import need not embed.")] = False,
) -> None:
    """Write all episodes as JSON lines, which `import` reads."""
    with open_store(store, create=False) as opened, refusing():
        count = 0
        partial = Path(f"{file}.partial")
        out = sys.stdout if file == "-" else partial.open("w", encoding="utf-8")
        try:
            for episode in opened.iterate():
                row = as_json(episode)
                if keys:
                    row["key"] = opened.keys([episode.id])[0].tolist()
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
            if file != "-":
                out.close()
                partial.replace(file)
        finally:
            if file != "-":
                out.close()
                partial.unlink(missing_ok=True)
    typer.echo(f"{count} episodes written to {file}", err=file == "-")


@app.command("stats")
def stats(store: Store = None) -> None:
    """How much a store holds, since when, and by which embedder."""
    with open_store(store, create=False) as opened, refusing():
        sessions, origin = opened.sessions(), opened.origin
        typer.echo(f"store: {opened.place}")
        if "://" not in opened.place:
            typer.echo(f"size: {Path(opened.place).stat().st_size / 1e6:.1f} MB")
        typer.echo(f"episodes: {len(opened):,}")
        typer.echo(f"keys: {f'{origin.dim} numbers each, by {origin.embedder}' if origin else '-'}")
        typer.echo(f"speakers: {shown(', '.join(opened.speakers())) if opened.speakers() else '-'}")
        typer.echo(f"sessions: {len(sessions):,}")
        for one in sessions[:10]:
            typer.echo(f"  {one.name}: {one.count:,} episodes, {clock(one.first)} to {clock(one.last)}")
        if len(sessions) > 10:
            typer.echo(f"  ... and {len(sessions) - 10:,} earlier ones")


@app.command("check")
def check(store: Store = None) -> None:
    """Whether a store is whole; exit code 1 and what is wrong, if not."""
    with open_store(store, create=False) as opened, refusing():
        found = opened.check()
        count = len(opened)
    for fault in found:
        typer.echo(fault)
    if found:
        raise typer.Exit(1)
    typer.echo(f"ok: {count} episodes")


@app.command("snapshot")
def snapshot(file: Annotated[str, typer.Argument(metavar="FILE")], store: Store = None) -> None:
    """Copy the store as it is now into one file, while others go on writing."""
    if Path(file).is_dir():
        raise Refusal(f"{file} is a folder; give the path of a file.")
    with open_store(store, create=False) as opened, refusing():
        opened.snapshot(file)
        typer.echo(f"{len(opened)} episodes copied to {file}")


app.command("import")(remember)
