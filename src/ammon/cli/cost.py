"""`ammon cost`: FLOPs, parameters, state and traffic of memory layers, as numbers over a symbol, as a figure, or as expressions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ammon.cli.lookup import needing_the_laboratory
from ammon.cli.refusal import Refusal, refusing
from ammon.cli.tables import show

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPARED = ["attention", "window", "neural"]


def cost(
    layers: Annotated[list[str] | None, typer.Argument(metavar="LAYER...", show_default=" ".join(COMPARED), help="See --list.")] = None,
    given: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="The value of a symbol; repeatable.")] = None,
    over: Annotated[
        str | None, typer.Option(metavar="KEY=VALUES", help="key=a,b,c or key=lo:hi:n[:log]: a row for each value, and a figure.")
    ] = None,
    per: Annotated[
        str, typer.Option(metavar="sequence|token|chunk|step", help="L tokens; the mean of them; b tokens, or one, after L.")
    ] = "sequence",
    symbols: Annotated[bool, typer.Option("--symbols", help="Expressions in all symbols that are not set.")] = False,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The figure, with --over.")] = Path("cost.png"),
    names: Annotated[bool, typer.Option("--list", help="Show layers and symbols, and leave.")] = False,
) -> None:
    """What layers cost, exactly as they run, and from where on one is cheaper than another."""
    # torch takes a second to import: only once a command runs
    from ammon.analysis.cost_table import LAYERS, PER, crossings, draw

    if names:
        _list()
        return
    chosen = list(dict.fromkeys(layers or COMPARED))
    for layer in chosen:
        _known("layer", layer, LAYERS)
    _known("--per", per, PER)
    values: dict[str, int] = {}
    for symbol, words in _parse("--set", given or []).items():
        if len(words) != 1:
            raise Refusal(f"--set: one value is needed, got {symbol}={','.join(str(word) for word in words)}; use --over for several.")
        values[symbol] = words[0]
    swept = _parse("--over", [] if over is None else [over])
    if symbols:
        if swept:
            raise Refusal("--symbols: expressions are of all values at once; leave out --over.")
        _print_expressions(chosen, values, per)
        return
    symbol, points = next(iter(swept.items()), ("L", []))
    if swept and symbol in values:
        raise Refusal(f"--over: {symbol} has a value by --set already; leave one out.")
    with refusing():
        _print_table(chosen, values, symbol, points, per)
        if len(chosen) > 1:
            typer.echo("")
            for quantity in ("flops", "state_bytes", "traffic"):
                typer.echo("\n".join(crossings(chosen, values, symbol, per, quantity)))
        if swept:
            draw(chosen, values, symbol, points, per).savefig(out)
            typer.echo(f"\n{out}")


def _parse(option: str, texts: "Sequence[str]") -> dict[str, list[int]]:
    with needing_the_laboratory():
        from ammon.experiments.base import Axis
        from ammon.experiments.grid import parse, spread

    from ammon.analysis.cost_table import SYMBOLS

    with refusing(f"{option}: "):
        found = parse(texts)
        for symbol in found:
            _known(option, symbol, SYMBOLS)
        axes = {symbol: Axis(SYMBOLS[symbol].meaning, kind=int, least=SYMBOLS[symbol].least) for symbol in found}
        return {symbol: [int(value) for value in spread(symbol, words, axes[symbol])] for symbol, words in found.items()}


def _known(what: str, name: str, known: "Sequence[str] | dict[str, Any]") -> None:
    if name not in known:
        from difflib import get_close_matches

        near = get_close_matches(name, list(known), n=1, cutoff=0)[0]
        raise Refusal(f"{what}: did you mean {near}? {name!r} is none of {', '.join(known)}.")


def _print_table(chosen: "Sequence[str]", values: dict[str, int], symbol: str, points: "Sequence[int]", per: str) -> None:
    from rich.table import Table

    from ammon.analysis.cost_table import QUANTITIES, SYMBOLS, at

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(symbol, justify="right")
    table.add_column("layer", style="cyan")
    for name in QUANTITIES.values():
        table.add_column(name, justify="right", no_wrap=True)
    for point in points or [values.get(symbol, SYMBOLS[symbol].value)]:
        for layer in chosen:
            found = at(layer, {**values, symbol: point}, per, exact=True)
            table.add_row(f"{point:,}", layer, *(_amount(getattr(found, name)) for name in QUANTITIES))
    typer.echo(f"Per {per}; forward; {_settings(chosen, values, symbol)}\n")
    show(table)


def _settings(chosen: "Sequence[str]", values: dict[str, int], but: str) -> str:
    from ammon.analysis.cost_table import LAYERS, SYMBOLS

    used = dict.fromkeys(["d", "L", "B", "bytes"] + [name for layer in chosen for name in LAYERS[layer][1]])
    return ", ".join(f"{name} = {values.get(name, SYMBOLS[name].value)}" for name in used if name != but)


def _print_expressions(chosen: "Sequence[str]", values: dict[str, int], per: str) -> None:
    from ammon.analysis.cost_table import FIXED, QUANTITIES, SYMBOLS, expressions

    fixed = {name: SYMBOLS[name].value for name in FIXED} | values
    settings = ", ".join(f"{name} = {value}" for name, value in fixed.items())
    typer.echo(f"Per {per}; forward; L a multiple of b, w and M, M at least 1024; {settings}")
    for layer in chosen:
        typer.echo(f"\n{layer}")
        for name, expression in expressions(layer, values, per).items():
            typer.echo(f"  {QUANTITIES[name]}: {expression}")


def _list() -> None:
    from ammon.analysis.cost_table import LAYERS, SYMBOLS

    for layer, (_, own, _) in LAYERS.items():
        typer.echo(f"{layer}: {', '.join(('d', 'L', 'B', 'bytes', *own))}")
    typer.echo("")
    for name, symbol in SYMBOLS.items():
        typer.echo(f"{name}: {symbol.meaning} ({symbol.value} unless set)")


def _amount(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"
