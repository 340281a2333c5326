"""Laws of the theory that is drawn beside measurements: limits, identities, and plain simulations."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import binom, norm, ttest_1samp

import ammon as am
from ammon.analysis import theory
from ammon.analysis.fields import fields
from ammon.analysis.mean_field import basin_edge, critical, overlap_steps, retrieval_overlap
from ammon.learning.hebb import Hebb
from ammon.parts.corruption import Flip
from ammon.parts.kernels import robust_gamma
from ammon.parts.lagrangians import Sign


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_the_odd_factorial_is_a_moment_of_the_normal_distribution(n: int) -> None:
    assert theory.odd_factorial(n) == pytest.approx(float(norm.moment(2 * n - 2)))


def test_errorless_counts_of_dense_memories_are_those_printed() -> None:
    """Krotov & Hopfield 2016, appendix B: 11, 360 and 7240 at 100 units; α_n at an error of half a percent."""
    found = [theory.dense_without_errors(100, n) for n in (2, 3, 4)]
    assert [round(found[0]), round(found[1], -1), round(found[2], -1)] == [11, 360, 7240]
    assert [round(theory.dense_with_errors(1, n), 4) for n in (2, 3)] == [0.1507, 0.0502]
    assert theory.dense_without_errors(50, 2) == pytest.approx(theory.one_pattern_exact(50))
    assert theory.all_patterns_exact(50) == pytest.approx(theory.one_pattern_exact(50) / 2)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_one_step_error_has_the_printed_asymptotic_form_and_inverts_to_the_load(n: int) -> None:
    """Krotov & Hopfield 2016, eq. 5: sqrt((2n-3)!! K/(2π N^(n-1))) exp(-N^(n-1)/(2K (2n-3)!!)), right where errors are rare."""
    ratio = 50.0**2
    num_patterns = 100 ** (n - 1) / (ratio * theory.odd_factorial(n))
    printed = math.sqrt(1 / (2 * math.pi * ratio)) * math.exp(-ratio / 2)
    exact = theory.one_step_error(100, num_patterns, n)
    assert exact == pytest.approx(printed, rel=1e-3) or exact == printed == 0
    for load in (3.0, 40.0):
        assert theory.dense_with_errors(100, n, theory.one_step_error(100, load * 50, n)) == pytest.approx(load * 50)


def test_flips_of_the_cue_lower_the_load_by_the_signal_they_leave() -> None:
    assert theory.dense_without_errors(100, 3, 0.25) == pytest.approx(theory.dense_without_errors(100, 3) / 2**4)
    assert theory.dense_without_errors(100, 3, 0.5) == 0


def test_the_exponential_memory_holds_2_to_the_half_dim_and_nothing_from_pure_noise() -> None:
    assert theory.exponential_exact(30) == pytest.approx(2**15)
    assert theory.exponential_exact(30, 0.5) == 1
    # I(a) is ln 2 less the entropy of a flip
    entropy = float(binom(1, 0.2).entropy())
    assert math.log(theory.exponential_exact(10, 0.2)) == pytest.approx(10 * (math.log(2) - entropy) / 2)


def test_the_kernel_law_is_signal_over_the_exact_mean_square_kernel() -> None:
    dim, gamma, flips = 40, 0.07, 0.1
    agree = torch.arange(dim + 1, dtype=torch.float64)
    # |x - ξ|² = 4 · entries that differ
    kernels = torch.exp(-gamma * 4 * agree)
    square = float((torch.from_numpy(binom.pmf(agree.numpy(), dim, 0.5)) * kernels**2).sum())
    signal = math.exp(-gamma * 4 * flips * dim)
    assert theory.kernel_exact(dim, gamma, flips) == pytest.approx(signal**2 / square / (2 * math.log(dim)))
    # at 4γ = 2 it is the exponential sequence memory's, one unit more
    assert theory.kernel_exact(dim, 0.5) == pytest.approx(theory.exponential_transitions_exact(dim + 1) * math.log(dim + 1) / math.log(dim))


def test_the_kernel_law_grows_up_to_the_robust_gamma_and_is_there_that_of_a_random_code() -> None:
    best = robust_gamma(0.2)
    assert theory.kernel_exact(60, 0.9 * best, 0.2) < theory.kernel_exact(60, best, 0.2) == theory.kernel_exact(60, 30.0, 0.2)
    code = math.log(2) - float(binom(1, 0.2).entropy())
    assert theory.kernel_exact(60, best, 0.2) == pytest.approx(math.exp(60 * code) / (2 * math.log(60)))
    assert theory.kernel_exact(60, 0.1, 0.5) < 1


@pytest.mark.parametrize("name", ["hopfield", "dense", "pseudo_inverse", "exponential"])
def test_signal_over_crosstalk_is_that_of_the_fields(name: str) -> None:
    """8 draws. Student's t, p > .001, beyond a bias of 3 %: of order K/D² in the dense law, of 1/D by Marchenko & Pastur's."""
    dim, num_patterns, keys = {"exponential": (12, 200, {"beta": 0.2})}.get(name, (300, 150, {}))
    generator, squares = torch.Generator().manual_seed(1), []
    for _ in range(8):
        patterns = am.random_patterns(num_patterns, dim, generator=generator, dtype=torch.float64)
        memory = am.CATALOG[name].make(dim, **keys)
        memory.write(patterns)
        aligned = patterns * fields(memory, patterns)
        squares.append(float(aligned.var() / aligned.mean().square()))
    laws = {"dense": lambda: theory.dense_ratio(dim, num_patterns, 3), "hopfield": lambda: theory.dense_ratio(dim, num_patterns)}
    laws["pseudo_inverse"] = lambda: theory.pseudo_inverse_ratio(dim, num_patterns)
    laws["exponential"] = lambda: theory.exponential_ratio(dim, num_patterns, 0.2)
    relative = torch.tensor(squares, dtype=torch.float64) * laws[name]() ** 2
    gap = max(0.0, abs(float(relative.mean()) - 1) - 0.03)
    assert ttest_1samp((relative - relative.mean() + gap).numpy(), 0).pvalue > 0.001, relative


def test_gardners_bound_is_2_and_falls_as_her_integral() -> None:
    assert theory.gardner() == pytest.approx(2)
    for margin in (0.5, 1.0, 3.0):
        integral = quad(lambda t, k=margin: norm.pdf(t) * (t + k) ** 2, -margin, 20)[0]
        assert theory.gardner(margin) == pytest.approx(1 / integral)


def test_counts_of_other_rules_are_their_formulas() -> None:
    """Storkey .307 D at D = 200; Willshaw's 1 - (1 - k²/D²)^M = 1/2; sequences as Chaudhry et al. 2023."""
    assert theory.storkey_exact(200) / 200 == pytest.approx(0.307, abs=5e-4)
    assert 1 - (1 - (10 / 1000) ** 2) ** theory.willshaw_exact(1000, 10) == pytest.approx(0.5)
    assert theory.transitions_exact(100, 1) == pytest.approx(theory.one_pattern_exact(100))
    assert theory.sequence_exact(100, 2) == pytest.approx(theory.transitions_exact(100, 2) / 3)
    # b^D/(2 ln(b) D) is where D b^D units hold the union bound of the single transition
    count = theory.exponential_sequence_exact(40)
    assert theory.exponential_transitions_exact(41) * math.log(41) / count == pytest.approx(40 * math.log(math.exp(2) / math.cosh(2)))


def test_the_replica_solution_satisfies_its_three_equations() -> None:
    """Amit, Gutfreund & Sompolinsky 1985 at T = 0: m = erf(m/√(2αr)), C = √(2/(παr)) e^{-m²/(2αr)}, r = (1-C)⁻²."""
    for load in (0.03, 0.08, 0.12, 0.1379):
        m = retrieval_overlap(load)
        y = float(torch.erfinv(torch.tensor(m, dtype=torch.float64)))
        ar = (m / y) ** 2 / 2
        response = math.sqrt(2 / (math.pi * ar)) * math.exp(-(m**2) / (2 * ar))
        # near m = 1 the inverse of erf loses digits
        assert ar == pytest.approx(load / (1 - response) ** 2, rel=1e-4)
    assert critical().load == pytest.approx(0.137906, abs=1e-6)
    assert critical().overlap == pytest.approx(0.967, abs=5e-4)
    assert retrieval_overlap(0.1380) == 0
    assert retrieval_overlap(0) == 1


@pytest.mark.parametrize("n", [3, 4, 6])
def test_the_retrieval_state_of_a_dense_memory_is_where_its_steps_end(n: int) -> None:
    end = critical(n)
    for part in (0.3, 0.9, 0.999):
        assert overlap_steps(1.0, part * end.load, 3000, n)[-1] == pytest.approx(retrieval_overlap(part * end.load, n), abs=1e-9)
    assert overlap_steps(1.0, 1.01 * end.load, 3000, n)[-1] < 0.01
    assert retrieval_overlap(end.load, n) == pytest.approx(end.overlap, abs=1e-4)


def test_amari_and_maginus_capacity_is_016_and_the_basin_closes_there() -> None:
    """Amari & Maginu 1988 print .16; by iteration .159."""
    assert overlap_steps(1.0, 0.159, 2000)[-1] > 0.9
    assert overlap_steps(1.0, 0.161, 2000)[-1] < 0.01
    edges = [basin_edge(load) for load in (0.02, 0.05, 0.1, 0.15)]
    assert edges == sorted(edges)
    assert basin_edge(0.17) == 1


@pytest.mark.parametrize(
    ("n", "dim", "load", "start", "exact_steps"), [(2, 2000, 0.08, 0.5, 3), (3, 200, 0.03, 0.6, 3), (3, 200, 0.1, 0.8, 1)]
)
def test_the_first_steps_of_synchronous_recall_have_the_overlap_of_the_theory(
    n: int, dim: int, load: float, start: float, exact_steps: int
) -> None:
    """Draws are the units of Student's t, p > .001, beyond a bias of 4/D: a pattern more or less, and the own vote."""
    generator = torch.Generator().manual_seed(n)
    overlaps = []
    for _ in range(8):
        patterns = am.random_patterns(round(load * dim ** (n - 1)), dim, generator=generator)
        memory = am.BinaryMemory(dim, am.dense(dim, n).separation, "synchronous", exact_steps)
        memory.write(patterns)
        cue = Flip((1 - start) / 2)(patterns[:100], generator=generator)
        found = memory.recall(cue, keep=True)
        assert found.trajectory is not None
        overlaps.append((found.trajectory * patterns[:100]).mean((1, 2)))
    expected = overlap_steps(start, load, exact_steps, n)
    for step in range(1, exact_steps + 1):
        measured = torch.stack(overlaps)[:, step].double()
        gap = max(0.0, abs(float(measured.mean()) - expected[step]) - 4 / dim)
        assert ttest_1samp((measured - measured.mean() + gap).numpy(), 0).pvalue > 0.001, (step, measured.mean(), expected[step])


@pytest.mark.parametrize("own", [False, True])
def test_a_palimpsest_forgets_as_the_theory_says(own: bool) -> None:
    """400 patterns, λ = .02, 8 draws; overlap after one step by age. Student's t, p > .001 for each of three ages."""
    dim, forgetting, generator = 400, 0.02, torch.Generator().manual_seed(0)
    ages, overlaps = (20, 60, 100), []
    for _ in range(8):
        patterns = am.random_patterns(400, dim, generator=generator)
        memory = am.PairwiseMemory(dim, Hebb(forgetting=forgetting, self_connections=own), Sign())
        memory.write(patterns)
        near = torch.cat([patterns[399 - age - 2 : 399 - age + 1] for age in ages])
        overlaps.append((memory.recall(near).state * near).mean(-1).reshape(3, 3).mean(-1))
    for k, age in enumerate(ages):
        expected = sum(theory.palimpsest_overlap(dim, forgetting, age + shift, own) for shift in (0, 1, 2)) / 3
        assert ttest_1samp(torch.stack(overlaps)[:, k].double().numpy() - expected, 0).pvalue > 0.001


def test_prototypes_of_distorted_instances_err_as_the_theory_says() -> None:
    """One step from each prototype, 20 draws of 6 prototypes. Student's t, p > .001; without flips the law is Hopfield's."""
    assert theory.prototype_error(300, 10, 5, 0.0) == pytest.approx(theory.one_step_error(300, 9))
    dim, generator = 300, torch.Generator().manual_seed(0)
    for num_instances, flips in ((4, 0.2), (12, 0.3)):
        errors = []
        for _ in range(20):
            prototypes = am.random_patterns(6, dim, generator=generator)
            instances = torch.where(torch.rand(6 * num_instances, dim, generator=generator) < flips, -1.0, 1.0)
            memory = am.synchronous_hopfield(dim)
            memory.write(prototypes.repeat_interleave(num_instances, 0) * instances)
            errors.append(float((memory.recall(prototypes, steps=1).state != prototypes).double().mean()))
        expected = theory.prototype_error(dim, 6, num_instances, flips)
        assert ttest_1samp(errors, expected).pvalue > 0.001, (sum(errors) / 20, expected)


def test_laws_refuse_what_they_do_not_cover() -> None:
    for wrong in (
        lambda: theory.dense_without_errors(100, 3, 0.7),
        lambda: theory.one_pattern_exact(1),
        lambda: theory.kernel_exact(50, 0.0),
        lambda: theory.dense_with_errors(100, 3, 0.5),
        lambda: theory.palimpsest_overlap(100, 1.0, 3),
        lambda: retrieval_overlap(-0.1),
        lambda: overlap_steps(2.0, 0.1, 3),
        lambda: critical(1),
    ):
        with pytest.raises(ValueError, match=r"must be|need"):
            wrong()
