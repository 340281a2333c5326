"""Laws of dense memories with learned hidden patterns: their gradient, Fisher information, descent; and what they learn from digits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import ammon as am
from ammon.learning.dense import ErrorDescent, contexts, descent, fields, fisher, objective
from ammon.memories.learned_dense import LearnedDenseMemory

QUICK = ErrorDescent(hidden=20, epochs=20, rate=0.1, start=0.3, end=0.3)


def _random(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _digits() -> tuple[Tensor, Tensor, Tensor]:
    data = load_digits()
    labels = torch.tensor(data.target)
    return torch.tensor(data.data).float() / 8 - 1, labels, 2 * torch.nn.functional.one_hot(labels, 10).float() - 1


def _case(hetero: bool) -> tuple[Tensor, Tensor, Tensor, slice]:
    matrix, context = 0.5 * _random(7, 12), torch.tanh(_random(9, 12, seed=1))
    if hetero:
        context[:, 9:] = -1
    units = slice(9, None) if hetero else slice(0, 12)
    return matrix, context, torch.sign(_random(9, 12, seed=2))[:, units], units


@pytest.mark.parametrize("hetero", [True, False])
@pytest.mark.parametrize("n", [2, 3, 2.5, 5])
def test_a_completion_is_the_difference_of_the_two_energies(hetero: bool, n: float) -> None:
    """Krotov & Hopfield 2016, eq. 8, by the plain loop."""
    matrix, context, _, units = _case(hetero)
    found = fields(matrix, context, units, n, 2.0)
    for column, unit in enumerate(range(12)[units]):
        plus, minus = context.clone(), context.clone()
        plus[:, unit], minus[:, unit] = 1, -1
        energy = [(torch.relu(side @ matrix.mT / 2.0) ** n).sum(-1) for side in (plus, minus)]
        torch.testing.assert_close(found[:, column], energy[0] - energy[1])


@pytest.mark.parametrize("room", [1, 2**22])
@pytest.mark.parametrize("hetero", [True, False])
@pytest.mark.parametrize(("n", "error_power"), [(2, 1), (3, 2), (2.5, 3), (20, 30)])
def test_the_closed_gradient_is_that_of_autograd(
    hetero: bool, n: float, error_power: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ammon.learning.dense.ROOM", room)
    matrix, context, targets, units = _case(hetero)
    temperature = 4.0 if n == 20 else 2.0
    leaf = matrix.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(leaf, context, targets, units, n, temperature, error_power), leaf)
    torch.testing.assert_close(descent(matrix, context, targets, units, n, temperature, error_power), -gradient)


@pytest.mark.parametrize("hetero", [True, False])
def test_the_fisher_information_is_that_of_the_jacobian(hetero: bool) -> None:
    """I_m of exp(-|z|^2m): 2 for m = 1, where the density is a Gaussian of variance 1/2; the mean square score by quadrature for m = 3."""
    matrix, context, _, units = _case(hetero)
    jacobian = torch.autograd.functional.jacobian(lambda w: torch.tanh(fields(w, context, units, 3, 2.0)), matrix)
    squares = jacobian.square().sum((0, 1))
    torch.testing.assert_close(fisher(matrix, context, units, 3, 2.0, 1), 2 * squares)
    z = torch.linspace(-3, 3, 600_001, dtype=torch.float64)
    density = torch.exp(-(z**6))
    about = float((density * (6 * z**5).square()).sum() / density.sum())
    torch.testing.assert_close(fisher(matrix, context, units, 3, 2.0, 3), about * squares)


def test_a_gradient_is_not_lost_where_a_completion_is_wrong_and_saturated() -> None:
    matrix, context = torch.full((4, 5), 0.9), torch.ones(1, 5)
    context[:, 4] = -1
    wrong = torch.full((1, 1), -1.0)
    assert float(torch.tanh(fields(matrix, context, slice(4, None), 3, 2.5))) == 1.0
    assert float(descent(matrix, context, wrong, slice(4, None), 3, 2.5, 1).abs().amax()) > 0


def _plain_sweep(matrix: Tensor, state: Tensor, n: float) -> Tensor:
    state = state.clone()
    for unit in range(state.shape[1]):
        sides = []
        for value in (1.0, -1.0):
            side = state.clone()
            side[:, unit] = value
            sides.append((torch.relu(side @ matrix.mT) ** n).sum(-1))
        state[:, unit] = torch.where(sides[0] >= sides[1], 1.0, -1.0).double()
    return state


def test_without_labels_units_go_one_by_one_and_the_energy_never_rises() -> None:
    patterns = am.random_patterns(12, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    memory = LearnedDenseMemory(30, QUICK)
    memory.write(patterns)
    cue = am.random_patterns(20, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    recall = memory.recall(cue, keep=True)
    assert recall.trajectory is not None
    assert recall.converged.all()
    plain = cue
    for state in recall.trajectory[1:]:
        plain = torch.where((plain == state).all(-1, keepdim=True), plain, _plain_sweep(memory.matrix, plain, 3))
        assert torch.equal(plain, state)
    energies = torch.stack([memory.energy(state) for state in recall.trajectory])
    assert (energies.diff(dim=0) <= 1e-12 * energies.abs().amax()).all()
    shuffled = memory.recall(cue, generator=torch.Generator().manual_seed(2), keep=True).trajectory
    assert shuffled is not None
    energies = torch.stack([memory.energy(state) for state in shuffled])
    assert (energies.diff(dim=0) <= 1e-12 * energies.abs().amax()).all()


def test_few_hidden_patterns_hold_patterns_against_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = am.random_patterns(30, 64, generator=generator)
    memory = LearnedDenseMemory(64, replace(QUICK, hidden=50, epochs=60))
    memory.write(patterns)
    assert memory.fit is not None
    assert memory.fit.residual < 0.5
    assert (memory.recall(am.Flip(0.05)(patterns, generator=generator)).state == patterns).all(-1).float().mean() > 0.9


@pytest.mark.parametrize("n", [2, 3])
def test_it_learns_to_name_digits_it_has_not_seen(n: int) -> None:
    """scikit-learn's 8 × 8 digits, every second one to learn; chance is 10 %."""
    images, labels, targets = _digits()
    memory = LearnedDenseMemory(64, ErrorDescent(n=n, hidden=50, epochs=30, batch=50, rate=0.05, decay=0.95, start=0.3, end=0.3))
    memory.write(images[::2], targets[::2])
    assert (memory.classify(images[1::2]) == labels[1::2]).float().mean() > 0.9
    completed = memory.recall(images[1::2])
    assert torch.equal(completed.state.argmax(-1), memory.classify(images[1::2]))
    assert completed.state.abs().amax() <= 1
    assert completed.steps.unique().tolist() == [1]


def test_pieces_are_the_whole_with_rehearsal_and_new_on_old_without(tmp_path: Path) -> None:
    images, _, targets = _digits()
    whole, pieces, plain = LearnedDenseMemory(64, QUICK), LearnedDenseMemory(64, QUICK), LearnedDenseMemory(64, QUICK, rehearse=False)
    whole.write(images[:60], targets[:60])
    for memory in (pieces, plain):
        memory.write(images[:20], targets[:20])
        memory.write(images[20:60], targets[20:60])
    assert torch.equal(whole.matrix, pieces.matrix)
    assert not torch.equal(whole.matrix, plain.matrix)
    state = QUICK.learn(QUICK.begin(64, 10, images), images[:20], targets[:20])
    assert torch.equal(plain.matrix, QUICK.learn(state, images[20:60], targets[20:60]).matrix)
    am.save(plain, tmp_path / "plain")
    loaded = am.load(tmp_path / "plain")
    assert isinstance(loaded, LearnedDenseMemory)
    assert torch.equal(loaded.recall(images[:9]).state, plain.recall(images[:9]).state)
    assert loaded.fit == plain.fit


def test_consolidation_of_the_first_task_changes_nothing_but_keeps_its_importance() -> None:
    images, _, targets = _digits()
    plain, held = (LearnedDenseMemory(64, replace(QUICK, consolidation=s), rehearse=False) for s in (0.0, 1.0))
    for memory in (plain, held):
        memory.write(images[:60], targets[:60])
    assert torch.equal(plain.matrix, held.matrix)
    importance = held.get_buffer("learned_importance")
    assert importance.shape == held.matrix.shape
    assert (importance >= 0).all()
    held.write(images[60:120], targets[60:120])
    assert (held.get_buffer("learned_importance") >= importance).all()


def test_what_it_cannot_take_is_refused() -> None:
    memory = LearnedDenseMemory(4, QUICK)
    with pytest.raises(ValueError, match=r"pattern must hold only -1 and \+1"):
        memory.write(torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"pattern must be in \[-1, 1\], got entries up to 2"):
        memory.write(2 * torch.ones(1, 4), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"label must be in \[-1, 1\]"):
        memory.write(torch.zeros(1, 4), 3 * torch.ones(1, 2))
    assert len(memory) == 0
    with pytest.raises(ValueError, match="the memory is empty"):
        memory.classify(torch.zeros(1, 4))
    memory.write(torch.ones(1, 4))
    with pytest.raises(TypeError, match="nothing was written with labels"):
        memory.classify(torch.ones(1, 4))
    labelled = LearnedDenseMemory(4, QUICK)
    labelled.write(torch.zeros(1, 4), torch.ones(1, 2))
    for call, message in ((labelled.energy, "labels are read once"), (labelled.weights, "hidden patterns")):
        with pytest.raises(TypeError, match=message):
            call(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="read once; got steps=2"):
        labelled.recall(torch.zeros(1, 4), steps=2)
    for wrong, message in (
        ({"n": 1.5}, "n must be >= 2"),
        ({"momentum": 1.0}, "momentum in"),
        ({"consolidation": -1.0}, "consolidation must be"),
        ({"hidden": 0}, "hidden must be a whole number"),
        ({"start": 0.0}, "start must be positive"),
        ({"n": 60, "end": 0.1}, "overflows at a temperature of 0.1"),
    ):
        with pytest.raises(ValueError, match=message):
            ErrorDescent(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_it_answers_in_the_dtype_of_what_was_written(dtype: torch.dtype) -> None:
    images, labels, targets = _digits()
    memory = LearnedDenseMemory(64, QUICK)
    memory.write(images[:50].to(dtype), targets[:50].to(dtype))
    assert memory.recall(images[:50].to(dtype)).state.dtype == dtype
    assert (memory.classify(images[:50].to(dtype)) == labels[:50]).float().mean() > 0.9
    assert torch.equal(contexts(images[:2], 3)[:, 64:], -torch.ones(2, 3))
