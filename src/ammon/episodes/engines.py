"""Engines: which database serves a path or a URL."""

from pathlib import Path
from typing import Literal

from ammon.episodes.base import Engine
from ammon.episodes.sqlite import SQLite
from ammon.parts.similarity import Similarity

Durability = Literal["FULL", "NORMAL"]


def connect(place: str, similarity: Similarity, create: bool, durability: Durability, approximate: bool) -> Engine:
    """An open engine. ValueError for a URL that none serves."""
    if durability not in ("FULL", "NORMAL"):
        raise ValueError(f'Episodes.open: durability must be "FULL" or "NORMAL", got {durability!r}.')
    scheme, separator, _ = place.partition("://")
    if not separator:
        return SQLite(Path(place), similarity, create=create, durability=durability, approximate=approximate)
    if scheme in ("postgresql", "postgres"):
        try:
            from ammon.episodes.postgres import Postgres
        except ImportError as error:
            raise ImportError(
                f"Episodes.open: {scheme}:// needs psycopg and pgvector; install them: pip install 'ammon[postgres]'."
            ) from error
        return Postgres(place, similarity, create=create, durability=durability, approximate=approximate)
    raise ValueError(f"Episodes.open: no engine serves {scheme}://; give a path, or a URL postgresql://user@host/database.")
