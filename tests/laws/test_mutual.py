"""Mutual attention, the one formula of attention as an energy: its sums as they are written, its masks and its gradients."""

import math

import pytest
import torch
from torch import Tensor

from ammon.energies.attention import Attention
from ammon.energies.stored import StoredPatterns
from ammon.nn.energy_transformer import EnergyTransformer
from ammon.parts.lagrangians import Lagrangian, Sigmoid
from ammon.parts.mutual import project, pulls, weigh, worth
from ammon.parts.separations import Entmax, LogSumRelu, Power, Relu, Softmax

BATCH, HEADS, QUERIES, KEYS, DIM, ENTRIES = 2, 3, 5, 4, 6, 3
SEPARATIONS: dict[str, Lagrangian] = {
    "softmax": Softmax(0.7),
    "entmax": Entmax(1.5),
    "relu": Relu(),
    "power": Power(3),
    "sigmoid": Sigmoid(1.3),
    "log_sum_relu": LogSumRelu(0.4),
}
# of all items, of each item, of each item and head
MASKS: dict[str, tuple[int, int] | None] = {"none": None, "shared": (1, 1), "each": (BATCH, 1), "heads": (BATCH, HEADS)}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def given() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens of queries and of keys, and both weights, as large as layers draw them."""
    query, key = draw(2, HEADS, DIM, ENTRIES, seed=2) / DIM**0.5
    return draw(BATCH, QUERIES, DIM), draw(BATCH, KEYS, DIM, seed=1), query, key


def seen_by(lead: tuple[int, int] | None) -> Tensor | None:
    if lead is None:
        return None
    seen = torch.rand(*lead, QUERIES, KEYS, generator=torch.Generator().manual_seed(4)) < 0.6
    # one query that sees nothing at all
    seen[..., 2, :] = False
    return seen


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", SEPARATIONS)
def test_the_worth_is_the_sum_over_heads_and_queries_of_the_keys_that_each_sees(name: str, mask: str) -> None:
    queries, keys, query, key = given()
    seen, separation, truth = seen_by(MASKS[mask]), SEPARATIONS[name], torch.zeros(BATCH, dtype=torch.float64)
    for item in range(BATCH):
        for head in range(HEADS):
            for asking in range(QUERIES):
                among = range(KEYS) if seen is None else seen.expand(BATCH, HEADS, -1, -1)[item, head, asking].nonzero().flatten().tolist()
                scores = [(queries[item, asking] @ query[head]) @ (keys[item, asked] @ key[head]) for asked in among]
                if scores:
                    truth[item] += separation.value(torch.stack(scores))
    torch.testing.assert_close(worth(queries, keys, query, key, separation, seen), truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", SEPARATIONS)
def test_the_pulls_are_its_gradient_by_autograd_and_so_are_those_of_the_pulls(name: str, mask: str) -> None:
    inputs, seen, separation = [part.requires_grad_() for part in given()], seen_by(MASKS[mask]), SEPARATIONS[name]
    slopes = torch.autograd.grad(worth(*inputs, separation, seen).sum(), inputs[:2], create_graph=True)
    found = pulls(*inputs, separation, seen)
    ways = [draw(*slope.shape, seed=5) for slope in slopes]
    for pull, slope in zip(found, slopes, strict=True):
        torch.testing.assert_close(pull, slope, rtol=1e-11, atol=1e-11)
    twice = torch.autograd.grad(sum((p * w).sum() for p, w in zip(found, ways, strict=True)), inputs)
    assert all(bool(ours.isfinite().all()) for ours in twice)
    if isinstance(separation, Entmax):
        # its value cannot be differentiated twice: it passes through p^α at p = 0
        return
    truth = torch.autograd.grad(sum((s * w).sum() for s, w in zip(slopes, ways, strict=True)), inputs)
    for ours, theirs in zip(twice, truth, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_second_gradients_agree_with_finite_differences_though_a_query_sees_nothing() -> None:
    queries, keys, query, key = (part.requires_grad_() for part in given())
    seen, separation = seen_by((BATCH, 1)), Softmax(0.7)
    torch.autograd.gradgradcheck(lambda *parts: worth(*parts, separation, seen), (queries, keys, query, key), fast_mode=True)


@pytest.mark.parametrize("make", [lambda: Softmax(0.7, learnable=True), lambda: LogSumRelu(0.4, learnable=True)])
def test_a_gain_that_is_learned_behind_a_mask_gets_its_gradient(make: object) -> None:
    separation = make().double()  # type: ignore[operator]
    seen = seen_by((BATCH, 1))
    value = worth(*given(), separation, seen).sum()
    (slope,) = torch.autograd.grad(value, separation.beta)
    with torch.no_grad():
        separation.beta += 1e-6
        change = float(worth(*given(), separation, seen).sum() - value) / 1e-6
    assert float(slope) == pytest.approx(change, rel=1e-4)


def test_a_query_that_sees_nothing_weighs_none_and_moves_nobody() -> None:
    queries, keys, query, key = given()
    seen = seen_by((1, 1))
    weights = weigh(project(queries, query), project(keys, key), Softmax(0.7), seen)
    assert not weights[:, :, 2].any()
    torch.testing.assert_close(weights.sum(-1)[:, :, 0], torch.ones(BATCH, HEADS, dtype=torch.float64))
    moved = queries.clone()
    moved[:, 2] += 5
    assert not pulls(queries, keys, query, key, Softmax(0.7), seen)[0][:, 2].any()
    torch.testing.assert_close(
        pulls(moved, keys, query, key, Softmax(0.7), seen)[1], pulls(queries, keys, query, key, Softmax(0.7), seen)[1]
    )


def test_without_keys_there_is_no_worth_and_no_pull() -> None:
    queries, _, query, key = given()
    none = draw(BATCH, 0, DIM)
    assert worth(queries, none, query, key, Softmax()).tolist() == [0, 0]
    first, second = pulls(queries, none, query, key, Softmax())
    assert not first.any()
    assert second.shape == none.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_sums_are_taken_in_float32(dtype: torch.dtype) -> None:
    queries, keys, query, key = (part.to(dtype) for part in given())
    seen = seen_by((BATCH, 1))
    found = worth(queries, keys, query, key, Softmax(0.7), seen)
    # only the scores are rounded to half precision
    scores = (project(queries, query) @ project(keys, key).mT).float().masked_fill(~seen, -torch.inf)  # type: ignore[operator]
    truth = torch.where(seen.any(-1), torch.logsumexp(0.7 * scores, -1) / 0.7, 0.0).sum((1, 2))  # type: ignore[union-attr]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-5)
    assert all(pull.dtype == dtype and bool(pull.isfinite().all()) for pull in pulls(queries, keys, query, key, Softmax(0.7), seen))
    synapse = Attention(query, key, Softmax(0.7), mask=seen[0, 0])  # type: ignore[index]
    assert synapse(queries, keys).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stored_patterns_sum_in_float32_too(dtype: torch.dtype) -> None:
    patterns, tokens = draw(600, DIM).to(dtype), draw(BATCH, 50, DIM, seed=1).to(dtype)
    truth = -torch.relu(tokens.double() @ patterns.double().mT).square().sum((1, 2)) / 2
    synapse = StoredPatterns(patterns, separation=Relu())
    torch.testing.assert_close(synapse(tokens.float()).double(), truth, rtol=1e-6, atol=0)
    assert synapse(tokens).dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(synapse(tokens.float()).double(), truth, rtol=1e-6, atol=0)


def test_an_energy_transformer_keeps_the_names_and_shapes_that_were_saved() -> None:
    layer = EnergyTransformer(10, 2, head_dim=3, memories=13)
    assert {name: list(value.shape) for name, value in layer.state_dict().items()} == {
        "norm.gamma": [],
        "norm.delta": [10],
        "attention.queries": [2, 3, 10],
        "attention.keys": [2, 3, 10],
        "patterns.patterns": [13, 10],
    }
    assert math.isclose(layer.attention.separation.beta, 3**-0.5)
