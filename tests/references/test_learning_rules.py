"""Learning rules and the sweep over pairwise weights against plain loops in float64, written from the formulas."""

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ammon.dynamics.sweep import sweep
from ammon.energies.pairwise_flips import PairwiseFlips
from ammon.learning import field, pseudo_inverse
from ammon.learning.bayes import BayesianOptimal, Bcpnn, Willshaw
from ammon.learning.covariance import Covariance, PresynapticCovariance
from ammon.learning.field import Delta, Perceptron, Storkey, diederich_opper_1, diederich_opper_2
from ammon.learning.local import LocalRule, SlidingThreshold
from ammon.learning.pseudo_inverse import PseudoInverse, RecursivePseudoInverse
from ammon.learning.sanger import Sanger
from ammon.parts.patterns import random_patterns


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _signs(rows: int, dim: int, seed: int = 0) -> Tensor:
    return random_patterns(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("start", [0.0, 0.3])
def test_the_local_rule_is_its_polynomial_pattern_by_pattern(start: float) -> None:
    x, y = _draw(7, 5), _draw(7, 4, seed=1)
    rule = LocalRule(c0=0.1, c0_w=-0.2, c_pre=0.3, c_post=-0.4, c2_pre=0.5, c2_post=-0.6, c2_post_w=-0.07, c_corr=0.8, c21=0.9)
    begun = start * _draw(4, 5, seed=2)
    plain = begun.clone()
    for p in range(7):
        old = plain.clone()
        for i in range(4):
            for j in range(5):
                w, xj, yi = old[i, j], x[p, j], y[p, i]
                plain[i, j] += 0.1 - 0.2 * w + 0.3 * xj - 0.4 * yi + 0.5 * xj**2 - 0.6 * yi**2 - 0.07 * w * yi**2
                plain[i, j] += 0.8 * yi * xj + 0.9 * yi**2 * xj
    torch.testing.assert_close(rule.learn(begun, y, x), plain)


def test_bcm_with_a_sliding_threshold_is_its_loop() -> None:
    x, y, rule = _draw(6, 5), _draw(6, 3, seed=1), SlidingThreshold(rate=0.1, drift=0.3, initial=0.5)
    weights, threshold = torch.zeros(3, 5, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    for p in range(6):
        weights += 0.1 * torch.outer(y[p] * (y[p] - threshold), x[p])
        threshold = 0.7 * threshold + 0.3 * y[p] ** 2
    learned = rule.learn(rule.begin(3, 5, x), y, x)
    torch.testing.assert_close(learned.matrix, weights)
    torch.testing.assert_close(learned.threshold, threshold)


def test_storkey_is_its_formula_with_every_sum_written_out() -> None:
    patterns, dim = _signs(4, 7), 7
    plain = torch.zeros(dim, dim, dtype=torch.float64)
    for x in patterns:
        old = plain.clone()

        def field(i: int, j: int, w: Tensor = old, x: Tensor = x) -> float:
            return sum(float(w[i, k] * x[k]) for k in range(dim) if k not in (i, j))

        for i in range(dim):
            for j in range(dim):
                if i != j:
                    plain[i, j] += (x[i] * x[j] - x[i] * field(j, i) - field(i, j) * x[j]) / dim
    rule = Storkey()
    learned = rule.learn(rule.begin(dim, dim, patterns), patterns, patterns)
    torch.testing.assert_close(learned, plain)
    assert torch.equal(learned, learned.mT)


def test_storkey_between_two_sets_of_units_is_its_formula() -> None:
    keys, values = _signs(4, 7), _signs(4, 3, seed=1)
    plain = torch.zeros(3, 7, dtype=torch.float64)
    for x, y in zip(keys, values, strict=True):
        old = plain.clone()
        for i in range(3):
            for j in range(7):
                ahead = sum(float(old[i, k] * x[k]) for k in range(7) if k != j)
                back = sum(float(old[k, j] * y[k]) for k in range(3) if k != i)
                plain[i, j] += (y[i] * x[j] - y[i] * back - ahead * x[j]) / 7
    rule = Storkey()
    torch.testing.assert_close(rule.learn(rule.begin(3, 7, keys), values, keys), plain)


@pytest.mark.parametrize("self_connections", [True, False])
def test_the_delta_rule_is_its_loop(self_connections: bool) -> None:
    x, rule = _draw(5, 8), Delta(rate=0.7, epochs=6, tolerance=1e-12, self_connections=self_connections)
    plain = torch.zeros(8, 8, dtype=torch.float64)
    for _ in range(6):
        for row in x:
            field = [sum(float(plain[i, k] * row[k]) for k in range(8) if self_connections or k != i) for i in range(8)]
            for i in range(8):
                for j in range(8):
                    if self_connections or i != j:
                        plain[i, j] += 0.7 * (row[i] - field[i]) * row[j] / float(row @ row)
    learned = rule.learn(rule.begin(8, 8, x), x, x)
    torch.testing.assert_close(learned.matrix, plain)
    assert learned.fit.epochs == 6
    torch.testing.assert_close(learned.fit.residual, float((x - x @ plain.mT).abs().max()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_the_perceptron_is_its_loop_and_its_weights_are_whole_numbers(margin: float) -> None:
    x, y = _signs(9, 14), _signs(9, 3, seed=1)
    plain, epochs = torch.zeros(3, 14, dtype=torch.float64), 0
    for epochs in range(1, 51):  # noqa: B007
        for p in range(9):
            field = plain @ x[p]
            for i in range(3):
                stability = float(y[p, i] * field[i])
                if stability <= 0 or stability < margin * 14:
                    plain[i] += y[p, i] * x[p]
        fields = y * (x @ plain.mT)
        if ((fields > 0) & (fields >= margin * 14)).all():
            break
    rule = Perceptron(margin=margin, epochs=50)
    learned = rule.learn(rule.begin(3, 14, x), y, x)
    assert torch.equal(learned.matrix, plain)
    assert learned.fit.epochs == epochs < 50
    assert learned.fit.converged
    assert learned.fit.residual == 0


def test_diederich_and_opper_are_their_loops() -> None:
    x, dim = _signs(5, 12), 12
    first, second = torch.zeros(dim, dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)
    for _ in range(40):
        for row in x:
            short = row * (first @ row) < 1 - 1e-12
            first += (short * row).outer(row) / dim
            second += ((1 - row * (second @ row)) * row).outer(row) / dim
            first.fill_diagonal_(0)
            second.fill_diagonal_(0)
    one, two = diederich_opper_1(40), diederich_opper_2(40, tolerance=1e-13)
    learned = one.learn(one.begin(dim, dim, x), x, x)
    torch.testing.assert_close(learned.matrix / dim, first)
    assert learned.fit.converged
    torch.testing.assert_close(two.learn(two.begin(dim, dim, x), x, x).matrix, second)


@pytest.mark.parametrize(("patterns", "dim", "values"), [(4, 9, 3), (9, 9, 5), (1, 3, 1)])
def test_the_pseudo_inverse_is_that_of_numpy_at_once_and_one_by_one(patterns: int, dim: int, values: int) -> None:
    x, y = _draw(patterns, dim), _draw(patterns, values, seed=1)
    hetero, auto = y.mT @ torch.linalg.pinv(x).mT, x.mT @ torch.linalg.pinv(x).mT
    for rule in (PseudoInverse(), RecursivePseudoInverse()):
        torch.testing.assert_close(rule.learn(rule.begin(values, dim, x), y, x).matrix, hetero, rtol=1e-8, atol=1e-8)
        found = rule.learn(rule.begin(dim, dim, x), x, x).matrix
        torch.testing.assert_close(found, auto, rtol=1e-8, atol=1e-8)
        assert torch.equal(found, found.mT)


def test_dependent_patterns_get_the_least_squares_answer_of_least_norm_with_a_warning() -> None:
    x, y = _draw(6, 9), _draw(8, 3, seed=1)
    x = torch.cat([x[:3], x[:1] - 2 * x[1:2], x[3:], x[2:3]])
    truth = y.mT @ torch.linalg.pinv(x, rtol=1e-10).mT
    for rule in (PseudoInverse(), RecursivePseudoInverse()):
        with pytest.warns(UserWarning, match="2 of 8 patterns depend linearly on others"):
            found = rule.learn(rule.begin(3, 9, x), y, x)
        torch.testing.assert_close(found.matrix, truth, rtol=1e-8, atol=1e-8)
        with pytest.warns(UserWarning, match="2 of 8"):
            found = rule.learn(rule.begin(9, 9, x), x, x)
        torch.testing.assert_close(x @ found.matrix.mT, x)


def test_sanger_is_its_loop() -> None:
    x, y, weights = _draw(5, 6), _draw(5, 3, seed=1), _draw(3, 6, seed=2)
    plain = weights.clone()
    for p in range(5):
        old = plain.clone()
        for i in range(3):
            for j in range(6):
                plain[i, j] += 0.1 * (y[p, i] * x[p, j] - y[p, i] * sum(float(y[p, k] * old[k, j]) for k in range(i + 1)))
    torch.testing.assert_close(Sanger(0.1).learn(weights, y, x), plain)


def test_willshaw_is_its_loop() -> None:
    x, y = (_draw(6, 12) > 1).double(), (_draw(6, 5, seed=1) > 0.8).double()
    plain = torch.zeros(5, 12, dtype=torch.float64)
    for p in range(6):
        plain = torch.maximum(plain, torch.outer(y[p], x[p]))
    assert 0 < plain.sum() < 60
    assert torch.equal(Willshaw().learn(torch.zeros_like(plain), y, x), plain)


@pytest.mark.parametrize("horizon", [None, 1, 4.5])
def test_bcpnn_is_its_loop(horizon: float | None) -> None:
    x, y, floor = _draw(7, 6, seed=2).sigmoid(), (_draw(7, 3) > 0).double(), 0.05
    p_i, p_j, p_ij = torch.zeros(3).double(), torch.zeros(6).double(), torch.zeros(3, 6).double()
    for p in range(7):
        share = 1 / (p + 1) if horizon is None else 1 / horizon
        p_i, p_j = p_i + share * (y[p] - p_i), p_j + share * (x[p] - p_j)
        p_ij = p_ij + share * (torch.outer(y[p], x[p]) - p_ij)
    rule = Bcpnn(horizon, floor)
    learned = rule.learn(rule.begin(3, 6, x), y, x)
    for i in range(3):
        q_i = floor + (1 - floor) * float(p_i[i])
        assert float(learned.bias[i]) == pytest.approx(math.log(q_i))
        for j in range(6):
            q_j, q_ij = floor + (1 - floor) * float(p_j[j]), floor**2 + (1 - floor**2) * float(p_ij[i, j])
            assert float(learned.matrix[i, j]) == pytest.approx(math.log(q_ij / (q_i * q_j)))


def test_bcpnn_without_a_floor_of_its_own_takes_one_over_the_number_seen() -> None:
    x = (_draw(7, 6) > 0.5).double()
    rule, given = Bcpnn(floor=None), Bcpnn(floor=1 / 8)
    torch.testing.assert_close(rule.learn(rule.begin(6, 6, x), x, x).matrix, given.learn(given.begin(6, 6, x), x, x).matrix)
    fading, last = Bcpnn(horizon=3.0, floor=None), Bcpnn(horizon=3.0, floor=1 / 4)
    torch.testing.assert_close(fading.learn(fading.begin(6, 6, x), x, x).matrix, last.learn(last.begin(6, 6, x), x, x).matrix)


def test_covariance_rules_are_the_covariance_of_numpy_and_the_change_of_odds() -> None:
    x, y = (_draw(9, 6) > 0.3).double(), (_draw(9, 4, seed=1) > 0).double()
    x[:, 5] = 0
    found = Covariance()
    found_matrix = found.learn(found.begin(4, 6, x), y, x).matrix
    torch.testing.assert_close(found_matrix, torch.cov(torch.cat([y, x], 1).mT, correction=0)[:4, 4:])
    rule = PresynapticCovariance()
    matrix = rule.learn(rule.begin(4, 6, x), y, x).matrix
    for j in range(5):
        given = y[x[:, j] > 0].mean(0)
        torch.testing.assert_close(matrix[:, j], given - y.mean(0))
    assert not matrix[:, 5].any()


@pytest.mark.parametrize(("miss", "add"), [(0.0, 0.0), (0.2, 0.05)])
@pytest.mark.parametrize("modules", [None, 3])
def test_the_bayesian_field_is_the_log_odds_that_naive_bayes_counts(miss: float, add: float, modules: int | None) -> None:
    x, prior = (_draw(12, 6) > 0.4).double(), 0.3
    rule = BayesianOptimal(miss, add, prior, modules)
    learned = rule.learn(rule.begin(6, 6, x), x, x)
    cue = (_draw(5, 6, seed=1) > 0).double()
    size = 6 // modules if modules else 1
    for row, fields in zip(cue, cue @ learned.matrix.mT + learned.bias, strict=True):
        for i in range(6):
            ones, zeros = x[:, i] == 1, x[:, i] == 0
            odds = math.log((prior + float(ones.sum())) / (prior + float(zeros.sum())))
            for j in range(6):
                if i // size == j // size:
                    continue
                shown = []
                for those in (ones, zeros):
                    on, off = prior + float((x[those, j] == 1).sum()), prior + float((x[those, j] == 0).sum())
                    chance = (on * (1 - miss) + off * add) / (on + off)
                    shown.append(chance if row[j] == 1 else 1 - chance)
                odds += math.log(shown[0] / shown[1])
            assert float(fields[i]) == pytest.approx(odds)


@pytest.mark.parametrize("block", [1, 4, 64])
@pytest.mark.parametrize("auto", [True, False])
def test_learning_in_blocks_is_learning_one_by_one(block: int, auto: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field, "BLOCK", block)
    x, dim = _signs(70, 30), 30
    y, post = (x, 30) if auto else (_signs(70, 20, seed=1), 20)
    storkey = torch.zeros(post, dim, dtype=torch.float64)
    delta, perceptron = storkey.clone(), storkey.clone()
    for target, row in zip(y, x, strict=True):
        ahead = row * ((storkey @ row).unsqueeze(-1) - storkey * row)
        back = target.unsqueeze(-1) * (target @ storkey - storkey * target.unsqueeze(-1))
        storkey = storkey + (torch.outer(target, row) - ahead - back) / dim
        if auto:
            storkey.fill_diagonal_(0)
    for _ in range(2):
        for target, row in zip(y, x, strict=True):
            delta += 0.8 * torch.outer(target - delta @ row, row) / dim
            perceptron += torch.outer(target * (target * (perceptron @ row) < 0.5 * dim), row)
            if auto:
                perceptron.fill_diagonal_(0)
    rules = {Storkey(): storkey, Delta(0.8, 2, 1e-9): delta, Perceptron(0.5, 2): perceptron}
    for rule, plain in rules.items():
        begun = rule.begin(post, dim, x)
        found = rule.learn(begun, y, x)  # type: ignore[arg-type]
        matrix = found if isinstance(found, Tensor) else found.matrix
        torch.testing.assert_close(matrix, plain, rtol=1e-9, atol=1e-9)
        if not auto:
            continue
        # symmetric to the last bit; and no pattern at all is no change
        assert not isinstance(rule, Storkey) or torch.equal(matrix, matrix.mT)
        none = rule.learn(found, x[:0], x[:0])  # type: ignore[arg-type]
        assert torch.equal(none if isinstance(none, Tensor) else none.matrix, matrix)


@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("copies", [0, 3])
def test_the_recursive_pseudo_inverse_takes_blocks_in_as_it_takes_one_by_one(
    auto: bool, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = _draw(40, 50)
    # copies make the second block one that must be gone through one by one
    x = torch.cat([x[:20], 2 * x[:copies], x[20:]])
    y, rule, states = (x if auto else _draw(len(x), 4, seed=1)), RecursivePseudoInverse(), []
    for block in (1, 16):
        monkeypatch.setattr(pseudo_inverse, "BLOCK", block)
        with pytest.warns(UserWarning, match=f"{copies} of") if copies else contextlib.nullcontext():
            states.append(rule.learn(rule.begin(y.shape[1], 50, x), y, x))
    for one, many in zip(*states, strict=True):
        torch.testing.assert_close(many, one, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(states[1].inverse, torch.linalg.pinv(x.mT @ x, hermitian=True, rtol=1e-10), rtol=1e-6, atol=1e-9)


def plain_sweep(weights: Tensor, bias: Tensor, state: Tensor, order: Tensor, free: Tensor) -> Tensor:
    state = state.clone()
    for unit in order.tolist():
        for item in range(len(state)):
            others = sum(float(weights[unit, k] * state[item, k]) for k in range(len(weights)) if k != unit)
            if free[item, unit]:
                state[item, unit] = 1.0 if others + float(bias[unit]) >= 0 else -1.0
    return state


@given(seed=st.integers(0, 10**6), dim=st.integers(1, 12), batch=st.integers(1, 5), whole=st.booleans(), symmetric=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_sweep_over_pairwise_weights_visits_the_states_of_the_plain_one(
    seed: int, dim: int, batch: int, whole: bool, symmetric: bool
) -> None:
    weights, bias = _draw(dim, dim, seed=seed), _draw(dim, seed=seed + 1)
    if whole:
        # whole numbers tie often, and the tie must be broken to +1
        weights, bias = weights.round(), bias.round()
    if symmetric:
        weights = weights + weights.mT
    generator = torch.Generator().manual_seed(seed)
    state = random_patterns(batch, dim, generator=generator, dtype=torch.float64)
    free, order = torch.rand(batch, dim, generator=generator) < 0.8, torch.randperm(dim, generator=generator)
    flips = PairwiseFlips(weights, bias)
    assert torch.equal(sweep(flips, state, order, free), plain_sweep(weights, bias, state, order, free))
    everyone = torch.ones_like(free)
    assert torch.equal(sweep(flips, state), plain_sweep(weights, bias, state, torch.arange(dim), everyone))
