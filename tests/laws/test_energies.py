"""Laws of energies: recall descends what `energy` says, and the direction of the update is its gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ammon as am
from ammon.energies.associative import AssociativeEnergy
from ammon.energies.quadratic import QuadraticEnergy
from ammon.learning.hebb import Hebb
from ammon.parts.lagrangians import Identity, Lagrangian, Sign, Sphere
from ammon.parts.separations import Entmax, Exponential, LogSumRelu, Maximum, Power, RectifiedPower, Softmax
from ammon.parts.similarity import Cosine, Dot, Euclidean, Manhattan, Similarity

SMOOTH = [
    Identity(),
    Power(2),
    Power(4),
    RectifiedPower(3),
    Exponential(0.4),
    Softmax(1.3),
    Entmax(1.5, 0.7),
    Entmax(2.0, 2.0),
    LogSumRelu(0.3),
]
# what a difference of two energies loses to rounding, relative to their size
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _longest(memory: am.Memory) -> float:
    return float(memory.keys.rows.square().sum(-1).amax()) if isinstance(memory, am.AssociativeMemory) else 1.0


def _never_rises(memory: am.Memory, recall: am.Recall) -> bool:
    assert recall.trajectory is not None
    energies = torch.stack([memory.energy(state) for state in recall.trajectory]).double()
    # an energy is a difference of terms as large as the squares of the rows
    size = max(1.0, float(energies.abs().amax()), float(recall.trajectory.square().sum(-1).amax()), _longest(memory))
    slack = ROUNDING[recall.state.dtype] * size
    return bool((energies.diff(dim=0) <= slack).all())


@pytest.mark.parametrize(
    ("similarity", "separation"),
    [(Dot(), s) for s in SMOOTH if not s.compact] + [(Euclidean(), s) for s in SMOOTH if s.normalised],
    ids=lambda s: type(s).__name__,
)
def test_the_pull_is_minus_the_gradient_of_the_energy(similarity: Similarity, separation: Lagrangian) -> None:
    energy = AssociativeEnergy(similarity, separation, Identity())
    state, keys = _draw(6, 5).requires_grad_(), _draw(9, 5, seed=1)
    (gradient,) = torch.autograd.grad(energy(state, keys).sum(), state)
    torch.testing.assert_close(energy.pull(state, keys), -gradient)


def test_the_pull_of_pairwise_weights_is_minus_the_gradient_of_their_energy() -> None:
    state, weights = _draw(6, 5).requires_grad_(), _draw(5, 5, seed=1)
    weights = weights + weights.mT
    (gradient,) = torch.autograd.grad(QuadraticEnergy(Identity())(state, weights).sum(), state)
    torch.testing.assert_close(QuadraticEnergy(Identity()).pull(state, weights), -gradient)


@pytest.mark.parametrize("make", [am.modern_hopfield, am.sparse_hopfield, am.diffusion])
def test_the_update_of_a_continuous_memory_is_the_whole_step_down_its_energy(make) -> None:  # type: ignore[no-untyped-def]
    memory, cue = make(5), _draw(6, 5).requires_grad_()
    memory.write(_draw(9, 5, seed=1))
    (gradient,) = torch.autograd.grad(memory.energy(cue).sum(), cue)
    torch.testing.assert_close(memory.recall(cue, steps=1).state - cue, -gradient)


def test_the_update_of_log_sum_relu_points_down_its_energy() -> None:
    memory, cue = am.log_sum_relu(5, beta=0.4), _draw(40, 5).requires_grad_()
    memory.write(_draw(9, 5, seed=1))
    (gradient,) = torch.autograd.grad(memory.energy(cue).sum(), cue)
    step = memory.recall(cue, steps=1).state - cue
    moves = gradient.abs().amax(-1) > 0
    assert moves.any()
    assert not moves.all()
    torch.testing.assert_close(torch.cosine_similarity(step, -gradient)[moves], torch.ones(int(moves.sum()), dtype=torch.float64))
    assert (step[~moves] == 0).all()


@pytest.mark.parametrize("name", ["modern_hopfield", "sparse_hopfield", "diffusion", "log_sum_relu"])
@pytest.mark.parametrize("dtype", ROUNDING)
@given(seed=st.integers(0, 10**6), patterns=st.integers(1, 20), dim=st.integers(1, 12), beta=st.floats(0.05, 50), spread=st.floats(0.1, 3))
@settings(max_examples=25, deadline=None)
def test_energy_never_rises_along_continuous_recall(
    name: str, dtype: torch.dtype, seed: int, patterns: int, dim: int, beta: float, spread: float
) -> None:
    memory = am.diffusion(dim, sigma=beta**-0.5) if name == "diffusion" else getattr(am, name)(dim, beta=beta)
    memory.write((spread * _draw(patterns, dim, seed=seed)).to(dtype))
    recall = memory.recall((spread * _draw(5, dim, seed=seed + 1)).to(dtype), steps=12, keep=True)
    assert _never_rises(memory, recall)


BINARY = {
    "hopfield": am.hopfield,
    "dense2": lambda d: am.dense(d, n=2),
    "dense3": lambda d: am.dense(d, n=3),
    "dense4": lambda d: am.dense(d, n=4),
    "dense20": lambda d: am.dense(d, n=20),
    "dense30": lambda d: am.dense(d, n=30),
    "rectified2": lambda d: am.rectified_dense(d, n=2),
    "rectified5": lambda d: am.rectified_dense(d, n=5),
    "exponential": am.exponential,
    "slow exponential": lambda d: am.exponential(d, beta=0.1),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", ROUNDING)
@given(seed=st.integers(0, 10**6), patterns=st.integers(1, 60), dim=st.integers(1, 30), clamped=st.booleans())
@settings(max_examples=20, deadline=None)
def test_energy_never_rises_along_asynchronous_recall(
    name: str, dtype: torch.dtype, seed: int, patterns: int, dim: int, clamped: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    memory = BINARY[name](dim)
    memory.write(am.random_patterns(patterns, dim, generator=generator, dtype=dtype))
    cue = am.random_patterns(6, dim, generator=generator, dtype=dtype)
    clamp = torch.rand(6, dim, generator=generator) < 0.3 if clamped else None
    recall = memory.recall(cue, keep=True, generator=generator, **({} if clamp is None else {"clamp": clamp}))
    assert recall.converged.all()
    # bfloat16 holds the states exactly but rounds the sums of the energy: judge them in float64
    memory.double()
    assert recall.trajectory is not None
    energies = torch.stack([memory.energy(state.double()) for state in recall.trajectory])
    assert (energies.diff(dim=0) <= 1e-12 * energies.abs().amax().clamp_min(1)).all()
    if clamp is not None:
        assert torch.equal(recall.state[clamp], cue[clamp])


def test_energy_never_rises_along_a_correlation_matrix_with_sign_units() -> None:
    generator = torch.Generator().manual_seed(0)
    memory = am.amari(40)
    memory.write(am.random_patterns(15, 40, generator=generator))
    recall = memory.recall(am.random_patterns(30, 40, generator=generator), keep=True)
    assert recall.steps.max() > 1
    assert _never_rises(memory, recall)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_energy_of_a_dense_memory_is_that_of_its_paper_up_to_its_unit(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    patterns = am.random_patterns(12, 9, generator=generator, dtype=torch.float64)
    state = am.random_patterns(7, 9, generator=generator, dtype=torch.float64)
    memory = am.dense(9, n=n)
    memory.write(patterns)
    paper = torch.stack([-sum((xi @ s) ** n for xi in patterns) for s in state])
    torch.testing.assert_close(memory.energy(state) * n * 9 ** (n - 1), paper)


def test_hopfields_energy_and_recall_are_those_of_his_matrix() -> None:
    generator = torch.Generator().manual_seed(3)
    patterns = am.random_patterns(6, 20, generator=generator, dtype=torch.float64)
    cue = am.random_patterns(5, 20, generator=generator, dtype=torch.float64)
    weights = patterns.mT @ patterns
    weights.fill_diagonal_(0)
    memory = am.hopfield(20)
    memory.write(patterns)
    matrix_energy = -((cue @ weights) * cue).sum(-1) / 2
    torch.testing.assert_close(memory.energy(cue) - memory.energy(cue[:1]), matrix_energy - matrix_energy[:1])
    state = cue.clone()
    for _ in range(20):
        for unit in range(20):
            state[:, unit] = torch.where(state @ weights[unit] >= 0, 1.0, -1.0).double()
    assert torch.equal(memory.recall(cue).state, state)
    # the same matrix as a pairwise memory, all units at once, one step
    pairwise = am.PairwiseMemory(20, Hebb(self_connections=False), Sign())
    pairwise.write(patterns)
    torch.testing.assert_close(pairwise.matrix, weights)
    synchronous = am.synchronous_hopfield(20)
    synchronous.write(patterns)
    assert torch.equal(synchronous.recall(cue, steps=1).state, pairwise.recall(cue, steps=1).state)


def test_even_powers_store_the_negative_of_each_pattern_too() -> None:
    generator = torch.Generator().manual_seed(4)
    patterns = am.random_patterns(10, 60, generator=generator)
    for n, stored in ((4, True), (3, False)):
        memory = am.dense(60, n=n)
        memory.write(patterns)
        assert torch.equal(memory.recall(-patterns).state, -patterns) is stored


def test_a_synchronous_2_cycle_is_reported() -> None:
    memory = am.synchronous_hopfield(2)
    memory.write(torch.tensor([[1.0, -1.0]]))
    recall = memory.recall(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    assert recall.cycled.tolist() == [True, False]
    assert recall.converged.tolist() == [False, True]
    one_by_one = am.hopfield(2)
    one_by_one.write(torch.tensor([[1.0, -1.0]]))
    assert one_by_one.recall(torch.tensor([[1.0, 1.0]])).converged.all()


@pytest.mark.parametrize(
    "memory",
    [
        am.minerva2(4),
        am.universal(4),
        am.AssociativeMemory(4, Cosine(), Softmax(2.0)),
        am.AssociativeMemory(4, Manhattan(), Maximum()),
        am.AssociativeMemory(4, Euclidean(), Softmax(2.0), Sphere()),
        am.AssociativeMemory(4, Euclidean(), Exponential(1.0)),
        am.AssociativeMemory(4, Euclidean(), Power(4)),
        am.AssociativeMemory(4, Dot(), LogSumRelu(1.0)),
    ],
    ids=lambda m: f"{type(m.similarity).__name__} {type(m.separation).__name__} {type(m.activation).__name__}",
)
def test_a_memory_whose_update_is_no_gradient_has_no_energy(memory: am.Memory) -> None:
    memory.write(torch.rand(3, 4))
    with pytest.raises(TypeError, match=r"no energy|must be Identity|must sum to 1|no gradient step"):
        memory.energy(torch.rand(2, 4))


def test_the_energy_of_a_large_store_is_that_of_the_whole_score_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, state = _draw(300, 8), _draw(40, 8, seed=1)
    memory = am.modern_hopfield(8, beta=2.0)
    memory.write(keys)
    whole = (state**2).sum(-1) / 2 - torch.logsumexp(2.0 * state @ keys.mT, -1) / 2.0
    monkeypatch.setattr("ammon.parts.retrieve.CHUNK", 1000)
    torch.testing.assert_close(memory.energy(state), whole)
