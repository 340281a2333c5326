"""`ammon serve --mcp`: a store of episodes for agents, over stdin and stdout."""

from typing import Annotated

import typer

from ammon.cli.refusal import Refusal, refusing
from ammon.cli.stores import Store, open_store


def serve(
    mcp: Annotated[bool, typer.Option("--mcp", help="Speak the Model Context Protocol over stdin and stdout.")] = False,
    store: Store = None,
    embedder: Annotated[str | None, typer.Option(metavar="NAME", help='"hashing", or a model of sentence-transformers.')] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Only recall and recent; nothing can be written.")] = False,
) -> None:
    """Serve a store of episodes to agents: the tools remember, recall, recent and forget. Ends when the agent closes its side."""
    if not mcp:
        raise Refusal("say how to serve: `ammon serve --mcp`.")
    with refusing():
        from ammon.integrations.mcp import server
    with open_store(store, create=True, embedder=embedder) as opened:
        server(opened, read_only=read_only).run("stdio")
