"""Separations: Lagrangians that sharpen the scores of a memory, from powers over softmax to the nearest neighbour.

Scores [*lead, pattern] in, weights [*lead, pattern] out. Where the field speaks of F, as in -Σ F(ξ·s), L = Σ F up to a factor.
"""

import math
from types import ModuleType
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from ammon.parts.lagrangians import Lagrangian, gain, times
from ammon.shapes import Lead, Units, check_positive


class Power(Lagrangian):
    """L = unit/n Σ(x/unit)ⁿ; activation (x/unit)^(n-1) (Krotov & Hopfield 2016, F = xⁿ). Convex for even n.

    `unit` = D makes the energy extensive and keeps it finite for large n; the answers of a ±1 memory do not depend on it.
    """

    def __init__(self, n: float, unit: float = 1.0) -> None:
        super().__init__()
        if not (float(n).is_integer() and n >= 2):
            raise ValueError(f"Power: n must be a whole number >= 2, got {n}; for other n use RectifiedPower.")
        check_positive("Power", "unit", unit)
        self.n, self.unit = int(n), float(unit)
        self.convex = self.n % 2 == 0

    def value(self, x: Units) -> Lead:
        return _power(x / self.unit, self.n).sum(-1) * (self.unit / self.n)

    def activation(self, x: Units) -> Units:
        return _power(x / self.unit, self.n - 1)

    def dual(self, g: Units) -> Lead:
        if not self.convex:
            raise TypeError(f"Power.dual: x^{self.n} is not convex, so it has no dual; use RectifiedPower({self.n}).")
        return g.abs().pow(self.n / (self.n - 1)).sum(-1) * (self.unit * (self.n - 1) / self.n)

    def direction(self, x: Units) -> Units:
        return _power(torch.ldexp(x, -_exponent(x)), self.n - 1)

    def differences(self, x: Units, step: float, bound: float) -> tuple[Units, Units]:
        # binomial sums over odd and even powers of the step: no cancellation, and exact on integers
        if _may_overflow(x, bound, self.n):
            exponent = _exponent(x)
            x, delta = torch.ldexp(x, -exponent), torch.ldexp(torch.full_like(exponent, step, dtype=x.dtype), -exponent)
            return self._binomial(x, 1, delta), self._binomial(x, 2, delta).neg_()
        return self._binomial(x, 1, step), self._binomial(x, 2, step).neg_()

    def steepness(self, step: float) -> float:
        return (1 + step) ** self.n

    def _binomial(self, x: Tensor, first: int, step: float | Tensor) -> Tensor:
        """Σ C(n,k) x^(n-k) step^k over k = first, first + 2, ... <= n, by Horner's rule in x²."""
        square, last = x * x, self.n - (self.n - first) % 2
        terms = [math.comb(self.n, k) * step**k for k in range(first, last + 1, 2)]
        if not terms:
            return torch.zeros_like(x)
        if len(terms) == 1:
            return torch.ones_like(x) * terms[0] if last == self.n else x * terms[0]
        total = (square * terms[0]).add_(terms[1])
        for term in terms[2:]:
            total = (total * square).add_(term)
        return total if last == self.n else total * x

    def contrast(self, plus: Units, minus: Units) -> Lead:
        exponent = _exponent(plus, minus)
        plus, minus = torch.ldexp(plus, -exponent), torch.ldexp(minus, -exponent)
        return (_power(plus, self.n) - _power(minus, self.n)).sum(-1)


class RectifiedPower(Lagrangian):
    """L = unit/n Σ relu(x/unit)ⁿ; activation relu(x/unit)^(n-1) (Krotov & Hopfield 2016). n = 2 is the layer of ReLU units."""

    def __init__(self, n: float, unit: float = 1.0) -> None:
        super().__init__()
        if not 2 <= n < math.inf:
            raise ValueError(f"RectifiedPower: n must be >= 2, got {n}.")
        check_positive("RectifiedPower", "unit", unit)
        self.n, self.unit = n, float(unit)

    def value(self, x: Units) -> Lead:
        return _power(torch.relu(x / self.unit), self.n).sum(-1) * (self.unit / self.n)

    def activation(self, x: Units) -> Units:
        return _power(torch.relu(x / self.unit), self.n - 1)

    def direction(self, x: Units) -> Units:
        return _power(torch.relu(torch.ldexp(x, -_exponent(x))), self.n - 1)

    def differences(self, x: Units, step: float, bound: float) -> tuple[Units, Units]:
        plus, minus, here = torch.relu(x + step), torch.relu(x - step), torch.relu(x)
        if _may_overflow(x, bound, self.n):
            exponent = _exponent(plus)
            plus, minus, here = (torch.ldexp(s, -exponent) for s in (plus, minus, here))
        plus, minus, here = (_power(s, self.n) for s in (plus, minus, here))
        return (plus - minus) / 2, here - (plus + minus) / 2

    def steepness(self, step: float) -> float:
        return float((1 + step) ** self.n)

    def contrast(self, plus: Units, minus: Units) -> Lead:
        plus, minus = torch.relu(plus), torch.relu(minus)
        exponent = _exponent(plus, minus)
        plus, minus = torch.ldexp(plus, -exponent), torch.ldexp(minus, -exponent)
        return (_power(plus, self.n) - _power(minus, self.n)).sum(-1)


class Relu(RectifiedPower):
    """L = Σ relu(x)²/2; activation relu(x)."""

    def __init__(self) -> None:
        super().__init__(2)


class Step(Lagrangian):
    """L = Σ relu(x - θ); activation 1 above the threshold θ, else 0: each hidden unit is on or off by itself (Kafraj et al. 2026).

    Convex, so with dot products the energy never rises. θ = 1/2 lies in the middle between off and on for rows of length 1.
    """

    def __init__(self, theta: float = 0.5) -> None:
        super().__init__()
        check_positive("Step", "theta", theta)
        self.theta = float(theta)

    def value(self, x: Units) -> Lead:
        return torch.relu(x - self.theta).sum(-1)

    def activation(self, x: Units) -> Units:
        return (x > self.theta).to(x.dtype)

    def dual(self, g: Units) -> Lead:
        return self.theta * g.sum(-1)

    def differences(self, x: Units, step: float, bound: float) -> tuple[Units, Units]:
        plus, minus, here = (torch.relu(x + change - self.theta) for change in (step, -step, 0.0))
        return (plus - minus) / 2, here - (plus + minus) / 2

    def steepness(self, step: float) -> float:
        return 2.0


def _power(x: Tensor, n: float) -> Tensor:
    """x^n; by repeated squaring for whole n, so that powers of integers stay exact."""
    if not float(n).is_integer():
        return x**n
    result, square, left = None, x, int(n)
    while left:
        if left % 2:
            result = square if result is None else result * square
        left //= 2
        if left:
            square = square * square
    return torch.ones_like(x) if result is None else result


def _exponent(*scores: Tensor) -> Tensor:
    """The whole number e, one per row, with 2^e at least the largest |score|: scaling by 2^-e changes no digit."""
    largest = torch.stack([s.detach().abs().amax(-1, keepdim=True) for s in scores]).amax(0)
    return torch.frexp(largest).exponent


def _may_overflow(x: Tensor, bound: float, n: float) -> bool:
    return n * math.log(max(bound, 1.0)) + math.log(x.shape[-1] + 1) > math.log(torch.finfo(x.dtype).max) - 1


class Exponential(Lagrangian):
    """L = Σ exp(βx)/β; activation exp(βx) (Demircigil et al. 2017). Its value overflows early: Softmax has the same descents."""

    null = -math.inf

    def __init__(self, beta: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        self.beta, self.learnable = gain("Exponential", "beta", beta, learnable), learnable

    def value(self, x: Units) -> Lead:
        return torch.exp(times(self.beta, x)).sum(-1) / self.beta

    def activation(self, x: Units) -> Units:
        return torch.exp(times(self.beta, x))

    def dual(self, g: Units) -> Lead:
        return (torch.xlogy(g, g) - g).sum(-1) / self.beta

    def direction(self, x: Units) -> Units:
        return torch.exp(times(self.beta, x - _largest(x)))

    def differences(self, x: Units, step: float, bound: float) -> tuple[Units, Units]:
        return _exponential_differences(x, step, self.beta)

    def steepness(self, step: float) -> float:
        return math.exp(min(float(torch.as_tensor(self.beta).detach()) * step, 700.0))

    def contrast(self, plus: Units, minus: Units) -> Lead:
        return torch.logsumexp(self.beta * plus, -1) - torch.logsumexp(self.beta * minus, -1)


class Softmax(Lagrangian):
    """L = logsumexp(βx)/β; activation softmax(βx): modern Hopfield networks and attention (Ramsauer et al. 2021)."""

    null = -math.inf
    normalised = True

    def __init__(self, beta: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        self.beta, self.learnable = gain("Softmax", "beta", beta, learnable), learnable

    def value(self, x: Units) -> Lead:
        largest = _largest(x)
        return torch.logsumexp(times(self.beta, x - largest), -1) / self.beta + largest.squeeze(-1)

    def activation(self, x: Units) -> Units:
        below = x - _largest(x)
        # in place where no gradient asks for what was there before
        return torch.softmax(times(self.beta, below) if isinstance(self.beta, Tensor) else below.mul_(self.beta), -1)

    def weights(self, x: Units) -> Units:
        # weights below 1e-30 become exact zeros: denormal numbers make the product that follows up to 5 times slower
        weights = self.activation(x)
        return functional.threshold(weights, 1e-30, 0.0) if x.dtype in (torch.float32, torch.bfloat16) else weights

    def dual(self, g: Units) -> Lead:
        return torch.xlogy(g, g).sum(-1) / self.beta

    def differences(self, x: Units, step: float, bound: float) -> tuple[Units, Units]:
        # the logarithm is monotonic: the sum of exponentials has the same flips
        return _exponential_differences(x, step, self.beta)

    def steepness(self, step: float) -> float:
        return math.exp(min(float(torch.as_tensor(self.beta).detach()) * step, 700.0))


def _largest(x: Tensor) -> Tensor:
    """The largest score of each row: relative to it, differences of large scores keep their digits and no exponential overflows."""
    return x.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).min)


def _exponential_differences(x: Tensor, step: float, beta: Tensor | float) -> tuple[Tensor, Tensor]:
    # exp(β(x ± step)) = exp(βx) (cosh ± sinh); divided by cosh so that a large β·step cannot overflow
    term, reach = torch.exp(beta * (x - _largest(x))), torch.as_tensor(beta * step, dtype=x.dtype, device=x.device)
    return term * torch.tanh(reach), term * (1 / torch.cosh(reach) - 1)


class Maximum(Lagrangian):
    """L = max(x); activation 1 at the largest entry (the first of equals), 0 elsewhere: nearest neighbour, softmax at β = ∞."""

    null = -math.inf
    normalised = True

    def value(self, x: Units) -> Lead:
        return x.amax(-1)

    def activation(self, x: Units) -> Units:
        return functional.one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype)

    def dual(self, g: Units) -> Lead:
        return torch.zeros_like(g[..., 0])


class Entmax(Lagrangian):
    """L = Ψ*(βx)/β, Ψ Tsallis's negative entropy; activation α-entmax(βx), with exact zeros (Peters et al. 2019; Hu et al. 2023).

    α = 2 is sparsemax, α → 1 softmax. Needs the package `entmax` (extra `sparse`). Computed in float32 for half precision,
    where the package's rows do not sum to 1.
    """

    null = -math.inf
    normalised = True

    def __init__(self, alpha: float = 1.5, beta: float = 1.0, learnable: bool = False) -> None:
        super().__init__()
        if not 1 < alpha < math.inf:
            raise ValueError(f"Entmax: alpha must be > 1, got {alpha}; alpha = 1 is Softmax.")
        self.alpha, self.learnable = float(alpha), learnable
        self.beta = gain("Entmax", "beta", beta, learnable)
        package = _entmax()
        for function in (package.sparsemax, package.entmax15, package.entmax_bisect):
            # their autograd functions are class methods, into which torch.compile does not look
            torch.compiler.allow_in_graph(function)  # type: ignore[no-untyped-call]

    def value(self, x: Units) -> Lead:
        largest = _largest(x)
        z = self._scaled(x - largest)
        p = self._sparse(z)
        negative_entropy = (p.pow(self.alpha).sum(-1) - 1) / (self.alpha * (self.alpha - 1))
        return (((p * z).sum(-1) - negative_entropy) / self.beta).to(x.dtype) + largest.squeeze(-1)

    def activation(self, x: Units) -> Units:
        return self._sparse(self._scaled(x - _largest(x))).to(x.dtype)

    def dual(self, g: Units) -> Lead:
        return (g.pow(self.alpha).sum(-1) - 1) / (self.alpha * (self.alpha - 1)) / self.beta

    def _scaled(self, x: Tensor) -> Tensor:
        # -inf would poison the package's cumulative sums; a large negative score gets weight 0 just the same
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        return times(self.beta, wide).clamp_min(-1e30)

    def _sparse(self, z: Tensor) -> Tensor:
        package = _entmax()
        if self.alpha == 2:
            return cast(Tensor, package.sparsemax(z, dim=-1))
        if self.alpha == 1.5:
            return cast(Tensor, package.entmax15(z, dim=-1))
        return cast(Tensor, package.entmax_bisect(z, alpha=self.alpha, dim=-1))


def _entmax() -> ModuleType:
    try:
        import entmax
    except ImportError as error:
        raise ImportError("Entmax needs the package entmax: pip install 'ammon[sparse]'.") from error
    return cast(ModuleType, entmax)


class LogSumRelu(Lagrangian):
    """L = log(ε + Σ relu(1 + βx))/β; with x = -distance²/2 the Epanechnikov energy (Hoover et al. 2025, arXiv 2506.10801).

    Not convex. The weights are normalised to sum 1, which makes the step reach the centroid of the patterns within
    sqrt(2/β) at once; with none within reach all are 0. ε keeps the energy finite there.
    """

    convex = False
    compact = True
    normalised = True
    null = -math.inf

    def __init__(self, beta: float = 1.0, eps: float = 1e-6, learnable: bool = False) -> None:
        super().__init__()
        if not 0 <= eps < math.inf:
            raise ValueError(f"LogSumRelu: eps must be >= 0 and finite, got {eps}.")
        self.beta, self.eps, self.learnable = gain("LogSumRelu", "beta", beta, learnable), float(eps), learnable

    def value(self, x: Units) -> Lead:
        return torch.log(self.eps + self._reach(x).sum(-1)) / self.beta

    def activation(self, x: Units) -> Units:
        reach = self._reach(x)
        return (reach > 0).to(x.dtype) / (self.eps + reach.sum(-1, keepdim=True)).clamp_min(torch.finfo(x.dtype).tiny)

    def weights(self, x: Units) -> Units:
        within = (self._reach(x) > 0).to(x.dtype)
        return within / within.sum(-1, keepdim=True).clamp_min(1)

    def _reach(self, x: Tensor) -> Tensor:
        return torch.relu(1 + times(self.beta, x))
