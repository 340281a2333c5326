"""What local and global rules hold: Hebb, Storkey 1997, the pseudo-inverse (Personnaz et al. 1985), Cover 1965, Willshaw et al. 1969."""

import math
from typing import Any

import pytest
import torch
from scipy.stats import binom, binomtest, fisher_exact

import ammon as am
from ammon.learning.base import Rule
from ammon.learning.bayes import Willshaw
from ammon.learning.field import Perceptron, Storkey
from ammon.learning.hebb import Hebb
from ammon.learning.pseudo_inverse import PseudoInverse
from ammon.parts.corruption import Flip
from ammon.parts.lagrangians import Sign

RULES: dict[str, Rule[Any]] = {"hebb": Hebb(self_connections=False), "storkey": Storkey(), "pseudo-inverse": PseudoInverse(False)}


def counts(rule: Rule[Any], load: float, *, dim: int = 200, draws: int, seed: int) -> tuple[int, int, int]:
    """Patterns that are fixed points, patterns recalled exactly from 10 % flips, patterns in all; synchronous, 50 steps."""
    generator = torch.Generator().manual_seed(seed)
    stable = exact = total = 0
    for _ in range(draws):
        patterns = am.random_patterns(round(load * dim), dim, generator=generator)
        memory = am.PairwiseMemory(dim, rule, Sign(), steps=50)
        memory.write(patterns)
        stable += int((memory.recall(patterns, steps=1).state == patterns).all(-1).sum())
        exact += int((memory.recall(Flip(0.1)(patterns, generator=generator)).state == patterns).all(-1).sum())
        total += len(patterns)
    return stable, exact, total


@pytest.mark.parametrize(
    ("name", "load", "stable", "exact"),
    [
        ("hebb", 0.05, 1.0, 1.0),
        ("hebb", 0.1, 0.9, 0.9),
        ("storkey", 0.138, 1.0, 1.0),
        ("storkey", 0.3, 1.0, 0.98),
        ("pseudo-inverse", 0.138, 1.0, 1.0),
        ("pseudo-inverse", 0.3, 1.0, 1.0),
    ],
)
def test_the_fraction_of_200_unit_patterns_held_is_that_of_one_independent_run(name: str, load: float, stable: float, exact: float) -> None:
    """Our own earlier plain-loop run: D = 200, random patterns, zero diagonal, one draw per load.

    Tolerance: Fisher's exact test of its counts against those of 4 draws of ours, p > .001.
    A field of 0 gives +1 here, there it kept the state.
    """
    ours = counts(RULES[name], load, draws=4, seed=0)
    theirs = round(load * 200)
    for held, fraction in ((ours[0], stable), (ours[1], exact)):
        kept = round(fraction * theirs)
        assert fisher_exact([[held, ours[2] - held], [kept, theirs - kept]]).pvalue > 0.001


def test_at_the_load_where_storkey_still_recalls_hebb_holds_nothing() -> None:
    """Storkey & Valabregue 1999: capacity D/sqrt(2 ln D), .307 D at D = 200, against D/(2 ln D) = .094 D for Hebb."""
    load = 1 / math.sqrt(2 * math.log(200))
    assert round(load, 3) == 0.307
    storkey, hebb = counts(RULES["storkey"], load, draws=3, seed=1), counts(RULES["hebb"], load, draws=3, seed=1)
    assert storkey[0] / storkey[2] > 0.9
    assert hebb[0] / hebb[2] < 0.01
    # and beyond its capacity Storkey's rule fails too, while the pseudo-inverse still holds every pattern
    beyond, projected = counts(RULES["storkey"], 0.5, draws=1, seed=2), counts(RULES["pseudo-inverse"], 0.5, draws=1, seed=2)
    assert beyond[0] / beyond[2] < 0.75
    assert projected[0] == projected[2]


@pytest.mark.parametrize("patterns", [12, 16, 20])
def test_perceptrons_store_as_many_dichotomies_as_cover_counted(patterns: int) -> None:
    """Cover 1965, theorem 1: of the 2^P dichotomies of P points in general position in D dimensions 2 Σ_{k<D} C(P-1, k) are linear.

    Half of them at P = 2D. D = 8, 400 random dichotomies, each one output unit without bias; margin 0. Tolerance: binomial, p > .001.
    """
    dim, units = 8, 400
    generator = torch.Generator().manual_seed(patterns)
    keys = torch.randn(patterns, dim, generator=generator, dtype=torch.float64)
    values = am.random_patterns(patterns, units, generator=generator, dtype=torch.float64)
    rule = Perceptron(margin=0.0, epochs=800)
    weights = rule.learn(rule.begin(units, dim, keys), values, keys).matrix
    stored = int((values * (keys @ weights.mT) > 0).all(0).sum())
    linear = 2 * sum(math.comb(patterns - 1, k) for k in range(dim)) / 2**patterns
    assert binomtest(stored, units, linear).pvalue > 0.001


def _linear(patterns: int, dim: int) -> float:
    """Cover 1965, theorem 1: the share of dichotomies that are linear."""
    return 2 * sum(math.comb(patterns - 1, k) for k in range(dim)) / 2**patterns


def _stored(patterns: int, dim: int, units: int, epochs: int) -> int:
    generator = torch.Generator().manual_seed(patterns)
    keys = am.random_patterns(patterns, dim, generator=generator)
    values = am.random_patterns(patterns, units, generator=generator)
    rule = Perceptron(margin=0.0, epochs=epochs, self_connections=True)
    weights = rule.learn(rule.begin(units, dim, keys), values, keys).matrix
    return int((values * (keys @ weights.mT) > 0).all(0).sum())


def test_the_perceptrons_transition_at_two_patterns_per_weight_sharpens_with_size() -> None:
    """Gardner 1988: P = 2 D for D → ∞. At 1.25 D nearly all units learn, at 2.75 D none, the more so the larger D."""
    below, above = _stored(50, 40, 60, 400), _stored(110, 40, 60, 100)
    assert _linear(50, 40) > 0.9999
    assert below >= 59
    assert _linear(110, 40) < 0.01
    assert above <= 3
    assert _linear(25, 20) < _linear(50, 40)
    assert _linear(55, 20) > _linear(110, 40)


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "epochs"), [(50, 2000), (100, 2000)])
def test_perceptrons_of_larger_networks_follow_the_two_patterns_per_weight_of_gardner(dim: int, epochs: int) -> None:
    """At 1.6 D as many units learn as Cover counts dichotomies that are linear, at 2.6 D no more than that; at 2 D half of them, less those
    that are not reached in `epochs`. Binomial bounds, p > .001."""
    units = 40
    assert _stored(round(1.6 * dim), dim, units, epochs) >= binom.ppf(0.001, units, _linear(round(1.6 * dim), dim))
    assert _stored(2 * dim, dim, units, epochs) <= binom.ppf(0.999, units, 0.5)
    assert _stored(round(2.6 * dim), dim, units, 200) <= binom.ppf(0.999, units, _linear(round(2.6 * dim), dim))


def test_a_willshaw_matrix_fills_as_the_law_of_independent_pairs_says() -> None:
    """Willshaw et al. 1969: with M pairs of k active units in D the fraction of ones is p = 1 - (1 - k²/D²)^M.

    D = 256, k = 8 = log2 D, M = ln 2 · D²/k², where p = 1/2. A key calls all its units, and others too: (D - k) p^k = .97 if all ones
    were independent, 1.60 as units are used unequally often (Buckingham & Willshaw 1992: n of the M values, n binomial).
    Tolerance: 1 % of p; 10 % of the surplus, two of its standard errors over draws.
    """
    dim, active = 256, 8
    pairs = round(math.log(2) * dim**2 / active**2)
    generator = torch.Generator().manual_seed(0)

    def sparse() -> torch.Tensor:
        chosen = torch.rand(pairs, dim, generator=generator).topk(active).indices
        return torch.zeros(pairs, dim).scatter_(1, chosen, 1.0)

    keys, values = sparse(), sparse()
    rule = Willshaw()
    weights = rule.learn(rule.begin(dim, dim, keys), values, keys)
    filled = 1 - (1 - active**2 / dim**2) ** pairs
    assert filled == pytest.approx(0.5, abs=0.001)
    assert float(weights.mean()) == pytest.approx(filled, rel=0.01)
    called = keys @ weights.mT >= active
    assert called[values > 0].all()
    share = active / dim
    surplus = (dim - active) * sum(float(binom.pmf(n, pairs, share)) * (1 - (1 - share) ** n) ** active for n in range(pairs + 1))
    assert float(called.sum()) / pairs - active == pytest.approx(surplus, rel=0.1)
