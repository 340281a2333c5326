"""Laws of sparse and modular patterns, of swapped units and of networks in modules."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ammon as am
from ammon.learning.base import Rule, cut_modules_
from ammon.learning.bayes import BayesianOptimal, Bcpnn, Willshaw
from ammon.learning.covariance import Covariance, PresynapticCovariance
from ammon.learning.field import Delta, Storkey
from ammon.learning.hebb import Hebb
from ammon.learning.local import covariance
from ammon.learning.modular import Modular
from ammon.parts.corruption import Swap
from ammon.parts.lagrangians import Winners
from ammon.parts.patterns import modular, modules_of


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_sparse_patterns_have_so_many_active_units_and_modular_ones_one_in_each_module() -> None:
    patterns = am.sparse_patterns(200, 30, 4, generator=_generator())
    assert set(patterns.unique().tolist()) == {0, 1}
    assert (patterns.sum(-1) == 4).all()
    # every unit is used: 200 · 4/30 = 27 times on average
    assert patterns.sum(0).amin() > 8
    patterns = am.modular_patterns(200, 5, 6, generator=_generator(), dtype=torch.float64)
    assert patterns.dtype == torch.float64
    assert (patterns.view(200, 5, 6).sum(-1) == 1).all()
    assert patterns.sum(0).amin() > 12


@pytest.mark.parametrize(("dim", "modules"), [(1, 1), (2, 1), (6, 3), (7, 1), (12, 4), (400, 20), (784, 28), (1024, 32)])
def test_modules_of_are_about_as_many_as_their_units(dim: int, modules: int) -> None:
    assert modules_of(dim) == modules


def test_the_largest_entry_of_each_module_is_the_active_one_and_the_first_of_equals() -> None:
    rows = torch.tensor([[0.1, 0.9, 0.3, 0.3, 0.2, 0.2], [1.0, 0.0, 0.0, 0.0, 0.0, 5.0]])
    assert modular(rows, 2).tolist() == [[0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 1]]
    assert torch.equal(am.prepare(rows, "modular"), modular(rows, 3))
    with pytest.raises(ValueError, match="6 entries do not make 4 equal modules"):
        modular(rows, 4)


@given(seed=st.integers(0, 10**6), modules=st.integers(1, 5), size=st.integers(2, 6), fraction=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_swap_moves_so_many_active_units_each_within_its_module(seed: int, modules: int, size: int, fraction: float) -> None:
    rows = am.modular_patterns(7, modules, size, generator=_generator(seed))
    swapped = Swap(fraction, modules)(rows, generator=_generator(seed + 1))
    assert (swapped.view(7, modules, size).sum(-1) == 1).all()
    assert ((rows * (1 - swapped)).sum(-1) == round(fraction * modules)).all()
    # and in one module of several active units their number stays
    rows = am.sparse_patterns(7, 2 * size, size, generator=_generator(seed))
    swapped = Swap(fraction)(rows, generator=_generator(seed + 1))
    assert (swapped.sum(-1) == size).all()
    assert ((rows * (1 - swapped)).sum(-1) == round(fraction * size)).all()


def test_a_swap_favours_no_unit() -> None:
    rows = torch.zeros(6000, 8)
    rows[:, [0, 4]] = 1
    swapped = Swap(0.5, 2)(rows, generator=_generator())
    used = swapped.mean(0)
    # half of the rows move in each module; 4.4 standard errors of a share of 6000 rows
    torch.testing.assert_close(used, torch.tensor([1 / 2, 1 / 6, 1 / 6, 1 / 6] * 2), atol=4.4 * (0.25 / 6000) ** 0.5, rtol=0)


def test_what_cannot_be_swapped_is_refused() -> None:
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        Swap(1.5)
    with pytest.raises(ValueError, match="modules must be a whole number"):
        Swap(0.5, 0)
    with pytest.raises(ValueError, match="must hold only 0 and 1"):
        Swap(0.5)(-torch.ones(1, 4), generator=_generator())
    with pytest.raises(ValueError, match="4 units do not make 3 equal modules"):
        Swap(0.5, 3)(torch.zeros(1, 4), generator=_generator())
    with pytest.raises(ValueError, match="fewer silent units"):
        Swap(1.0)(torch.tensor([[1.0, 1, 1, 0]]), generator=_generator())
    with pytest.raises(ValueError, match="5 of 4 units cannot be active"):
        am.sparse_patterns(1, 4, 5, generator=_generator())


def test_cut_modules_leaves_only_weights_between_modules() -> None:
    cut = cut_modules_(torch.ones(6, 6), 2)
    expected = torch.ones(6, 6) - torch.block_diag(*3 * [torch.ones(2, 2)])
    assert torch.equal(cut, expected)
    assert torch.equal(cut_modules_(torch.ones(3, 3)), 1 - torch.eye(3))


RULES: dict[str, Rule[Any]] = {
    "hebb": Modular(Hebb(), 16),
    "given means": Modular(covariance(1.0, 1 / 8, 1 / 8), 16),
    "covariance": Modular(Covariance(), 16),
    "presynaptic covariance": Modular(PresynapticCovariance(), 16),
    "willshaw": Modular(Willshaw(), 16),
    "bcpnn": Modular(Bcpnn(floor=None), 16),
    "bayesian optimal": BayesianOptimal(modules=16),
    "storkey, on signs": Modular(Storkey(), 16),
    "delta": Modular(Delta(), 16),
}


@pytest.mark.parametrize("name", RULES)
def test_any_rule_serves_a_network_in_modules(name: str) -> None:
    rule = RULES[name]
    patterns = am.modular_patterns(12, 16, 8, generator=_generator(), dtype=torch.float64)
    stored = 2 * patterns - 1 if "signs" in name else patterns
    memory = am.PairwiseMemory(128, rule, Winners(1, 16), steps=15)
    memory.write(stored)
    assert torch.equal(cut_modules_(memory.matrix.clone(), 8), memory.matrix)
    cue = Swap(1 / 8, 16)(patterns, generator=_generator(1))
    assert torch.equal(memory.recall(cue).state, patterns)
    assert rule.local


def test_inside_a_module_weights_would_only_say_stay() -> None:
    patterns = am.modular_patterns(200, 16, 8, generator=_generator(), dtype=torch.float64)
    for rule in (Bcpnn(), Covariance(), PresynapticCovariance()):
        inside = rule.learn(rule.begin(128, 128, patterns), patterns, patterns).matrix.view(16, 8, 16, 8).diagonal(dim1=0, dim2=2)
        # every active unit pulls down all others of its module, and none of them itself
        assert (inside[~torch.eye(8, dtype=torch.bool)] < 0).all()
        assert (inside[torch.eye(8, dtype=torch.bool)] == 0).all()


@pytest.mark.parametrize("rule", [Storkey(), Delta(epochs=1)])
def test_a_rule_that_reads_fields_is_not_online_in_modules_so_its_memory_learns_anew(rule: Rule[Any]) -> None:
    assert rule.online
    assert not Modular(rule, 4).online
    rows = am.random_patterns(9, 16, generator=_generator(), dtype=torch.float64)
    whole, pieces = (am.PairwiseMemory(16, Modular(rule, 4)) for _ in range(2))
    whole.write(rows)
    for piece in rows.split([2, 4, 3]):
        pieces.write(piece)
    torch.testing.assert_close(whole.matrix, pieces.matrix)


def test_with_unlimited_patterns_estimated_means_are_given_ones() -> None:
    patterns = am.modular_patterns(20_000, 4, 5, generator=_generator(), dtype=torch.float64)
    given, found = covariance(1 / len(patterns), 0.2, 0.2, False), Covariance()
    matrices = [
        given.learn(given.begin(20, 20, patterns), patterns, patterns),
        found.learn(found.begin(20, 20, patterns), patterns, patterns)[0],
    ]
    # they differ by the product of two errors of the means, each of standard deviation sqrt(.16/20,000)
    assert float((matrices[0] - matrices[1]).abs().max()) < 20 * 0.16 / 20_000


def test_one_winner_by_the_largest_is_one_winner_by_order() -> None:
    x = torch.randint(3, (50, 24), generator=_generator()).double()
    places = x.view(50, 6, 4).argsort(dim=-1, descending=True, stable=True)[..., :1]
    assert torch.equal(Winners(1, 6)(x), torch.zeros(50, 6, 4).double().scatter(-1, places, 1.0).flatten(1))


def test_a_bayesian_memory_moved_to_a_precision_that_cannot_count_stays_finite() -> None:
    memory = am.bayesian_optimal(64, active=8)
    memory.write(am.modular_patterns(3000, 8, 8, generator=_generator()))
    memory.half()
    memory.write(am.modular_patterns(10, 8, 8, generator=_generator(1), dtype=torch.float16))
    assert torch.isfinite(memory.matrix).all()
    assert memory.bias is not None
    assert torch.isfinite(memory.bias).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("make", [lambda: am.modular_bcpnn(64), lambda: am.bayesian_optimal(64, active=8)])
def test_bayesian_memories_recall_in_every_precision(make, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    patterns: Tensor = am.modular_patterns(10, 8, 8, generator=_generator(), dtype=dtype)
    memory = make()
    memory.write(patterns)
    cue = Swap(1 / 8, 8)(patterns, generator=_generator(1))
    assert memory.matrix.dtype == dtype
    assert torch.equal(memory.recall(cue).state, patterns)
