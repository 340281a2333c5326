"""Laws of competing hidden units."""

import pytest
import torch
from torch import Tensor

from ammon.learning.competing import CompetingUnits, train


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


RULES = [CompetingUnits(), CompetingUnits(3.0, 4, 0.3), CompetingUnits(2.5, 3, 0.0, radius=2.0), CompetingUnits(1.0, 2, 0.4)]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_batch_is_the_plain_loop_over_patterns_units_and_entries(rule: CompetingUnits) -> None:
    weights, patterns = _draw(6, 7), _draw(9, 7, seed=1)
    change = torch.zeros(6, 7, dtype=torch.float64)
    for v in patterns:
        currents = [sum(float(abs(w[i]) ** (rule.power - 1) * w[i].sign() * v[i]) for i in range(7)) for w in weights]
        order = sorted(range(6), key=lambda unit: -currents[unit])
        for unit, gate in ((order[0], 1.0), (order[rule.rank - 1], -rule.push)):
            for i in range(7):
                change[unit, i] += gate * (rule.radius**rule.power * float(v[i]) - currents[unit] * float(weights[unit, i]))
    torch.testing.assert_close(rule.change(weights, patterns), change)
    torch.testing.assert_close(rule.learn(weights, patterns, 0.1), weights + 0.1 * change / change.abs().max())
    # and what it began with is as it was
    assert torch.equal(weights, _draw(6, 7))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_norm_of_a_unit_moves_towards_the_radius_while_its_currents_are_positive(rule: CompetingUnits) -> None:
    """d|W|^p = p Σ |W|^(p-1) sign(W) dW = p (R^p - |W|^p) Σ g <W, v>: an identity of the change."""
    weights, patterns = _draw(6, 7), _draw(9, 7, seed=1)
    pull = rule.power * (weights.sign() * weights.abs() ** (rule.power - 1) * rule.change(weights, patterns)).sum(-1)
    currents = rule.currents(weights, patterns)
    places = currents.argsort(dim=-1, descending=True)
    gate = torch.zeros_like(currents).scatter_(1, places[:, rule.rank - 1 : rule.rank], -rule.push).scatter_(1, places[:, :1], 1.0)
    norm = weights.abs().pow(rule.power).sum(-1)
    torch.testing.assert_close(pull, rule.power * (rule.radius**rule.power - norm) * (gate * currents).sum(0))


@pytest.mark.parametrize(
    "rule", [CompetingUnits(push=0.05), CompetingUnits(3.0, 3, 0.05), CompetingUnits(2.0, push=0.0, radius=2.0)], ids=repr
)
def test_weights_converge_to_the_radius_in_the_p_norm(rule: CompetingUnits) -> None:
    generator = torch.Generator().manual_seed(0)
    # four clusters of positive patterns for four units: each comes to win some
    centres = torch.eye(4, dtype=torch.float64).repeat_interleave(5, 1)
    patterns = (centres.repeat_interleave(50, 0) + 0.1 * _draw(200, 20)).clamp_min(0)
    weights = 0.2 + 0.1 * torch.rand(4, 20, dtype=torch.float64, generator=generator) + centres
    trained = train(rule, weights, patterns, epochs=150, batch=20, generator=generator)
    norms = trained.abs().pow(rule.power).sum(-1).pow(1 / rule.power)
    torch.testing.assert_close(norms, torch.full_like(norms, rule.radius), atol=0.01, rtol=0)
    # and each unit has taken a cluster for itself
    assert sorted((trained @ centres.mT).argmax(-1).tolist()) == [0, 1, 2, 3]


def test_the_same_generator_gives_the_same_weights_in_every_dtype_it_is_asked_for() -> None:
    rule, patterns = CompetingUnits(), _draw(30, 6).abs()
    first, second = (
        train(
            rule,
            rule.begin(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
            patterns,
            epochs=3,
            batch=7,
            generator=torch.Generator().manual_seed(2),
        )
        for _ in range(2)
    )
    assert torch.equal(first, second)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        weights = rule.begin(5, 6, generator=torch.Generator().manual_seed(1), dtype=dtype)
        learned = rule.learn(weights, patterns.to(dtype))
        assert learned.dtype == dtype
        assert torch.isfinite(learned).all()
        assert float((learned - weights).abs().max()) == pytest.approx(rule.rate, rel=0.15 if dtype == torch.bfloat16 else 0.05)


def test_nothing_to_learn_changes_nothing() -> None:
    rule, weights = CompetingUnits(), _draw(3, 4)
    assert torch.equal(rule.learn(weights, _draw(0, 4)), weights)
    assert torch.equal(rule.learn(weights, torch.zeros(2, 4, dtype=torch.float64)), weights)


def test_what_cannot_compete_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    for call, message in (
        (lambda: CompetingUnits(power=0.5), "power must be at least 1"),
        (lambda: CompetingUnits(rank=1), "rank must be at least 2"),
        (lambda: CompetingUnits(push=-0.1), "push must be >= 0"),
        (lambda: CompetingUnits(rate=0.0), "rate must be positive"),
        (lambda: CompetingUnits(radius=float("inf")), "radius must be positive and finite"),
        (lambda: CompetingUnits(rank=5).begin(4, 3, generator=generator), "4 hidden units have no place 5"),
        (lambda: CompetingUnits(rank=5).learn(_draw(4, 3), _draw(2, 3)), "4 hidden units have no place 5"),
        (lambda: CompetingUnits().learn(_draw(4, 3), _draw(2, 5)), "pattern has dim 5"),
        (lambda: CompetingUnits().learn(_draw(4, 3), _draw(2, 3) * torch.nan), "NaN or infinite"),
        (lambda: train(CompetingUnits(), _draw(4, 3), _draw(2, 3), epochs=0, generator=generator), "epochs must be a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
