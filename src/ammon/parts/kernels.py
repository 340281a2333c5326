"""Kernels: similarities that are inner products in a space of features, so that a Gram matrix has no negative eigenvalue.

Each is a function of x·ξ, |x|² and |ξ|² alone. Cues [*lead, query, dim] and keys [*lead, pattern, dim] give [*lead, query, pattern].
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.parts.similarity import Similarity
from ammon.shapes import Cues, Keys, Rows, Scores, check_count, check_positive

CueSquares = Float[Tensor, "*lead query"] | float
KeySquares = Float[Tensor, "*lead pattern"] | float
# rows of a Gram matrix that are made together
BLOCK = 512


class Kernel(Similarity):
    """The contract of a kernel.

    strict: positive definite on any distinct rows, so that only equal rows make a Gram matrix singular.
    shifts: the same wherever cues and keys are moved together, so they may be compared near their own centre.
    """

    strict: bool = True
    shifts: bool = False

    def of(self, products: Scores, cues: CueSquares, keys: KeySquares, scale_free: bool = False) -> Scores:
        """The kernel from products x·ξ and the squared lengths of cues and keys.

        scale_free: up to one positive factor per cue, then free of overflow and of total underflow.
        """
        raise NotImplementedError

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        return compare(self, cues, keys)


class GaussianKernel(Kernel):
    """exp(-γ |x - ξ|²), in (0, 1]. For rows of ±1 that differ in n entries it is exp(-4γ n)."""

    shifts = True

    def __init__(self, gamma: float) -> None:
        super().__init__()
        check_positive("GaussianKernel", "gamma", gamma)
        self.gamma = float(gamma)

    def of(self, products: Scores, cues: CueSquares, keys: KeySquares, scale_free: bool = False) -> Scores:
        # in place: a Gram matrix is as large as what the machine can hold
        scores = (2 * self.gamma * products).sub_(self.gamma * _row(keys)).sub_(self.gamma * _column(cues)).clamp_(max=0)
        return scores.sub_(_largest(scores)).exp_() if scale_free else scores.exp_()

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        weights = 2 * self.gamma * weights * self(cues, keys)
        origin = _origin(keys)
        return weights @ (keys - origin) - weights.sum(-1, keepdim=True) * (cues - origin)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}"


class PolynomialKernel(Kernel):
    """(x·ξ/unit + offset)^degree. Degree 1 without offset is the inner product. unit: what a product counts as one, e.g. dim."""

    strict = False

    def __init__(self, degree: int, offset: float = 1.0, unit: float = 1.0) -> None:
        super().__init__()
        check_count("PolynomialKernel", "degree", degree)
        if not 0 <= offset < math.inf:
            # with a negative offset a Gram matrix may have negative eigenvalues
            raise ValueError(f"PolynomialKernel: offset must be >= 0 and finite, got {offset}.")
        check_positive("PolynomialKernel", "unit", unit)
        self.degree, self.offset, self.unit = degree, float(offset), float(unit)

    def of(self, products: Scores, cues: CueSquares, keys: KeySquares, scale_free: bool = False) -> Scores:
        base = products / self.unit + self.offset
        if scale_free:
            base = base / base.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(base.dtype).tiny)
        return base.pow(self.degree)

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        base = cues @ keys.mT / self.unit + self.offset
        return (weights * self.degree / self.unit * base ** (self.degree - 1)) @ keys

    def extra_repr(self) -> str:
        return f"degree={self.degree}, offset={self.offset:g}, unit={self.unit:g}"


class ExponentialKernel(Kernel):
    """exp(β x·ξ). On rows of one length R it is exp(βR²) times the Gaussian kernel with γ = β/2."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        check_positive("ExponentialKernel", "beta", beta)
        self.beta = float(beta)

    def of(self, products: Scores, cues: CueSquares, keys: KeySquares, scale_free: bool = False) -> Scores:
        scores = self.beta * products
        return scores.sub_(_largest(scores)).exp_() if scale_free else scores.exp_()

    def pull(self, cues: Cues, keys: Keys, weights: Scores) -> Cues:
        weights = self.beta * weights * self(cues, keys)
        return weights @ keys

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}"


class UpToScale(Similarity):
    """A kernel up to one positive factor per cue: enough for the sign of what it mixes, and never 0 for all patterns at once."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, cues: Cues, keys: Keys) -> Scores:
        return compare(self.kernel, cues, keys, scale_free=True)


def compare(kernel: Kernel, cues: Cues, keys: Keys, scale_free: bool = False) -> Scores:
    """The kernel of every cue with every key, formed in float32 at least."""
    dtype, cues, keys = cues.dtype, _wide(cues), _wide(keys)
    if kernel.shifts:
        origin = _origin(keys)
        cues, keys = cues - origin, keys - origin
    return kernel.of(cues @ keys.mT, cues.square().sum(-1), keys.square().sum(-1), scale_free).to(dtype)


def gram(kernel: Kernel, rows: Rows) -> Float[Tensor, "row row"]:
    """The kernel of all rows with each other, exactly symmetric, made in blocks of its lower triangle. ValueError if it overflows."""
    dtype, rows = rows.dtype, _wide(rows)
    if kernel.shifts:
        rows = rows - _origin(rows)
    squares = rows.square().sum(-1)
    matrix = rows.new_empty(len(rows), len(rows))
    for start in range(0, len(rows), BLOCK):
        end = min(start + BLOCK, len(rows))
        block = kernel.of(rows[start:end] @ rows[:end].mT, squares[start:end], squares[:end])
        matrix[start:end, :start] = block[:, :start]
        # turned as a whole and then put in its place: many times faster than a strided write
        matrix[:start, start:end] = block[:, :start].mT.contiguous()
        # a product of a block with itself need not be symmetric in its last bit
        matrix[start:end, start:end] = torch.tril(block[:, start:]) + torch.tril(block[:, start:], -1).mT
    check_finite(kernel, matrix)
    return matrix.to(dtype)


def check_finite(kernel: Kernel, matrix: Float[Tensor, "row column"]) -> None:
    """Refuse kernel values that overflowed."""
    if matrix.numel() and not torch.isfinite(torch.stack(torch.aminmax(matrix))).all():
        raise ValueError(f"{kernel}: the kernel overflows on these patterns; take a smaller beta or degree, or a larger unit.")


def least_gamma(dim: int, num_patterns: int) -> float:
    """The γ from which on random ±1 patterns disturb each other less than each holds itself; the larger, the more of them there are.

    For random patterns the mean square kernel is (cosh(4γ) e^{-4γ})^dim. A pattern outweighs the others where
    2 ln(dim) · num_patterns times it is at most 1, which gives 1 + e^{-8γ} = 2 e^{-q}, q = ln(2 num_patterns ln dim)/dim; γ·dim then grows
    with dim, as in Tamamori 2025 (arXiv 2505.01218). The signal-to-noise law is our own; it holds without noise, so noisy cues need
    more. ValueError where even γ = ∞ cannot hold so many.
    """
    check_count("least_gamma", "dim", dim)
    check_count("least_gamma", "num_patterns", num_patterns)
    crosstalk = math.log(max(1.0, 2 * num_patterns * math.log(max(2, dim)))) / dim
    if crosstalk >= math.log(2):
        raise ValueError(f"least_gamma: no width holds {num_patterns} random patterns of {dim} entries apart; give fewer or longer ones.")
    return -math.log(2 * math.exp(-crosstalk) - 1) / 8


def robust_gamma(flips: float) -> float:
    """The γ at which most random ±1 patterns are held against a fraction of flipped entries: tanh(4γ) = 1 - 2 flips.

    By the law of `least_gamma` the load is then e^{dim (ln 2 - H)}/(2 ln dim), H the entropy of a flip in nats: that of a random code.
    """
    if not 0 < flips < 0.5:
        raise ValueError(f"robust_gamma: flips must be between 0 and 0.5, got {flips}.")
    return math.atanh(1 - 2 * flips) / 4


def _wide(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def _origin(keys: Tensor) -> Tensor:
    """A point amid the keys, on a grid as coarse as their spread: whole-numbered rows stay whole, and their products exact."""
    with torch.no_grad():
        middle = keys.mean(-2, keepdim=True)
        exponent = torch.frexp((keys - middle).abs().amax((-2, -1), keepdim=True)).exponent - 1
        return torch.ldexp(torch.ldexp(middle, -exponent).round(), exponent)


def _largest(scores: Tensor) -> Tensor:
    # empty rows have no largest entry
    return scores.detach().amax(-1, keepdim=True) if scores.shape[-1] else scores.new_zeros(*scores.shape[:-1], 1)


def _column(squares: Tensor | float) -> Tensor | float:
    return squares.unsqueeze(-1) if isinstance(squares, Tensor) else squares


def _row(squares: Tensor | float) -> Tensor | float:
    return squares.unsqueeze(-2) if isinstance(squares, Tensor) else squares
