"""Laws of kernels: their definitions, positive Gram matrices, gradients, far origins, and the width laws."""

import math

import pytest
import torch
from torch import Tensor

from ammon.parts import kernels
from ammon.parts.kernels import ExponentialKernel, GaussianKernel, Kernel, PolynomialKernel, UpToScale, gram, least_gamma, robust_gamma
from ammon.parts.patterns import random_patterns
from ammon.parts.similarity import Dot

KERNELS = [GaussianKernel(0.3), PolynomialKernel(3, offset=0.5, unit=2.0), PolynomialKernel(2, offset=0.0), ExponentialKernel(0.2)]


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _by_definition(kernel: Kernel, x: Tensor, y: Tensor) -> float:
    if isinstance(kernel, GaussianKernel):
        return math.exp(-kernel.gamma * float(((x - y) ** 2).sum()))
    product = sum(float(a) * float(b) for a, b in zip(x, y, strict=True))
    if isinstance(kernel, PolynomialKernel):
        return (product / kernel.unit + kernel.offset) ** kernel.degree
    assert isinstance(kernel, ExponentialKernel)
    return math.exp(kernel.beta * product)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_kernel_is_its_definition_pair_by_pair(kernel: Kernel) -> None:
    cues, keys = _draw(3, 5), _draw(4, 5, seed=1)
    plain = torch.tensor([[_by_definition(kernel, x, y) for y in keys] for x in cues], dtype=torch.float64)
    torch.testing.assert_close(kernel(cues, keys), plain)
    torch.testing.assert_close(kernel(cues.expand(2, 3, 5), keys.expand(2, 4, 5)), plain.expand(2, 3, 4))


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_the_pull_of_a_kernel_is_its_gradient(kernel: Kernel) -> None:
    cues, keys, weights = _draw(3, 5).requires_grad_(), _draw(4, 5, seed=1) + 2, _draw(3, 4, seed=2)
    (gradient,) = torch.autograd.grad((weights * kernel(cues, keys)).sum(), cues)
    torch.testing.assert_close(kernel.pull(cues.detach(), keys, weights), gradient)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("block", [1, 4, 512])
def test_a_gram_matrix_is_symmetric_has_no_negative_eigenvalue_and_is_the_same_in_any_blocks(
    kernel: Kernel, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _draw(11, 4)
    monkeypatch.setattr(kernels, "BLOCK", block)
    matrix = gram(kernel, rows)
    assert torch.equal(matrix, matrix.mT)
    torch.testing.assert_close(matrix, kernel(rows, rows))
    values = torch.linalg.eigvalsh(matrix)
    assert values[0] >= -1e-12 * values[-1]
    # 11 rows of 4 entries: only a strict kernel keeps them all apart
    if kernel.strict:
        assert values[0] > 0
    elif kernel.offset == 0:  # type: ignore[union-attr]
        assert abs(values[0]) < 1e-12 * values[-1]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_a_kernel_up_to_scale_is_it_times_one_positive_factor_per_cue(kernel: Kernel) -> None:
    cues, keys = _draw(3, 5), _draw(4, 5, seed=1)
    factor = UpToScale(kernel)(cues, keys) / kernel(cues, keys)
    assert (factor > 0).all()
    torch.testing.assert_close(factor, factor[:, :1].expand(3, 4))


def test_a_kernel_up_to_scale_is_never_0_for_all_patterns() -> None:
    keys = random_patterns(5, 2000, generator=torch.Generator().manual_seed(0))
    assert (GaussianKernel(0.1)(-keys, keys) == 0).all()
    assert (UpToScale(GaussianKernel(0.1))(-keys, keys).amax(-1) == 1).all()


def test_the_gaussian_kernel_of_bipolar_rows_counts_the_entries_that_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    for dim in (1, 7, 500):
        cues, keys = random_patterns(4, dim, generator=generator), random_patterns(6, dim, generator=generator)
        differ = (cues.unsqueeze(1) != keys).sum(-1)
        kernel = GaussianKernel(0.004)
        assert torch.equal(kernel(keys, keys).diagonal(), torch.ones(6))
        torch.testing.assert_close(kernel(cues, keys), torch.exp(-4 * 0.004 * differ.double()).float(), rtol=1e-6, atol=0)


def test_the_exponential_kernel_of_bipolar_rows_is_a_scaled_gaussian() -> None:
    rows = random_patterns(6, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(ExponentialKernel(0.2)(rows, rows), math.exp(0.2 * 20) * GaussianKernel(0.1)(rows, rows))


def test_the_polynomial_of_degree_1_without_offset_is_the_dot_product() -> None:
    cues, keys = _draw(3, 5), _draw(4, 5, seed=1)
    torch.testing.assert_close(PolynomialKernel(1, offset=0.0)(cues, keys), Dot()(cues, keys))


def test_the_gaussian_kernel_keeps_its_digits_far_from_the_origin() -> None:
    cues, keys = _draw(5, 6), _draw(7, 6, seed=1)
    far = torch.full((6,), 2.0**20, dtype=torch.float64)
    near, moved = GaussianKernel(0.3)(cues, keys), GaussianKernel(0.3)((cues + far).float(), (keys + far).float())
    # float32 keeps 2^20 + x to 1/16, so compare with what it kept
    kept = GaussianKernel(0.3)((cues + far).float().double() - far, (keys + far).float().double() - far)
    torch.testing.assert_close(moved.double(), kept, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(GaussianKernel(0.3)(cues + far, keys + far), near, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_half_precision_gives_the_float32_kernel_rounded_once(kernel: Kernel, dtype: torch.dtype) -> None:
    cues, keys = _draw(3, 5).to(dtype), _draw(4, 5, seed=1).to(dtype)
    assert torch.equal(kernel(cues, keys), kernel(cues.float(), keys.float()).to(dtype))


def test_the_least_gamma_is_where_a_pattern_just_outweighs_the_others() -> None:
    for dim, patterns in ((50, 100), (100, 1600), (500, 1000)):
        gamma = least_gamma(dim, patterns)
        crosstalk = 2 * patterns * math.log(dim) * (math.cosh(4 * gamma) * math.exp(-4 * gamma)) ** dim
        assert crosstalk == pytest.approx(1.0, rel=1e-9)
    # the mean square kernel that the law stands on, by a draw
    generator = torch.Generator().manual_seed(0)
    rows, others = (random_patterns(2000, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    squares = GaussianKernel(0.05)(rows, others).square()
    assert float(squares.mean()) == pytest.approx((math.cosh(0.2) * math.exp(-0.2)) ** 20, rel=0.02)


def test_gamma_times_dim_grows_with_dim_at_one_load() -> None:
    widths = [dim * least_gamma(dim, 2 * dim) for dim in (50, 100, 200, 400, 800)]
    assert widths == sorted(widths)
    with pytest.raises(ValueError, match="no width holds 1000 random patterns of 8 entries"):
        least_gamma(8, 1000)


def test_the_robust_gamma_holds_most_patterns_against_its_flips() -> None:
    def load(gamma: float, flips: float) -> float:
        # ln of the load per entry: the squared signal exp(-8γ flips) over the mean square kernel
        return -8 * gamma * flips - math.log(math.cosh(4 * gamma)) + 4 * gamma

    for flips in (0.05, 0.2, 0.3, 0.45):
        best = robust_gamma(flips)
        assert load(best, flips) > max(load(0.9 * best, flips), load(1.1 * best, flips))
        entropy = -flips * math.log(flips) - (1 - flips) * math.log(1 - flips)
        assert load(best, flips) == pytest.approx(math.log(2) - entropy)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianKernel(0.0),
        lambda: GaussianKernel(-1.0),
        lambda: GaussianKernel(math.inf),
        lambda: ExponentialKernel(0.0),
        lambda: PolynomialKernel(0),
        lambda: PolynomialKernel(2, offset=-1.0),
        lambda: PolynomialKernel(2, unit=0.0),
        lambda: robust_gamma(0.5),
        lambda: robust_gamma(0.0),
        lambda: least_gamma(0, 3),
    ],
)
def test_a_kernel_refuses_what_cannot_be(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="must be"):
        make()


def test_a_kernel_that_overflows_says_so() -> None:
    with pytest.raises(ValueError, match="overflows on these patterns; take a smaller beta"):
        gram(ExponentialKernel(1.0), torch.ones(2, 200))
