"""`ammon list`: the catalogue as a table."""

from ammon.cli.tables import show


def list_memories() -> None:
    """Show every memory of the catalogue: what it compares, how it sharpens, and the paper it is from."""
    # torch takes a second to import: only once a command runs
    from rich.table import Table

    from ammon.catalog import CATALOG

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("name", no_wrap=True, style="cyan")
    for column in ("keys", "values", "similarity", "separation", "activation", "paper"):
        table.add_column(column, overflow="fold")
    for name, entry in CATALOG.items():
        table.add_row(name, entry.keys, entry.values, entry.similarity, entry.separation, entry.activation, entry.paper)
    show(table)
