"""Transitions in one matrix: a temporal predictive network at rest, held against least squares, its own loop and the pseudo-inverse."""

import numpy as np
import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.learning.hebb import Hebb
from ammon.learning.predictive import learn_transitions
from ammon.learning.pseudo_inverse import PseudoInverse
from ammon.learning.regression import Regression
from ammon.memories.sequence import SequenceMemory
from ammon.memories.transitions import TransitionMemory
from ammon.parts.lagrangians import Identity
from ammon.parts.separations import Power


def real(count: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def signs(count: int, dim: int, seed: int = 0) -> Tensor:
    return torch.where(real(count, dim, seed) >= 0, 1.0, -1.0).double()


def linear(dim: int, ridge: float = 1e-7) -> TransitionMemory:
    return TransitionMemory(dim, Regression(ridge), Identity(), "open")


@pytest.mark.parametrize("count", [3, 40])
def test_the_weights_are_the_ridge_regression_of_each_state_on_the_one_before(count: int) -> None:
    memory, rows = linear(6, ridge=0.1), real(count, 6)
    memory.write(rows)
    before, after = rows[:-1].numpy(), rows[1:].numpy()
    # least squares with rows of √λ below those of the data
    noise = 0.1 * np.square(before).sum(0).mean()
    stacked = np.concatenate([before, np.sqrt(noise) * np.eye(6)])
    wanted = np.linalg.lstsq(stacked, np.concatenate([after, np.zeros((6, 6))]), rcond=None)[0].T
    np.testing.assert_allclose(memory.network.matrix.numpy(), wanted, atol=1e-10)


def test_the_local_loop_of_a_temporal_network_comes_to_the_same_weights() -> None:
    memory, rows = linear(30), real(6, 30)
    memory.write(rows)
    torch.testing.assert_close(learn_transitions(rows, 2_000, 0.1), memory.network.matrix, rtol=0, atol=1e-6)


def test_independent_patterns_of_signs_are_followed_as_by_the_asymmetric_pseudo_inverse() -> None:
    rows, cue = signs(12, 30), signs(50, 30, seed=1)
    predictive, projecting = am.temporal_predictive(30, ridge=1e-8), SequenceMemory(30, Power(2), pseudo_inverse=True)
    by_rule = TransitionMemory(30, PseudoInverse())
    for memory in (predictive, projecting, by_rule):
        memory.write(rows)
    for memory in (projecting, by_rule):
        assert torch.equal(predictive.recall(cue).state, memory.recall(cue).state)


def test_with_hebbs_rule_it_is_the_asymmetric_hopfield_network_with_own_votes() -> None:
    memory, rows, cue = TransitionMemory(20, Hebb(), end="cyclic"), signs(5, 20), signs(9, 20, seed=1)
    memory.write(rows)
    field = sum(torch.outer(cue @ rows[t], rows[(t + 1) % 5]) for t in range(5))
    assert torch.equal(memory.recall(cue).state, torch.where(field >= 0, 1.0, -1.0).double())


def test_a_sequence_of_real_rows_is_followed_to_its_end() -> None:
    memory, rows = linear(12), real(10, 12)
    memory.write(rows)
    found = memory.recall(rows[:1], steps=9, keep=True)
    torch.testing.assert_close(found.trajectory[:, 0], rows, rtol=0, atol=1e-4)


def test_what_is_written_in_pieces_is_two_sequences_and_the_sums_of_both() -> None:
    first, second = signs(5, 16), signs(4, 16, seed=1)
    memory, pairs = am.temporal_predictive(16, end="open"), am.temporal_predictive(16)
    memory.write(first)
    memory.write(second)
    pairs.write(torch.cat([first[:-1], second[:-1]]), torch.cat([first[1:], second[1:]]))
    torch.testing.assert_close(memory.network.matrix, pairs.network.matrix, rtol=0, atol=1e-12)
    assert (len(memory), len(pairs)) == (9, 7)


def test_ends_are_held_cycled_or_open() -> None:
    rows = signs(4, 40)
    for end, after in (("held", 3), ("cyclic", 0)):
        memory = am.temporal_predictive(40, end=end)
        memory.write(rows)
        assert torch.equal(memory.recall(rows[3:]).state, rows[after : after + 1])
    memory = am.temporal_predictive(40, end="open")
    memory.write(rows)
    assert torch.equal(memory.recall(rows[:3]).state, rows[1:])


def test_values_of_another_size_are_read_once() -> None:
    memory, rows, values = am.temporal_predictive(20), signs(4, 20), signs(4, 3, seed=2)
    memory.write(rows, values)
    assert torch.equal(memory.recall(rows).state, values)
    with pytest.raises(ValueError, match="values of another size are read once; got steps=2"):
        memory.recall(rows, steps=2)


def test_what_makes_no_sense_is_refused_in_one_line() -> None:
    memory = am.temporal_predictive(4)
    with pytest.raises(ValueError, match=r"TransitionMemory\.write: the pattern must hold only -1 and \+1"):
        memory.write(torch.rand(3, 4))
    with pytest.raises(ValueError, match=r"TransitionMemory\.write: the value must hold only -1 and \+1"):
        memory.write(signs(3, 4), torch.rand(3, 2).double())
    with pytest.raises(ValueError, match="an open sequence needs at least 2 patterns, got 1"):
        am.temporal_predictive(4, end="open").write(signs(1, 4))
    with pytest.raises(ValueError, match='end must be "held", "cyclic" or "open"'):
        am.temporal_predictive(4, end="closed")
    with pytest.raises(ValueError, match="ridge must be positive"):
        am.temporal_predictive(4, ridge=0.0)
    with pytest.raises(ValueError, match="ridge must be at least 1e-9"):
        am.temporal_predictive(4, ridge=1e-12)
    memory.write(signs(3, 4))
    with pytest.raises(ValueError, match=r"recall: the cue must hold only -1 and \+1"):
        memory.recall(torch.zeros(1, 4, dtype=torch.float64))
    with pytest.raises(TypeError, match="descends nothing"):
        memory.energy(signs(1, 4))
    with pytest.raises(TypeError, match="superposed"):
        memory.weights(signs(1, 4))


def test_zeros_predict_zeros() -> None:
    memory = linear(3)
    memory.write(torch.zeros(4, 3, dtype=torch.float64))
    assert not memory.recall(torch.ones(2, 3, dtype=torch.float64)).state.any()
