"""Laws of fixed expansions and of the memory that learns on them by the activity product."""

import math
from pathlib import Path

import pytest
import torch
from scipy.stats import t
from torch import Tensor

import ammon as am
from ammon.datasets.images import load_images
from ammon.learning.bayes import Bcpnn
from ammon.learning.field import Delta
from ammon.learning.hebb import Hebb
from ammon.learning.pseudo_inverse import RecursivePseudoInverse
from ammon.memories.expansion import ExpansionMemory
from ammon.memories.sparse_distributed import SparseDistributedMemory, radius_of
from ammon.parts.expansions import Sine, Threshold
from ammon.parts.features import Cos, Exp, Expansion, SinCos
from ammon.parts.lagrangians import Identity, Sphere


def _bits(count: int, dim: int, seed: int = 0) -> Tensor:
    return am.random_patterns(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


KINDS = [
    lambda dim, size, seed: SinCos(dim, size // 2, 2 / dim, seed=seed),
    lambda dim, size, seed: Cos(dim, size, 2 / dim, seed=seed),
    lambda dim, size, seed: Exp(dim, size, 0.2 / dim, seed=seed),
    lambda dim, size, seed: Sine(dim, size, 2 / dim, seed=seed),
    lambda dim, size, seed: Sine(dim, size, 2 / dim, True, seed),
    lambda dim, size, seed: Threshold(dim, size, 0.2, seed=seed),
    lambda dim, size, seed: Threshold(dim, size, 0.4, False, seed),
]
IDS = ["sin-cos", "cos", "exp", "sine", "orthogonal sine", "threshold", "threshold, not centred"]


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_the_mean_product_of_features_is_the_kernel_of_the_overlap(kind) -> None:  # type: ignore[no-untyped-def]
    dim = 10
    x, others = _bits(1, dim), torch.ones(dim + 1, dim, dtype=torch.float64)
    for wrong in range(dim + 1):
        others[wrong, :wrong] = -1
    found = []
    for seed in range(300):
        expansion = kind(dim, 20, seed).double()
        found.append((expansion(x) @ expansion(x * others).mT).squeeze(0))
    products = torch.stack(found)
    expected = kind(dim, 20, 0).kernel(1 - 2 * torch.arange(dim + 1, dtype=torch.float64) / dim)
    error = (products.mean(0) - expected).abs()
    # 11 means of 300: Student's t beyond 4.5 has a chance of 1e-5; sin-cos is exact at the row itself
    assert (error <= 4.5 * products.std(0) / math.sqrt(300) + 1e-9).all()
    assert expected.diff().max() <= 1e-12


def test_orthogonal_and_odd_features_turn_with_the_sign() -> None:
    x = _bits(4, 9)
    features = Sine(9, 30, 0.3).double()
    torch.testing.assert_close(features(-x), -features(x))
    assert float(Sine(9, 5, 0.3).kernel(torch.tensor(0.0))) == 0


def test_threshold_units_fire_as_often_as_they_say() -> None:
    units = Threshold(31, 4000, 0.1)
    assert 0.1 <= units.fires < 0.1 + math.comb(31, 11) / 2**31 * 2
    fires = units(_bits(50, 31).float()) > 0
    # 4000 units, each with its own chance: the binomial spread of the mean over 50 rows and 4000 units is below .0007
    assert float(fires.double().mean()) == pytest.approx(units.fires, abs=0.003)


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_the_weights_are_the_sum_of_activity_products_one_by_one_or_together(kind) -> None:  # type: ignore[no-untyped-def]
    patterns, values = _bits(7, 9), _bits(7, 4, seed=1)
    together, apart = ExpansionMemory(kind(9, 24, 0)), ExpansionMemory(kind(9, 24, 0))
    together.write(patterns, values)
    for row, value in zip(patterns.split(1), values.split(1), strict=True):
        apart.write(row, value)
    features = kind(9, 24, 0).double()(patterns)
    expected, read = torch.zeros(9, 24, dtype=torch.float64), torch.zeros(4, 24, dtype=torch.float64)
    for phi, pattern, value in zip(features, patterns, values, strict=True):
        expected += torch.outer(pattern, phi)
        read += torch.outer(value, phi)
    for memory in (together, apart):
        torch.testing.assert_close(memory.among.matrix, expected)
        torch.testing.assert_close(memory.contents.matrix, read)


def _field(expansion: Expansion, patterns: Tensor, cue: Tensor) -> Tensor:
    memory = ExpansionMemory(expansion, activation=Identity())
    memory.write(patterns)
    return memory.recall(cue, steps=1).state


@pytest.mark.parametrize("kind", [SinCos, Cos, Sine])
def test_the_field_converges_to_that_of_the_dense_memory_as_one_over_the_root_of_the_features(kind: type[Expansion]) -> None:
    """β = .15, D = 14, 8 patterns, cues with 2 wrong units; exact: Σ ξ exp(-β/2 |x - ξ|²), for sines less the same of -ξ.

    Tolerance: the t-interval (99.9 %) of the slope over 12 seeds holds -1/2 and is narrower than ±.12.
    """
    patterns = _bits(8, 14)
    cue = patterns.clone()
    cue[:, :2] *= -1
    scores = torch.exp(-0.15 * (14 - cue @ patterns.mT))
    if kind is Sine:
        scores = scores - torch.exp(-0.15 * (14 + cue @ patterns.mT))
    sizes = [250, 1000, 4000, 16000]
    logs = torch.stack(
        [
            torch.stack(
                [(_field(kind(14, size, 0.15, seed=s), patterns, cue) - scores @ patterns).square().mean().log() / 2 for s in range(12)]
            )  # type: ignore[call-arg]
            for size in sizes
        ]
    )
    steps = torch.tensor(sizes).double().log()
    centred = steps - steps.mean()
    slopes = (centred @ logs) / centred.square().sum()
    half = t.ppf(0.9995, 11) * float(slopes.std()) / math.sqrt(12)
    assert half < 0.12
    assert abs(float(slopes.mean()) + 0.5) < half


def test_with_many_features_an_update_goes_where_the_dense_memories_go() -> None:
    patterns = _bits(6, 12)
    cue = patterns.clone()
    cue[:, :2] *= -1
    # ±1 units: the exponential memory's update, each unit voting for itself
    exponential = am.AssociativeMemory(12, am.Dot(), am.Softmax(0.3), am.parts.lagrangians.Sign())  # type: ignore[attr-defined]
    hebbian = ExpansionMemory(SinCos(12, 100_000, 0.3))
    for memory in (exponential, hebbian):
        memory.write(patterns)
    exact = exponential.recall(cue, steps=1).state
    assert torch.equal(hebbian.recall(cue, steps=1).state, exact)
    assert not torch.equal(exact, cue)
    # units of length 1: the direction of softmax attention
    rows, asked = torch.nn.functional.normalize(patterns), torch.nn.functional.normalize(cue)
    attention, graded = am.modern_hopfield(12, beta=4.0), ExpansionMemory(SinCos(12, 100_000, 4.0), activation=Sphere())
    for memory in (attention, graded):
        memory.write(rows)
    wanted = torch.nn.functional.normalize(attention.recall(asked, steps=1).state)
    torch.testing.assert_close(graded.recall(asked, steps=1).state, wanted, atol=0.02, rtol=0)


def test_a_sparse_distributed_memory_is_hebbs_rule_on_threshold_units() -> None:
    dim, patterns = 24, _bits(9, 24)
    units = Threshold(dim, 600, 0.05, centred=False, seed=3)
    kanerva = SparseDistributedMemory(dim, 600, radius_of(dim, 0.05), seed=3)
    hebbian = ExpansionMemory(units, activation=Identity())
    for memory in (kanerva, hebbian):
        memory.write(patterns)
    assert torch.equal(kanerva.locations, units.directions)
    cue = patterns.clone()
    cue[:, :3] *= -1
    assert torch.equal((units(cue) > 0), kanerva.active(cue))
    # the counters are whole numbers, the features all of one size
    field = hebbian.recall(cue, steps=1).state * units.scale**2
    torch.testing.assert_close(field, kanerva.active(cue).double() @ kanerva.counters.double())
    assert torch.equal(kanerva.recall(cue, steps=1).state, torch.where(field.round() >= 0, 1.0, -1.0).double())


def test_its_size_does_not_depend_on_the_number_of_patterns() -> None:
    memory = ExpansionMemory(Sine(8, 50, 0.3))
    memory.write(_bits(3, 8))
    before = {name: tensor.shape for name, tensor in memory.state_dict().items()}
    memory.write(_bits(3000, 8, seed=1))
    assert {name: tensor.shape for name, tensor in memory.state_dict().items()} == before
    assert len(memory) == 3003


@pytest.mark.parametrize("hetero", [False, True])
def test_a_forgotten_pattern_leaves_no_trace(hetero: bool) -> None:
    patterns = _bits(6, 9)
    values = _bits(6, 3, seed=1) if hetero else None
    some, everything = (ExpansionMemory(Sine(9, 40, 0.3), Hebb(rate=0.7)) for _ in range(2))
    some.write(patterns[:4], None if values is None else values[:4])
    everything.write(patterns, values)
    everything.forget(patterns[4:], None if values is None else values[4:])
    assert len(everything) == 4
    torch.testing.assert_close(everything.among.matrix, some.among.matrix, atol=1e-12, rtol=0)
    torch.testing.assert_close(everything.contents.matrix, some.contents.matrix, atol=1e-12, rtol=0)
    everything.forget(patterns[:4], None if values is None else values[:4])
    assert len(everything) == 0
    assert not everything.among.matrix.any()
    with pytest.raises(ValueError, match="the memory is empty"):
        everything.recall(patterns)
    everything.write(patterns[:2])
    assert len(everything) == 2


def test_a_hopfield_matrix_forgets_too_and_what_cannot_be_taken_away_is_refused() -> None:
    patterns = _bits(5, 9)
    some, everything = (am.PairwiseMemory(9, Hebb(self_connections=False)) for _ in range(2))
    some.write(patterns[:3])
    everything.write(patterns)
    everything.forget(patterns[3:])
    torch.testing.assert_close(everything.matrix, some.matrix)
    assert not everything.matrix.diagonal().any()
    with pytest.raises(ValueError, match="4 patterns to forget, 3 are held"):
        everything.forget(patterns[:4])
    with pytest.raises(ValueError, match="the memory holds no values"):
        everything.forget(patterns[:1], patterns[:1])
    fading = am.kohonen(9, forgetting=0.1)
    fading.write(patterns)
    projected = ExpansionMemory(Sine(9, 40, 0.3), RecursivePseudoInverse())
    projected.write(patterns)
    for memory in (fading, projected):
        with pytest.raises(TypeError, match="only what Hebb's rule has summed can be taken away"):
            memory.forget(patterns[:1])  # type: ignore[union-attr]
    hebbian = ExpansionMemory(Sine(9, 40, 0.3))
    hebbian.write(patterns)
    with pytest.raises(ValueError, match="the memory holds no values"):
        hebbian.forget(patterns[:1], patterns[:1])
    with pytest.raises(ValueError, match="6 patterns to forget, 5 are held"):
        hebbian.forget(_bits(6, 9))
    with pytest.raises(ValueError, match="has dim 8"):
        hebbian.forget(_bits(1, 8))


def test_other_local_rules_and_the_projection_learn_on_the_same_features() -> None:
    patterns = _bits(30, 16)
    hebbian = ExpansionMemory(Sine(16, 60, 4 / 16))
    projected = ExpansionMemory(Sine(16, 60, 4 / 16), RecursivePseudoInverse())
    for memory in (hebbian, projected):
        memory.write(patterns)
    # 30 patterns on 60 features: too many for the sum of products, few enough for the projection
    assert not torch.equal(hebbian.recall(patterns, steps=1).state, patterns)
    assert torch.equal(projected.recall(patterns, steps=1).state, patterns)


def test_a_hebbian_memory_reads_the_value_of_a_corrupted_key() -> None:
    keys, values = _bits(20, 60), _bits(20, 11, seed=1)
    memory = am.hebbian_expansion(60, 4000, gain=4.0)
    memory.write(keys, values)
    cue = keys.clone()
    cue[:, :6] *= -1
    assert torch.equal(memory.recall(cue).state, values)


def test_what_cannot_be_is_refused_with_what_to_do() -> None:
    for make in (
        lambda: Sine(0, 3),
        lambda: Sine(3, 0),
        lambda: Sine(3, 3, beta=0.0),
        lambda: Threshold(3, 3, activity=0.0),
        lambda: Threshold(3, 3, activity=1.0),
        lambda: Threshold(0, 3),
        lambda: am.hebbian_expansion(3, gain=-1.0),
        lambda: ExpansionMemory(Sine(3, 3), steps=0),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(ValueError, match="take a smaller activity"):
        Threshold(3, 3, activity=0.99)
    with pytest.raises(ValueError, match="Delta needs all patterns together; give a rule that learns online"):
        ExpansionMemory(Sine(3, 3), Delta())
    with pytest.raises(TypeError, match="superposed"):
        am.hebbian_expansion(3).weights(_bits(1, 3))
    with pytest.raises(TypeError, match="descends no energy"):
        am.hebbian_expansion(3).energy(_bits(1, 3))
    with pytest.raises(ValueError, match="must hold only -1 and"):
        am.hebbian_expansion(3).write(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="activities between 0 and 1"):
        ExpansionMemory(Sine(3, 3), Bcpnn()).write(_bits(1, 3))


def test_a_memory_comes_back_from_a_file_with_its_expansion(tmp_path: Path) -> None:
    memory = ExpansionMemory(Threshold(9, 40, 0.2, seed=5), Hebb(0.5), steps=3)
    memory.write(_bits(4, 9), _bits(4, 2, seed=1))
    am.save(memory, tmp_path / "expansion")
    loaded = am.load(tmp_path / "expansion")
    assert isinstance(loaded, ExpansionMemory)
    assert torch.equal(loaded.expansion.directions, memory.expansion.directions)  # type: ignore[arg-type]
    assert torch.equal(loaded.recall(_bits(4, 9)).state, memory.recall(_bits(4, 9)).state)
    loaded.forget(_bits(4, 9), _bits(4, 2, seed=1))
    assert len(loaded) == 0


def test_patterns_that_look_alike_are_told_apart_where_a_hopfield_network_melts_them() -> None:
    """20 digits of 8 × 8 pixels, noise of .2 as in `ammon recall`; measured 17 of 20 against 0."""
    images = load_images(size=64).rows[:20]
    cue = am.prepare(am.Noise(0.2)(images, generator=torch.Generator().manual_seed(0)), "bipolar", like=images)
    patterns = am.prepare(images, "bipolar")
    held = {}
    for name in ("hebbian_expansion", "hopfield"):
        memory = am.CATALOG[name].make(64)
        memory.write(patterns)
        held[name] = int((memory.recall(cue).state == patterns).all(-1).sum())
    assert held["hebbian_expansion"] >= 15
    assert held["hopfield"] == 0
