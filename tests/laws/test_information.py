"""Laws of the information that recall gives back, and of the search for a capacity."""

import math
from typing import Unpack

import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.analysis.information import channel_information, free_weights, information_per_weight
from ammon.analysis.storage import storage, storage_capacity
from ammon.dynamics.settle import Recall, Settling
from ammon.learning.base import cut_modules_
from ammon.parts.corruption import Swap


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_answers_without_an_error_tell_all_of_the_pattern() -> None:
    modular = am.modular_patterns(50, 6, 8, generator=_generator())
    assert channel_information(modular, modular, 6) == pytest.approx(6 * 3)
    sparse = am.sparse_patterns(50, 40, 5, generator=_generator())
    h = -(1 / 8) * math.log2(1 / 8) - (7 / 8) * math.log2(7 / 8)
    assert channel_information(sparse, sparse) == pytest.approx(40 * h)
    # a little more than it takes to choose 5 of 40
    assert math.log2(math.comb(40, 5)) < 40 * h < math.log2(math.comb(40, 5)) + math.log2(40)


def test_answers_drawn_at_random_tell_next_to_nothing() -> None:
    for modules, draw in (
        (6, lambda seed: am.modular_patterns(4000, 6, 8, generator=_generator(seed))),
        (1, lambda seed: am.sparse_patterns(4000, 48, 6, generator=_generator(seed))),
    ):
        # an estimate from 4000 patterns is too large by about 1/(2 ln 2 · samples) per free number
        assert channel_information(draw(0), draw(1), modules) < 0.01


def test_a_module_is_a_symmetric_channel() -> None:
    """From the definition: Σ p(x, y) log2 p(x, y)/(p(x) p(y)) with a wrong unit drawn evenly among the M - 1 others."""
    size, wrong, patterns = 5, 0.2, am.modular_patterns(1000, 1, 5, generator=_generator())
    answers = patterns.clone()
    answers[:200] = Swap(1.0)(patterns[:200], generator=_generator(1))
    joint = torch.full((size, size), wrong / (size - 1) / size, dtype=torch.float64).fill_diagonal_((1 - wrong) / size)
    expected = float((joint * (joint / (1 / size) ** 2).log2()).sum())
    assert channel_information(patterns, answers) == pytest.approx(expected)


def test_a_unit_is_a_binary_channel() -> None:
    """From the definition, with the shares counted."""
    patterns = am.sparse_patterns(300, 30, 6, generator=_generator())
    answers = patterns.clone()
    answers[:100] = Swap(0.5)(patterns[:100], generator=_generator(1))
    answers[0] = 1
    expected = 0.0
    for x in (0, 1):
        for y in (0, 1):
            both = float(((patterns == x) & (answers == y)).double().mean())
            expected += both * math.log2(both / (float((patterns == x).double().mean()) * float((answers == y).double().mean())))
    assert channel_information(patterns, answers) == pytest.approx(30 * expected)


def test_what_the_cue_has_is_not_credited_to_the_weights() -> None:
    patterns = am.modular_patterns(40, 6, 8, generator=_generator())
    cue = Swap(1 / 3, 6)(patterns, generator=_generator(1))
    assert information_per_weight(patterns, cue, 1000, cue=cue, modules=6) == 0
    whole, gained = (information_per_weight(patterns, patterns, 1000, cue=c, modules=6) for c in (None, cue))
    assert whole == pytest.approx(40 * 18 / 1000)
    assert 0 < gained < whole


def test_free_weights_are_the_entries_that_a_rule_may_set() -> None:
    assert free_weights(10) == 45
    assert free_weights(10, symmetric=False) == 90
    assert free_weights(12, 3, symmetric=False) == 12 * 8
    assert free_weights(64, 8, symmetric=False) == int(cut_modules_(torch.ones(64, 64), 8).sum())
    assert free_weights(1) == 0


class _Shelf(am.Memory):
    """Gives back what it was given as long as it holds no more than `most` patterns, and zeros from then on."""

    def __init__(self, dim: int, most: int) -> None:
        super().__init__()
        self.dim, self.most, self.held = dim, most, torch.zeros(0, dim)

    def write(self, patterns: Tensor, values: Tensor | None = None) -> None:
        self.held = patterns

    def recall(self, cue: Tensor, **settling: Unpack[Settling]) -> Recall:
        state = self.held if len(self.held) <= self.most else torch.zeros_like(cue)
        steps = torch.ones(len(cue), dtype=torch.int64)
        return Recall(state, steps, steps > 0, steps < 0)

    def __len__(self) -> int:
        return len(self.held)


@pytest.mark.parametrize("most", [0, 1, 7, 16, 100, 1000])
def test_the_search_finds_the_number_that_a_memory_holds(most: int) -> None:
    generator = _generator()
    found = storage_capacity(
        lambda: _Shelf(20, most), lambda number: am.modular_patterns(number, 4, 5, generator=generator), Swap(0.25, 4), generator=generator
    )
    assert most * 0.98 - 1 <= found <= most
    limited = storage_capacity(
        lambda: _Shelf(20, 10**9), lambda number: am.modular_patterns(number, 4, 5, generator=generator), Swap(0.25, 4),
        generator=generator, limit=50,
    )  # fmt: skip
    assert limited == 50


def test_storage_counts_patterns_entries_and_bits() -> None:
    targets = am.modular_patterns(10, 4, 5, generator=_generator())
    memory = _Shelf(20, 10)
    wrong = targets.clone()
    wrong[0] = Swap(0.25, 4)(targets[:1], generator=_generator())
    memory.write(wrong)
    cues = Swap(1.0, 4)(targets, generator=_generator())
    found = storage(memory, targets, cues, modules=4, num_weights=100)
    assert found.exact == pytest.approx(0.9)
    assert found.units == pytest.approx(1 - 2 / 200)
    assert found.bits == pytest.approx(channel_information(targets, wrong, 4))
    assert found.bits_per_weight == pytest.approx(information_per_weight(targets, wrong, 100, cue=cues, modules=4))
    assert storage(memory, targets, cues, modules=4).bits_per_weight == 0


def test_what_cannot_be_measured_is_refused() -> None:
    rows = am.modular_patterns(4, 2, 3, generator=_generator())
    for call, message in (
        (lambda: channel_information(rows, rows[:2]), "of one shape"),
        (lambda: channel_information(rows, -rows), "answer must hold only 0 and 1"),
        (lambda: channel_information(rows, rows, 4), "6 units do not make 4 equal modules"),
        (lambda: free_weights(6, 4), "6 units do not make 4 equal modules"),
        (lambda: information_per_weight(rows, rows, 0), "num_weights must be a whole number"),
        (lambda: storage(_Shelf(6, 9), rows, rows[:2]), "each with its own cue"),
        (lambda: storage(_Shelf(6, 9), rows[:0], rows[:0]), "at least one target"),
        (lambda: storage_capacity(lambda: _Shelf(6, 9), lambda n: rows, Swap(0.5), generator=_generator(), criterion=0.0), "criterion in"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert channel_information(rows[:0], rows[:0], 2) == 0
