"""The catalogue: every memory by name, how to make it, its row of the table ⟨f, A, C⟩, and the data it takes.

Each constructor has defaults with which the memory recalls the data that its entry names.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ammon.learning.base import module_size
from ammon.learning.bayes import BayesianOptimal, Bcpnn, Willshaw
from ammon.learning.dense import ErrorDescent
from ammon.learning.field import Delta, Perceptron, Storkey
from ammon.learning.hebb import Hebb
from ammon.learning.kernel_logistic import Logistic
from ammon.learning.kernel_ridge import Ridge
from ammon.learning.modular import Modular
from ammon.learning.pseudo_inverse import RecursivePseudoInverse
from ammon.learning.regression import Regression
from ammon.learning.spherical_code import SphericalCode
from ammon.memories.associative import AssociativeMemory
from ammon.memories.astrocyte import AstrocyteMemory
from ammon.memories.base import Memory
from ammon.memories.binary import BinaryMemory, Order
from ammon.memories.expansion import ExpansionMemory
from ammon.memories.feature import FeatureMemory
from ammon.memories.holographic import HolographicMemory
from ammon.memories.kernel import KernelMemory
from ammon.memories.learned_dense import LearnedDenseMemory
from ammon.memories.pairwise import PairwiseMemory
from ammon.memories.predictive import PredictiveMemory
from ammon.memories.sequence import End, Mixed, SequenceMemory
from ammon.memories.sparse_distributed import SparseDistributedMemory, radius_of
from ammon.memories.spherical import SphericalMemory
from ammon.memories.todam import TodamMemory
from ammon.memories.transitions import TransitionMemory
from ammon.parts.expansions import Sine
from ammon.parts.features import SinCos
from ammon.parts.kernels import GaussianKernel
from ammon.parts.lagrangians import Identity, Lagrangian, Sign, Winners
from ammon.parts.patterns import Preparation, modules_of
from ammon.parts.separations import Entmax, LogSumRelu, Power, RectifiedPower, Softmax, Step
from ammon.parts.similarity import Dot, Euclidean, Manhattan, NormalisedDot, Relevant, Similarity
from ammon.shapes import check_positive


@dataclass(frozen=True)
class Entry:
    """One memory of the catalogue. `make(dim)` gives it with its defaults."""

    make: Callable[..., Memory]
    keys: str
    values: str
    similarity: str
    separation: str
    activation: str
    paper: str
    data: Preparation  # what patterns and cues must be brought to: see ammon.parts.patterns.prepare
    task: Literal["auto", "hetero", "sequence"]
    cost: str  # of one step for one cue; N patterns of dim D


def kohonen(dim: int, rate: float = 1.0, forgetting: float = 0.0) -> PairwiseMemory:
    """Linear correlation matrix, one pattern at a time (Kohonen 1972). Recalls orthonormal patterns exactly."""
    return PairwiseMemory(dim, Hebb(rate, forgetting), Identity())


def amari(dim: int, rate: float = 1.0, forgetting: float = 0.0) -> PairwiseMemory:
    """Correlation matrix with sign units (Amari 1972), all at once; the matrix keeps its diagonal, so the energy never rises."""
    return PairwiseMemory(dim, Hebb(rate, forgetting), Sign(), steps=20)


def delta(dim: int, rate: float = 1.0, epochs: int = 100) -> PairwiseMemory:
    """Linear network learned by the delta rule (Widrow & Hoff 1960): independent keys are read exactly; `memory.fit` says how well."""
    return PairwiseMemory(dim, Delta(rate, epochs), Identity())


def hopfield(dim: int, steps: int = 50) -> BinaryMemory:
    """Hopfield network of ±1 units, updated one by one (Hopfield 1982): about 0.138 D random patterns."""
    return BinaryMemory(dim, Identity(), "asynchronous", steps)


def synchronous_hopfield(dim: int, steps: int = 50) -> BinaryMemory:
    """Hopfield network, all units at once (Little 1974): a 2-cycle may come, and `Recall.cycled` tells."""
    return BinaryMemory(dim, Identity(), "synchronous", steps)


def storkey(dim: int, steps: int = 50) -> PairwiseMemory:
    """Hopfield network with Storkey's rule, units one by one (Storkey & Valabregue 1999): about D/sqrt(2 ln D) random patterns."""
    return PairwiseMemory(dim, Storkey(), Sign(), steps, "asynchronous")


def pseudo_inverse(dim: int, steps: int = 50) -> PairwiseMemory:
    """Hopfield network with the projection rule, one pattern at a time (Personnaz et al. 1985): D - 1 independent patterns."""
    return PairwiseMemory(dim, RecursivePseudoInverse(), Sign(), steps, "asynchronous")


def perceptron(dim: int, margin: float = 1.0, epochs: int = 100, steps: int = 50) -> PairwiseMemory:
    """Network of perceptrons with margin (Gardner 1988; Diederich & Opper 1987, rule I, at margin 1); asymmetric, so without an energy."""
    return PairwiseMemory(dim, Perceptron(margin, epochs), Sign(), steps, "asynchronous")


def willshaw(dim: int, active: int | None = None, steps: int = 10) -> PairwiseMemory:
    """Clipped Hebbian weights for patterns of 0 and 1 (Willshaw et al. 1969); `active` units win, log2(D) by default."""
    return PairwiseMemory(dim, Willshaw(), Winners(active or max(1, round(math.log2(dim)))), steps)


def bcpnn(dim: int, active: int | None = None, groups: int = 1, steps: int = 10) -> PairwiseMemory:
    """Bayesian confidence propagation for patterns of 0 and 1 (Lansner & Ekeberg 1989); `active` units win in each of `groups` groups."""
    return PairwiseMemory(dim, Bcpnn(), Winners(active or max(1, round(math.log2(dim // groups))), groups), steps)


def modular_bcpnn(dim: int, modules: int | None = None, steps: int = 15) -> PairwiseMemory:
    """BCPNN in modules (hypercolumns) with one winner each that hear only other modules (Lansner et al. 2026).

    modules: √D by default, or the next divisor of D. What was never active together counts against itself by 1/(n + 1)².
    """
    modules = modules_of(dim) if modules is None else modules
    module_size("modular_bcpnn", dim, modules)
    return PairwiseMemory(dim, Modular(Bcpnn(floor=None), modules), Winners(1, modules), steps)


def bayesian_optimal(dim: int, active: int | None = None, miss: float = 0.0, add: float = 0.0, steps: int = 10) -> PairwiseMemory:
    """The Bayesian associative memory for patterns of 0 and 1 (Knoblauch 2011); `active` units win, log2(D) by default.

    miss, add: how often a cue loses an active unit, or shows a silent one.
    """
    return PairwiseMemory(dim, BayesianOptimal(miss, add), Winners(active or max(1, round(math.log2(dim)))), steps)


def dense(dim: int, n: int = 3, steps: int = 50) -> BinaryMemory:
    """Dense memory, F = xⁿ, by exact energy differences (Krotov & Hopfield 2016): of the order of D^(n-1) patterns.

    The energy is -(D/n) Σ (ξ·s/D)ⁿ: that of the paper divided by n D^(n-1), so that it stays finite. Even n stores -ξ too.
    """
    return BinaryMemory(dim, Power(n, unit=dim), "asynchronous", steps)


def rectified_dense(dim: int, n: float = 3, steps: int = 50) -> BinaryMemory:
    """Dense memory with rectified powers, F = relu(x)ⁿ, by exact energy differences (Krotov & Hopfield 2016)."""
    return BinaryMemory(dim, RectifiedPower(n, unit=dim), "asynchronous", steps)


def learned_dense(dim: int, n: float = 3, hidden: int = 100, epochs: int = 60, steps: int = 20) -> LearnedDenseMemory:
    """Dense memory with learned hidden patterns (Krotov & Hopfield 2016, section 4); with labels as values, their classifier.

    The defaults suit a few hundred patterns that are learned together; `ErrorDescent` has the paper's schedule for many.
    """
    return LearnedDenseMemory(dim, ErrorDescent(n, hidden, error_power=1, epochs=epochs, rate=0.1, start=0.3, end=0.3), steps)


def large_dim_dense(dim: int, n: int = 3, steps: int = 50) -> AssociativeMemory:
    """Dense memory by its large-D approximation sign(Ξᵀ F'(Ξs)), all units at once, each voting for itself (Krotov & Hopfield 2016).

    The energy cannot rise for even n, where F is convex; for odd n it can.
    """
    return AssociativeMemory(dim, Dot(), Power(n, unit=dim), Sign(), steps)


def exponential(dim: int, beta: float = 1.0, steps: int = 50) -> BinaryMemory:
    """Exponential memory, F = exp (Demircigil et al. 2017), by exact energy differences: of the order of 2^(D/2) patterns.

    Its energy is given as -log Σ exp(β ξ·s)/β, a monotonic function of the paper's with the same descents and no overflow.
    """
    return BinaryMemory(dim, Softmax(beta), "asynchronous", steps)


def astrocyte(dim: int, coupling: float = 0.5, steps: int = 50) -> AstrocyteMemory:
    """Neurons, synapses and astrocyte processes (Kozachkov, Slotine & Krotov 2025): near a dense memory of power 4.

    coupling: how strongly processes drive each other; 0 is `dense` with n = 4.
    """
    return AstrocyteMemory(dim, coupling, steps)


def modern_hopfield(dim: int, beta: float = 128.0, steps: int = 50) -> AssociativeMemory:
    """Continuous modern Hopfield network; one step is attention (Ramsauer et al. 2021).

    The default β suits centred patterns of length 1. With plain dot products the longest pattern wins: bring rows to one length.
    """
    return AssociativeMemory(dim, Dot(), Softmax(beta), Identity(), steps)


def sparse_hopfield(dim: int, alpha: float = 2.0, beta: float = 64.0, steps: int = 50) -> AssociativeMemory:
    """Sparse modern Hopfield network by α-entmax, with exact zeros (Hu et al. 2023); α = 2 is sparsemax. Needs the extra `sparse`."""
    return AssociativeMemory(dim, Dot(), Entmax(alpha, beta), Identity(), steps)


def diffusion(dim: int, sigma: float = 0.2, steps: int = 50) -> AssociativeMemory:
    """The denoiser of the stored data at noise σ: distances and softmax(1/σ²); its score is (f(x) - x)/σ² (Ambrogioni 2024)."""
    if not 0 < sigma < float("inf"):
        raise ValueError(f"diffusion: sigma must be positive and finite, got {sigma}.")
    return AssociativeMemory(dim, Euclidean(), Softmax(1 / sigma**2), Identity(), steps)


def log_sum_relu(dim: int, beta: float = 1.0, steps: int = 50) -> AssociativeMemory:
    """Log-sum-ReLU (Epanechnikov) memory (Hoover et al. 2025): exact recall within sqrt(2/β) of one pattern, and new minima between.

    A cue beyond sqrt(2/β) of every pattern is not moved. β = 2/(r - Δ)², r the smallest distance between patterns, recalls all.
    """
    return AssociativeMemory(dim, Euclidean(), LogSumRelu(beta), Identity(), steps)


def compositional(dim: int, theta: float = 0.5, steps: int = 50) -> AssociativeMemory:
    """Two layers with hidden threshold units (Kafraj, Krotov & Latham 2026): components are written, and all sums of them are stored.

    With rows of length 1 and nearly at right angles all 2^N on-off states of N hidden units are fixed points;
    `ammon.analysis.codes.margin` tells. `ammon.learning.components` learns components from patterns.
    """
    return AssociativeMemory(dim, Dot(), Step(theta), Identity(), steps)


def u_hop(dim: int, code_dim: int | None = None, beta: float = 16.0, sharpness: float = 2.0, steps: int = 20) -> SphericalMemory:
    """U-Hop (Wu et al. 2024): patterns are compared after a map learned to keep them apart; sharpness math.inf is U-Hop+ (Hu et al. 2024).

    code_dim: entries of a code; dim by default, 256 at most.
    """
    return SphericalMemory(dim, SphericalCode(code_dim or min(dim, 256), sharpness), beta, steps)


def predictive(dim: int, ridge: float = 1e-3, steps: int = 1) -> PredictiveMemory:
    """Predictive coding with learned covariance (Tang et al. 2023), at rest in closed form: known entries (`clamp`) predict the others.

    ridge: the noise expected in a cue, as a share of the patterns' variance.
    """
    return PredictiveMemory(dim, ridge, steps)


def minerva2(dim: int, relevant: Relevant = "either") -> AssociativeMemory:
    """MINERVA 2 (Hintzman 1984): one read; the state is the echo content, `memory.intensity(cue)` the echo intensity.

    Encoding with probability L is `ammon.parts.corruption.Encoding(L)` applied to the patterns before writing.
    """
    return AssociativeMemory(dim, NormalisedDot(relevant), Power(4), Identity(), steps=1)


def universal(
    dim: int,
    similarity: Similarity | None = None,
    separation: Lagrangian | None = None,
    activation: Lagrangian | None = None,
    steps: int = 1,
) -> AssociativeMemory:
    """Universal Hopfield network: any similarity × separation, one read (Millidge et al. 2022). By default Manhattan × softmax(4)."""
    return AssociativeMemory(dim, similarity or Manhattan(), separation or Softmax(4.0), activation, steps)


def kernel_logistic(dim: int, gamma: float = 0.1, penalty: float = 0.01, update: Order = "synchronous", steps: int = 30) -> KernelMemory:
    """Kernel logistic regression Hopfield network (Tamamori 2025), all units fitted together; `memory.fit` certifies the answer."""
    return KernelMemory(dim, GaussianKernel(gamma), Logistic(penalty), update, steps)


def kernel_ridge(dim: int, gamma: float = 0.1, penalty: float = 0.01, update: Order = "synchronous", steps: int = 30) -> KernelMemory:
    """Kernel ridge regression Hopfield network (Tamamori 2025), in closed form; it recalls about as the logistic one does."""
    return KernelMemory(dim, GaussianKernel(gamma), Ridge(penalty), update, steps)


def sequence(dim: int, d: int = 2, end: End = "held", steps: int = 1) -> SequenceMemory:
    """Sequence memory with separation x^d (Chaudhry et al. 2023), one transition a step; d = 1 is the asymmetric Hopfield network."""
    return SequenceMemory(dim, Power(d + 1, unit=dim), end, steps=steps)


def exponential_sequence(dim: int, beta: float = 1.0, end: End = "held", steps: int = 1) -> SequenceMemory:
    """Sequence memory with an exponential separation (Chaudhry et al. 2023), one transition a step."""
    return SequenceMemory(dim, Softmax(beta), end, steps=steps)


def mixed_sequence(dim: int, d: int = 2, drive: float = 2.5, delay: int = 0, end: End = "held", steps: int = 1) -> SequenceMemory:
    """Sequence memory that holds each pattern for `delay` steps more before it moves on (Chaudhry et al. 2023)."""
    return SequenceMemory(dim, Power(d + 1, unit=dim), end, Mixed(drive, delay), steps=steps)


def temporal_predictive(dim: int, ridge: float = 1e-3, end: End = "held", steps: int = 1) -> TransitionMemory:
    """Temporal predictive coding (Tang, Barron & Bogacz 2023), at rest in closed form: up to D patterns, however much they look alike.

    ridge: the noise expected in a state, as a share of its mean square.
    """
    return TransitionMemory(dim, Regression(ridge), Sign(), end, steps)


def random_features(dim: int, num_frequencies: int = 8192, beta: float = 15.0, rate: float = 0.5, steps: int = 60) -> FeatureMemory:
    """Dense memory as one sum of random features (DrDAM, Hoover et al. 2024), of one size for any number of patterns; approximate."""
    return FeatureMemory(SinCos(dim, num_frequencies, beta), rate, steps)


def hebbian_expansion(dim: int, num_features: int = 4096, gain: float = 8.0, steps: int = 20) -> ExpansionMemory:
    """Random odd features and one matrix learned by the activity product alone: the Hebbian reading of DrDAM (Hoover et al. 2024).

    The kernel is sinh(gain · m)/sinh(gain) of the overlap m: small gain is a correlation matrix, large gain a dense memory, which
    needs more features. 8 tells patterns apart that look alike; for random ones 4 is better: one to some 16 features.
    """
    check_positive("hebbian_expansion", "gain", gain)
    return ExpansionMemory(Sine(dim, num_features, gain / dim), steps=steps)


def holographic(dim: int, beta: float = 128.0) -> HolographicMemory:
    """Holographic reduced representations (Plate 1995): bindings in one superposition, cleaned up by a modern Hopfield network."""
    return HolographicMemory(dim, clean_up=modern_hopfield(dim, beta))


def todam(dim: int, retention: float = 1.0, beta: float = 128.0) -> TodamMemory:
    """TODAM (Murdock 1982): items and associations in one trace, cleaned up by a modern Hopfield network; `familiarity` recognises."""
    return TodamMemory(dim, retention, clean_up=modern_hopfield(dim, beta))


def sparse_distributed(
    dim: int, num_locations: int = 4096, fraction: float = 0.02, seed: int = 0, steps: int = 20
) -> SparseDistributedMemory:
    """Sparse distributed memory (Kanerva 1988); the radius is such that a `fraction` of the locations takes part."""
    return SparseDistributedMemory(dim, num_locations, radius_of(dim, fraction), seed, steps)


CATALOG: dict[str, Entry] = {
    "kohonen": Entry(kohonen, "I", "W = Σξξᵀ", "dot", "identity", "identity", "Kohonen 1972", "unit", "hetero", "2 D²"),
    "amari": Entry(amari, "I", "W = Σξξᵀ", "dot", "identity", "sign", "Amari 1972", "bipolar", "hetero", "2 D²"),
    "delta": Entry(delta, "I", "W, delta rule", "dot", "identity", "identity", "Widrow & Hoff 1960", "unit", "hetero", "2 D²"),
    "hopfield": Entry(hopfield, "Ξ", "Ξ", "dot", "identity", "sign, one by one", "Hopfield 1982", "bipolar", "auto", "4 N D"),
    "synchronous_hopfield": Entry(
        synchronous_hopfield, "Ξ", "Ξ", "dot", "identity", "sign, at once", "Little 1974", "bipolar", "auto", "4 N D"
    ),
    "storkey": Entry(
        storkey, "I", "W, Storkey", "dot", "identity", "sign, one by one", "Storkey & Valabregue 1999", "bipolar", "auto", "2 D²"
    ),
    "pseudo_inverse": Entry(
        pseudo_inverse, "I", "W = X⁺X", "dot", "identity", "sign, one by one", "Personnaz et al. 1985", "bipolar", "auto", "2 D²"
    ),
    "perceptron": Entry(perceptron, "I", "W, learned", "dot", "identity", "sign, one by one", "Gardner 1988", "bipolar", "auto", "2 D²"),
    "willshaw": Entry(willshaw, "I", "W = max ξξᵀ", "dot", "identity", "k winners", "Willshaw et al. 1969", "sparse", "auto", "2 D²"),
    "bcpnn": Entry(bcpnn, "I", "W, log odds", "dot", "identity", "k winners", "Lansner & Ekeberg 1989", "sparse", "auto", "2 D²"),
    "modular_bcpnn": Entry(
        modular_bcpnn, "I", "W, log odds", "dot", "identity", "a winner per module", "Lansner et al. 2026", "modular", "auto", "2 D²"
    ),
    "bayesian_optimal": Entry(
        bayesian_optimal, "I", "W, log odds of all counts", "dot", "identity", "k winners", "Knoblauch 2011", "sparse", "auto", "2 D²"
    ),
    "dense": Entry(dense, "Ξ", "Ξ", "dot", "xⁿ⁻¹", "sign, one by one", "Krotov & Hopfield 2016", "bipolar", "auto", "4 N D"),
    "rectified_dense": Entry(
        rectified_dense, "Ξ", "Ξ", "dot", "relu(x)ⁿ⁻¹", "sign, one by one", "Krotov & Hopfield 2016", "bipolar", "auto", "4 N D"
    ),
    "learned_dense": Entry(
        learned_dense, "W, learned", "W", "dot", "relu(x)ⁿ⁻¹", "sign, one by one", "Krotov & Hopfield 2016", "bipolar", "auto", "4 K D"
    ),
    "large_dim_dense": Entry(
        large_dim_dense, "Ξ", "Ξ", "dot", "xⁿ⁻¹", "sign, at once", "Krotov & Hopfield 2016", "bipolar", "hetero", "4 N D"
    ),
    "exponential": Entry(exponential, "Ξ", "Ξ", "dot", "exp", "sign, one by one", "Demircigil et al. 2017", "bipolar", "auto", "4 N D"),
    "astrocyte": Entry(astrocyte, "Ξ", "Ξ", "dot", "x · M⁻¹x²", "sign, one by one", "Kozachkov et al. 2025", "bipolar", "auto", "2 N² D"),
    "modern_hopfield": Entry(modern_hopfield, "K", "V", "dot", "softmax(β)", "identity", "Ramsauer et al. 2021", "unit", "hetero", "4 N D"),
    "sparse_hopfield": Entry(sparse_hopfield, "K", "V", "dot", "α-entmax(β)", "identity", "Hu et al. 2023", "unit", "hetero", "4 N D"),
    "diffusion": Entry(diffusion, "Ξ", "Ξ", "-½ distance²", "softmax, β = 1/σ²", "identity", "Ambrogioni 2024", "raw", "hetero", "4 N D"),
    "log_sum_relu": Entry(
        log_sum_relu, "Ξ", "Ξ", "-½ distance²", "normalised step", "identity", "Hoover et al. 2025", "raw", "hetero", "4 N D"
    ),
    "compositional": Entry(
        compositional, "components", "components", "dot", "step(θ)", "identity", "Kafraj et al. 2026", "unit", "hetero", "4 N D"
    ),
    "u_hop": Entry(
        u_hop, "Ξ", "Ξ", "learned code", "softmax(β)", "identity", "Wu et al. 2024; Hu et al. 2024", "unit", "hetero", "4 N D + 2 D²"
    ),
    "predictive": Entry(
        predictive, "I", "mean, covariance", "dot", "identity", "identity", "Tang et al. 2023", "raw", "hetero", "2 D² + D³/3"
    ),
    "minerva2": Entry(minerva2, "T", "T", "normalised dot", "cube", "identity", "Hintzman 1984", "bipolar", "hetero", "6 N D"),
    "universal": Entry(
        universal, "K", "V", "any; Manhattan", "any; softmax", "any; identity", "Millidge et al. 2022", "raw", "hetero", "5 N D"
    ),
    "kernel_logistic": Entry(
        kernel_logistic, "Ξ", "α, learned", "Gaussian kernel", "identity", "sign, at once", "Tamamori 2025", "bipolar", "auto", "4 N D"
    ),
    "kernel_ridge": Entry(
        kernel_ridge, "Ξ", "α, learned", "Gaussian kernel", "identity", "sign, at once", "Tamamori 2025", "bipolar", "auto", "4 N D"
    ),
    "sequence": Entry(
        sequence, "ξ^t", "ξ^(t+1)", "dot, own vote out", "x^d", "sign", "Chaudhry et al. 2023", "bipolar", "sequence", "8 N D"
    ),
    "exponential_sequence": Entry(
        exponential_sequence, "ξ^t", "ξ^(t+1)", "dot, own vote out", "exp", "sign", "Chaudhry et al. 2023", "bipolar", "sequence", "8 N D"
    ),
    "mixed_sequence": Entry(
        mixed_sequence, "ξ^t", "ξ^t, ξ^(t+1)", "dot, own vote out", "x^d", "sign", "Chaudhry et al. 2023", "bipolar", "sequence", "12 N D"
    ),
    "temporal_predictive": Entry(
        temporal_predictive, "I", "W, regression on the next", "dot", "identity", "sign", "Tang et al. 2023", "bipolar", "sequence", "2 D²"
    ),
    "random_features": Entry(
        random_features, "–", "Σφ(ξ)", "φ(x)·Σφ(ξ)", "log", "identity", "Hoover et al. 2024", "unit", "hetero", "6 Y D"
    ),
    "hebbian_expansion": Entry(
        hebbian_expansion, "–", "W = Σξφ(ξ)ᵀ", "φ(x)", "identity", "sign", "Hoover et al. 2024", "bipolar", "hetero", "4 Y D"
    ),
    "holographic": Entry(
        holographic, "Σ k ⊛ v", "one sum", "circular", "–", "clean-up", "Plate 1995", "unit", "hetero", "D log D + clean-up"
    ),
    "todam": Entry(todam, "Σ items, k ⊛ v", "one sum", "circular", "–", "clean-up", "Murdock 1982", "unit", "hetero", "D log D + clean-up"),
    "sparse_distributed": Entry(
        sparse_distributed, "hard rows", "counters", "Hamming", "threshold", "sign", "Kanerva 1988", "bipolar", "hetero", "4 M D"
    ),
}
