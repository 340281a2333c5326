"""Cost table: what memory layers take over one symbol, per sequence, token, chunk or decode step, and from where on one is cheaper.

Symbols are those of docs/transformer.md, e.g. d entries, L tokens, H heads, chunks of b: `SYMBOLS`; `LAYERS` says which layer has which.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ammon.analysis.cost_blocks import PARTS, Call, Shape, attention, gate, transformer
from ammon.analysis.cost_episodic import Bank, episodic, hebbian
from ammon.analysis.cost_neural import Inner, context, neural
from ammon.analysis.cost_record import Cost, Number, weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Symbol:
    """A size: its argument in the formulas of `ammon.analysis.cost`, what it means, its value unless one is given."""

    argument: str
    meaning: str
    value: int
    least: int = 1


SYMBOLS = {
    "d": Symbol("dim", "entries of a token", 512),
    "L": Symbol("time", "tokens", 1024),
    "B": Symbol("batch", "rows of the batch", 1),
    "H": Symbol("heads", "heads of a memory", 8),
    "depth": Symbol("depth", "matrices of a neural memory", 2),
    "e": Symbol("expansion", "its width inside, in d/H", 4),
    "b": Symbol("chunk", "tokens of its chunk", 64),
    "conv": Symbol("convolution", "width of its convolution", 4),
    "w": Symbol("window", "tokens that windowed attention sees", 256),
    "P": Symbol("persistent", "persistent tokens of attention", 0, 0),
    "M": Symbol("slots", "slots of an episodic memory", 4096),
    "k": Symbol("top", "slots that it mixes, the best", 32),
    "page": Symbol("page", "slots to a page of an approximate read", 16),
    "probes": Symbol("probes", "pages that it reads", 8),
    "s": Symbol("every", "tokens to one write, their mean", 1),
    "c": Symbol("context", "entries of an episodic context, in each head", 0, 0),
    "a": Symbol("associated", "entries of the context of dense associations, in each head", 16),
    "N": Symbol("layers", "layers of a language model, the first without a memory", 2),
    "V": Symbol("vocabulary", "tokens that it knows", 256),
    "n": Symbol("sources", "sources of a gate", 2),
    "bytes": Symbol("itemsize", "bytes of a number", 4),
}
QUANTITIES = {"flops": "FLOPs", "parameters": "parameters", "state_bytes": "bytes of state", "traffic": "bytes of traffic"}
PER = ("sequence", "token", "chunk", "step")
# what neither grows nor shrinks with the work
STANDING = ("parameters", "state_bytes")
# what has a value in expressions too
FIXED = ("depth", "conv", "P", "c", "s")


def _inner(sizes: dict[str, Any], form: str = "dual", orthogonal: int = 0) -> Inner:
    named = {name: sizes.pop(name) for name in ("heads", "depth", "expansion", "chunk", "convolution")}
    return Inner(**named, form=form, orthogonal=orthogonal)


def _neural(form: str = "dual", orthogonal: int = 0, **sizes: Any) -> Cost:
    return neural(inner=_inner(sizes, form, orthogonal), **sizes)


def _context(**sizes: Any) -> Cost:
    return context(inner=_inner(sizes), **sizes)


def _joined(norms: int, **sizes: Any) -> Cost:
    """MAG (norms 3) and MAL (1): attention, by a window, a memory, and the norms."""
    inner, begun = _inner(sizes), sizes.pop("continued", False)
    window, persistent = sizes.pop("window"), sizes.pop("persistent")
    one = attention(window=window, persistent=persistent, past=1 if begun else 0, **sizes)
    return one + neural(inner=inner, continued=begun, **sizes) + weights(norms * sizes["dim"], sizes["itemsize"])


def _bank(sizes: dict[str, Any], **settings: Any) -> Bank:
    named = {name: sizes.pop(name) for name in ("heads", "slots", "context", "top", "page", "probes") if name in sizes}
    every = sizes.pop("every", 1)
    return Bank(**named, every=every, summary="token" if every == 1 else "mean", **settings)


def _episodic(read: str, **sizes: Any) -> Cost:
    return episodic(bank=_bank(sizes, read=read), **sizes)


def _hebbian(**sizes: Any) -> Cost:
    return hebbian(context=sizes.pop("associated"), **sizes)


def _transformer(configuration: str, **sizes: Any) -> Cost:
    call = Call(**{name: sizes.pop(name) for name in ("dim", "time", "past", "batch", "itemsize") if name in sizes})
    names = ("layers", "vocabulary", "window")
    shape = {name: sizes.pop(name) for name in names}
    heads = sizes["heads"]
    inner, bank = _inner(sizes), replace(_bank(sizes), heads=heads)
    return transformer(configuration, call, Shape(**shape, near=shape["window"], inner=inner, bank=bank, few=bank.slots))


_NEURAL = "H depth e b conv"
_BANK = ("H", "M", "s", "c")
_MODEL = (*_NEURAL.split(), "w", "M", "N", "V")
# by name: how it is computed, the symbols it has beside d, L, B and bytes, and how it is told that tokens came before
LAYERS: dict[str, tuple[Callable[..., Cost], tuple[str, ...], str]] = {
    "attention": (attention, ("P",), "past"),
    "window": (attention, ("w", "P"), "past"),
    "neural": (_neural, tuple(_NEURAL.split()), "continued"),
    "neural-scan": (partial(_neural, "scan"), tuple(_NEURAL.split()), "continued"),
    "neural-muon": (partial(_neural, "scan", 5), tuple(_NEURAL.split()), "continued"),
    "mac": (_context, (*_NEURAL.split(), "P"), "continued"),
    "mag": (partial(_joined, 3), (*_NEURAL.split(), "w", "P"), "continued"),
    "mal": (partial(_joined, 1), (*_NEURAL.split(), "w", "P"), "continued"),
    "episodic": (partial(_episodic, "exact"), _BANK, "past"),
    "episodic-top-k": (partial(_episodic, "top-k"), (*_BANK, "k"), "past"),
    "episodic-approximate": (partial(_episodic, "exact"), ("H", "M", "c", "page", "probes"), "past"),
    "hebbian": (_hebbian, ("H", "a"), "continued"),
    "gate": (gate, ("n",), ""),
    **{f"lm-{name.replace('_', '-')}": (partial(_transformer, name), _MODEL, "past") for name in PARTS},
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
    slots, page, probes = (values.get(name, SYMBOLS[name].value) for name in ("M", "page", "probes"))
    if exact and "page" in own and probes * page > slots:
        raise ValueError(f"cost of {layer}: {probes} pages of {page} are more than M = {slots} slots; take fewer probes.")
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
    """Each quantity as an expression of sympy in the symbols that have no value here.

    For lengths that are multiples of b, w and M, at least 1024 slots, many against k, and numbers of at least 4 bytes.
    """
    import sympy

    free = {name: sympy.Symbol(name, positive=True, integer=True) for name in SYMBOLS if name not in FIXED}
    found = at(layer, {**free, **values}, per)

    def whole(expression: Any) -> Any:
        expression = sympy.sympify(expression).replace(sympy.Max, lambda *parts: next(part for part in parts if not part.is_number))
        expression = expression.replace(sympy.Min, lambda *parts: next((p for p in parts if p != free["L"]), parts[0]))
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
            elif signs[0] * signs[1] > 0 or not signs[1]:
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
