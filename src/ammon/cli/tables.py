"""Tables: as wide as the terminal, or as wide as they are when piped, one line to a row."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def show(table: "Table") -> None:
    """Print on stdout. Without a terminal there is no width to keep to, and there are no escape codes."""
    from rich.console import Console

    console = Console(highlight=False)
    natural = console.measure(table, options=console.options.update(width=1000)).maximum
    if not console.is_terminal:
        console = Console(highlight=False, color_system=None, width=natural)
    elif natural > console.width:
        for column in table.columns:
            # rich would narrow all columns alike, and cut words
            column.width = max(len(word) for cell in (column.header, *column.cells) for word in str(cell).split())
    console.print(table)
