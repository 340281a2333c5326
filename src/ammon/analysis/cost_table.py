"""Cost table: what memory layers take over one symbol, per sequence, token, chunk or decode step, and from where on one is cheaper.

Symbols are those of docs/transformer.md, e.g. d entries, L tokens, H heads, chunks of b: `SYMBOLS`; `LAYERS` says which layer has which.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ammon.analysis.cost import Cost, Number, attention, context, episodic, gate, neural

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Symbol:
    """A size: its argument in `ammon.analysis.cost`, what it means, its value unless one is given."""

    argument: str
    meaning: str
    value: int
    least: int = 1


SYMBOLS = {
    "d": Symbol("dim", "entries of a token", 512),
    "L": Symbol("time", "tokens", 1024),
    "B": Symbol("batch", "rows of the batch", 1),
    "H": Symbol("heads", "heads of a neural memory", 8),
    "depth": Symbol("depth", "matrices of a neural memory", 2),
    "e": Symbol("expansion", "its width inside, in d/H", 4),
    "b": Symbol("chunk", "tokens of its chunk", 64),
    "conv": Symbol("convolution", "width of its convolution", 4),
    "w": Symbol("window", "tokens that windowed attention sees", 256),
    "P": Symbol("persistent", "persistent tokens of attention", 0, 0),
    "M": Symbol("slots", "slots of an episodic memory", 4096),
    "k": Symbol("top", "slots that it mixes", 32),
    "lists": Symbol("lists", "inverted lists of an approximate search", 256),
    "probes": Symbol("probes", "lists that it looks into", 8),
    "s": Symbol("every", "tokens to one write", 1),
    "c": Symbol("context", "entries of an episodic context", 0, 0),
    "n": Symbol("sources", "sources of a gate", 2),
    "bytes": Symbol("itemsize", "bytes of a number", 4),
}
QUANTITIES = {"flops": "FLOPs", "parameters": "parameters", "state_bytes": "bytes of state", "traffic": "bytes of traffic"}
PER = ("sequence", "token", "chunk", "step")
# what neither grows nor shrinks with the work
STANDING = ("parameters", "state_bytes")


def _joined(norms: int, **sizes: Any) -> Cost:
    """MAG (norms 3) and MAL (1): attention, by a window, a memory, and the norms."""
    shared = {name: sizes.pop(name) for name in ("dim", "time", "batch", "itemsize")}
    begun = sizes.pop("continued", False)
    one = attention(window=sizes.pop("window"), persistent=sizes.pop("persistent"), past=1 if begun else 0, **shared)
    weights = norms * shared["dim"]
    return one + neural(continued=begun, **shared, **sizes) + Cost(0, weights, 0, weights * shared["itemsize"])


_NEURAL = "H depth e b conv"
# by name: how it is computed, the symbols it has beside d, L, B and bytes, and how it is told that tokens came before
LAYERS: dict[str, tuple[Callable[..., Cost], tuple[str, ...], str]] = {
    "attention": (attention, ("P",), "past"),
    "window": (attention, ("w", "P"), "past"),
    "neural": (neural, tuple(_NEURAL.split()), "continued"),
    "neural-scan": (partial(neural, form="scan"), tuple(_NEURAL.split()), "continued"),
    "mac": (context, (*_NEURAL.split(), "P"), "continued"),
    "mag": (partial(_joined, 3), (*_NEURAL.split(), "w", "P"), "continued"),
    "mal": (partial(_joined, 1), (*_NEURAL.split(), "w", "P"), "continued"),
    "episodic": (episodic, ("M", "s", "c"), ""),
    "episodic-top-k": (partial(episodic, read="top-k"), ("M", "k", "s", "c"), ""),
    "episodic-approximate": (partial(episodic, read="approximate"), ("M", "k", "lists", "probes", "s", "c"), ""),
    "gate": (gate, ("n",), ""),
}


def at(layer: str, values: Mapping[str, Number], per: str = "sequence", exact: bool = False) -> Cost:
    """The cost of a layer at these values of its symbols; what is not given is as in `SYMBOLS`.

    per: "sequence", L tokens from nothing; "token", the mean over those; "chunk" and "step", b tokens or one token after L others.
    exact: refuse sizes that no layer has, by ValueError.
    """
    make, own, telling = LAYERS[layer]
    dim, heads = (values.get(name, SYMBOLS[name].value) for name in ("d", "H"))
    if exact and "H" in own and dim % heads:
        raise ValueError(f"cost of {layer}: d must be a multiple of H, got {dim} and {heads}.")
    sizes = {SYMBOLS[name].argument: values.get(name, SYMBOLS[name].value) for name in ("d", "L", "B", "bytes", *own)}
    if per in ("chunk", "step"):
        before, sizes["time"] = sizes["time"], 1 if per == "step" else values.get("b", SYMBOLS["b"].value)
        if telling:
            sizes[telling] = before if telling == "past" else True
    found = make(**sizes)
    if per != "token":
        return found
    length = sizes["time"]
    return Cost(*(_share(getattr(found, name), 1 if name in STANDING else length) for name in QUANTITIES))


def expressions(layer: str, values: Mapping[str, int], per: str = "sequence") -> dict[str, Any]:
    """Each quantity as an expression of sympy in the symbols that have no value here, for lengths that are multiples of b and w."""
    import sympy

    free = {name: sympy.Symbol(name, positive=True, integer=True) for name in SYMBOLS if name not in ("depth", "conv", "P", "c")}
    found = at(layer, {**free, **values}, per)

    def whole(expression: Any) -> Any:
        expression = sympy.sympify(expression).replace(sympy.Min, lambda *parts: next((p for p in parts if p != free["L"]), parts[0]))
        return sympy.collect(sympy.expand(expression.replace(sympy.ceiling, lambda part: part)), [free["L"], free["d"]])

    return {name: whole(getattr(found, name)) for name in QUANTITIES}


def crossings(layers: Sequence[str], values: Mapping[str, int], symbol: str, per: str, quantity: str) -> list[str]:
    """In words, for each two layers, from which value of a symbol on one takes less of a quantity; or that one always does."""
    name, said = QUANTITIES[quantity], []

    def amount(layer: str, value: int) -> Number:
        found: Number = getattr(at(layer, {**values, symbol: value}, per), quantity)
        return found

    # no memory is deeper than this
    least, limit = SYMBOLS[symbol].least, 64 if symbol == "depth" else 2**30
    for place, one in enumerate(layers):
        for other in layers[place + 1 :]:
            signs = [_sign(amount(one, value) - amount(other, value)) for value in (least, limit)]
            if signs == [0, 0]:
                said.append(f"{one} and {other} take the same {name}.")
            elif signs[0] * signs[1] >= 0:
                less, more = (one, other) if sum(signs) < 0 else (other, one)
                said.append(f"{less} takes fewer {name} than {more} at any {symbol}.")
            else:
                less, more = (one, other) if signs[1] < 0 else (other, one)
                low, high = least, limit
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (low, middle) if amount(less, middle) < amount(more, middle) else (middle, high)
                said.append(f"{less} takes fewer {name} than {more} from {symbol} = {high:,} on.")
    return said


def draw(layers: Sequence[str], values: Mapping[str, int], symbol: str, points: Sequence[int], per: str) -> "Figure":
    """FLOPs, bytes moved and bytes of state over a symbol, a line for each layer. ImportError without matplotlib."""
    from ammon.analysis.figures import label, measured, panels

    figure, axes = panels(3)
    for panel, quantity in zip(axes, ("flops", "traffic", "state_bytes")):
        for number, layer in enumerate(layers):
            heights = [getattr(at(layer, {**values, symbol: point}, per), quantity) for point in points]
            if any(heights):
                measured(panel, points, heights, name=layer, number=number)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        standing = quantity in STANDING
        label(panel, f"{symbol}, {SYMBOLS[symbol].meaning}", QUANTITIES[quantity] + ("" if standing else f" per {per}"))
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def _share(amount: Number, length: Number) -> Number:
    return amount / length if length != 1 else amount


def _sign(number: Number) -> int:
    return int(number > 0) - int(number < 0)
