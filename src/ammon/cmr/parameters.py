"""Parameters: the names, meanings and search ranges of what CMR is fitted by, and how values become rows of one tensor each.

A value is a number or a tensor [*vector]; `name.layer` overrides `name` for one context layer. Neutral values switch a mechanism off.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """What a parameter means, where it may lie, where a fit looks for it, and the value it has when it is not given."""

    meaning: str
    low: float
    high: float
    search: tuple[float, float]
    neutral: float | None = None  # None: it must be given


INFINITE = float("inf")
PARAMETERS = {
    "beta_enc": Parameter("drift of context at each studied item", 0, 1, (0, 1)),
    "beta_start": Parameter("drift back to the start of the list before recall", 0, 1, (0, 1), 0.0),
    "beta_rec": Parameter("drift of context at each recalled item", 0, 1, (0, 1)),
    "beta_distract": Parameter("drift by a distraction before each item", 0, 1, (0, 1), 0.0),
    "beta_retention": Parameter("drift by a distraction after the list", 0, 1, (0, 1), 0.0),
    "beta_shift": Parameter("drift where the source changes between items", 0, 1, (0, 1), 0.0),
    "learn_fc": Parameter("learning from item to context, γ_fc", 0, INFINITE, (0, 1)),
    "learn_cf": Parameter("learning from context to item, γ_cf", 0, INFINITE, (0, 1)),
    "pre_fc": Parameter("weight of an item to its own context before the experiment; 1 - learn_fc if not given", 0, INFINITE, (0, 1)),
    "pre_cf": Parameter("weight of its own context to an item before the experiment; 1 - learn_cf if not given", 0, INFINITE, (0, 1)),
    "shared_fc": Parameter("weight of each item to all contexts before the experiment", -INFINITE, INFINITE, (0, 1), 0.0),
    "shared_cf": Parameter("weight of each context to all items before the experiment", -INFINITE, INFINITE, (0, 1), 0.0),
    "primacy_scale": Parameter("extra learning of the first item, φ_s", 0, INFINITE, (0, 10), 0.0),
    "primacy_decay": Parameter("how fast that falls with the position, φ_d", 0, INFINITE, (0, 5), 1.0),
    "semantic": Parameter("weight of similarity, s", -INFINITE, INFINITE, (0, 1)),
    "temperature": Parameter("of the softmax choice, P ∝ exp(2 a / T)", 0, INFINITE, (0.01, 10)),
    "sensitivity": Parameter("of the power choice, P ∝ a^τ", 0, INFINITE, (0.1, 20)),
    "stop_scale": Parameter("X1 of the stop rule", 0, INFINITE, (0, 0.1)),
    "stop_growth": Parameter("X2 of the stop rule", -INFINITE, INFINITE, (0, 1)),
    "repeat_penalty": Parameter("taken from the logit of an item that was recalled before", -INFINITE, INFINITE, (0, 20)),
    "intrusion_support": Parameter("support of recalls from outside the list", 0, INFINITE, (0, 2)),
    "beta_end_list": Parameter("drift after the recall of each list of a session", 0, 1, (0, 1), 0.0),
    "match_threshold": Parameter("least match of a retrieved item's context with the present one", -1, 1, (0, 1), -1.0),
    "repeat_omega": Parameter("ω, rise of the threshold of an item just retrieved", 0, INFINITE, (0, 30)),
    "repeat_alpha": Parameter("α, what is left of that rise after each further retrieval", 0, 1, (0, 1)),
    "race_leak": Parameter("K of the accumulators", 0, INFINITE, (0, 1)),
    "race_inhibition": Parameter("L of the accumulators", 0, INFINITE, (0, 1)),
    "race_noise": Parameter("η of the accumulators", 0, INFINITE, (0, 1)),
    "race_time_constant": Parameter("τ of the accumulators, ms", 0, INFINITE, (100, 2000)),
}
COMPLEMENTS = {"pre_fc": "learn_fc", "pre_cf": "learn_cf"}


class Rows:
    """Values as rows [vector] of one tensor each; asked for by name, and by layer where a layer has its own."""

    def __init__(self, values: Mapping[str, Tensor], index: Tensor | None = None) -> None:
        self._values, self._index = values, index
        self._picked: dict[str, Tensor] = {}

    def __call__(self, name: str, layer: str | None = None) -> Tensor:
        own = f"{name}.{layer}"
        if layer is not None and own in self._values:
            return self._pick(own)
        if name in self._values:
            return self._pick(name)
        if name in COMPLEMENTS:
            return 1 - self(COMPLEMENTS[name], layer)
        neutral = PARAMETERS[name].neutral
        assert neutral is not None, name
        return torch.full_like(self._pick(next(iter(self._values))), neutral)

    def given(self, name: str) -> bool:
        """Whether the value was given, for all layers or for one."""
        return any(key.partition(".")[0] == name for key in self._values)

    def at(self, vectors: Tensor) -> "Rows":
        """The values of these vectors, in this order."""
        return Rows(self._values, vectors if self._index is None else self._index[vectors])

    def _pick(self, name: str) -> Tensor:
        if self._index is None:
            return self._values[name]
        if name not in self._picked:
            self._picked[name] = self._values[name][self._index]
        return self._picked[name]


def as_rows(values: Values, needed: Iterable[str], layers: Iterable[str], where: str) -> tuple[Rows, torch.Size]:
    """The values broadcast against each other and flattened to rows, and the shape [*vector] they had. ValueError for what is wrong."""
    check_names(values, needed, layers, where)
    given = [value for value in values.values() if isinstance(value, Tensor) and value.is_floating_point()]
    # numbers take the dtype and device of the tensors, and are float64 among themselves
    dtype, device = (given[0].dtype, given[0].device) if given else (torch.float64, None)
    tensors = {name: torch.as_tensor(value, dtype=dtype, device=device) for name, value in values.items()}
    try:
        shape: torch.Size = functools.reduce(torch.add, tensors.values()).shape
    except RuntimeError as error:
        shapes = {name: list(t.shape) for name, t in tensors.items() if t.ndim}
        raise ValueError(f"{where}: the values must be numbers or tensors of one shape, got {shapes}.") from error
    for name, tensor in tensors.items():
        check_bounds(name, tensor.detach(), where)
    return Rows({name: t.expand(shape).reshape(-1) for name, t in tensors.items()}), shape


def check_names(values: Values, needed: Iterable[str], layers: Iterable[str], where: str) -> None:
    """Refuse names that are none of a parameter, and say which parameters are missing."""
    layers = tuple(layers)
    for name in values:
        base, _, layer = name.partition(".")
        if base not in PARAMETERS:
            near = get_close_matches(base, PARAMETERS, n=1, cutoff=0)[0]
            raise ValueError(f"{where}: no parameter is called {name!r}; did you mean {near}?")
        if layer and layer not in layers:
            raise ValueError(f"{where}: {name!r} names a context layer that the model has not; it has {', '.join(layers)}.")
    bases = {name.split(".")[0] for name in values if "." not in name}
    each = [{name.partition(".")[0] for name in values if name.partition(".")[2] == layer} for layer in layers]
    everywhere = bases | (set.intersection(*each) if each else set())
    missing = [name for name in needed if name not in everywhere and name not in COMPLEMENTS and PARAMETERS[name].neutral is None]
    if missing:
        raise ValueError(f"{where}: the model needs {', '.join(missing)}; give a value, e.g. {missing[0]}=0.5.")


def check_bounds(name: str, value: Tensor, where: str) -> None:
    """Refuse values that are not finite or lie where the parameter has no meaning."""
    meaning = PARAMETERS[name.split(".")[0]]
    wrong = ~((value >= meaning.low) & (value <= meaning.high) & torch.isfinite(value))
    if bool(wrong.any()):
        got = value[wrong].flatten()[0].item() if value.ndim else value.item()
        high = "" if meaning.high == INFINITE else f" and at most {meaning.high:g}"
        low = "finite" if meaning.low == -INFINITE else f"finite, at least {meaning.low:g}{high}"
        raise ValueError(f"{where}: {name} ({meaning.meaning}) must be {low}, got {got:g}.")
