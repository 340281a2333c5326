"""Many networks recalled as one batch, against each recalled by itself."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.dynamics.sweep import LINEAR_BLOCK, sweep
from ammon.energies.flips import PatternFlips
from ammon.energies.owned import Owners
from ammon.energies.pairwise_flips import PairwiseFlips
from ammon.learning.bayes import Bcpnn
from ammon.memories.base import Memory
from ammon.memories.pairwise import PairwiseMemory
from ammon.memories.together import recall_together
from ammon.parts.corruption import Flip
from ammon.parts.lagrangians import Identity, Lagrangian
from ammon.parts.patterns import random_patterns
from ammon.parts.separations import Exponential, Power, RectifiedPower, Softmax

MAKE: dict[str, Callable[[int], Memory]] = {
    "hopfield": am.hopfield,
    "dense 2": lambda dim: am.dense(dim, n=2),
    "dense 3": am.dense,
    "dense 30": lambda dim: am.dense(dim, n=30),
    "rectified": am.rectified_dense,
    "exponential": am.exponential,
    "storkey": am.storkey,
    "pseudo_inverse": am.pseudo_inverse,
    "synchronous": am.synchronous_hopfield,
    "modern": am.modern_hopfield,
}


def networks(make: Callable[[int], Memory], dim: int, counts: list[int], cues: list[int]) -> tuple[list[Memory], list[Tensor]]:
    generator = torch.Generator().manual_seed(7)
    memories, shown = [], []
    for count, asked in zip(counts, cues):
        patterns = random_patterns(count, dim, generator=generator)
        memories.append(make(dim))
        memories[-1].write(patterns)
        some = patterns[torch.arange(asked) % count]
        shown.append(Flip(0.2)(some, generator=generator) if asked else some)
    return memories, shown


@pytest.mark.parametrize("counts", [[9, 9, 9, 9], [9, 8, 9, 3]], ids=["of one size", "of several sizes"])
@pytest.mark.parametrize("cues", [[5, 5, 5, 5], [1, 1, 1, 1], [0, 7, 1, 12]], ids=str)
@pytest.mark.parametrize("name", MAKE)
def test_networks_recalled_together_answer_as_each_does_alone(name: str, cues: list[int], counts: list[int]) -> None:
    memories, shown = networks(MAKE[name], 45, counts, cues)
    together = recall_together(memories, shown, keep=True)
    for memory, cue, found in zip(memories, shown, together):
        if len(cue):
            alone = memory.recall(cue, keep=True)
            torch.testing.assert_close(found.state, alone.state)
            assert torch.equal(found.steps, alone.steps)
            assert torch.equal(found.converged, alone.converged)
            assert found.trajectory is not None
            assert alone.trajectory is not None
            # the batch goes on until the slowest has settled; what has settled stays
            torch.testing.assert_close(found.trajectory[: len(alone.trajectory)], alone.trajectory)


def test_one_order_for_all_is_that_of_each_alone_with_the_same_generator() -> None:
    memories, shown = networks(am.hopfield, 60, [12] * 5, [4] * 5)
    together = recall_together(memories, shown, generator=torch.Generator().manual_seed(3))
    for memory, cue, found in zip(memories, shown, together):
        assert torch.equal(found.state, memory.recall(cue, generator=torch.Generator().manual_seed(3)).state)


def test_memories_that_differ_in_their_separation_are_not_taken_for_one_kind() -> None:
    memories, shown = networks(am.hopfield, 30, [20] * 3, [6] * 3)
    for place, make in enumerate((am.dense, lambda dim: am.dense(dim, n=4), lambda dim: am.exponential(dim, beta=0.1))):
        other = make(30)
        other.write(memories[place].keys.rows)  # type: ignore[union-attr, arg-type]
        memories[place] = other
    for memory, cue, found in zip(memories, shown, recall_together(memories, shown)):
        assert torch.equal(found.state, memory.recall(cue).state)


def test_what_does_not_go_together_is_refused() -> None:
    memories, shown = networks(am.hopfield, 20, [3, 3], [2, 2])
    with pytest.raises(ValueError, match="2 memories came with 1"):
        recall_together(memories, shown[:1])
    with pytest.raises(ValueError, match="clamp"):
        recall_together(memories, shown, clamp=torch.zeros(2, 20, dtype=torch.bool))
    with pytest.raises(ValueError, match="only -1 and \\+1"):
        recall_together(memories, [shown[0], shown[1] * 0.5])
    with pytest.raises(ValueError, match="empty"):
        recall_together([am.hopfield(20), am.hopfield(20)], shown)
    assert recall_together([], []) == []


@pytest.mark.parametrize("owner", [[0, 0, 1, 1, 2, 2], [0, 2, 2, 2], [1], [], [0, 0, 0, 1, 2]], ids=str)
def test_each_row_meets_the_matrix_of_its_owner(owner: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, matrices = torch.randn(len(owner), 4, generator=generator), torch.randn(3, 5, 4, generator=generator)
    plain = torch.stack([matrices[network] @ row for network, row in zip(owner, rows)]) if owner else torch.empty(0, 5)
    torch.testing.assert_close(Owners(torch.tensor(owner, dtype=torch.int64), 3).product(rows, matrices), plain)


def plain_sweep(keys: Tensor, separation: Lagrangian, state: Tensor) -> Tensor:
    """Every unit in turn, both energies in full."""
    state = state.clone()
    for unit in range(state.shape[1]):
        up, down = state.clone(), state.clone()
        up[:, unit], down[:, unit] = 1, -1
        state[:, unit] = torch.where(separation.contrast(up @ keys.mT, down @ keys.mT) >= 0, 1.0, -1.0).to(state)
    return state


@pytest.mark.parametrize(
    "separation", [Identity(), Power(2), Power(3), RectifiedPower(2), Softmax(0.4), Exponential(0.4), Softmax(50.0)], ids=str
)
def test_a_sweep_over_many_networks_is_the_plain_loop_over_each(separation: Lagrangian) -> None:
    dim = LINEAR_BLOCK + 5
    generator = torch.Generator().manual_seed(1)
    keys = torch.stack([random_patterns(30, dim, generator=generator, dtype=torch.float64) for _ in range(3)])
    owner = torch.tensor([0, 0, 0, 2, 2])
    state = random_patterns(5, dim, generator=generator, dtype=torch.float64)
    fast = sweep(PatternFlips(keys, separation, owner), state)
    for network in (0, 2):
        assert torch.equal(fast[owner == network], plain_sweep(keys[network], separation, state[owner == network]))


@pytest.mark.parametrize("whole", [True, False], ids=["whole numbers", "any numbers"])
def test_a_sweep_over_many_matrices_is_the_plain_loop_over_each(whole: bool) -> None:
    dim = LINEAR_BLOCK + 9
    generator = torch.Generator().manual_seed(2)
    weights, bias = torch.randn(3, dim, dim, generator=generator).double(), torch.randn(3, dim, generator=generator).double()
    if whole:
        # ties come up and must become +1 in both
        weights, bias = weights.round(), bias.round()
    owner = torch.tensor([0, 1, 1, 2])
    state = random_patterns(4, dim, generator=generator, dtype=torch.float64)
    free = torch.rand(4, dim, generator=generator) < 0.8
    order = torch.randperm(dim, generator=generator)
    plain = state.clone()
    for unit in order.tolist():
        for item, network in enumerate(owner.tolist()):
            if free[item, unit]:
                others = weights[network, unit] @ plain[item] - weights[network, unit, unit] * plain[item, unit] + bias[network, unit]
                plain[item, unit] = 1.0 if others >= 0 else -1.0
    assert torch.equal(sweep(PairwiseFlips(weights, bias, owner), state, order, free), plain)


def test_biases_that_a_rule_learns_travel_with_their_network() -> None:
    generator = torch.Generator().manual_seed(5)
    memories, shown = [], []
    for _ in range(3):
        memory = PairwiseMemory(20, Bcpnn(), steps=10, update="asynchronous")
        patterns = (random_patterns(6, 20, generator=generator) + 1) / 2
        memories.append(memory)
        shown.append(patterns[:2] * 2 - 1)
        # written as 0 and 1, recalled as signs
        memory.activation, kept = Identity(), memory.activation
        memory.write(patterns)
        memory.activation = kept
    for memory, cue, found in zip(memories, shown, recall_together(memories, shown)):
        assert memory.bias is not None
        assert torch.equal(found.state, memory.recall(cue).state)
