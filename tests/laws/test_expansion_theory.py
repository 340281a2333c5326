"""Laws of the signal-to-noise theory of Hebbian expansions, and of capacity per synapse."""

import math

import pytest
import torch
from scipy.stats import norm, t
from torch import Tensor

import ammon as am
from ammon.analysis.capacity import bits_of_sparse, bits_of_units, capacity
from ammon.analysis.expansion_theory import features_per_pattern, mean_square, most_patterns, self_vote, unit_error
from ammon.analysis.synapses import synapses
from ammon.learning.hebb import Hebb
from ammon.memories.expansion import ExpansionMemory
from ammon.parts.corruption import Flip
from ammon.parts.expansions import Sine, Threshold
from ammon.parts.features import Cos, Expansion, SinCos
from ammon.parts.lagrangians import Sign


def _overlap(m: Tensor) -> Tensor:
    return m


def test_moments_of_a_kernel_are_their_closed_forms() -> None:
    # x·y is a sum of D signs: E[m²] = 1/D, E[m⁶] = 15/D³ - 30/D⁴ + 16/D⁵, E exp(c x·y) = cosh(c)^D
    assert mean_square(_overlap, 40) == pytest.approx(1 / 40)
    assert self_vote(_overlap, 40) == pytest.approx(1 / 40)
    assert mean_square(lambda m: m**3, 40) == pytest.approx(15 / 40**3 - 30 / 40**4 + 16 / 40**5)
    kernel = SinCos(40, 1, 0.06).kernel
    assert mean_square(kernel, 40) == pytest.approx((math.exp(-0.12) * math.cosh(0.12)) ** 40)
    assert self_vote(kernel, 40) == pytest.approx(math.exp(-0.06 * 40) * math.tanh(0.06) * math.cosh(0.06) ** 40)


def test_with_the_overlap_as_kernel_the_error_is_that_of_a_hopfield_network_with_its_diagonal() -> None:
    # Hertz, Krogh & Palmer 1991: Q((1 + N/D)/sqrt(N/D)) of a stored pattern, N the others
    dim, others = 2000, 500
    expected = norm.sf((1 + others / dim) / math.sqrt(others / dim))
    assert unit_error(_overlap, dim, math.inf, others + 1, 0.0) == pytest.approx(expected, rel=2e-3)


CASES: dict[str, Expansion] = {
    "sin-cos": SinCos(100, 500, 0.036),
    "cos": Cos(100, 1000, 0.05),
    "sine, gain 3": Sine(100, 1000, 0.03),
    "sine, gain 6": Sine(100, 2000, 0.06),
    "threshold, few": Threshold(100, 2000, 0.05),
    "threshold, many": Threshold(100, 1000, 0.4),
}


@pytest.mark.parametrize(("num_patterns", "flips"), [(60, 0.1), (60, 0.2), (200, 0.1)])
@pytest.mark.parametrize("name", CASES)
def test_one_step_errs_as_often_as_signal_to_noise_says(name: str, num_patterns: int, flips: float) -> None:
    """D = 100, 1000 or 2000 features, 12 draws of patterns and features.

    Tolerance: the t-interval (99.9 %) of the mean over draws, and an eighth of the error: the theory takes sums of some hundred
    terms for normal and each feature's own variance for that of a far pair.
    """
    made = CASES[name]
    arguments = {"seed": 0}
    errors = []
    for seed in range(12):
        generator = torch.Generator().manual_seed(100 + seed)
        patterns = am.random_patterns(num_patterns, 100, generator=generator)
        memory = ExpansionMemory(_redrawn(made, **{**arguments, "seed": seed}), steps=1)
        memory.write(patterns)
        errors.append((memory.recall(Flip(flips)(patterns, generator=generator)).state != patterns).double().mean())
    found = torch.stack(errors)
    theory = unit_error(made.kernel, 100, made.num_features, num_patterns, flips)
    assert abs(float(found.mean()) - theory) < t.ppf(0.9995, 11) * float(found.std()) / math.sqrt(12) + theory / 8


def _redrawn(made: Expansion, seed: int) -> Expansion:
    if isinstance(made, Threshold):
        return Threshold(made.dim, made.num_units, made.activity, made.centred, seed)
    return type(made)(made.dim, made.num_frequencies, made.beta, False, seed)  # type: ignore[attr-defined, call-arg]


@pytest.mark.parametrize("name", CASES)
def test_no_features_keep_unrelated_patterns_further_apart_than_welch_allows(name: str) -> None:
    """Mean square product of the features of two rows, of length 1, is at least 1/F (Welch 1974); drawn features come near it."""
    features = CASES[name].double()(am.random_patterns(3000, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    features = torch.nn.functional.normalize(features)
    second = features.mT @ features / len(features)
    assert float(second.square().sum()) * CASES[name].num_features >= 1 - 1e-12


def test_stored_features_learned_or_drawn_obey_the_bound_and_one_hidden_unit_each_meets_it_at_0() -> None:
    generator = torch.Generator().manual_seed(1)
    for count, size in ((30, 10), (11, 10), (10, 10), (100, 3)):
        features = torch.nn.functional.normalize(torch.randn(count, size, generator=generator, dtype=torch.float64))
        products = (features @ features.mT).fill_diagonal_(0).square().sum() / (count * (count - 1))
        assert float(products) >= (count - size) / (size * (count - 1)) - 1e-12
    assert not (torch.eye(10) @ torch.eye(10)).fill_diagonal_(0).any()


def test_the_features_that_a_pattern_takes_are_those_of_hopfields_constant() -> None:
    assert 1 / features_per_pattern(0.005) == pytest.approx(0.1507, abs=5e-5)
    assert features_per_pattern(0.01, 0.5) == pytest.approx(4 * norm.isf(0.01) ** 2)
    for wrong in (0.0, 0.5, 0.7):
        with pytest.raises(ValueError, match="error must be between"):
            features_per_pattern(wrong)


def test_the_most_patterns_are_the_last_that_meet_the_criterion_and_grow_with_the_features() -> None:
    kernel = Sine(100, 1, 0.04).kernel
    found = [most_patterns(kernel, 100, size, 0.1, 0.01) for size in (500, 1000, 2000, 4000)]
    assert found == sorted(found)
    assert unit_error(kernel, 100, 1000, found[1], 0.1) <= 0.01 < unit_error(kernel, 100, 1000, found[1] + 1, 0.1)
    # settling corrects what one step leaves
    assert most_patterns(kernel, 100, 1000, 0.1, 0.01, steps=20) > found[1]
    assert most_patterns(kernel, 100, 10, 0.4, 0.001) == 1 or most_patterns(kernel, 100, 10, 0.4, 0.001) == 0


def test_measured_capacity_of_one_step_is_that_of_the_theory() -> None:
    """D = 100, 1000 sines, a tenth of the units wrong, 1 % errors; tolerance a tenth: steps of the search and 3 draws."""
    expansion = Sine(100, 1000, 0.035)
    held = capacity(lambda: ExpansionMemory(expansion, steps=1), 100, flips=0.1, error=0.01, draws=3)
    assert held.patterns == pytest.approx(most_patterns(expansion.kernel, 100, 1000, 0.1, 0.01), rel=0.1)
    assert held.synapses == 100_000
    assert held.error <= 0.01
    assert held.bits_per_synapse == pytest.approx(bits_of_units(held.patterns, 100, held.error) / 100_000)
    assert held.synapses_per_pattern == 100_000 / held.patterns


def test_a_hebbian_expansion_holds_more_than_a_hopfield_network_and_less_per_synapse() -> None:
    plain = capacity(lambda: am.PairwiseMemory(100, Hebb(self_connections=False), Sign(), 50), 100, flips=0.1, error=0.01, draws=3)
    expanded = capacity(lambda: ExpansionMemory(Sine(100, 2000, 0.04)), 100, flips=0.1, error=0.01, draws=3)
    dense = capacity(lambda: am.dense(100, 3), 100, flips=0.1, error=0.01, draws=2, most=200)
    assert expanded.patterns > 5 * plain.patterns
    assert expanded.bits_per_synapse < plain.bits_per_synapse < 0.2
    # each pattern in ±1 weights of its own: one bit each, less what the criterion forgives
    assert 0.9 < dense.bits_per_synapse <= 1


def test_synapses_are_the_numbers_learned() -> None:
    patterns = am.random_patterns(5, 12, generator=torch.Generator().manual_seed(0))
    counts = {
        "hopfield": 132,
        "storkey": 132,
        "pseudo_inverse": 144,
        "dense": 60,
        "large_dim_dense": 60,
        "kernel_ridge": 120,
        "hebbian_expansion": 12 * 4096,
        "sparse_distributed": 12 * 4096,
    }
    for name, count in counts.items():
        memory = am.CATALOG[name].make(12)
        memory.write(patterns)
        assert synapses(memory) == count, name
    features = am.random_features(12, 50)
    features.write(am.unit(patterns))
    assert synapses(features) == 100
    bound = am.holographic(12)
    bound.write(am.unit(patterns), am.unit(patterns))
    assert synapses(bound) == 12 + 60, "one superposition, and the values that clean it up"


def test_bits_are_those_of_their_limits() -> None:
    assert bits_of_units(7, 10, 0.0) == 70
    assert bits_of_units(7, 10, 0.5) == 0
    # an exact reading of a pattern of k ones among D: log2 of their number, and independent units a little more
    assert bits_of_sparse(3, 64, 6, 0.0) == pytest.approx(3 * math.log2(math.comb(64, 6)))
    # as good as chance: as many ones, but anywhere
    assert bits_of_sparse(3, 64, 6, 2 * (6 / 64) * (58 / 64)) == pytest.approx(0, abs=1e-9)
    assert 0 < bits_of_sparse(3, 64, 6, 0.05) < bits_of_sparse(3, 64, 6, 0.01)


def test_a_memory_that_holds_nothing_holds_0() -> None:
    held = capacity(lambda: ExpansionMemory(Sine(20, 2, 0.1)), 20, flips=0.4, error=0.001, draws=2)
    assert held.patterns == 0
    assert held.bits_per_synapse == 0
    assert held.synapses_per_pattern == math.inf
    with pytest.raises(ValueError, match=r"error must be between 0 and 0\.5"):
        capacity(lambda: am.hopfield(20), 20, flips=0.1, error=0.5)


def test_a_capacity_beyond_what_is_tried_is_given_as_the_last_load_that_held() -> None:
    held = capacity(lambda: am.exponential(20), 20, flips=0.05, error=0.01, draws=1, most=20)
    assert held.patterns == 20
    assert held.capped
    assert not capacity(lambda: am.hopfield(20), 20, flips=0.05, error=0.01, draws=1).capped


def test_settling_as_if_errors_were_drawn_anew_says_two_to_four_times_too_much() -> None:
    """D = 100, 1000 and 4000 sines of gain 4: settling holds 1/5 to 1/1.5 of that guess, and more than one step does."""
    for size in (1000, 4000):
        expansion = Sine(100, size, 0.04)
        held = capacity(lambda e=expansion: ExpansionMemory(e), 100, flips=0.1, error=0.01, draws=2, resolution=0.1).patterns  # type: ignore[misc]
        guess = most_patterns(expansion.kernel, 100, size, 0.1, 0.01, steps=20)
        assert 1.5 < guess / held < 5
        assert held > 1.5 * most_patterns(expansion.kernel, 100, size, 0.1, 0.01)
