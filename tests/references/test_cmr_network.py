"""The tensor program of CMR against a plain network: matrices written out, one list, one event after the other."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ammon.cmr.choice import PositionStop, PowerChoice, RatioStop, SoftmaxChoice, StrengthStop
from ammon.cmr.layers import ContextCue, Features, ItemCue, Items, Pool, Source
from ammon.cmr.likelihood import SmoothFloor
from ammon.cmr.lists import NONE, OTHER, Lists, once
from ammon.cmr.model import CMR
from ammon.cmr.parameters import as_rows
from ammon.cmr.study import kinds, study

Vector = NDArray[np.float64]
BASE = {
    "beta_enc": 0.6, "beta_start": 0.3, "beta_rec": 0.8, "learn_fc": 0.3, "learn_cf": 0.4, "primacy_scale": 0.7, "primacy_decay": 0.9,
    "temperature": 0.4, "stop_scale": 0.05, "stop_growth": 0.3,
}  # fmt: skip
NAMES = tuple("abcdefg")


def plain_network(model: CMR, lists: Lists, row: int, values: dict[str, float]) -> float:
    """The log probability of one list, by sections 1.1 and 1.2 of the equations as they are written."""
    of = dict(values)
    study_units = [u for u in lists.study[row].tolist() if u != NONE]
    recalls = [u for u in lists.recalls[row].tolist() if u != NONE]
    units = 1 + max(study_units)
    item = [lists.names[i] for i in lists.items[row].tolist()]
    sources = None if lists.sources is None else lists.sources[row].tolist()

    def get(name: str, layer: str) -> float:
        default = {"pre_fc": 1 - of.get(f"learn_fc.{layer}", of["learn_fc"]), "pre_cf": 1 - of.get(f"learn_cf.{layer}", of["learn_cf"])}
        return of.get(f"{name}.{layer}", of.get(name, default.get(name, 0.0)))

    def integrate(c: Vector, c_in: Vector, beta: float) -> Vector:
        size = math.sqrt(float(c_in @ c_in))
        if size == 0:
            return c
        c_in = c_in / size
        dot = float(c @ c_in)
        rho = math.sqrt(max(0.0, 1 + beta**2 * (dot**2 - 1))) - beta * dot
        return rho * c + beta * c_in

    networks = []
    for layer in model.layers:
        if isinstance(layer, Items):
            patterns = np.eye(units)
        elif isinstance(layer, Features):
            patterns = np.stack([layer.vectors.rows[layer.vectors.names.index(name)].numpy() for name in item[:units]])
        else:
            assert sources is not None
            patterns = np.zeros((units, max(int(s) for s in lists.sources.flatten()) + 1))  # type: ignore[union-attr]
        width, length = patterns.shape[1], len(study_units)
        size = 1 + width + 3 * length + 2
        fc, cf = np.zeros((units, size)), np.zeros((units, size))
        if not isinstance(layer, Source):
            fc[:, 1 : 1 + width], cf[:, 1 : 1 + width] = get("pre_fc", layer.name) * patterns, get("pre_cf", layer.name) * patterns
        fc[:, 1 : 1 + width] += get("shared_fc", layer.name)
        cf[:, 1 : 1 + width] += get("shared_cf", layer.name)
        if isinstance(model.semantics, ContextCue) and isinstance(layer, Items):
            pool = model.semantics.similarity
            for i, j in itertools.product(range(units), repeat=2):
                if i != j or model.semantics.diagonal:
                    cf[i, 1 + j] += of["semantic"] * float(pool.rows[pool.names.index(item[i]), pool.names.index(item[j])])
        unit, fresh = np.eye(size), iter(range(1 + width, size))
        c = unit[0].copy()
        for i, u in enumerate(study_units):
            if i and sources is not None and sources[i] != sources[i - 1] and not isinstance(layer, Source):
                c = integrate(c, unit[next(fresh)], get("beta_shift", layer.name))
            c = integrate(c, unit[next(fresh)], get("beta_distract", layer.name))
            before = c
            c_in = fc[u] if not isinstance(layer, Source) else unit[1 + sources[i]]  # type: ignore[index]
            c = integrate(c, c_in, get("beta_enc", layer.name))
            extra = of["primacy_scale"] * math.exp(-of["primacy_decay"] * i)
            rate = get("learn_cf", layer.name)
            rate = rate + extra if model.primacy == "additive" else rate * (1 + extra)
            bound = c if model.association == "new" else before
            fc[u] = fc[u] + get("learn_fc", layer.name) * bound
            cf[u] = cf[u] + rate * bound
        c = integrate(c, unit[next(fresh)], get("beta_retention", layer.name))
        c = integrate(c, unit[0], get("beta_start", layer.name))
        networks.append([layer.name, fc, cf, c])

    total, done, last = 0.0, set[int](), None
    for output in range(len(recalls) + 1):
        support = sum(cf @ c for _, _, cf, c in networks)
        assert isinstance(support, np.ndarray)
        if isinstance(model.semantics, ItemCue) and last is not None:
            pool = model.semantics.similarity
            k = pool.names.index(item[last])
            support = support + of["semantic"] * np.array([float(pool.rows[k, pool.names.index(name)]) for name in item[:units]])
        left = [u for u in range(units) if u not in done]
        if isinstance(model.stop, PositionStop):
            stop = of["stop_scale"] * math.exp(of["stop_growth"] * output)
        elif isinstance(model.stop, StrengthStop):
            stop = of["stop_scale"] + math.exp(-of["stop_growth"] * sum(max(support[u], 0) for u in left))
        else:
            strong = np.maximum(support, 1e-6)
            ratio = sum(strong[u] for u in left) / sum(strong[u] for u in done) if done else math.inf
            stop = of["stop_scale"] + math.exp(-of["stop_growth"] * ratio)
        stop = min(max(stop, 1e-6), 1 - 1e-6)
        if output == len(recalls):
            return total + (0.0 if not left and model.events == "unique" else math.log(stop))

        def strength(a: float, again: bool = False) -> float:
            if isinstance(model.choice, SoftmaxChoice):
                raw = math.exp(2 * a / of["temperature"])
            else:
                raw = ((a + math.sqrt(a * a + 1e-12)) / 2) ** of["sensitivity"]
            return raw * math.exp(-of["repeat_penalty"]) if again else raw

        if model.events == "unique":
            weights = {u: strength(support[u]) for u in left}
        else:
            weights = {u: strength(support[u], u in done) for u in range(units)}
            weights[OTHER] = strength(of["intrusion_support"])
        unit_recalled = recalls[output]
        epsilon = model.floor.epsilon  # type: ignore[attr-defined]
        chance = (1 - epsilon) * weights[unit_recalled] / sum(weights.values()) + epsilon / len(weights)
        total += math.log((1 - stop) * chance)
        for network in networks:
            name, fc, _, c = network
            c_in = fc[unit_recalled] if unit_recalled != OTHER else np.eye(len(c))[-1]
            if unit_recalled == OTHER:
                # something of its own that nothing else has
                c, c_in = np.append(c, 0.0), np.append(np.zeros(len(c)), 1.0)
                network[1:3] = [np.pad(matrix, ((0, 0), (0, 1))) for matrix in network[1:3]]
            network[3] = integrate(c, c_in, get("beta_rec", name))
        if unit_recalled == OTHER:
            last = None
        else:
            done.add(unit_recalled)
            last = unit_recalled
    raise AssertionError


def some_lists(recalls: list[list[int]], studied: list[list[int]], sources: bool = False) -> Lists:
    def pad(rows: list[list[int]]) -> torch.Tensor:
        most = max(map(len, rows))
        return torch.tensor([row + [NONE] * (most - len(row)) for row in rows])

    study_rows = pad(studied)
    units = [1 + max(row) for row in studied]
    # each list takes its items from another end of the pool
    items = pad([[(start + u) % len(NAMES) for u in range(count)] for start, count in enumerate(units)])
    count = len(studied)
    origin = torch.tensor([[(i // 2 + row) % 2 for i in range(study_rows.shape[1])] for row in range(count)])
    origin = torch.where(study_rows == NONE, NONE, origin)
    return Lists(
        study_rows, pad(recalls), items, NAMES, torch.arange(count) % 2, ("p", "q"), tuple(range(count)), origin if sources else None
    )


def pool(columns: int, seed: int = 0) -> Pool:
    return Pool(NAMES, torch.rand(len(NAMES), columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


ONCE = [[0, 1, 2, 3, 4], [0, 1, 2], [0, 1, 2, 3], [0]]
TWICE = [[0, 1, 0, 2, 3, 1], [0, 1, 2], [0, 0, 1, 1], [0]]
UNIQUE = [[4, 0, 2], [], [3, 2, 1, 0], [0]]
UNIQUE_TWICE = [[2, 0, 3], [], [1, 0], [0]]
ALL = [[4, 0, 4, OTHER, 1, 1], [OTHER], [3, 2, 1, 0, OTHER, 0], [0, 0]]
ALL_TWICE = [[3, 0, 3, OTHER, 1, 1], [OTHER], [1, 0, OTHER, 0], [0, 0]]


def cases() -> Iterator[tuple[str, CMR, dict[str, float], bool]]:
    yield "plain", CMR(), {}, False
    yield "Polyn's primacy, previous context", CMR(primacy="multiplicative", association="previous"), {}, False
    yield "weights before the experiment", CMR(), {"pre_fc": 0.5, "pre_cf": 0.9, "shared_cf": 0.05}, False
    yield "items that share context", CMR(association="previous"), {"shared_fc": 0.1, "shared_cf": 0.05}, False
    yield "distraction", CMR(), {"beta_distract": 0.4, "beta_retention": 0.5}, False
    yield "distraction, previous context", CMR(association="previous"), {"beta_distract": 0.4}, False
    yield "delay only", CMR(), {"beta_retention": 0.7}, False
    yield "context cue", CMR(semantics=ContextCue(pool(7))), {"semantic": 0.3}, False
    yield "context cue of others only", CMR(semantics=ContextCue(pool(7), diagonal=False)), {"semantic": 0.3}, False
    yield "item cue", CMR(semantics=ItemCue(pool(7))), {"semantic": 0.3}, False
    yield "features", CMR((Features(pool(3)),)), {}, False
    yield "items and features", CMR((Items(), Features(pool(3)))), {"beta_enc.features": 0.2, "learn_cf.features": 0.1}, False
    yield "source", CMR((Items(), Source())), {"learn_cf.source": 0.129, "beta_enc.source": 0.59}, True
    yield "source, shift, distraction", CMR((Items(), Source())), {"beta_shift": 0.5, "beta_distract": 0.2, "beta_retention": 0.3}, True
    yield "power", CMR(choice=PowerChoice()), {"sensitivity": 3.0}, False
    yield "strength", CMR(stop=StrengthStop()), {"stop_growth": 1.5}, False
    yield "ratio", CMR(stop=RatioStop(), choice=PowerChoice()), {"stop_growth": 0.7, "sensitivity": 2.0}, False
    yield "a high floor", CMR(floor=SmoothFloor(0.05)), {}, False
    yield "no floor", CMR(floor=SmoothFloor(0.0)), {}, False


@pytest.mark.parametrize("events", ["unique", "all"])
@pytest.mark.parametrize("studied", ["once", "twice"])
@pytest.mark.parametrize(("model", "more", "sources"), [case[1:] for case in cases()], ids=[case[0] for case in cases()])
def test_the_likelihood_is_that_of_the_plain_network(model: CMR, more: dict[str, float], sources: bool, studied: str, events: str) -> None:
    recalls = {"unique": {"once": UNIQUE, "twice": UNIQUE_TWICE}, "all": {"once": ALL, "twice": ALL_TWICE}}[events][studied]
    lists = some_lists(recalls, ONCE if studied == "once" else TWICE, sources)
    model = replace(model, events=events)  # type: ignore[arg-type]
    values = {**BASE, **more}
    if events == "all":
        values |= {"repeat_penalty": 1.3, "intrusion_support": 0.07}
    values = {name: value for name, value in values.items() if not (name == "temperature" and isinstance(model.choice, PowerChoice))}
    found = model.log_likelihood(lists, values).lists
    expected = [plain_network(model, lists, row, values) for row in range(len(lists))]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "more", [{}, {"beta_distract": 0.4, "beta_retention": 0.5}, {"beta_enc": 1.0}, {"beta_enc": 0.0}, {"beta_start": 1.0}]
)
@pytest.mark.parametrize("association", ["new", "previous"])
def test_contexts_written_down_at_once_are_those_of_the_loop(association: str, more: dict[str, float]) -> None:
    model = CMR(association=association)  # type: ignore[arg-type]
    lists = once([5, 3, 1])
    rows, _ = as_rows({**BASE, **more}, model.needs, ["temporal"], "test")
    of = kinds(lists, model.layers, None, "test")
    three = torch.zeros(3, dtype=torch.int64)
    fast, slow = (
        study(rows.at(three), of.of, of, model.layers, 5, "additive", model.association, closed=closed) for closed in (True, False)
    )
    torch.testing.assert_close(fast.begin, slow.begin, rtol=0, atol=1e-14)
    torch.testing.assert_close(fast.beta, slow.beta, rtol=0, atol=1e-14)
    for row, length in enumerate([5, 3, 1]):
        # beyond the end of a list nothing is recalled
        torch.testing.assert_close(fast.table[row, :length], slow.table[row, :length], rtol=0, atol=1e-14)


def test_one_list_by_hand() -> None:
    # two items, β = 3/5 so ρ = 4/5; no learning from item to context, all from context to item; T = 2 makes the logits the supports
    values = {
        "beta_enc": 0.6,
        "beta_rec": 0.6,
        "learn_fc": 0.0,
        "learn_cf": 1.0,
        "temperature": 2.0,
        "stop_scale": 0.25,
        "stop_growth": 0.0,
    }
    lists = replace(once([2]), recalls=torch.tensor([[1, 0]]))
    # contexts (start, a, b): (.8, .6, 0), then (.64, .48, .6); supports of a and b from the last: .512 + .288, and its length 1
    first = 0.75 * math.exp(1) / (math.exp(1) + math.exp(0.8))
    events = CMR(floor=SmoothFloor(0.0)).log_likelihood(lists, values).events[0]
    torch.testing.assert_close(events.exp(), torch.tensor([first, 0.75, 1.0], dtype=torch.float64), rtol=0, atol=1e-15)
    only = replace(once([2]), recalls=torch.tensor([[1]]))
    assert float(CMR(floor=SmoothFloor(0.0)).log_likelihood(only, values).total) == pytest.approx(math.log(first * 0.25), abs=1e-15)
