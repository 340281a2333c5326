"""Laws of learning rules and of the memories made by them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ammon as am
from ammon.learning.base import Rule, tensors
from ammon.learning.bayes import BayesianOptimal, Bcpnn, Willshaw
from ammon.learning.covariance import Covariance, PresynapticCovariance
from ammon.learning.field import Delta, Perceptron, Storkey, diederich_opper_1, diederich_opper_2
from ammon.learning.hebb import Hebb
from ammon.learning.local import (
    LocalRule,
    SlidingThreshold,
    anti_hebb,
    bcm,
    covariance,
    hebb_with_decay,
    oja,
    postsynaptically_gated,
    presynaptically_gated,
)
from ammon.learning.modular import Modular
from ammon.learning.pseudo_inverse import PseudoInverse, RecursivePseudoInverse
from ammon.learning.sanger import Sanger
from ammon.parts.corruption import Flip
from ammon.parts.lagrangians import Identity, Sign, Winners


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _signs(rows: int, dim: int, seed: int = 0) -> Tensor:
    return am.random_patterns(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _one_hot(rows: int, groups: int, size: int, seed: int = 0) -> Tensor:
    """Patterns with one active unit in each group."""
    chosen = torch.randint(size, (rows, groups), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(chosen, size).flatten(1).double()


# each named rule as the formula that its name stands for
NAMED: dict[str, tuple[Rule[Any], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "hebb": (Hebb(0.3), lambda w, y, x: 0.3 * y * x),
    "hebb, forgetting": (Hebb(0.3, 0.1), lambda w, y, x: 0.3 * y * x - 0.1 * w),
    "hebb with decay": (hebb_with_decay(0.3, 0.1), lambda w, y, x: 0.3 * y * x - 0.1 * w),
    "presynaptically gated": (presynaptically_gated(0.3, 0.2), lambda w, y, x: 0.3 * (y - 0.2) * x),
    "postsynaptically gated": (postsynaptically_gated(0.3, 0.2), lambda w, y, x: 0.3 * y * (x - 0.2)),
    "covariance": (covariance(0.3, 0.2, 0.1), lambda w, y, x: 0.3 * (y - 0.2) * (x - 0.1)),
    "oja": (oja(0.3), lambda w, y, x: 0.3 * (y * x - y**2 * w)),
    "bcm": (bcm(0.3, 0.2), lambda w, y, x: 0.3 * y * (y - 0.2) * x),
    "anti-hebb": (anti_hebb(0.3), lambda w, y, x: -0.3 * y * x),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_rule_changes_weights_as_its_formula_says(name: str) -> None:
    rule, formula = NAMED[name]
    weights, y, x = _draw(4, 6), _draw(1, 4, seed=1), _draw(1, 6, seed=2)
    torch.testing.assert_close(rule.learn(weights, y, x) - weights, formula(weights, y.mT, x))
    assert rule.local


ONLINE: dict[str, Rule[Any]] = {
    **{name: rule for name, (rule, _) in NAMED.items()},
    "no self-connections": LocalRule(c0=0.2, c_corr=1.0, c2_post_w=-0.1, self_connections=False),
    "sliding threshold": SlidingThreshold(),
    "storkey": Storkey(),
    "delta, one epoch": Delta(epochs=1),
    "perceptron, one epoch": Perceptron(epochs=1),
    "recursive pseudo-inverse": RecursivePseudoInverse(),
    "sanger": Sanger(),
    "willshaw": Willshaw(),
    "bcpnn": Bcpnn(),
    "bcpnn, fading": Bcpnn(horizon=5.0),
    "bcpnn, a floor that sinks": Bcpnn(floor=None),
    "sparse: covariance": Covariance(),
    "sparse: covariance, fading": Covariance(horizon=5.0),
    "sparse: presynaptic covariance": PresynapticCovariance(),
    "sparse: bayesian optimal": BayesianOptimal(0.2, 0.1),
    "modular hebb": Modular(Hebb(0.3, 0.1), 3),
    "modular recursive pseudo-inverse": Modular(RecursivePseudoInverse(), 3),
    "sparse: modular bcpnn": Modular(Bcpnn(), 3),
    "sparse: modular willshaw": Modular(Willshaw(), 3),
    "sparse: modular bayesian optimal": BayesianOptimal(modules=3),
}


@pytest.mark.parametrize("hetero", [False, True])
@pytest.mark.parametrize("name", ONLINE)
def test_a_rule_that_is_online_learns_one_by_one_as_all_at_once(name: str, hetero: bool) -> None:
    rule = ONLINE[name]
    rows, values = _signs(6, 9), _signs(6, 4, seed=1)
    if name.startswith(("willshaw", "bcpnn", "sparse")):
        rows, values = (rows + 1) / 2, (values + 1) / 2
    begun = rule.begin(4 if hetero else 9, 9, rows)
    kept = {part: tensor.clone() for part, tensor in tensors(begun).items()}
    whole, single = rule.learn(begun, values if hetero else rows, rows), begun
    for x, y in zip(rows.split(1), values.split(1), strict=True):
        single = rule.learn(single, y if hetero else x, x)
    for part, tensor in tensors(whole).items():
        if part not in ("epochs", "converged", "residual"):
            torch.testing.assert_close(tensors(single)[part], tensor)
    # and what it began with is as it was
    assert all(torch.equal(kept[part], tensor) for part, tensor in tensors(begun).items())
    assert rule.online


def test_rules_that_must_see_all_patterns_say_so() -> None:
    assert not any(rule.online for rule in (Delta(), Perceptron(), diederich_opper_1(), diederich_opper_2(), PseudoInverse()))
    assert not any(rule.local for rule in (PseudoInverse(), RecursivePseudoInverse(), Sanger()))


def test_oja_turns_to_the_leading_eigenvector_at_length_1() -> None:
    samples = _draw(4000, 5) * torch.tensor([2.0, 1.0, 0.7, 0.5, 0.3])
    basis = torch.linalg.qr(_draw(5, 5, seed=1)).Q
    samples, weights, rule = samples @ basis.mT, 0.1 * _draw(1, 5, seed=2), oja(0.002)
    for x in samples.split(1):
        weights = rule.learn(weights, x @ weights.mT, x)
    assert abs(float(weights @ torch.linalg.eigh(samples.mT @ samples).eigenvectors[:, -1])) > 0.99
    assert float(weights.norm()) == pytest.approx(1, abs=0.02)


def test_sanger_turns_to_the_leading_eigenvectors_in_order() -> None:
    samples = _draw(6000, 5) * torch.tensor([2.0, 1.4, 0.8, 0.5, 0.3])
    samples, weights, rule = samples @ torch.linalg.qr(_draw(5, 5, seed=1)).Q.mT, 0.1 * _draw(2, 5, seed=2), Sanger(0.003)
    for x in samples.split(1):
        weights = rule.learn(weights, x @ weights.mT, x)
    leading = torch.linalg.eigh(samples.mT @ samples).eigenvectors[:, [-1, -2]]
    torch.testing.assert_close((weights @ leading).abs(), torch.eye(2, dtype=torch.float64), atol=0.08, rtol=0)


def test_bcm_selects_one_of_two_inputs() -> None:
    inputs = torch.tensor([[1.0, 0.2], [0.2, 1.0]], dtype=torch.float64)
    rule, generator, favourites = SlidingThreshold(rate=0.005, drift=0.03, initial=0.5), torch.Generator().manual_seed(0), set()
    for seed in range(6):
        state = rule.begin(1, 2, inputs)
        state = state._replace(matrix=0.3 + 0.05 * _draw(1, 2, seed=seed))
        for chosen in torch.randint(2, (4000,), generator=generator).tolist():
            x = inputs[chosen : chosen + 1]
            state = rule.learn(state, (x @ state.matrix.mT).clamp_min(0), x)
        answers = (inputs @ state.matrix.mT).squeeze(-1).clamp_min(0)
        # the fixed point: one input at the threshold, which is then <y²> = y²/2, so y = 2; the other at 0
        torch.testing.assert_close(answers.sort().values, torch.tensor([0.0, 2.0], dtype=torch.float64), atol=0.3, rtol=0)
        favourites.add(int(answers.argmax()))
    assert favourites == {0, 1}


@pytest.mark.parametrize("rule", [PseudoInverse(), PseudoInverse(False), RecursivePseudoInverse(), RecursivePseudoInverse(False)])
def test_the_pseudo_inverse_holds_one_pattern_less_than_units(rule: Rule[Any]) -> None:
    patterns = _signs(39, 40)
    assert torch.linalg.matrix_rank(patterns) == 39
    memory = am.PairwiseMemory(40, rule, Sign())
    memory.write(patterns)
    assert torch.equal(memory.recall(patterns).state, patterns)
    if rule.self_connections:  # type: ignore[attr-defined]
        torch.testing.assert_close(patterns @ memory.matrix.mT, patterns)


@pytest.mark.filterwarnings("ignore:.*depend linearly")
@pytest.mark.parametrize("rule", [PseudoInverse(), RecursivePseudoInverse()])
@pytest.mark.parametrize("patterns", [25, 40])
def test_patterns_that_fill_the_space_give_the_identity_and_recall_ends(rule: Rule[Any], patterns: int) -> None:
    memory = am.PairwiseMemory(25, rule, steps=200, update="asynchronous")
    memory.write(_signs(patterns, 25, seed=2))
    assert torch.equal(memory.matrix, torch.eye(25, dtype=torch.float64))
    assert memory.recall(_signs(6, 25, seed=3), generator=torch.Generator().manual_seed(2)).converged.all()


def test_adaline_converges_to_the_pseudo_inverse() -> None:
    keys, values = _signs(8, 30), _draw(8, 5, seed=1)
    memory, exact = am.PairwiseMemory(30, Delta(epochs=500, tolerance=1e-9)), am.PairwiseMemory(30, PseudoInverse())
    memory.write(keys, values)
    exact.write(keys, values)
    torch.testing.assert_close(memory.matrix, exact.matrix)
    assert memory.fit is not None
    assert memory.fit.converged
    assert memory.fit.residual <= 1e-9
    assert exact.fit is not None
    assert exact.fit.converged


def test_what_no_weights_can_store_ends_and_says_that_it_did_not_converge() -> None:
    # exclusive or, and a pattern with both values
    keys = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1], [1, 1]])
    values = torch.tensor([[-1.0, 1], [1, 1], [1, 1], [-1, 1], [-1, -1]])
    for rule in (Perceptron(0.0, epochs=30), Perceptron(1.0, epochs=30), Delta(epochs=30)):
        memory = am.PairwiseMemory(2, rule, Sign())
        assert memory.fit is None
        memory.write(keys, values)
        assert memory.fit is not None
        assert (memory.fit.epochs, memory.fit.converged) == (30, False)
        assert memory.fit.residual > 0
        assert torch.isfinite(memory.matrix).all()


def test_a_pattern_of_zeros_teaches_the_delta_rule_nothing() -> None:
    rule = Delta()
    learned = rule.learn(rule.begin(2, 3, torch.empty(0)), torch.ones(1, 2), torch.zeros(1, 3))
    assert torch.equal(learned.matrix, torch.zeros(2, 3))


SYMMETRIC: list[Rule[Any]] = [
    Hebb(),
    Hebb(self_connections=False),
    covariance(1.0, 0.1, 0.1),
    Storkey(),
    PseudoInverse(),
    RecursivePseudoInverse(False),
]


@pytest.mark.filterwarnings("ignore:.*depend linearly")
@pytest.mark.parametrize("rule", SYMMETRIC, ids=lambda rule: type(rule).__name__)
@given(seed=st.integers(0, 10**6), dim=st.integers(1, 25), patterns=st.integers(1, 25))
@settings(max_examples=15, deadline=None)
def test_energy_never_rises_along_asynchronous_recall_and_recall_ends(rule: Rule[Any], seed: int, dim: int, patterns: int) -> None:
    memory = am.PairwiseMemory(dim, rule, steps=200, update="asynchronous")
    memory.write(_signs(patterns, dim, seed))
    found = memory.recall(_signs(6, dim, seed + 1), keep=True, generator=torch.Generator().manual_seed(seed))
    assert found.converged.all()
    energies = torch.stack([memory.energy(state) for state in found.trajectory])
    slack = 1e-12 * memory.matrix.abs().sum()
    assert (energies[1:] <= energies[:-1] + slack).all()


def test_one_by_one_no_unit_votes_for_itself() -> None:
    patterns = _signs(6, 50)
    cue = Flip(0.3)(patterns, generator=torch.Generator().manual_seed(0))
    for pair in [(Hebb(), Hebb(self_connections=False)), (PseudoInverse(), PseudoInverse(False))]:
        states = []
        for rule in pair:
            memory = am.PairwiseMemory(50, rule, steps=50, update="asynchronous")
            memory.write(patterns)
            states.append(memory.recall(cue).state)
        assert torch.equal(*states)


def test_hebb_one_by_one_is_the_hopfield_network() -> None:
    patterns, cue = _signs(12, 40), _signs(20, 40, seed=1)
    hopfield, pairwise = am.hopfield(40), am.PairwiseMemory(40, Hebb(), steps=50, update="asynchronous")
    clamp = torch.rand(20, 40, generator=torch.Generator().manual_seed(0)) < 0.2
    for memory in (hopfield, pairwise):
        memory.write(patterns)
    for settling in ({}, {"clamp": clamp}):
        assert torch.equal(hopfield.recall(cue, **settling).state, pairwise.recall(cue, **settling).state)
    torch.testing.assert_close(hopfield.energy(cue), pairwise.energy(cue))


@pytest.mark.parametrize("rule", [Delta(), Perceptron(), PseudoInverse()], ids=lambda rule: type(rule).__name__)
def test_a_rule_that_is_not_online_learns_all_patterns_anew_at_each_write(rule: Rule[Any]) -> None:
    patterns, values = _signs(9, 20), _signs(9, 4, seed=1)
    for targets in (None, values):
        whole, pieces, lossy = (am.PairwiseMemory(20, rule, Sign(), rehearse=rehearse) for rehearse in (True, True, False))
        whole.write(patterns, targets)
        for memory in (pieces, lossy):
            memory.write(patterns[:2], None if targets is None else targets[:2])
            memory.write(patterns[2:], None if targets is None else targets[2:])
        assert torch.equal(pieces.matrix, whole.matrix)
        assert not torch.equal(lossy.matrix, whole.matrix)
        assert len(pieces) == len(lossy) == 9
        assert whole.recall(patterns).state.eq(patterns if targets is None else targets).all()


STATEFUL: list[Rule[Any]] = [
    Delta(),
    Perceptron(epochs=1),
    diederich_opper_1(),
    PseudoInverse(),
    RecursivePseudoInverse(),
    Bcpnn(),
    Storkey(),
    Covariance(),
    BayesianOptimal(0.1, modules=5),
    Modular(Bcpnn(floor=None), 5),
    Modular(Hebb(), 5),
]


@pytest.mark.parametrize("rule", STATEFUL, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("hetero", [False, True])
def test_all_that_a_rule_has_learned_is_saved_and_loaded(rule: Rule[Any], hetero: bool, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows, more = _signs(4, 10), _signs(3, 10, seed=1)
    if not isinstance(rule, Delta | Perceptron | PseudoInverse | RecursivePseudoInverse | Storkey):
        rows, more = (rows + 1) / 2, (more + 1) / 2
    memory = am.PairwiseMemory(10, rule)
    memory.write(rows, rows[:, :3]) if hetero else memory.write(rows)
    am.save(memory, tmp_path / "memory")
    loaded, fresh = am.load(tmp_path / "memory"), am.PairwiseMemory(10, rule)
    fresh.load_state_dict(memory.state_dict())
    for other in (loaded, fresh):
        assert isinstance(other, am.PairwiseMemory)
        assert other.fit == memory.fit
    for other in (memory, loaded, fresh):
        other.write(more, more[:, :3]) if hetero else other.write(more)
    for other in (loaded, fresh):
        assert torch.equal(other.recall(rows, steps=1).state, memory.recall(rows, steps=1).state)
        assert len(other) == 7


def test_a_network_of_winners_completes_patterns_that_miss_a_quarter() -> None:
    patterns = _one_hot(40, groups=16, size=8)
    cue = patterns.clone()
    cue[:, :32] = 0
    for rule in (Bcpnn(), Willshaw()):
        memory = am.PairwiseMemory(128, rule, Winners(1, groups=16), steps=10)
        memory.write(patterns)
        assert (memory.recall(cue).state == patterns).all(-1).double().mean() > 0.9
        assert torch.equal(memory.recall(patterns).state, patterns)


def test_the_bias_of_bcpnn_answers_an_empty_cue_with_the_most_frequent_units() -> None:
    patterns = torch.cat([_one_hot(1, 4, 5).expand(6, -1), _one_hot(3, 4, 5, seed=1)])
    memory = am.PairwiseMemory(20, Bcpnn(), Winners(1, groups=4))
    memory.write(patterns)
    assert torch.equal(memory.recall(torch.zeros(1, 20).double()).state, patterns[:1])
    # and the bias is part of the energy: its slope in a state is the field, taken back
    state = torch.rand(2, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(memory.energy(state).sum(), state)
    torch.testing.assert_close(slope, -(state @ memory.matrix.mT + memory.bias))


def test_independent_units_have_bcpnn_weight_0_and_those_always_together_the_largest() -> None:
    # all combinations of two units, and a third that copies the first
    rows = torch.tensor([[0.0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=torch.float64)
    rule = Bcpnn(floor=1e-6)
    weights = rule.learn(rule.begin(3, 3, rows), rows, rows).matrix
    assert float(weights[0, 1]) == pytest.approx(0, abs=1e-5)
    assert float(weights[0, 2]) == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-5)


def test_traces_of_bcpnn_forget_what_is_old() -> None:
    old, new = _one_hot(20, 8, 6), _one_hot(20, 8, 6, seed=1)
    memory = am.PairwiseMemory(48, Bcpnn(horizon=6.0), Winners(1, groups=8), steps=5)
    memory.write(torch.cat([old, new]))
    kept = [(memory.recall(rows).state == rows).all(-1).double().mean() for rows in (old, new[-8:])]
    assert kept[1] == 1
    assert kept[0] < 0.5


def test_winners_are_the_gradient_of_the_sum_of_the_largest() -> None:
    x = _draw(5, 12).requires_grad_()
    for layer in (Winners(3), Winners(2, groups=3)):
        (slope,) = torch.autograd.grad(layer.value(x).sum(), x)
        torch.testing.assert_close(layer.activation(x), slope)
        # Fenchel: <x, g> = L(x) + L*(g) at the activation
        torch.testing.assert_close((x * slope).sum(-1), layer.value(x) + layer.dual(slope))
    assert Winners(2)(torch.ones(1, 4)).tolist() == [[1, 1, 0, 0]]
    with pytest.raises(ValueError, match="do not make 5 equal groups"):
        Winners(1, groups=5)(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hebb_with_decay(rate=0.0), "rate must be positive"),
        (lambda: hebb_with_decay(decay=1.0), r"decay must be in \(0, 1\)"),
        (lambda: oja(rate=-0.1), "rate must be positive"),
        (lambda: covariance(rate=float("inf")), "rate must be positive and finite"),
        (lambda: LocalRule(c21=float("nan")), "c21 must be finite"),
        (lambda: SlidingThreshold(drift=0.0), r"drift must be in \(0, 1\]"),
        (lambda: Delta(rate=2.0), r"rate must be in \(0, 2\)"),
        (lambda: Delta(rate=0.0), r"rate must be in \(0, 2\)"),
        (lambda: Delta(epochs=0), "epochs must be a whole number"),
        (lambda: Delta(tolerance=0.0), "tolerance must be positive"),
        (lambda: Perceptron(margin=-1.0), "margin must be >= 0"),
        (lambda: Sanger(rate=0.0), "rate must be positive"),
        (lambda: Bcpnn(horizon=0.5), "horizon must be at least 1"),
        (lambda: Bcpnn(floor=1.0), "floor must be below 1"),
        (lambda: Covariance(horizon=0.5), "Covariance: horizon must be at least 1"),
        (lambda: PresynapticCovariance(horizon=0.5), "PresynapticCovariance: horizon must be at least 1"),
        (lambda: BayesianOptimal(miss=1.0), r"miss must be in \[0, 1\)"),
        (lambda: BayesianOptimal(add=-0.1), r"add must be in \[0, 1\)"),
        (lambda: BayesianOptimal(prior=0.0), "prior must be positive"),
        (lambda: Modular(Hebb(), 0), "modules must be a whole number"),
        (lambda: am.PairwiseMemory(4, Modular(Hebb(), 3)).write(torch.ones(2, 4)), "4 units do not make 3 equal modules"),
        (lambda: am.PairwiseMemory(4, BayesianOptimal(modules=3)).write(torch.ones(2, 4)), "4 units do not make 3 equal modules"),
        (lambda: am.modular_bcpnn(10, modules=3), "modular_bcpnn: 10 units do not make 3 equal modules"),
        (lambda: am.modular_bcpnn(10, modules=0), "modules must be a whole number"),
        (lambda: am.PairwiseMemory(4, Covariance()).write(-torch.ones(2, 4)), "Covariance.learn: the pattern must hold activities"),
        (
            lambda: am.PairwiseMemory(4, BayesianOptimal()).write(-torch.ones(2, 4)),
            "BayesianOptimal.learn: the pattern must hold only 0 and 1",
        ),
        (lambda: Winners(0), "k must be a whole number"),
        (lambda: am.PairwiseMemory(4, Hebb(), Identity(), update="asynchronous"), "their activation is Sign"),
        (lambda: am.PairwiseMemory(4, Hebb(), update="at random"), "update must be"),
        (lambda: am.PairwiseMemory(4, Storkey()).write(torch.zeros(2, 4)), r"Storkey.learn: the pattern must hold only -1 and \+1"),
        (lambda: am.PairwiseMemory(4, Perceptron()).write(torch.zeros(2, 4)), r"Perceptron.learn: .* must hold only -1 and \+1"),
        (lambda: am.PairwiseMemory(4, Willshaw()).write(-torch.ones(2, 4)), "Willshaw.learn: the pattern must hold only 0 and 1"),
        (lambda: am.PairwiseMemory(4, Bcpnn()).write(-torch.ones(2, 4)), "Bcpnn.learn: the pattern must hold activities between 0 and 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_patterns_that_depend_on_each_other_are_said_and_a_refused_write_changes_nothing() -> None:
    patterns = torch.cat([_signs(3, 8), _signs(1, 8)])
    for rule in (PseudoInverse(), RecursivePseudoInverse()):
        memory = am.PairwiseMemory(8, rule, Sign())
        with pytest.warns(UserWarning, match="1 of 4 patterns depend linearly on others"):
            memory.write(patterns)
        assert torch.equal(memory.recall(patterns).state, patterns)
    memory = am.PairwiseMemory(8, Perceptron())
    memory.write(patterns)
    before = memory.matrix.clone()
    with pytest.raises(ValueError, match="must hold only"):
        memory.write(torch.zeros(1, 8).double())
    assert len(memory) == len(memory.keys) == 4
    assert torch.equal(memory.matrix, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rule", [*SYMMETRIC, Delta(), Perceptron()], ids=lambda rule: type(rule).__name__)
def test_every_rule_recalls_in_every_precision(rule: Rule[Any], dtype: torch.dtype) -> None:
    patterns = _signs(6, 100).to(dtype)
    memory = am.PairwiseMemory(100, rule, steps=20, update="asynchronous")
    memory.write(patterns)
    assert memory.matrix.dtype == dtype
    assert torch.equal(memory.recall(Flip(0.1)(patterns, generator=torch.Generator().manual_seed(0))).state, patterns)


def test_a_pseudo_inverse_moved_to_a_coarser_precision_still_knows_its_patterns() -> None:
    patterns = _signs(6, 20)
    memory = am.PairwiseMemory(20, RecursivePseudoInverse(), Sign())
    memory.write(patterns)
    memory.float()
    with pytest.warns(UserWarning, match="6 of 6"):
        memory.write(patterns.float())
    torch.testing.assert_close(patterns.float() @ memory.matrix.mT, patterns.float(), atol=1e-4, rtol=0)
