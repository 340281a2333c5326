"""Kernel memories against plain loops, refits and themselves saved; and what they refuse."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ammon as am
from ammon.dynamics import sweep as sweeping
from ammon.dynamics.sweep import sweep
from ammon.learning.kernel import Dual, DualRule, dependent
from ammon.learning.kernel_logistic import Logistic
from ammon.learning.kernel_ridge import Ridge
from ammon.memories.kernel import KernelFields, KernelMemory
from ammon.parts.corruption import Flip
from ammon.parts.kernels import ExponentialKernel, GaussianKernel, Kernel, PolynomialKernel, gram
from ammon.parts.similarity import Dot, Manhattan

RULES: list[Callable[..., DualRule]] = [Ridge, Logistic]


def _patterns(count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return am.random_patterns(count, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _memory(dim: int, rule: DualRule | None = None, gamma: float = 0.05, **settings: object) -> KernelMemory:
    return KernelMemory(dim, GaussianKernel(gamma), rule or Logistic(tolerance=1e-10), **settings)  # type: ignore[arg-type]


# recall and learning on


@pytest.mark.parametrize("rule", [lambda: Ridge(), lambda: Logistic(tolerance=1e-11)], ids=["ridge", "logistic"])
@pytest.mark.parametrize("hetero", [False, True])
def test_appended_and_forgotten_is_refitted(rule: Callable[[], DualRule], hetero: bool) -> None:
    patterns, values = _patterns(60, 20), _patterns(60, 7, seed=1) if hetero else None
    grown, fresh = _memory(20, rule()), _memory(20, rule())
    for part in torch.arange(60).split([30, 1, 9, 20]):
        grown.write(patterns[part], None if values is None else values[part])
    gone = [3, 59, 31, 3]
    grown.forget(gone)
    kept = [k for k in range(60) if k not in gone]
    fresh.write(patterns[kept], None if values is None else values[kept])
    assert len(grown) == len(fresh) == 57
    assert torch.equal(grown.keys.rows, fresh.keys.rows)
    torch.testing.assert_close(grown.dual, fresh.dual, rtol=1e-7, atol=1e-7)
    assert grown.fit is not None
    assert grown.fit.converged


def test_an_appended_pattern_costs_few_iterations_and_no_factorisation(monkeypatch: pytest.MonkeyPatch) -> None:
    factored: list[int] = []
    plain = torch.linalg.cholesky_ex

    def counted(matrix: Tensor) -> object:
        factored.append(len(matrix))
        return plain(matrix)

    patterns, memory = _patterns(200, 50), _memory(50, Logistic())
    memory.write(patterns[:199])
    monkeypatch.setattr(torch.linalg, "cholesky_ex", counted)
    memory.write(patterns[199:])
    memory.forget([0])
    assert factored == [1]
    assert memory.fit is not None
    assert memory.fit.iterations <= 8


def test_forgetting_everything_leaves_an_empty_memory_that_learns_again() -> None:
    patterns, memory = _patterns(6, 20), _memory(20)
    memory.write(patterns, patterns[:, :5])
    memory.forget(torch.arange(6))
    assert len(memory) == 0
    assert memory.fit is None
    with pytest.raises(ValueError, match="the memory is empty"):
        memory.recall(patterns)
    memory.write(patterns)
    assert torch.equal(memory.recall(patterns).state, patterns)


def _plain_sweep(memory: KernelMemory, kernel: Kernel, state: Tensor, order: Tensor) -> Tensor:
    """Each unit in turn, its field by the whole kernel; sign(0) = +1."""
    state = state.clone()
    for unit in order.tolist():
        field = kernel(state, memory.keys.rows) @ memory.dual[:, unit]
        state[:, unit] = torch.where(field >= 0, 1.0, -1.0).to(state)
    return state


@pytest.mark.parametrize(
    "kernel",
    [GaussianKernel(0.08), ExponentialKernel(0.1), PolynomialKernel(3, unit=5.0), PolynomialKernel(2, offset=0.0, unit=9.0)],
    ids=str,
)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 30),
    dim=st.integers(2, 30),
    room=st.sampled_from([1, 300, 2**18]),
    block=st.sampled_from([1, 3, 64]),
)
@settings(max_examples=25, deadline=None)
def test_event_driven_recall_visits_the_states_of_the_plain_loop(
    kernel: Kernel, seed: int, count: int, dim: int, room: int, block: int
) -> None:
    patterns = torch.unique(_patterns(count, dim, seed), dim=0)
    memory = KernelMemory(dim, kernel, Ridge(0.037), "asynchronous")
    matrix = gram(kernel, patterns)
    if dependent(matrix, kernel.strict):
        return
    memory.write(patterns)
    # nothing may hang on rounding: coefficients in general position
    memory.dual += 0.01 * torch.randn(memory.dual.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    state, order = _patterns(5, dim, seed + 1), torch.randperm(dim, generator=torch.Generator().manual_seed(seed))
    kept = sweeping.ROOM, sweeping.BLOCKS
    sweeping.ROOM, sweeping.BLOCKS = room, (block, block)
    try:
        fast, plain = state, state
        for _ in range(3):
            fast = sweep(KernelFields(patterns, memory.dual, kernel), fast, order)
            plain = _plain_sweep(memory, kernel, plain, order)
            assert torch.equal(fast, plain)
    finally:
        sweeping.ROOM, sweeping.BLOCKS = kept
    recalled = memory.recall(state, steps=1, generator=torch.Generator().manual_seed(seed)).state
    assert torch.equal(recalled, _plain_sweep(memory, kernel, state, torch.randperm(dim, generator=torch.Generator().manual_seed(seed))))


def test_synchronous_recall_is_the_sign_of_the_field() -> None:
    patterns, cue = _patterns(20, 15), _patterns(9, 15, seed=1)
    memory = _memory(15)
    memory.write(patterns)
    field = torch.exp(-0.05 * (cue.unsqueeze(1) - patterns).square().sum(-1)) @ memory.dual
    assert torch.equal(memory.recall(cue, steps=1).state, torch.where(field >= 0, 1.0, -1.0).double())
    torch.testing.assert_close(memory.weights(cue) @ memory.dual, field)


@pytest.mark.parametrize("update", ["synchronous", "asynchronous"])
def test_a_unit_without_a_field_becomes_plus_1(update: str) -> None:
    memory = _memory(4, Ridge(), update=update)
    memory.write(torch.ones(1, 4))
    memory.dual.zero_()
    assert torch.equal(memory.recall(-torch.ones(2, 4), steps=1).state, torch.ones(2, 4))


@pytest.mark.parametrize("update", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_recalls_what_float64_recalls(update: str, dtype: torch.dtype) -> None:
    patterns = _patterns(60, 50)
    cue = Flip(0.2)(patterns, generator=torch.Generator().manual_seed(1))
    exact, ours = _memory(50, Logistic(), 0.1, update=update), _memory(50, Logistic(), 0.1, update=update)
    exact.write(patterns)
    ours.write(patterns.to(dtype))
    recall = ours.recall(cue.to(dtype))
    assert recall.state.dtype == dtype
    assert torch.equal(recall.state.double(), exact.recall(cue).state)
    assert torch.equal(exact.recall(cue).state, patterns)


def test_a_cue_far_from_everything_in_float32_is_answered_as_in_float64() -> None:
    patterns = _patterns(8, 2000, dtype=torch.float32)
    single, double = _memory(2000, Ridge(), 0.1), _memory(2000, Ridge(), 0.1)
    single.write(patterns)
    double.write(patterns.double())
    cue = Flip(0.4)(patterns, generator=torch.Generator().manual_seed(1))
    assert float(single.weights(cue).max()) == 0
    assert torch.equal(single.recall(cue).state.double(), double.recall(cue.double()).state)
    assert torch.equal(single.recall(cue).state, patterns)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("update", ["synchronous", "asynchronous"])
def test_a_row_is_answered_as_if_it_were_alone(rule: Callable[[], DualRule], update: str) -> None:
    memory, cue = _memory(30, rule(), update=update), _patterns(9, 30, seed=1)
    memory.write(_patterns(40, 30))
    whole = memory.recall(cue, generator=torch.Generator().manual_seed(0))
    for row in range(9):
        alone = memory.recall(cue[row : row + 1], generator=torch.Generator().manual_seed(0))
        assert torch.equal(alone.state[0], whole.state[row])
        assert alone.steps[0] == whole.steps[row]


@pytest.mark.parametrize("update", ["synchronous", "asynchronous"])
def test_known_entries_stay(update: str) -> None:
    patterns = _patterns(20, 30)
    memory = _memory(30, update=update)
    memory.write(patterns)
    clamp = torch.zeros(20, 30, dtype=torch.bool)
    clamp[:, :10] = True
    cue = torch.where(clamp, patterns, _patterns(20, 30, seed=1))
    recall = memory.recall(cue, clamp=clamp)
    assert torch.equal(recall.state[clamp], cue[clamp])
    wrong = -cue[:1]
    assert torch.equal(memory.recall(wrong, clamp=clamp[:1]).state[:, :10], wrong[:, :10])


@pytest.mark.parametrize("rule", RULES)
def test_auto_association_is_hetero_association_of_a_pattern_with_itself(rule: Callable[[], DualRule]) -> None:
    patterns, cue = _patterns(40, 20), _patterns(9, 20, seed=1)
    auto, hetero = _memory(20, rule()), _memory(20, rule())
    auto.write(patterns)
    hetero.write(patterns, patterns)
    for steps in (1, 2, 5):
        assert torch.equal(auto.recall(cue, steps=steps).state, hetero.recall(cue, steps=steps).state)


@pytest.mark.parametrize("rule", RULES)
def test_values_are_read_from_corrupted_and_from_real_keys(rule: Callable[[], DualRule]) -> None:
    keys, values = _patterns(80, 40), _patterns(80, 9, seed=1)
    memory = _memory(40, rule(), 0.1)
    memory.write(keys, values)
    assert torch.equal(memory.recall(Flip(0.1)(keys, generator=torch.Generator().manual_seed(2))).state, values)
    real = torch.randn(80, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    memory = _memory(40, rule(), 0.1)
    memory.write(real, values)
    recall = memory.recall(real + 0.1)
    assert torch.equal(recall.state, values)
    assert recall.steps.tolist() == [1] * 80


@pytest.mark.parametrize("rule", RULES)
def test_a_sequence_is_walked_from_a_noisy_start(rule: Callable[[], DualRule]) -> None:
    sequence = _patterns(60, 40)
    memory = _memory(40, rule(), 0.1)
    memory.write(sequence[:-1], sequence[1:])
    start = Flip(0.1)(sequence[:1], generator=torch.Generator().manual_seed(1))
    walk = memory.recall(start, steps=59, keep=True).trajectory
    assert walk is not None
    assert torch.equal(walk[1:, 0], sequence[1:])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("hetero", [False, True])
def test_saved_and_loaded_it_is_the_same_memory_and_learns_on(rule: Callable[[], DualRule], hetero: bool, tmp_path: Path) -> None:
    patterns, memory = _patterns(30, 12), _memory(12, rule())
    memory.write(patterns[:20], patterns[:20, :5] if hetero else None)
    am.save(memory, tmp_path / "memory")
    loaded = am.load(tmp_path / "memory")
    assert isinstance(loaded, KernelMemory)
    assert repr(loaded) == repr(memory)
    assert loaded.fit == memory.fit
    assert torch.equal(loaded.dual, memory.dual)
    cue = _patterns(9, 12, seed=1)
    assert torch.equal(loaded.recall(cue).state, memory.recall(cue).state)
    for both in (loaded, memory):
        both.write(patterns[20:], patterns[20:, :5] if hetero else None)
        both.forget([2])
    torch.testing.assert_close(loaded.dual, memory.dual, rtol=1e-3, atol=1e-3)
    am.save(_memory(12, rule()), tmp_path / "empty")
    assert am.load(tmp_path / "empty").fit is None  # type: ignore[union-attr]


def test_a_memory_moved_to_another_dtype_fits_anew_in_it() -> None:
    patterns, memory = _patterns(30, 12), _memory(12, Logistic())
    memory.write(patterns[:20])
    memory.float()
    memory.write(patterns[20:])
    assert memory.dual.dtype == torch.float32
    assert torch.equal(memory.recall(patterns.float()).state, patterns.float())


# bad input


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("again", [False, True], ids=["at once", "written again"])
def test_equal_patterns_are_said_to_be_and_share_their_coefficients(rule: Callable[..., DualRule], again: bool) -> None:
    patterns = _patterns(10, 20)
    memory, once = _memory(20, rule(tolerance=1e-9)), _memory(20, rule(tolerance=1e-9))
    if again:
        memory.write(patterns)
    with pytest.warns(UserWarning, match=r"KernelMemory\.write: 2 of the 12 patterns are equal to others"):
        memory.write(patterns[:2] if again else torch.cat([patterns, patterns[:2]]))
    torch.testing.assert_close(memory.dual[10:], memory.dual[:2], rtol=1e-6, atol=1e-6)
    once.write(patterns)
    assert torch.equal(memory.recall(patterns).state, once.recall(patterns).state)
    assert memory.fit is not None
    assert memory.fit.converged
    # once the doubles are forgotten, nothing of them is left
    memory.forget([10, 11])
    torch.testing.assert_close(memory.dual, once.dual, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_patterns_that_a_kernel_cannot_keep_apart_give_the_least_norm_and_a_warning(rule: Callable[..., DualRule]) -> None:
    patterns = _patterns(12, 5)
    patterns = torch.unique(patterns, dim=0)
    memory = KernelMemory(5, Dot(), rule(tolerance=1e-9))
    with pytest.warns(UserWarning, match=f"{len(patterns) - 5} of the {len(patterns)} patterns are equal to others, or depend"):
        memory.write(patterns)
    # λα is the error, so that only the null space of K could be added to α without changing any answer
    field = patterns @ patterns.mT @ memory.dual
    error = patterns - field if rule is Ridge else (patterns + 1) / 2 - torch.sigmoid(field)
    torch.testing.assert_close(0.01 * memory.dual, error, rtol=0, atol=1e-8)


def test_a_fit_that_stopped_early_warns() -> None:
    memory = _memory(20, Logistic(tolerance=1e-12, iterations=2))
    with pytest.warns(UserWarning, match=r"KernelMemory\.write: the fit stopped at a residual of .* after 2 iterations"):
        memory.write(_patterns(40, 20))
    assert memory.fit is not None
    assert not memory.fit.converged


@pytest.mark.parametrize("penalty", [0.0, -0.01, float("nan"), float("inf")])
@pytest.mark.parametrize("rule", RULES)
def test_a_penalty_that_is_not_positive_is_refused(rule: Callable[[float], Dual], penalty: float) -> None:
    with pytest.raises(ValueError, match="penalty must be positive and finite"):
        rule(penalty)


def test_constructors_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="gamma must be positive"):
        _memory(4, gamma=0.0)
    with pytest.raises(ValueError, match="update must be"):
        _memory(4, update="at random")
    with pytest.raises(TypeError, match="Manhattan is no kernel"):
        KernelMemory(4, Manhattan(), Ridge())
    with pytest.raises(ValueError, match="dim must be a whole number"):
        _memory(0)
    with pytest.raises(ValueError, match="iterations must be"):
        Logistic(iterations=0)


def test_there_is_no_energy() -> None:
    memory = _memory(4)
    memory.write(torch.ones(1, 4))
    with pytest.raises(TypeError, match="descends no known energy"):
        memory.energy(torch.ones(1, 4))


def test_rows_of_the_wrong_range_and_impossible_places_are_refused_and_change_nothing() -> None:
    memory = _memory(4, Ridge(), update="asynchronous")
    with pytest.raises(ValueError, match=r"pattern must hold only -1 and \+1"):
        memory.write(torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"value must hold only -1 and \+1"):
        memory.write(torch.ones(1, 4), torch.zeros(1, 2))
    assert len(memory) == 0
    memory.write(torch.ones(1, 4))
    with pytest.raises(ValueError, match=r"cue must hold only -1 and \+1"):
        memory.recall(torch.zeros(1, 4))
    for places in ([1], [-1], [0, 5]):
        with pytest.raises(ValueError, match="holds patterns 0 to 0"):
            memory.forget(places)
    with pytest.raises(ValueError, match="must be a row of whole numbers"):
        memory.forget([0.5])  # type: ignore[list-item]
    memory.forget([])
    assert len(memory) == 1
    hetero = _memory(4)
    hetero.write(torch.ones(1, 4), torch.ones(1, 2))
    with pytest.raises(ValueError, match="read once; got steps=3"):
        hetero.recall(torch.ones(1, 4), steps=3)


def test_a_refused_write_leaves_the_memory_as_it_was() -> None:
    patterns = torch.ones(1, 200)
    memory = KernelMemory(200, ExponentialKernel(1.0), Ridge())
    with pytest.raises(ValueError, match="overflows"):
        memory.write(patterns)
    assert len(memory) == 0
    assert memory.fit is None
