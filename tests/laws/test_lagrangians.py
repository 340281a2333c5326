"""Laws of every Lagrangian: the activation is the gradient, the dual is Fenchel's, the comparison keeps its sign."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ammon.parts.lagrangians import Identity, Lagrangian, LayerNorm, Sigmoid, Sign, Sphere, Tanh
from ammon.parts.separations import Entmax, Exponential, LogSumRelu, Maximum, Power, RectifiedPower, Relu, Softmax, Step
from ammon.parts.top_k import TopK

SMOOTH: dict[str, Lagrangian] = {
    "identity": Identity(),
    "power2": Power(2),
    "power3": Power(3, unit=2.0),
    "power7": Power(7),
    "power30": Power(30, unit=4.0),
    "rectified2.5": RectifiedPower(2.5),
    "rectified3": RectifiedPower(3, unit=3.0),
    "relu": Relu(),
    "exponential": Exponential(0.5),
    "softmax": Softmax(1.7),
    "sparsemax": Entmax(2.0, 0.8),
    "entmax1.5": Entmax(1.5, 2.0),
    "entmax1.3": Entmax(1.3),
    "log_sum_relu": LogSumRelu(0.6),
    "step": Step(0.2),
    "sigmoid": Sigmoid(2.0),
    "tanh": Tanh(0.7),
    "layer_norm": LayerNorm(1.3, delta=torch.linspace(-1, 1, 9)),
    "sphere": Sphere(1.5, eps=1e-3),
    "sphere_of_length_1": Sphere(),
}
KINKED: dict[str, Lagrangian] = {"sign": Sign(), "maximum": Maximum(), "top 3": TopK(3, 1.3)}
ALL = SMOOTH | KINKED
# what a gradient through the value loses to rounding, relative to its largest entry
ROUNDING = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 6e-2}


def _gradient(lagrangian: Lagrangian, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(lagrangian.value(x).sum(), x)
    return gradient


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(9,), (5, 9), (2, 3, 9)])
def test_the_activation_is_the_gradient_of_the_value(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    lagrangian = ALL[name].to(dtype)
    generator = torch.Generator().manual_seed(hash(shape) % 1000)
    for scale in (0.1, 1.0, 4.0):
        x = (scale * torch.randn(shape, generator=generator)).to(dtype)
        gradient, activation = _gradient(lagrangian, x), lagrangian.activation(x)
        assert activation.dtype == dtype
        error = (gradient - activation).abs().max()
        assert error <= ROUNDING[dtype] * max(1.0, float(gradient.abs().max())), f"{name} at {scale}: {float(error)}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize(
    "name", ["tanh", "sigmoid", "softmax", "sparsemax", "entmax1.5", "layer_norm", "sphere", "log_sum_relu", "identity"]
)
def test_the_gradient_holds_far_from_the_origin(name: str, size: float, dtype: torch.dtype) -> None:
    lagrangian = ALL[name].to(dtype)
    x = (size * torch.linspace(-1, 1, 9)).to(dtype)
    x = torch.stack([x, x.abs(), -x.abs(), size + torch.linspace(-1, 1, 9).to(dtype)])
    value, gradient = lagrangian.value(x), _gradient(lagrangian, x)
    assert torch.isfinite(value).all()
    torch.testing.assert_close(lagrangian.activation(x), gradient, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


def test_tanh_and_sigmoid_have_their_asymptotes_in_float32() -> None:
    x = torch.tensor([[100.0], [1e4], [-1e4]])
    torch.testing.assert_close(Tanh().value(x), x[:, 0].abs() - math.log(2))
    torch.testing.assert_close(Sigmoid().value(x), torch.relu(x[:, 0]))


@pytest.mark.parametrize(
    "name", ["power3", "power7", "power30", "rectified3", "relu", "exponential", "softmax", "tanh", "sigmoid", "sparsemax"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_comparison_of_two_values_keeps_its_sign_beyond_overflow(name: str, dtype: torch.dtype) -> None:
    lagrangian = ALL[name].to(dtype)
    x = (1e4 * torch.linspace(0.1, 1, 9)).to(dtype).expand(3, 9)
    larger = x.clone()
    larger[:, -1] *= 1.5
    assert (lagrangian.contrast(larger, x) > 0).all()
    assert (lagrangian.contrast(x, larger) < 0).all()
    assert (lagrangian.contrast(x, x) == 0).all()


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_the_comparison_is_that_of_exact_integers(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    plus, minus = torch.randint(-90, 90, (2, 200, 11), generator=generator)
    truth = (plus**n).sum(-1) - (minus**n).sum(-1)
    assert torch.equal(Power(n).contrast(plus.double(), minus.double()).sign(), truth.sign().double())
    truth = (plus.clamp(min=0) ** n).sum(-1) - (minus.clamp(min=0) ** n).sum(-1)
    assert torch.equal(RectifiedPower(n).contrast(plus.double(), minus.double()).sign(), truth.sign().double())


@pytest.mark.parametrize(
    "name", ["identity", "power2", "power3", "power7", "power30", "rectified2.5", "rectified3", "relu", "exponential", "softmax"]
)
@pytest.mark.parametrize("bound", [20.0, 1e300])
def test_odd_and_even_differences_tell_what_every_flip_changes(name: str, bound: float) -> None:
    # a large bound makes powers scale their scores, which may not change a sign or a ratio
    lagrangian = ALL[name].double()
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(-9, 10, (6, 12), generator=generator).double()
    odd, even = lagrangian.differences(scores, 2.0, bound)
    sum_of_exponentials = Exponential(1.7).double() if name == "softmax" else lagrangian
    factor = torch.full((6,), torch.nan, dtype=torch.float64)
    for sign in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 4).repeat(1, 3):
        change = (odd * sign).sum(-1) - even.sum(-1)
        truth = sum_of_exponentials.value(scores + 2 * sign) - sum_of_exponentials.value(scores)
        sure = truth.abs() > 1e-9 * sum_of_exponentials.value(scores).abs().clamp_min(1)
        ratio = change / truth
        assert (ratio[sure] > 0).all()
        # one factor per row, the same for every flip
        factor = torch.where(factor.isnan() & sure, ratio, factor)
        torch.testing.assert_close(ratio[sure], factor[sure], rtol=1e-6, atol=0)
    assert not factor.isnan().any()


@pytest.mark.parametrize(
    "name", ["identity", "power2", "exponential", "softmax", "sparsemax", "entmax1.5", "entmax1.3", "sigmoid", "tanh", "sphere"]
)
def test_value_and_dual_obey_fenchel(name: str) -> None:
    lagrangian = ALL[name].double()
    x = torch.randn(20, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    g = lagrangian.activation(x)
    torch.testing.assert_close(lagrangian.value(x) + lagrangian.dual(g), (x * g).sum(-1), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("bounded", [Sign(), Sphere(), Sphere(2.0, eps=0.1)])
def test_the_dual_is_infinite_where_no_activation_can_be(bounded: Lagrangian) -> None:
    g = bounded.activation(torch.randn(20, 9))
    assert torch.isfinite(bounded.dual(g)).all()
    limit = 1 if isinstance(bounded, Sign) else float(bounded.gamma)
    reach = g.abs().amax(-1, keepdim=True) if isinstance(bounded, Sign) else g.norm(dim=-1, keepdim=True)
    assert (bounded.dual(1.01 * limit * g / reach) == torch.inf).all()


def test_the_dual_of_sign_is_0_and_value_equals_the_product() -> None:
    x = torch.randn(20, 9)
    g = Sign().activation(x)
    torch.testing.assert_close(Sign().value(x), (x * g).sum(-1))
    assert (Sign().dual(g) == 0).all()


@pytest.mark.parametrize("name", [n for n in ALL if ALL[n].convex])
def test_convex_lagrangians_lie_below_their_chords(name: str) -> None:
    lagrangian = ALL[name].double()
    a, b = 2 * torch.randn(2, 200, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    middle, chord = lagrangian.value((a + b) / 2), (lagrangian.value(a) + lagrangian.value(b)) / 2
    assert (middle <= chord + 1e-9 * chord.abs().clamp_min(1)).all()


@pytest.mark.parametrize("lagrangian", [Power(3), LogSumRelu(1.0)])
def test_what_is_said_to_be_not_convex_has_a_witness(lagrangian: Lagrangian) -> None:
    assert not lagrangian.convex
    a, b = 2 * torch.randn(2, 500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert (lagrangian.value((a + b) / 2) > (lagrangian.value(a) + lagrangian.value(b)) / 2 + 1e-6).any()


@pytest.mark.parametrize("name", ALL)
def test_the_direction_is_the_weights_up_to_a_positive_factor(name: str) -> None:
    lagrangian = ALL[name].double()
    x = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    weights, direction = lagrangian.weights(x), lagrangian.direction(x)
    cosine = torch.nn.functional.cosine_similarity(weights / weights.abs().amax(-1, keepdim=True), direction)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


@pytest.mark.parametrize("name", ["power30", "exponential", "rectified3"])
def test_the_direction_neither_overflows_nor_vanishes(name: str) -> None:
    for size in (1e-3, 1.0, 3e4):
        x = size * torch.linspace(0.5, 1, 9).expand(2, 9)
        direction = ALL[name].float().direction(x)
        assert torch.isfinite(direction).all()
        assert (direction.abs().amax(-1) > 1e-12).all()


@pytest.mark.parametrize("name", ["exponential", "softmax", "sparsemax", "entmax1.5", "log_sum_relu", "sigmoid", "maximum"])
def test_the_null_score_gets_weight_0(name: str) -> None:
    lagrangian = ALL[name].double()
    x = torch.tensor([[0.3, lagrangian.null, 0.1]], dtype=torch.float64)
    assert lagrangian.weights(x)[0, 1] == 0
    assert torch.isfinite(lagrangian.weights(x)).all()


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("kind", [Exponential, Softmax, Sigmoid, Tanh, LogSumRelu, lambda b: Entmax(1.5, b), Sphere, LayerNorm])
def test_a_gain_that_is_not_positive_and_finite_is_refused(kind, beta: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="must be positive and finite"):
        kind(beta)


@pytest.mark.parametrize("make", [lambda: Power(1), lambda: Power(2.5), lambda: RectifiedPower(1.5), lambda: Entmax(1.0)])  # type: ignore[arg-type]
def test_a_degree_out_of_range_is_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("kind", [Exponential, Softmax, Sigmoid, Tanh, LogSumRelu])
def test_a_learnable_gain_has_the_gradient_of_finite_differences(kind) -> None:  # type: ignore[no-untyped-def]
    x = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    lagrangian = kind(0.7, learnable=True).double()
    (gradient,) = torch.autograd.grad(lagrangian.value(x).sum(), lagrangian.beta)
    step = 1e-6
    truth = (kind(0.7 + step).value(x).sum() - kind(0.7 - step).value(x).sum()) / (2 * step)
    torch.testing.assert_close(gradient, truth, rtol=1e-5, atol=1e-7)


def test_the_gain_of_entmax_is_learnable_too() -> None:
    x = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    lagrangian = Entmax(1.5, 0.7, learnable=True).double()
    (gradient,) = torch.autograd.grad(lagrangian.value(x).sum(), lagrangian.beta)
    truth = (Entmax(1.5, 0.7 + 1e-6).value(x).sum() - Entmax(1.5, 0.7 - 1e-6).value(x).sum()) / 2e-6
    torch.testing.assert_close(gradient, truth, rtol=1e-5, atol=1e-7)


@given(n=st.integers(2, 30), seed=st.integers(0, 100), dim=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_whole_powers_of_small_integers_are_exact(n: int, seed: int, dim: int) -> None:
    limit = int(2 ** (52 / n))
    x = torch.randint(-limit, limit + 1, (dim,), generator=torch.Generator().manual_seed(seed))
    value = Power(n).activation(x.double()) * x
    assert [int(v) for v in value] == [int(v) ** n for v in x]


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_layer_norm_is_that_of_torch(gamma: float) -> None:
    x = torch.randn(4, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(LayerNorm(gamma).activation(x), gamma * torch.nn.functional.layer_norm(x, (8,)))


def test_entmax_rows_sum_to_1_in_every_dtype() -> None:
    x = 5 * torch.randn(6, 50, generator=torch.Generator().manual_seed(7))
    for dtype, error in ((torch.float64, 1e-9), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        for alpha in (1.3, 1.5, 2.0):
            total = Entmax(alpha).activation(x.to(dtype)).double().sum(-1)
            assert (total - 1).abs().max() <= error, (alpha, dtype)
