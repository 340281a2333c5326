"""Kernel memories in a space of few features: the exact solution in the limit, the minimum of their own loss, appending, memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.learning.kernel import DualRule
from ammon.learning.kernel_logistic import Logistic
from ammon.learning.kernel_ridge import Ridge
from ammon.memories.kernel import KernelMemory
from ammon.parts.corruption import Flip
from ammon.parts.features import Cos
from ammon.parts.kernels import ExponentialKernel, GaussianKernel, Kernel, PolynomialKernel
from ammon.parts.reduction import Landmarks, RandomFeatures, random_features, residue

RULES: list[Callable[[], DualRule]] = [lambda: Ridge(tolerance=1e-9), lambda: Logistic(tolerance=1e-8)]


def _patterns(count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return am.random_patterns(count, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _alike(count: int, dim: int, kinds: int, flips: float, seed: int = 0) -> Tensor:
    """Patterns around a few prototypes."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = am.random_patterns(kinds, dim, generator=generator, dtype=torch.float64)
    return Flip(flips)(prototypes[torch.randint(kinds, (count,), generator=generator)], generator=generator)


def _memory(dim: int, rule: DualRule, reduction: Landmarks | RandomFeatures | None, gamma: float = 0.03, **more: object) -> KernelMemory:
    return KernelMemory(dim, GaussianKernel(gamma), rule, reduction=reduction, **more)  # type: ignore[arg-type]


def _answers(memory: KernelMemory, cue: Tensor) -> Tensor:
    if isinstance(memory.reduction, RandomFeatures):
        return memory.reduction.features(cue) @ memory.dual
    return memory.kernel(cue, memory.landmarks if memory.reduction else memory.keys.rows) @ memory.dual


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kernel", [GaussianKernel(0.03), ExponentialKernel(0.05), PolynomialKernel(4, unit=10.0)], ids=str)
def test_with_all_patterns_as_landmarks_the_solution_is_the_exact_one(rule: Callable[[], DualRule], kernel: Kernel) -> None:
    patterns, cue = _patterns(60, 30), _patterns(50, 30, seed=1)
    exact, reduced = KernelMemory(30, kernel, rule()), KernelMemory(30, kernel, rule(), reduction=Landmarks(60))
    exact.write(patterns)
    reduced.write(patterns)
    torch.testing.assert_close(_answers(reduced, cue), _answers(exact, cue), rtol=1e-5, atol=1e-5)
    assert torch.equal(reduced.recall(cue).state, exact.recall(cue).state)
    assert reduced.fit is not None
    assert reduced.fit.converged


@pytest.mark.parametrize("rule", RULES)
def test_the_error_falls_with_the_number_of_landmarks_and_of_random_features(rule: Callable[[], DualRule]) -> None:
    patterns, cue = _alike(300, 30, 10, 0.05), _alike(100, 30, 10, 0.05, seed=1)
    exact = _memory(30, rule(), None, 0.01)
    with pytest.warns(UserWarning, match="equal to others"):
        exact.write(patterns)
    wanted = _answers(exact, cue)
    for reductions in ([Landmarks(k) for k in (10, 40, 160, 300)], [random_features(30, 0.01, k) for k in (10, 50, 250)]):
        errors = []
        for reduction in reductions:
            memory = _memory(30, rule(), reduction, 0.01)
            memory.write(patterns)
            errors.append(float((_answers(memory, cue) - wanted).square().mean().sqrt()))
        assert errors == sorted(errors, reverse=True), errors
        assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("make", [lambda: Landmarks(25), lambda: random_features(20, 0.03, 15)], ids=["landmarks", "features"])
def test_the_coefficients_are_the_minimum_of_the_reduced_loss(make: Callable[[], Landmarks | RandomFeatures]) -> None:
    patterns = _patterns(80, 20)
    for rule in (Ridge(0.3, tolerance=1e-9), Logistic(0.3, tolerance=1e-9)):
        memory = _memory(20, rule, make())
        memory.write(patterns)
        landmarks = isinstance(memory.reduction, Landmarks)
        features = memory.kernel(patterns, memory.landmarks) if landmarks else memory.reduction.features(patterns)  # type: ignore[union-attr, operator]
        metric = memory.kernel(memory.landmarks, memory.landmarks) if landmarks else torch.eye(30, dtype=torch.float64)
        dual = memory.dual.clone().requires_grad_()
        field = features @ dual
        logistic = -torch.nn.functional.logsigmoid(patterns * field).sum()
        loss = (patterns - field).square().sum() / 2 if isinstance(rule, Ridge) else logistic
        (gradient,) = torch.autograd.grad(loss + 0.15 * (dual * (metric @ dual)).sum(), dual)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("hetero", [False, True])
@pytest.mark.parametrize("make", [lambda: Landmarks(30), lambda: random_features(20, 0.03, 20)], ids=["landmarks", "features"])
def test_appended_and_forgotten_is_refitted(
    rule: Callable[[], DualRule], hetero: bool, make: Callable[[], Landmarks | RandomFeatures]
) -> None:
    patterns, values, cue = _patterns(70, 20), _patterns(70, 6, seed=1), _patterns(30, 20, seed=2)
    grown, fresh = _memory(20, rule(), make()), _memory(20, rule(), make())
    # the landmarks are drawn from the first 40 in both
    for part in (slice(0, 40), slice(40, 41), slice(41, 70)):
        grown.write(patterns[part], values[part] if hetero else None)
    grown.forget([45, 69])
    kept = [k for k in range(70) if k not in (45, 69)]
    fresh.write(patterns[:40], values[:40] if hetero else None)
    fresh.write(patterns[kept[40:]], values[kept[40:]] if hetero else None)
    assert len(grown) == len(fresh) == 68
    torch.testing.assert_close(_answers(grown, cue), _answers(fresh, cue), rtol=1e-4, atol=1e-5)


def test_landmarks_are_filled_up_by_later_writes() -> None:
    patterns = _patterns(50, 20)
    memory = _memory(20, Ridge(), Landmarks(30))
    memory.write(patterns[:20])
    assert torch.equal(memory.landmarks, patterns[:20])
    memory.write(patterns[20:])
    assert len(memory.landmarks) == 30
    assert len(torch.unique(torch.cat([memory.landmarks, patterns]), dim=0)) == 50
    memory.forget(torch.arange(50))
    assert len(memory) == 0
    memory.write(patterns)
    assert len(memory.landmarks) == 30


def test_units_may_go_one_by_one_with_landmarks() -> None:
    patterns = _alike(100, 30, 8, 0.05)
    memory = _memory(30, Ridge(), Landmarks(60), update="asynchronous")
    memory.write(patterns)
    state = Flip(0.1)(patterns[:9], generator=torch.Generator().manual_seed(1))
    found = memory.recall(state, steps=1).state
    for unit in range(30):
        field = memory.kernel(state, memory.landmarks) @ memory.dual[:, unit]
        state[:, unit] = torch.where(field >= 0, 1.0, -1.0).double()
    assert torch.equal(found, state)


@pytest.mark.parametrize("make", [lambda: Landmarks(20), lambda: random_features(12, 0.03, 40)], ids=["landmarks", "features"])
def test_saved_and_loaded_it_learns_on(make: Callable[[], Landmarks | RandomFeatures], tmp_path: Path) -> None:
    patterns, cue = _patterns(40, 12), _patterns(9, 12, seed=1)
    memory = _memory(12, Ridge(), make())
    memory.write(patterns[:30])
    am.save(memory, tmp_path / "memory")
    loaded = am.load(tmp_path / "memory")
    assert torch.equal(loaded.recall(cue).state, memory.recall(cue).state)
    for both in (loaded, memory):
        both.write(patterns[30:])
    torch.testing.assert_close(loaded.dual, memory.dual)  # type: ignore[union-attr]
    single = memory.float()
    assert torch.equal(single.recall(cue.float()).state.double(), loaded.recall(cue).state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_lower_precision_recalls_what_float64_recalls(dtype: torch.dtype) -> None:
    patterns = _alike(150, 40, 10, 0.05)
    for make in (lambda: Landmarks(60), lambda: random_features(40, 0.02, 200)):
        for rule in (Ridge(), Logistic(tolerance=1e-4)):
            exact, low = _memory(40, rule, make(), 0.02), _memory(40, rule, make(), 0.02)
            exact.write(patterns)
            low.write(patterns.to(dtype))
            recall = low.recall(patterns.to(dtype), steps=1).state
            assert recall.dtype == dtype
            assert (recall.double() == exact.recall(patterns, steps=1).state).double().mean() > 0.999


# accuracy


def test_the_residue_is_what_the_landmarks_leave_of_the_kernel() -> None:
    patterns = _patterns(40, 20)
    for kernel in (GaussianKernel(0.03), PolynomialKernel(3, unit=10.0), ExponentialKernel(0.05)):
        landmarks = patterns[:15]
        whole, cross, metric = kernel(patterns, patterns), kernel(patterns, landmarks), kernel(landmarks, landmarks)
        left = (whole - cross @ torch.linalg.pinv(metric) @ cross.mT).diagonal().mean() / whole.diagonal().mean()
        assert residue(kernel, patterns, lambda x, k=kernel, z=landmarks: k(x, z), metric) == pytest.approx(float(left), rel=1e-6)  # type: ignore[misc]


def test_too_few_landmarks_warn_with_a_number_that_will_do() -> None:
    patterns = _alike(1500, 40, 20, 0.03)
    few = _memory(40, Ridge(), Landmarks(60, accuracy=0.05), 0.01)
    with pytest.warns(UserWarning, match=r"60 landmarks leave 0\.\d+ of the kernel .* 0.05 is asked for; that takes about \d+") as told:
        few.write(patterns)
    needed = int(str(told[0].message).split("about ")[1].split()[0])
    assert 60 < needed <= 1500
    enough = Landmarks(needed)
    memory = _memory(40, Ridge(), enough, 0.01)
    memory.write(patterns)
    left = residue(memory.kernel, patterns, lambda x: memory.kernel(x, memory.landmarks), memory.kernel(memory.landmarks, memory.landmarks))
    # a number found on a sample
    assert left < 0.06
    half = few.landmarks[: needed // 2] if needed < 120 else patterns[: needed // 2]
    assert residue(memory.kernel, patterns, lambda x: memory.kernel(x, half), memory.kernel(half, half)) > 0.05


def test_too_few_random_features_warn_with_the_number() -> None:
    memory = _memory(20, Ridge(), random_features(20, 0.03, 100, accuracy=0.01))
    with pytest.warns(UserWarning, match="a standard error of 0.01 of the kernel takes 5000 frequencies, this map has 100"):
        memory.write(_patterns(30, 20))


def test_what_cannot_be_reduced_is_refused() -> None:
    with pytest.raises(ValueError, match="count must be a whole number"):
        Landmarks(0)
    with pytest.raises(ValueError, match="accuracy must be positive"):
        Landmarks(5, accuracy=0.0)
    with pytest.raises(ValueError, match=r"features of GaussianKernel\(gamma=0.5\), the kernel is"):
        KernelMemory(4, GaussianKernel(0.1), Ridge(), reduction=RandomFeatures(Cos(4, 10, beta=1.0)))
    with pytest.raises(ValueError, match="rows of dim 5, the memory has 4"):
        _memory(4, Ridge(), random_features(5, 0.03, 10))
    with pytest.raises(ValueError, match="one by one need patterns or Landmarks"):
        _memory(4, Ridge(), random_features(4, 0.03, 10), update="asynchronous")


PEAK = """
import resource, sys, torch
torch.set_num_threads(1)
import ammon as am
from ammon.learning.kernel_ridge import Ridge
from ammon.memories.kernel import KernelMemory
from ammon.parts.kernels import GaussianKernel
from ammon.parts.reduction import Landmarks
patterns = am.random_patterns(int(sys.argv[1]), 50, generator=torch.Generator().manual_seed(0))
memory = KernelMemory(50, GaussianKernel(0.02), Ridge(tolerance=1e-2), reduction=Landmarks(100))
memory.write(patterns[:2000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
memory = KernelMemory(50, GaussianKernel(0.02), Ridge(tolerance=1e-2), reduction=Landmarks(100))
memory.write(patterns)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def _peak(count: int) -> float:
    """MB beyond what a fit of 2000 patterns takes."""
    return float(subprocess.run([sys.executable, "-c", PEAK, str(count)], capture_output=True, text=True, check=True).stdout)


def test_memory_grows_with_the_patterns_themselves_and_nothing_else() -> None:
    """20 000 patterns of 50 entries are 4 MB, and 4 more in the bank; their Gram matrix would be 1.6 GB, their features 8 MB."""
    assert _peak(20_000) < 60


@pytest.mark.slow
def test_100_000_patterns_fit_in_the_memory_of_a_few_copies_of_them() -> None:
    """20 MB, and 20 more in the bank; their Gram matrix would be 40 GB, their features 40 MB."""
    assert _peak(100_000) < 120
