"""The fast sweep against the plain loop: every unit in turn, both energies computed in full."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ammon.dynamics import sweep as module
from ammon.dynamics.sweep import sweep
from ammon.energies.flips import PatternFlips
from ammon.parts.corruption import Flip
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.parts.patterns import random_patterns
from ammon.parts.separations import Exponential, Power, RectifiedPower, Softmax

SEPARATIONS = [
    Identity(),
    Power(2),
    Power(3),
    Power(4),
    Power(5),
    Power(30, unit=9.0),
    RectifiedPower(2),
    RectifiedPower(3),
    Softmax(0.4),
    Exponential(0.4),
    Softmax(50.0),
]


def plain_sweep(keys: Tensor, separation: Lagrangian, state: Tensor, order: Tensor, free: Tensor | None = None) -> Tensor:
    """sign(0) = +1; energies in float64 from whole-number overlaps, compared by `contrast`, which has its own law."""
    state = state.clone()
    for unit in order.tolist():
        up, down = state.clone(), state.clone()
        up[:, unit], down[:, unit] = 1, -1
        better = separation.contrast(up @ keys.mT, down @ keys.mT) >= 0
        new = torch.where(better, 1.0, -1.0).to(state)
        state[:, unit] = new if free is None else torch.where(free[:, unit], new, state[:, unit])
    return state


@pytest.mark.parametrize("separation", SEPARATIONS, ids=lambda s: f"{type(s).__name__} {getattr(s, 'n', getattr(s, 'beta', ''))}")
@given(
    seed=st.integers(0, 10**6),
    patterns=st.integers(1, 40),
    dim=st.integers(1, 30),
    batch=st.integers(1, 7),
    room=st.sampled_from([1, 300, 2**18]),
    block=st.sampled_from([1, 3, 64]),
)
@settings(max_examples=25, deadline=None)
def test_the_fast_sweep_visits_the_states_of_the_plain_one(
    separation: Lagrangian, seed: int, patterns: int, dim: int, batch: int, room: int, block: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = random_patterns(patterns, dim, generator=generator, dtype=torch.float64)
    state = random_patterns(batch, dim, generator=generator, dtype=torch.float64)
    free = torch.rand(batch, dim, generator=generator) < 0.8
    order = torch.randperm(dim, generator=generator)
    kept = module.ROOM, module.BLOCKS
    module.ROOM, module.BLOCKS = room, (block, block)
    try:
        fast = sweep(PatternFlips(keys, separation), state, order, free)
        in_turn = sweep(PatternFlips(keys, separation), state)
    finally:
        module.ROOM, module.BLOCKS = kept
    if isinstance(separation, Softmax | Exponential) or getattr(separation, "n", 0) == 30:
        # sums of exponentials and 30th powers are rounded, so an exact tie may fall either way: then the energies must tie too
        _equal_or_tied(keys, separation, state, order, free, fast)
    else:
        assert torch.equal(fast, plain_sweep(keys, separation, state, order, free))
        assert torch.equal(in_turn, plain_sweep(keys, separation, state, torch.arange(dim)))


def _equal_or_tied(keys: Tensor, separation: Lagrangian, state: Tensor, order: Tensor, free: Tensor, fast: Tensor) -> None:
    """Follow the fast sweep unit by unit: each decision must be the right one, or a tie up to rounding."""
    state = state.clone()
    for unit in order.tolist():
        up, down = state.clone(), state.clone()
        up[:, unit], down[:, unit] = 1, -1
        difference = separation.contrast(up @ keys.mT, down @ keys.mT)
        size = separation.direction(up @ keys.mT).abs().sum(-1)
        if isinstance(separation, Power):
            largest = torch.maximum((up @ keys.mT).abs().amax(-1), (down @ keys.mT).abs().amax(-1))
            size, difference = torch.ones_like(size), difference / torch.ldexp(largest, -torch.frexp(largest).exponent).pow(separation.n)
        wrong = (difference > 1e-10 * size) & (fast[:, unit] < 0) | (difference < -1e-10 * size) & (fast[:, unit] > 0)
        assert not (wrong & free[:, unit]).any()
        state[:, unit] = torch.where(free[:, unit], fast[:, unit], state[:, unit])
    assert torch.equal(state, fast)


def test_float32_and_bfloat16_states_take_the_path_of_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = random_patterns(150, 64, generator=generator)
    state = Flip(0.3)(keys[:20], generator=generator)
    for separation in (Identity(), Power(3), RectifiedPower(3)):
        exact = sweep(PatternFlips(keys.double(), separation), state.double())
        for dtype in (torch.float32, torch.bfloat16):
            ours = sweep(PatternFlips(keys.to(dtype), separation), state.to(dtype))
            assert ours.dtype == dtype
            assert torch.equal(ours.double(), exact)


def test_a_batch_takes_the_path_of_each_item_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    keys = random_patterns(100, 48, generator=generator, dtype=torch.float64)
    state = random_patterns(16, 48, generator=generator, dtype=torch.float64)
    flips = PatternFlips(keys, Power(3))
    whole = sweep(flips, state)
    for row in range(16):
        assert torch.equal(whole[row : row + 1], sweep(flips, state[row : row + 1]))
