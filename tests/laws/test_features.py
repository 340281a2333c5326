"""Laws of feature maps and of the memory that is one sum of features."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.memories.feature import FeatureMemory
from ammon.parts.features import Cos, Exp, FeatureMap, SinCos, frequencies

KINDS = [SinCos, Cos, Exp]


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _kernel(x: Tensor, y: Tensor, beta: float) -> Tensor:
    return torch.exp(-beta / 2 * (x.unsqueeze(-2) - y).square().sum(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_pull_is_the_product_with_the_jacobian(kind: type[FeatureMap]) -> None:
    features = kind(5, 7, beta=1.3).double()  # type: ignore[call-arg]
    x, weights = 0.4 * _draw(2, 3, 5), _draw(2, 3, features.num_features, seed=1)
    x.requires_grad_()
    (expected,) = torch.autograd.grad((weights * features(x)).sum(), x)
    torch.testing.assert_close(features.pull(x, weights), expected)


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_product_of_features_is_the_gaussian_kernel(kind: type[FeatureMap], orthogonal: bool) -> None:
    x, y, beta = 0.3 * _draw(6, 4), 0.3 * _draw(5, 4, seed=1), 1.5
    estimates = []
    for seed in range(200):
        features = kind(4, 12, beta, orthogonal, seed).double()  # type: ignore[call-arg]
        estimates.append(features(x) @ features(y).mT)
    found = torch.stack(estimates)
    error = (found.mean(0) - _kernel(x, y, beta)) / (found.std(0) / math.sqrt(200))
    # 30 entries, each a mean of 200: Student's t beyond 4.5 has a chance of 1e-5
    assert error.abs().max() < 4.5


def test_orthogonal_frequencies_are_orthogonal_in_blocks_and_as_long_as_the_others() -> None:
    drawn = frequencies(16, 40, True, torch.Generator().manual_seed(0)).double()
    for block in drawn.split(16):
        gram = block @ block.mT
        assert (gram - torch.diag(gram.diagonal())).abs().max() < 1e-4
    many = torch.linalg.vector_norm(frequencies(16, 16 * 200, True, torch.Generator().manual_seed(1)), dim=-1)
    # chi-square with 16 degrees of freedom: mean 16, variance 32
    assert abs(float(many.square().mean()) - 16) < 4 * math.sqrt(32 / 3200)
    assert abs(float(many.square().var()) / 32 - 1) < 0.2


def test_orthogonal_frequencies_estimate_the_kernel_better() -> None:
    x = 0.5 * _draw(12, 16)
    error = {}
    for orthogonal in (False, True):
        maps = [SinCos(16, 16, 1.0, orthogonal, seed).double() for seed in range(240)]
        error[orthogonal] = torch.stack([(m(x) @ m(x).mT - _kernel(x, x, 1.0)).square().mean() for m in maps])
    gap = error[False] - error[True]
    assert float(gap.mean()) > 3.5 * float(gap.std()) / math.sqrt(240)


def test_sin_cos_features_see_a_pattern_without_error_where_it_is_and_the_others_do_not() -> None:
    x = _draw(9, 6)
    own = {kind: (kind(6, 30).double()(x) ** 2).sum(-1) for kind in (SinCos, Cos)}
    torch.testing.assert_close(own[SinCos], torch.ones(9, dtype=torch.float64))
    assert (own[Cos] - 1).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_energy(kind: type[FeatureMap]) -> None:
    memory = FeatureMemory(kind(6, 4000, beta=0.9))  # type: ignore[call-arg]
    memory.write(0.3 * _draw(5, 6))
    state = (0.3 * _draw(4, 6, seed=1)).requires_grad_()
    (expected,) = torch.autograd.grad(memory.energy(state).sum(), state)
    torch.testing.assert_close(memory.gradient(state), expected)
    assert expected.abs().min() > 0


def test_recall_descends_the_energy_to_where_its_gradient_is_0() -> None:
    memory = FeatureMemory(SinCos(8, 800, beta=2.0), rate=0.3, steps=300)
    patterns = _draw(4, 8)
    memory.write(patterns)
    recall = memory.recall(patterns + 0.2 * _draw(4, 8, seed=1), keep=True, tolerance=1e-10)
    assert recall.trajectory is not None
    energies = torch.stack([memory.energy(state) for state in recall.trajectory])
    assert (energies.diff(dim=0) <= 1e-12).all()
    assert recall.converged.all()
    assert memory.gradient(recall.state).abs().max() < 1e-8


def test_with_many_features_recall_is_that_of_the_exact_memory() -> None:
    patterns = 0.7 * _draw(4, 3)
    exact, approximate = am.diffusion(3, sigma=2.0**-0.5, steps=200), FeatureMemory(SinCos(3, 50_000, beta=2.0), rate=0.5, steps=100)
    exact.write(patterns)
    approximate.write(patterns)
    cue = patterns + 0.1 * _draw(4, 3, seed=1)
    # E here is that of `diffusion`, β = 1/σ², and so are its minima
    torch.testing.assert_close(approximate.energy(cue), exact.energy(cue), atol=0.01, rtol=0)
    torch.testing.assert_close(approximate.recall(cue).state, exact.recall(cue).state, atol=0.05, rtol=0)


def test_the_size_does_not_depend_on_the_number_of_patterns() -> None:
    memory = FeatureMemory(SinCos(6, 50))
    memory.write(_draw(3, 6))
    before = {name: tensor.shape for name, tensor in memory.state_dict().items()}
    memory.write(_draw(5000, 6, seed=1))
    assert {name: tensor.shape for name, tensor in memory.state_dict().items()} == before
    assert len(memory) == 5003


@pytest.mark.parametrize("hetero", [False, True])
def test_a_forgotten_pattern_leaves_no_trace(hetero: bool) -> None:
    patterns, cue = _draw(6, 5), _draw(9, 5, seed=1)
    values = _draw(6, 2, seed=2) if hetero else None
    some, all_of_them = FeatureMemory(Cos(5, 300)), FeatureMemory(Cos(5, 300))
    some.write(patterns[:4], values[:4] if values is not None else None)
    all_of_them.write(patterns, values)
    all_of_them.forget(patterns[4:], values[4:] if values is not None else None)
    assert len(all_of_them) == 4
    torch.testing.assert_close(all_of_them.sums, some.sums, atol=1e-12, rtol=0)
    all_of_them.forget(patterns[:4], values[:4] if values is not None else None)
    assert not all_of_them.sums.any()
    # an empty memory takes any contents, as if new
    all_of_them.write(patterns[:4])
    torch.testing.assert_close(all_of_them.energy(cue), _written(Cos(5, 300), patterns[:4]).energy(cue))


def _written(features: FeatureMap, patterns: Tensor) -> FeatureMemory:
    memory = FeatureMemory(features)
    memory.write(patterns)
    return memory


def test_forgetting_what_is_not_held_is_refused() -> None:
    memory = _written(SinCos(5, 10), _draw(2, 5))
    with pytest.raises(ValueError, match="3 patterns to forget, 2 are held"):
        memory.forget(_draw(3, 5))
    with pytest.raises(ValueError, match="the memory holds no values"):
        memory.forget(_draw(1, 5), _draw(1, 2))


def test_a_value_is_the_average_weighted_by_the_kernel() -> None:
    keys, values, cue = 0.5 * _draw(6, 3), _draw(6, 2, seed=1), 0.5 * _draw(4, 3, seed=2)
    memory = FeatureMemory(SinCos(3, 200_000, beta=2.0))
    memory.write(keys, values)
    weights = _kernel(cue, keys, 2.0)
    torch.testing.assert_close(memory.recall(cue, steps=1).state, weights @ values / weights.sum(-1, keepdim=True), atol=0.01, rtol=0)


def test_below_epsilon_the_energy_is_flat() -> None:
    memory = FeatureMemory(SinCos(4, 300, beta=2.0), eps=0.5)
    memory.write(patterns := _draw(3, 4))
    state = torch.cat([patterns + 0.2, 3 * _draw(20, 4, seed=1)])
    flat = torch.isclose(memory.energy(state), torch.tensor(-math.log(0.5) / 2, dtype=torch.float64))
    assert flat.tolist() == 3 * [False] + 20 * [True]
    assert torch.equal(memory.gradient(state)[flat], torch.zeros(int(flat.sum()), 4, dtype=torch.float64))
    assert (memory.gradient(state)[~flat] != 0).all()


def test_known_entries_stay_and_a_state_far_from_all_patterns_does_not_move() -> None:
    memory = FeatureMemory(SinCos(4, 500, beta=4.0), steps=20)
    memory.write(patterns := _draw(3, 4))
    clamp = torch.tensor([[True, False, False, True]]).repeat(3, 1)
    cue = patterns + 0.2
    state = memory.recall(cue, clamp=clamp).state
    assert torch.equal(state[clamp], cue[clamp])
    assert not torch.equal(state[~clamp], cue[~clamp])
    far = FeatureMemory(Exp(4, 2000, beta=4.0))
    far.write(0.1 * patterns)
    found = far.recall(torch.full((1, 4), 9.0, dtype=torch.float64))
    assert torch.equal(found.state, torch.full((1, 4), 9.0, dtype=torch.float64))
    assert found.converged.all()


@pytest.mark.parametrize(("kind", "needed"), [(SinCos, 5000), (Cos, 10_000)])
def test_too_few_frequencies_for_the_asked_accuracy_are_named_with_the_number_needed(kind: type[FeatureMap], needed: int) -> None:
    patterns = _draw(100, 40)
    small = FeatureMemory(kind(40, needed - 1), accuracy=0.1)  # type: ignore[call-arg]
    with pytest.warns(UserWarning, match=f"with 100 patterns a standard error of 0.1 takes {float(needed):.3g}".replace("+", r"\+")):
        small.write(patterns)
    FeatureMemory(kind(40, needed), accuracy=0.1).write(patterns)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_frequencies_needed_gives_the_accuracy_asked_for(kind: type[FeatureMap]) -> None:
    # patterns far apart, or for Exp one pattern alone, whose own estimate has the variance of the formula
    patterns = 10 * _draw(20, 30) if kind is not Exp else torch.tensor([[0.3, 0.4]], dtype=torch.float64)
    dim, num_patterns = patterns.shape[1], len(patterns)
    needed = kind(dim, 1).needed(num_patterns, 0.2, patterns)  # type: ignore[call-arg]
    errors = []
    for seed in range(200):
        features = kind(dim, needed, seed=seed).double()  # type: ignore[call-arg]
        errors.append(float(features(patterns[:1]) @ features(patterns).sum(0)) - 1)
    error = math.sqrt(sum(e**2 for e in errors) / len(errors))
    # SinCos and Cos: the pattern's own estimate errs less than the formula's worst case, 1 term of 20
    assert 0.8 * 0.2 < error < 1.15 * 0.2


def test_a_constructor_refuses_what_cannot_be() -> None:
    for make in (
        lambda: SinCos(0, 3),
        lambda: Cos(3, 0),
        lambda: Exp(3, 3, beta=0.0),
        lambda: FeatureMemory(SinCos(3, 3), rate=0.0),
        lambda: FeatureMemory(SinCos(3, 3), eps=-1.0),
        lambda: FeatureMemory(SinCos(3, 3), accuracy=0.0),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()


def test_a_feature_memory_comes_back_from_a_file_with_its_frequencies(tmp_path: Path) -> None:
    memory = FeatureMemory(Cos(5, 40, beta=2.0, orthogonal=True, seed=7), rate=0.2, accuracy=None)
    memory.write(_draw(3, 5), _draw(3, 2, seed=1))
    am.save(memory, tmp_path / "features")
    loaded = am.load(tmp_path / "features")
    assert isinstance(loaded, FeatureMemory)
    cue = _draw(4, 5, seed=2)
    assert torch.equal(loaded.recall(cue).state, memory.recall(cue).state)
    assert torch.equal(loaded.features.offsets, memory.features.offsets)  # type: ignore[arg-type]
