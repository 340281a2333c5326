"""`ammon ask`: the episodes that a question brings up, with what their scores are made of, and what happened around them."""

from typing import TYPE_CHECKING, Annotated

import typer

from ammon.cli.refusal import refusing
from ammon.cli.stores import Session, Since, Speaker, Store, Until, Where, as_json, clock, open_store, shown, where_of

if TYPE_CHECKING:
    from rich.console import Console

    from ammon.episodes.records import Episode, Recollected
    from ammon.episodes.store import Episodes

PARTS = ("content", "words", "context", "date", "speaker")


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    store: Store = None,
    k: Annotated[int, typer.Option("--k", metavar="K", help="How many episodes.")] = 5,
    session: Session = None,
    speaker: Speaker = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    around: Annotated[int, typer.Option(metavar="N", min=0, max=20, help="Neighbours in time to show before and after each.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
) -> None:
    """Ask a store of episodes: what happened that has to do with the question, and why it came up."""
    conditions = where_of(where)
    with open_store(store, create=False) as opened, refusing():
        found = opened.recall(question, k, session=session, speaker=speaker, since=since, until=until, where=conditions)
        if json:
            _as_lines(found.items)
            return
        from rich.console import Console

        console = Console(highlight=False, markup=False, soft_wrap=True)
        for place, item in enumerate(found.items, start=1):
            _show(console, opened, place, item, around)
        timing = found.timing
        console.print(
            f"{len(found)} of {found.searched:,} episodes in {1000 * timing.total:.1f} ms "
            f"(embedding {1000 * timing.embed:.1f}, content {1000 * timing.content:.1f}, words {1000 * timing.words:.1f}, "
            f"context {1000 * timing.context:.1f})",
            style="dim",
        )


def why(item: "Recollected") -> str:
    """In words, why an episode came up."""
    reasons = []
    if item.similarity is not None:
        reasons.append(f"similarity {item.similarity:.2f}")
    if item.matched:
        reasons.append(f"words: {', '.join(item.matched)}")
    if item.reinstated_by:
        reasons.append(f"near {', '.join(f'#{one}' for one in item.reinstated_by[:3])}")
    if item.parts.date:
        reasons.append("of the date that is named")
    if item.parts.speaker:
        reasons.append("said by the one who is named")
    return "; ".join(reasons) or "nothing in particular"


def _show(console: "Console", store: "Episodes", place: int, item: "Recollected", around: int) -> None:
    episode = item.episode
    console.print(f"{place}. #{episode.id}  {clock(episode.time)}  {episode.session}", style="bold cyan")
    before, after = store.around(episode.id, around) if around else ([], [])
    for one in before:
        console.print(f"     {_line(one)}", style="dim")
    console.print(f"   → {_line(episode)}")
    for one in after:
        console.print(f"     {_line(one)}", style="dim")
    parts = " + ".join(f"{name} {value:.2f}" for name in PARTS if (value := getattr(item.parts, name)))
    console.print(f"     score {item.score:.2f} = {parts or '0'}", style="green")
    console.print(f"     why: {why(item)}\n", style="green")


def _line(episode: "Episode") -> str:
    return f"{episode.speaker}: {shown(episode.text)}" if episode.speaker else shown(episode.text)


def _as_lines(items: "tuple[Recollected, ...]") -> None:
    import json

    for item in items:
        parts = {name: getattr(item.parts, name) for name in PARTS}
        row = {**as_json(item.episode), "score": item.score, "parts": parts, "why": why(item), "similarity": item.similarity}
        typer.echo(json.dumps(row, ensure_ascii=False))
