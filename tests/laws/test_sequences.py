"""Laws of sequence memories: the fast step equals the self-excluded loop, and recall follows what was written."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.memories.sequence import End, Mixed, SequenceMemory
from ammon.parts.lagrangians import Lagrangian
from ammon.parts.separations import Entmax, Power, RectifiedPower, Softmax

Overlap = Callable[[Tensor, int], Tensor]
SEPARATIONS: dict[str, tuple[Callable[[int], Lagrangian], Overlap]] = {
    "d = 1": (lambda dim: Power(2, unit=dim), lambda m, dim: m),
    "d = 2": (lambda dim: Power(3, unit=dim), lambda m, dim: m**2),
    "d = 3": (lambda dim: Power(4), lambda m, dim: m**3),
    "d = 7": (lambda dim: Power(8, unit=dim), lambda m, dim: m**7),
    "rectified": (lambda dim: RectifiedPower(3), lambda m, dim: torch.relu(m) ** 2),
    "exponential": (lambda dim: Softmax(1.0), lambda m, dim: torch.exp((dim - 1) * (m - 1))),
    "steep": (lambda dim: Softmax(7.0), lambda m, dim: torch.exp(7 * (dim - 1) * (m - 1))),
}


def _patterns(count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return am.random_patterns(count, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _plain_field(keys: Tensor, nexts: Tensor, states: Tensor, f: Overlap) -> Tensor:
    """Σ_μ y_i f(m_μ^i) with m_μ^i = (ξ^μ·s - ξ_i^μ s_i)/(N - 1), unit by unit in float64."""
    keys, nexts, dim = keys.double(), nexts.double(), keys.shape[1]
    fields = [torch.stack([nexts[:, i] @ f((keys @ s - keys[:, i] * s[i]) / (dim - 1), dim) for i in range(dim)]) for s in states.double()]
    return torch.stack(fields)


def _are_signs(states: Tensor, fields: Tensor) -> bool:
    """Whether each state is the sign of its field; one that is 0 up to rounding may have either."""
    sure = fields.abs() > 1e-12 * fields.abs().amax(-1, keepdim=True)
    assert sure.double().mean() > 0.8
    return torch.equal(states[sure].double(), fields[sure].sign())


def _cues(patterns: Tensor) -> Tensor:
    """The patterns, states near them, and states far from all."""
    near = patterns.clone()
    near[:, :3] *= -1
    return torch.cat([patterns, near, _patterns(30, patterns.shape[1], seed=1, dtype=patterns.dtype)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", SEPARATIONS)
def test_a_step_is_that_of_the_plain_loop_which_leaves_each_units_own_vote_out(name: str, dtype: torch.dtype) -> None:
    make, f = SEPARATIONS[name]
    patterns = _patterns(9, 23, dtype=dtype)
    memory = SequenceMemory(23, make(23), end="open")
    memory.write(patterns)
    state = memory.recall(_cues(patterns)).state
    assert state.dtype == dtype
    assert _are_signs(state, _plain_field(patterns[:-1], patterns[1:], _cues(patterns), f))


@pytest.mark.parametrize("name", ["d = 1", "d = 2", "d = 3", "exponential"])
def test_the_vote_left_out_makes_a_difference(name: str) -> None:
    make, f = SEPARATIONS[name]
    patterns, cue = _patterns(30, 11, dtype=torch.float64), _patterns(200, 11, seed=1, dtype=torch.float64)
    memory = SequenceMemory(11, make(11), end="cyclic")
    memory.write(patterns)
    every_vote = f(cue @ patterns.mT / 11, 11) @ patterns.roll(-1, 0)
    assert not torch.equal(memory.recall(cue).state, torch.where(every_vote >= 0, 1.0, -1.0).double())


@pytest.mark.parametrize("name", ["d = 1", "d = 2", "exponential"])
def test_a_mixed_network_adds_the_term_of_now_to_the_term_of_the_past(name: str) -> None:
    make, f = SEPARATIONS[name]
    patterns = _patterns(8, 21)
    memory = SequenceMemory(21, make(21), mixed=Mixed(1.7, delay=2), end="cyclic")
    memory.write(patterns)
    recall = memory.recall(_cues(patterns), steps=6, keep=True)
    assert recall.trajectory is not None
    history = [recall.trajectory[0]] * 2 + list(recall.trajectory)
    for step in range(1, 7):
        past, now, new = history[step - 1], history[step + 1], history[step + 2]
        field = _plain_field(patterns, patterns, now, f) + 1.7 * _plain_field(patterns, patterns.roll(-1, 0), past, f)
        going = recall.steps >= step
        assert _are_signs(new[going], field[going])


@pytest.mark.parametrize("name", SEPARATIONS)
@pytest.mark.parametrize("end", ["held", "cyclic"])
def test_the_trajectory_from_a_cue_is_the_sequence(name: str, end: End) -> None:
    patterns = _patterns(5, 200)
    memory = SequenceMemory(200, SEPARATIONS[name][0](200), end, steps=8)
    memory.write(patterns)
    cue = patterns[:1].clone()
    cue[:, :20] *= -1
    recall = memory.recall(cue, keep=True)
    order = [1, 2, 3, 4, 4] if end == "held" else [1, 2, 3, 4, 0, 1, 2, 3]
    assert recall.trajectory is not None
    assert torch.equal(recall.trajectory[1:, 0], patterns[order])
    assert bool(recall.converged) == (end == "held")


def test_each_write_is_a_sequence_of_its_own() -> None:
    patterns = _patterns(7, 200)
    memory = SequenceMemory(200, Power(3))
    memory.write(patterns[:3])
    memory.write(patterns[3:])
    assert len(memory) == 7
    recall = memory.recall(patterns[[0, 3]], steps=10)
    assert torch.equal(recall.state, patterns[[2, 6]])
    assert recall.steps.tolist() == [3, 4]


def test_transitions_given_one_by_one_are_those_of_the_sequence() -> None:
    patterns, cue = _patterns(6, 30), _patterns(40, 30, seed=1)
    whole, single = SequenceMemory(30, Power(3), end="cyclic"), SequenceMemory(30, Power(3))
    whole.write(patterns)
    for row in (3, 0, 5, 2, 1, 4):
        single.write(patterns[row : row + 1], patterns[[(row + 1) % 6]])
    assert torch.equal(whole.recall(cue, steps=4).state, single.recall(cue, steps=4).state)


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_a_mixed_network_stays_at_each_pattern_for_one_step_more_than_its_delay(delay: int) -> None:
    patterns = _patterns(4, 300)
    memory = SequenceMemory(300, Power(3), "cyclic", Mixed(2.5, delay))
    memory.write(patterns)
    recall = memory.recall(patterns[:1], steps=4 * (delay + 1), keep=True)
    assert recall.trajectory is not None
    assert torch.equal(recall.trajectory[1:, 0], patterns.roll(-1, 0).repeat_interleave(delay + 1, 0))


def test_a_mixed_network_that_is_driven_too_weakly_never_leaves() -> None:
    patterns = _patterns(4, 300)
    for drive, leaves in ((0.8, False), (1.2, True)):
        memory = SequenceMemory(300, Power(3), "cyclic", Mixed(drive, 2))
        memory.write(patterns)
        recall = memory.recall(patterns, steps=3)
        assert torch.equal(recall.state, patterns.roll(-1, 0) if leaves else patterns)
        assert bool(recall.converged.all()) != leaves


def test_known_entries_stay_while_the_sequence_goes_on() -> None:
    patterns = _patterns(5, 100)
    for mixed in (None, Mixed(2.5, 2)):
        memory = SequenceMemory(100, Power(3), "cyclic", mixed)
        memory.write(patterns)
        clamp = torch.zeros(1, 100, dtype=torch.bool)
        clamp[:, :10] = True
        state = memory.recall(patterns[:1], clamp=clamp).state
        assert torch.equal(state, torch.where(clamp, patterns[:1], patterns[1:2]))


@pytest.mark.parametrize("n", [2, 4])
def test_the_pseudo_inverse_is_f_of_overlaps_freed_from_the_correlations(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = am.random_patterns(12, 40, generator=generator, correlation=0.6, dtype=torch.float64)
    cue = _patterns(50, 40, seed=1, dtype=torch.float64)
    memory = SequenceMemory(40, Power(n), "cyclic", pseudo_inverse=True)
    memory.write(patterns)
    overlaps = (cue @ patterns.mT / 40) @ torch.linalg.pinv(patterns @ patterns.mT / 40)
    assert _are_signs(memory.recall(cue).state, overlaps ** (n - 1) @ patterns.roll(-1, 0))
    # each pattern alone is what the memory sees in itself
    torch.testing.assert_close(memory.weights(patterns), 40.0 ** (n - 1) * torch.eye(12, dtype=torch.float64), atol=1e-6, rtol=1e-9)


def test_a_sequence_of_patterns_that_look_alike_needs_the_pseudo_inverse() -> None:
    patterns = am.random_patterns(30, 100, generator=torch.Generator().manual_seed(0), correlation=0.7)
    found = {}
    for pseudo_inverse in (False, True):
        memory = SequenceMemory(100, Power(2), "cyclic", pseudo_inverse=pseudo_inverse)
        memory.write(patterns)
        found[pseudo_inverse] = torch.equal(memory.recall(patterns[:1], steps=29).state, patterns[29:])
    assert found == {False: False, True: True}


def test_dependent_patterns_are_named_and_still_answered() -> None:
    patterns = _patterns(6, 40)[[0, 1, 2, 0, 3, 4]]
    memory = SequenceMemory(40, Power(2), pseudo_inverse=True)
    memory.write(patterns)
    with pytest.warns(UserWarning, match="the 6 patterns that have a successor span only 5 dimensions"):
        state = memory.recall(patterns[[1, 4]]).state
    assert torch.equal(state, patterns[[2, 5]])


def test_values_of_another_size_are_read_once() -> None:
    keys, values = _patterns(6, 50), _patterns(6, 7, seed=1)
    memory = SequenceMemory(50, Power(3))
    memory.write(keys, values)
    assert torch.equal(memory.recall(keys).state, values)
    with pytest.raises(ValueError, match="are read once"):
        memory.recall(keys, steps=2)


def test_a_sequence_memory_has_no_energy_and_refuses_what_cannot_be() -> None:
    memory = SequenceMemory(6, Power(2), "open")
    with pytest.raises(TypeError, match="no energy"):
        memory.energy(torch.ones(1, 6))
    with pytest.raises(ValueError, match="needs at least 2 patterns"):
        memory.write(torch.ones(1, 6))
    with pytest.raises(ValueError, match=r"must hold only -1 and \+1"):
        memory.write(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="cannot take apart again"):
        SequenceMemory(6, Softmax(20.0))
    with pytest.raises(TypeError, match="no sum over units"):
        SequenceMemory(6, Entmax(2.0))
    with pytest.raises(ValueError, match="end must be"):
        SequenceMemory(6, Power(2), "circle")  # type: ignore[arg-type]
    for make in (lambda: Mixed(0.0), lambda: Mixed(1.0, -1)):
        with pytest.raises(ValueError, match="must be"):
            make()


def test_a_sequence_comes_back_from_a_file_with_its_network(tmp_path: Path) -> None:
    patterns = _patterns(5, 60)
    memory = SequenceMemory(60, Power(3, unit=60), "cyclic", Mixed(2.0, 1), steps=3)
    memory.write(patterns)
    am.save(memory, tmp_path / "sequence")
    loaded = am.load(tmp_path / "sequence")
    assert isinstance(loaded, SequenceMemory)
    assert (loaded.end, loaded.mixed, len(loaded)) == ("cyclic", Mixed(2.0, 1), 5)
    assert torch.equal(loaded.recall(patterns).state, memory.recall(patterns).state)
