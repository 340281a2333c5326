"""Tang, Barron & Bogacz 2023 (2305.11982): capacity of temporal predictive coding against asymmetric Hopfield networks.

The largest number of patterns P at which one step from each has less than 1 % of its bits wrong, over 10 draws; entries are +1 with
probability (1 + b)/2, else -1. The paper's figures are curves; what they say is tested: more than the asymmetric network always, and more
than the quadratic one where patterns look alike.
"""

import math
from collections.abc import Callable

import pytest
import torch

import ammon as am


def errors(make: Callable[[int], am.Memory], count: int, dim: int, bias: float, draws: int = 10) -> float:
    generator, wrong = torch.Generator().manual_seed(count), 0.0
    for _ in range(draws):
        rows = torch.where(torch.rand(count, dim, generator=generator) < (1 + bias) / 2, 1.0, -1.0)
        memory = make(dim)
        memory.write(rows)
        wrong += float((memory.recall(rows[:-1]).state != rows[1:]).double().mean())
    return wrong / draws


def capacity(make: Callable[[int], am.Memory], dim: int, bias: float) -> int:
    """By bisection, to 5 %."""
    low, high = 2, 4
    while errors(make, high, dim, bias) < 0.01:
        low, high = high, 2 * high
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        low, high = (middle, high) if errors(make, middle, dim, bias) < 0.01 else (low, middle)
    return low


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_temporal_predictive_coding_holds_as_many_patterns_as_it_has_units_however_alike_they_are(bias: float) -> None:
    for dim in (20, 50):
        assert dim <= capacity(am.temporal_predictive, dim, bias) <= 1.3 * dim


def test_it_holds_more_than_the_asymmetric_network_and_more_than_the_quadratic_one_where_patterns_look_alike() -> None:
    capacities = {bias: [capacity(lambda dim, d=d: am.sequence(dim, d=d), 50, bias) for d in (1, 2)] for bias in (0.0, 0.4)}
    assert capacities[0.0][0] < 0.25 * 50
    # random patterns: about D²/(2 · 3 ln D) for d = 2 with no error, more with 1 % of them
    assert capacities[0.0][1] > max(50 * 50 / (6 * math.log(50)), 1.3 * 50)
    assert max(capacities[0.4]) < 0.5 * 50
