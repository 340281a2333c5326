"""Laws of learning in sequence: how old patterns fade, what consolidation keeps, and what rehearsal and pseudo-rehearsal save."""

import math

import pytest
import torch
from scipy.stats import binomtest, ttest_1samp, ttest_rel
from sklearn.datasets import load_digits
from torch import Tensor

import ammon as am
from ammon.analysis.forgetting import agreed, forgetting_curve, forgotten, held, retained
from ammon.learning.consolidation import Consolidated
from ammon.learning.dense import ErrorDescent
from ammon.learning.hebb import Hebb
from ammon.memories.learned_dense import LearnedDenseMemory
from ammon.memories.rehearsal import PseudoRehearsal, Rehearsal, Study, Task, alone
from ammon.parts.lagrangians import Sign

DIM = 100


def _patterns(count: int, dim: int = DIM, seed: int = 0) -> Tensor:
    return am.random_patterns(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _tasks(per: int, seed: int, count: int = 5) -> list[Task]:
    generator = torch.Generator().manual_seed(seed)
    return [Task(am.random_patterns(per, DIM, generator=generator, dtype=torch.float64)) for _ in range(count)]


def _curve(rule: object, tasks: list[Task], study: Study, seed: int = 0) -> Tensor:
    def make() -> am.PairwiseMemory:
        return am.PairwiseMemory(DIM, rule, Sign(), steps=20, rehearse=False)  # type: ignore[arg-type]

    return forgetting_curve(make, tasks, held, study, generator=torch.Generator().manual_seed(seed))


# decay


@pytest.mark.parametrize("forgetting", [0.01, 0.05])
def test_with_decay_the_field_of_a_pattern_fades_geometrically_with_its_age(forgetting: float) -> None:
    """h_i ξ_i = (1 - λ)^age (D - 1) + crosstalk of mean 0 (Nadal et al. 1986; Parisi 1986). Student's t over draws, p > .001."""
    dim, draws = 200, 30
    means = []
    for draw in range(draws):
        patterns = _patterns(60, dim, draw)
        rule = Hebb(forgetting=forgetting, self_connections=False)
        weights = rule.learn(rule.begin(dim, dim, patterns), patterns, patterns)
        means.append((patterns * (patterns @ weights.mT)).mean(-1).flip(0) / (dim - 1))
    law = (1 - forgetting) ** torch.arange(60, dtype=torch.float64)
    measured = torch.stack(means)
    for age in (0, 5, 20, 50):
        assert ttest_1samp(measured[:, age].numpy(), float(law[age])).pvalue > 0.001


def test_one_step_errors_grow_with_age_as_the_gaussian_tail_says() -> None:
    """Wrong units: Q(signal/noise), signal (1 - λ)^age √(D - 1), noise² the sum of (1 - λ)^2b over all other ages b. One unit per draw
    counts, so that trials are independent; binomial test, p > .001. And the newest are held where the oldest are lost."""
    dim, count, forgetting, draws = 200, 150, 0.02, 60
    kept = (1 - forgetting) ** torch.arange(count, dtype=torch.float64)
    wrong = torch.zeros(count, dtype=torch.int64)
    for draw in range(draws):
        patterns = _patterns(count, dim, draw)
        rule = Hebb(forgetting=forgetting, self_connections=False)
        weights = rule.learn(rule.begin(dim, dim, patterns), patterns, patterns)
        unit = draw % dim
        wrong += (patterns[:, unit] * (patterns @ weights[unit]) < 0).flip(0).long()
    for age in (0, 10, 25, 50, 100, 149):
        noise = kept.square().sum() - kept[age] ** 2
        chance = 0.5 * math.erfc(float(kept[age] * math.sqrt((dim - 1) / noise)) / math.sqrt(2))
        assert binomtest(int(wrong[age]), draws, chance).pvalue > 0.001
    curve = _curve(Hebb(forgetting=0.1, self_connections=False), _tasks(4, 0, 8), alone)
    plain = _curve(Hebb(self_connections=False), _tasks(4, 0, 8), alone)
    assert curve[-1, -1] >= 0.75
    assert curve[-1, :3].mean() < 0.2
    # without decay the same load loses new and old alike
    assert plain[-1, -1] < 0.5


# consolidation of pairwise weights


@pytest.mark.parametrize("hetero", [False, True])
def test_with_the_full_fisher_information_tasks_in_order_are_all_tasks_at_once(hetero: bool) -> None:
    patterns, values = _patterns(30, 20), torch.randn(30, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rule = Consolidated(penalty=0.3)
    state = rule.begin(7 if hetero else 20, 20, patterns)
    for part in torch.arange(30).split([4, 1, 25]):
        x = patterns[part]
        state = rule.learn(state, values[part] if hetero else x, x)
    y = values if hetero else patterns
    ridge = torch.linalg.solve(patterns.mT @ patterns + 0.3 * torch.eye(20, dtype=torch.float64), patterns.mT @ y).mT
    torch.testing.assert_close(state.matrix, ridge)


def test_the_weights_are_the_minimum_of_the_penalised_error() -> None:
    x, y, z = _patterns(9, 6), torch.randn(9, 4, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    for fisher in ("full", "diagonal"):
        rule = Consolidated(0.2, 0.7, fisher)  # type: ignore[arg-type]
        old = rule.learn(rule.begin(4, 6, x), y, x)
        new = rule.learn(old, y[:5], z)
        information = x.mT @ x if fisher == "full" else (x.mT @ x).diagonal().diag()
        w = new.matrix.clone().requires_grad_()
        away = w - old.matrix
        loss = (y[:5] - z @ w.mT).square().sum() + (away @ (0.2 * torch.eye(6, dtype=torch.float64) + 0.7 * information) * away).sum()
        (gradient,) = torch.autograd.grad(loss, w)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


def test_for_signs_the_diagonal_fisher_information_is_the_same_for_every_weight() -> None:
    """So that elastic weights of a pairwise memory are one anchor for all, whatever the old patterns were."""
    one, other = _patterns(8, 20, 1), _patterns(8, 20, 2)
    rule = Consolidated(fisher="diagonal")
    for old in (one, other):
        assert torch.equal(rule.learn(rule.begin(20, 20, old), old, old).information, torch.full((20,), 8.0, dtype=torch.float64))
    assert not rule.online
    assert Consolidated().online
    with pytest.raises(ValueError, match="penalty must be positive"):
        Consolidated(0.0)
    with pytest.raises(ValueError, match="strength must be"):
        Consolidated(strength=-1.0)
    # inside the library the type checker of the tests may speak first
    with pytest.raises(Exception, match="fisher"):
        Consolidated(fisher="half")  # type: ignore[arg-type]


def test_what_holds_more_of_the_fisher_information_forgets_less() -> None:
    """5 tasks of 8 patterns, 100 units, settled: none < diagonal < full, which loses nothing; means over 5 draws."""
    found = {
        name: sum(forgotten(_curve(rule, _tasks(8, seed), alone)) for seed in range(5)) / 5
        for name, rule in (
            ("none", Consolidated(strength=0.0)),
            ("diagonal", Consolidated(fisher="diagonal")),
            ("full", Consolidated()),
        )
    }
    assert found["none"] > found["diagonal"] + 0.05
    assert found["diagonal"] > found["full"] == 0


# rehearsal


def test_rehearsing_everything_forgets_nothing_and_pseudo_items_lie_between() -> None:
    """5 tasks of 8 patterns, 100 units, least squares on what is studied: alone < 40 pseudo-items < all old patterns.
    Paired t-test over 8 draws, one-sided p < .01."""
    rule = Consolidated(strength=0.0)
    kinds: dict[str, Study] = {"alone": alone, "pseudo": PseudoRehearsal(40), "rehearsal": Rehearsal(1000)}
    found = {name: [retained(_curve(rule, _tasks(8, seed), study, seed)) for seed in range(8)] for name, study in kinds.items()}
    assert min(found["rehearsal"]) == 1
    assert ttest_rel(found["pseudo"], found["alone"], alternative="greater").pvalue < 0.01
    assert sum(found["pseudo"]) < sum(found["rehearsal"])


def test_the_curve_is_of_a_fresh_memory_and_changes_nothing() -> None:
    tasks = _tasks(6, 0)
    kept = [task.patterns.clone() for task in tasks]
    first, again = (_curve(Hebb(), tasks, PseudoRehearsal(5), seed=3) for _ in range(2))
    assert first.shape == (5, 5)
    assert torch.equal(first, again)
    assert all(torch.equal(a, task.patterns) for a, task in zip(kept, tasks, strict=True))
    assert retained(first) == float(first[-1].mean())
    assert forgotten(first[:1, :1]) == 0
    loss = sum(float(first[k, k] - first[-1, k]) for k in range(4)) / 4
    assert forgotten(first) == pytest.approx(loss)


def test_bad_tasks_and_counts_are_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match="there are no tasks"):
        forgetting_curve(lambda: am.kohonen(4), [], held, generator=generator)
    for kind in (Rehearsal, PseudoRehearsal):
        with pytest.raises(ValueError, match="count must be a whole number"):
            kind(0)
    rows = torch.ones(1, 4)
    with pytest.raises(ValueError, match="some tasks have values and some have none"):
        Rehearsal(1)(am.kohonen(4), Task(rows, rows), [Task(rows)], generator)
    with pytest.raises(ValueError, match="no values to agree with"):
        agreed(am.kohonen(4), Task(rows))


# the dense classifier


def _digits(pairs: bool) -> tuple[list[Task], list[Task]]:
    """scikit-learn's digits, to learn and to test: five pairs of digits, even or odd; or all ten, their pixels permuted five times."""
    data = load_digits()
    images, labels = torch.tensor(data.data).float() / 8 - 1, torch.tensor(data.target)
    train = torch.arange(len(labels)) % 2 == 0
    if pairs:
        targets = 2 * torch.nn.functional.one_hot(labels % 2).float() - 1
        return tuple([Task(images[m], targets[m]) for m in ((labels // 2 == k) & half for k in range(5))] for half in (train, ~train))  # type: ignore[return-value]
    targets = 2 * torch.nn.functional.one_hot(labels).float() - 1
    orders = [torch.randperm(64, generator=torch.Generator().manual_seed(k)) for k in range(5)]
    return tuple([Task(images[half][:, order], targets[half]) for order in orders] for half in (train, ~train))  # type: ignore[return-value]


def _digit_curve(tasks: tuple[list[Task], list[Task]], study: Study, seed: int, consolidation: float = 0.0) -> float:
    train, test = tasks
    rule = ErrorDescent(
        hidden=50, epochs=30, batch=50, rate=0.05, decay=0.95, start=0.3, end=0.3, tolerance=0.05, consolidation=consolidation, seed=seed
    )
    unseen = {id(task): other for task, other in zip(train, test, strict=True)}
    curve = forgetting_curve(
        lambda: LearnedDenseMemory(64, rule, rehearse=False),
        train,
        lambda memory, task: agreed(memory, unseen[id(task)]),
        study,
        generator=torch.Generator().manual_seed(seed),
    )
    return retained(curve)


@pytest.mark.slow
def test_consolidation_and_rehearsal_help_a_dense_classifier_on_split_digits() -> None:
    """Even or odd, five pairs of digits in order, accuracy on unseen ones after the last; paired t-tests, 5 seeds, one-sided p < .01."""
    tasks = _digits(pairs=True)
    plain = [_digit_curve(tasks, alone, seed) for seed in range(5)]
    elastic = [_digit_curve(tasks, alone, seed, consolidation=100.0) for seed in range(5)]
    rehearsed = [_digit_curve(tasks, Rehearsal(100), seed) for seed in range(5)]
    assert ttest_rel(elastic, plain, alternative="greater").pvalue < 0.01
    assert ttest_rel(rehearsed, elastic, alternative="greater").pvalue < 0.01


@pytest.mark.slow
def test_on_permuted_digits_pseudo_rehearsal_lies_between_nothing_and_rehearsal() -> None:
    """All ten digits, pixels permuted anew for each of five tasks (the ordering of McAlister et al. 2025); 3 seeds, all of them ordered."""
    tasks = _digits(pairs=False)
    for seed in range(3):
        plain, rehearsed = _digit_curve(tasks, alone, seed), _digit_curve(tasks, Rehearsal(100), seed)
        pseudo, elastic = _digit_curve(tasks, PseudoRehearsal(400), seed), _digit_curve(tasks, alone, seed, consolidation=10.0)
        assert plain + 0.03 < pseudo < rehearsed - 0.1
        assert elastic > plain + 0.2
