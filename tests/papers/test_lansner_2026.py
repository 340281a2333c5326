"""Lansner, Knoblauch, Ravichandran & Herman 2026 (arXiv 2605.01074): seven local rules on sparse patterns, winner-take-all recall.

Protocol, as the first author's public code has it (ptBCPNN2.0): H modules of M units, one active each, or H active of H·M units; all units
at once, up to 15 times; a cue has some active units moved; a pattern counts if all of it comes back; capacity is where 90 % do. Modules do
not hear themselves. We could read the abstract and the code of three rules (Hebb, Willshaw, BCPNN), not the paper's tables:
the others stand here by their names in the code ("covar", "precovar", "hopfield", "boms") and their usual formulas.
Tolerances: Student's t over draws, each with its own patterns, p < .001.
"""

from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy.stats import t, ttest_ind, ttest_rel

import ammon as am
from ammon.analysis.information import free_weights
from ammon.analysis.storage import Storage, storage, storage_capacity
from ammon.learning.base import Rule
from ammon.learning.bayes import BayesianOptimal, Bcpnn, Willshaw
from ammon.learning.covariance import Covariance, PresynapticCovariance
from ammon.learning.hebb import Hebb
from ammon.learning.local import covariance
from ammon.learning.modular import Modular
from ammon.parts.corruption import Swap
from ammon.parts.lagrangians import Winners

# from the worst to the best in storage
ORDER = ["hebb", "covariance", "presynaptic covariance", "willshaw", "bcpnn"]


def rules(modules: int, size: int, modular: bool = True) -> dict[str, Rule[Any]]:
    """The seven rules without self-connections, or without any inside a module."""
    mean = 1 / size
    plain: dict[str, Rule[Any]] = {
        "hebb": Hebb(self_connections=False),
        "hopfield": covariance(1.0, mean, mean, self_connections=False),
        "covariance": Covariance(),
        "presynaptic covariance": PresynapticCovariance(),
        "willshaw": Willshaw(self_connections=False),
        "bcpnn": Bcpnn(floor=None),
    }
    if not modular:
        return {**plain, "bayesian optimal": BayesianOptimal()}
    return {**{name: Modular(rule, modules) for name, rule in plain.items()}, "bayesian optimal": BayesianOptimal(modules=modules)}


def capacities(rule: Rule[Any], modules: int, size: int, modular: bool, draws: int) -> list[int]:
    """Patterns of which 90 % come back whole from cues with one active unit moved, draw by draw."""
    found = []
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)

        def draw(number: int, generator: torch.Generator = generator) -> torch.Tensor:
            if modular:
                return am.modular_patterns(number, modules, size, generator=generator)
            return am.sparse_patterns(number, modules * size, modules, generator=generator)

        def make() -> am.PairwiseMemory:
            winners = Winners(1, modules) if modular else Winners(modules)
            return am.PairwiseMemory(modules * size, rule, winners, steps=15)

        corruption = Swap(1 / modules, modules if modular else 1)
        found.append(storage_capacity(make, draw, corruption, generator=generator, start=8 * modules, precision=0.03))
    return found


def check_order(table: dict[str, list[int]]) -> None:
    for worse, better in pairwise(name for name in ORDER if name in table):
        assert ttest_ind(table[better], table[worse], alternative="greater", equal_var=False).pvalue < 0.001, (worse, better, table)
    # the two Bayesian rules are the best, those with means given or found out are alike
    assert min(table["bayesian optimal"]) > max(max(found) for name, found in table.items() if not name.startswith("b"))
    assert ttest_ind(table["hopfield"], table["covariance"], equal_var=False).pvalue > 0.001


def test_hebb_stores_least_and_the_bayesian_rules_most_in_modules() -> None:
    """The abstract: additive Hebb worst, covariance moderate, Bayesian-Hebbian best. 16 modules of 16 units, 5 draws.

    Presynaptic covariance, between covariance and Willshaw, needs the 20 draws of the slow test to be told from them.
    """
    table = rules(16, 16)
    del table["presynaptic covariance"]
    check_order({name: capacities(rule, 16, 16, True, draws=5) for name, rule in table.items()})


@pytest.mark.slow
@pytest.mark.parametrize("modular", [True, False])
def test_the_order_in_storage_is_the_same_for_400_units_and_without_modules(modular: bool) -> None:
    """The sizes of the code's own experiment: N = 400, 20 modules of 20 units or 20 active units; 20 draws, as there."""
    check_order({name: capacities(rule, 20, 20, modular, draws=20) for name, rule in rules(20, 20, modular).items()})


def test_1775_patterns_in_32_modules_of_32_units_come_back_as_often_as_the_authors_code_prints() -> None:
    """README of ptBCPNN2.0: 92.90 % with 1 unit moved, 90.37 % with 4 (first version); one run each, "about". BCPNN, N = 1024, 15 steps.

    Tolerance: one more draw of Student's t over 4 draws of ours, p > .001, and 3 points; 600 of the patterns are asked for.
    Their floors cut off at 1/(n+1) and its square, ours mix.
    """
    shares: dict[int, list[float]] = {1: [], 4: []}
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        patterns = am.modular_patterns(1775, 32, 32, generator=generator)
        memory = am.modular_bcpnn(1024)
        memory.write(patterns)
        asked = patterns[:600]
        for moved, found in shares.items():
            found.append(100 * storage(memory, asked, Swap(moved / 32, 32)(asked, generator=generator), modules=32).exact)
    for moved, printed in ((1, 92.90), (4, 90.37)):
        ours = torch.tensor(shares[moved], dtype=torch.float64)
        assert abs(float(ours.mean()) - printed) <= t.ppf(0.9995, len(ours) - 1) * float(ours.std()) * (1 + 1 / len(ours)) ** 0.5
        assert abs(float(ours.mean()) - printed) < 3


def extracted(rule: Rule[Any], prototypes: int, instances: int, draws: int, moved: float = 0.25) -> list[Storage]:
    """Only instances with a quarter of their active units moved are stored; new instances are to give their prototype."""
    found = []
    for seed in range(draws):
        generator, swap = torch.Generator().manual_seed(seed), Swap(moved, 16)
        targets = am.modular_patterns(prototypes, 16, 16, generator=generator)
        memory = am.PairwiseMemory(256, rule, Winners(1, 16), steps=15)
        memory.write(swap(targets.repeat_interleave(instances, 0), generator=generator))
        targets = targets.repeat_interleave(4, 0)
        found.append(storage(memory, targets, swap(targets, generator=generator), modules=16, num_weights=free_weights(256, 16)))
    return found


def test_prototypes_that_were_never_shown_are_extracted_best_by_bcpnn() -> None:
    """120 prototypes of 20 instances each, 16 modules of 16 units, 5 draws, the same for each rule.

    Hebb finds none, as does Willshaw, whose weights have filled up: here Hebb is not alone at the end.
    """
    draws = {"hebb": 2, "willshaw": 2, "covariance": 5, "presynaptic covariance": 5, "bcpnn": 5}
    shares = {name: [found.exact for found in extracted(rules(16, 16)[name], 120, 20, number)] for name, number in draws.items()}
    for worse in ("covariance", "presynaptic covariance"):
        assert ttest_rel(shares["bcpnn"], shares[worse], alternative="greater").pvalue < 0.001, shares
    assert max(shares["hebb"] + shares["willshaw"]) < 0.05 < min(shares["covariance"])


def test_few_prototypes_are_what_bcpnn_is_worse_at() -> None:
    """10 prototypes of 10 instances, 20 draws: units of no prototype met only a few times, and that counts for much.

    The abstract says "almost all conditions"; this is one where the covariance rules are better.
    """
    bcpnn, other = ([f.exact for f in extracted(rules(16, 16)[name], 10, 10, draws=20)] for name in ("bcpnn", "covariance"))
    assert ttest_rel(other, bcpnn, alternative="greater").pvalue < 0.001


def test_a_rule_with_a_mean_of_one_half_stores_next_to_nothing_sparse() -> None:
    """Hopfield 1982 prints T = Σ (2V - 1)(2V - 1) for units of 0 and 1. On sparse patterns that punishes units for being used.

    It is worse than Hebb. So "hopfield" in the paper, where additive Hebb is the worst, must mean another rule; we take the mean
    activity as given.
    """
    literal = Modular(covariance(4.0, 0.5, 0.5), 16)
    assert max(capacities(literal, 16, 16, True, draws=3)) <= 3


def test_weights_hold_the_more_bits_the_better_the_rule() -> None:
    """Bits per weight that recall adds to cues with a quarter of the units moved, at each rule's best of six loads. One draw each."""
    best = {}
    for name, rule in rules(16, 16).items():
        bits = []
        for number in (60, 90, 130, 180, 250, 320):
            generator = torch.Generator().manual_seed(number)
            patterns = am.modular_patterns(number, 16, 16, generator=generator)
            memory = am.PairwiseMemory(256, rule, Winners(1, 16), steps=15)
            memory.write(patterns)
            cue = Swap(0.25, 16)(patterns, generator=generator)
            bits.append(storage(memory, patterns, cue, modules=16, num_weights=free_weights(256, 16)).bits_per_weight)
        best[name] = max(bits)
    values = [best[name] for name in ORDER]
    assert values == sorted(values)
    # below the ln 2 = .69 bits of clipped weights with ideal sparseness
    assert 0.02 < values[0] < values[-1] < 0.69
