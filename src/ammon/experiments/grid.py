"""Grid: the points at which an experiment is asked, from what the user typed; the name and the seed of each.

`key=a,b,c` gives values, `key=lo:hi:n` n values from lo to hi, `key=lo:hi:n:log` the same in equal ratios.
"""

import hashlib
import inspect
import itertools
import json
import math
from collections.abc import Sequence
from difflib import get_close_matches

from ammon.catalog import CATALOG
from ammon.experiments.base import Axis, Experiment, Grid, Point, Value, make_memory, parameters


def parse(texts: Sequence[str]) -> dict[str, list[str]]:
    """The words of each key of `key=a,b,c` or `key=lo:hi:n[:log]`; ValueError for anything else."""
    grid: dict[str, list[str]] = {}
    for text in texts:
        key, equals, words = (part.strip() for part in text.partition("="))
        if not key or not equals or not words or any(not word.strip() for word in words.split(",")):
            raise ValueError(f"key=a,b,c or key=lo:hi:n[:log] is needed, got {text!r}.")
        if key in grid:
            raise ValueError(f"{key} is given twice; give all its values at once, {key}=a,b,c.")
        grid[key] = [word.strip() for word in words.split(",")]
    return grid


def points(experiment: Experiment, grid: Grid | None, memories: Sequence[str] | None, trials: int | None) -> list[Point]:
    """All points in the order of the grid, the last key running fastest. ValueError, in one line, for what cannot be asked."""
    given = dict(grid or {})
    if "memory" in given:
        if memories is not None:
            raise ValueError(f"{experiment.name}: memories are given twice, as memory=... and by name; give them once.")
        memories = [str(name) for name in given.pop("memory")]
    names = _memories(experiment, memories)
    count = experiment.trials if trials is None else trials
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"{experiment.name}: trials must be a whole number of at least 1, got {count!r}.")
    axes = {**experiment.axes, **{key: _argument(experiment, key, names) for key in given if key not in experiment.axes}}
    values: dict[str, list[Value]] = {"memory": list(names)} if names else {}
    for key, axis in axes.items():
        if key in given or axis.values:
            values[key] = spread(f"{experiment.name}: {key}", given.get(key, axis.values), axis)
    made: list[Point] = [{**dict(zip(values, choice)), "trials": count} for choice in itertools.product(*values.values())]
    for point in made:
        experiment.check(point)
    _check_memories(made, [key for key in values if key not in experiment.axes and key != "memory"])
    return made


def name_of(experiment: str, point: Point, seed: int) -> str:
    """The hash of a point within an experiment and a run: the name of its rows."""
    text = json.dumps([experiment, dict(point), seed], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def seed_of(name: str) -> int:
    """The seed of a point, from its name: independent of other points, and of when and where it is measured."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def nearest(word: str, words: Sequence[str]) -> str:
    """The word that looks most like it."""
    return get_close_matches(word, words, n=1, cutoff=0)[0]


def _memories(experiment: Experiment, asked: Sequence[str] | None) -> list[str]:
    if not experiment.memories:
        if asked:
            raise ValueError(f"{experiment.name}: this experiment takes no memory, got {', '.join(asked)}; leave it out.")
        return []
    names = list(dict.fromkeys(experiment.memories if asked is None else asked))
    if not names:
        raise ValueError(f"{experiment.name}: at least one memory is needed; leave them out for {', '.join(experiment.memories)}.")
    for name in names:
        if name not in CATALOG:
            near = nearest(name, list(CATALOG))
            raise ValueError(f"{experiment.name}: no memory is called {name!r}; did you mean {near}? `ammon list` names all.")
        if not experiment.fits(CATALOG[name]):
            raise ValueError(
                f"{experiment.name}: {name} does not fit; this experiment needs {experiment.needs}: {', '.join(experiment.fitting())}."
            )
    return names


def _argument(experiment: Experiment, key: str, names: Sequence[str]) -> Axis:
    """The axis of an argument of the memories' constructors."""
    taken = {name: parameters(name) for name in names}
    if not any(key in arguments for arguments in taken.values()):
        # dim and trials are no arguments of the grid unless the experiment says so
        known = dict.fromkeys(["memory", *experiment.axes] if names else [*experiment.axes])
        known.update(dict.fromkeys(argument for arguments in taken.values() for argument in arguments))
        raise ValueError(
            f"{experiment.name}: no key is called {key!r}; did you mean {nearest(key, list(known))}? There are {', '.join(known)}."
        )
    without = [name for name, arguments in taken.items() if key not in arguments]
    if without:
        raise ValueError(f"{experiment.name}: {', '.join(without)} takes no {key}; run it by itself.")
    defaults = [arguments[key].default for arguments in taken.values()]
    kinds = {type(default) for default in defaults if isinstance(default, (int, float, str)) and not isinstance(default, bool)}
    if not kinds or any(arguments[key].kind is inspect.Parameter.VAR_KEYWORD for arguments in taken.values()):
        raise ValueError(f"{experiment.name}: {key} of {', '.join(names)} is no number or word, so it cannot be set here.")
    return Axis(f"argument of {', '.join(names)}", kind=str if str in kinds else float if float in kinds else int)


def _check_memories(made: Sequence[Point], arguments: Sequence[str]) -> None:
    """Refuse what the constructors of the memories refuse, before anything is measured."""
    seen = set()
    for point in made:
        chosen = (point.get("memory"), point.get("dim"), *(point[key] for key in arguments))
        if arguments and chosen not in seen:
            seen.add(chosen)
            make_memory(point, int(point.get("dim", 64)))


def spread(where: str, given: Sequence[Value], axis: Axis) -> list[Value]:
    """The values that words like "4" and "lo:hi:n:log" stand for, each once; ValueError for what the axis does not take."""
    if isinstance(given, (str, int, float)):
        given = [given]
    words = [word for value in given for word in _spread(where, value, axis)]
    values = [_value(where, word, axis) for word in words]
    if not values:
        raise ValueError(f"{where}: at least one value is needed.")
    if len(set(values)) < len(values):
        # a range of whole numbers may name one twice; what the user typed twice is likewise asked once
        values = list(dict.fromkeys(values))
    return values


def _spread(where: str, value: Value, axis: Axis) -> list[Value]:
    """The values of lo:hi:n[:log], or the one value itself."""
    if not isinstance(value, str) or ":" not in value or axis.type is str:
        return [value]
    low, high, count, *rest = [*value.split(":"), "", ""][: max(3, value.count(":") + 1)]
    try:
        ends, number = (float(low), float(high)), int(count)
    except ValueError:
        raise ValueError(f"{where}: lo:hi:n or lo:hi:n:log is needed, got {value!r}.") from None
    if rest not in ([], ["log"]) or number < 1 or not all(map(math.isfinite, ends)):
        raise ValueError(f"{where}: lo:hi:n or lo:hi:n:log with finite ends and n of at least 1 is needed, got {value!r}.")
    if rest and min(ends) <= 0:
        raise ValueError(f"{where}: the ends of a range in equal ratios must be positive, got {value!r}.")
    parts = [place / (number - 1) for place in range(number)] if number > 1 else [0.0]
    # 12 digits: a step of .1 must not come out as .30000000000000004
    spread = [ends[0] * (ends[1] / ends[0]) ** part if rest else ends[0] + part * (ends[1] - ends[0]) for part in parts]
    return [round(x) if axis.type is int else float(f"{x:.12g}") for x in spread]


def _value(where: str, given: Value, axis: Axis) -> Value:
    if axis.type is str:
        word = str(given)
        if axis.choices and word not in axis.choices:
            raise ValueError(f"{where}: did you mean {nearest(word, axis.choices)}? {word!r} is none of {', '.join(axis.choices)}.")
        return word
    try:
        number = float(given)
    except ValueError:
        raise ValueError(f"{where}: a number is needed, got {given!r}.") from None
    if not math.isfinite(number) or (axis.type is int and number != round(number)):
        needed = "a whole number" if axis.type is int else "a finite number"
        raise ValueError(f"{where}: {needed} is needed, got {given!r}.")
    if (axis.least is not None and number < axis.least) or (axis.most is not None and number > axis.most):
        span = f"at least {axis.least:g}" if axis.most is None else f"from {axis.least or 0:g} to {axis.most:g}"
        raise ValueError(f"{where}: a number {span} is needed, got {given!r}.")
    return int(number) if axis.type is int else number
