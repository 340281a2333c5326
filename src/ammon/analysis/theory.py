"""Theory: how many random patterns a memory should hold, as the literature has it. Patterns ±1, `dim` D entries, K patterns.

All are laws for large D; docs/papers.md says where small D falls short. How overlap depends on load and step: mean_field.py.
"""

import math
from statistics import NormalDist

from ammon.shapes import check_count

_NORMAL = NormalDist()


def tail(x: float) -> float:
    """Q(x), the chance that a standard normal variable exceeds x."""
    return math.erfc(x / math.sqrt(2)) / 2


def odd_factorial(n: int) -> int:
    """(2n - 3)!!, the even moment E[z^(2n-2)] of a standard normal variable that scales crosstalk at power n; 1 for n = 1 and 2."""
    check_count("odd_factorial", "n", n)
    return math.prod(range(2 * n - 3, 1, -2))


def one_pattern_exact(dim: int) -> float:
    """K at which one given pattern of a Hopfield network is a fixed point with all its units: D/(2 ln D) (McEliece et al. 1987)."""
    return dim / (2 * _log(dim))


def all_patterns_exact(dim: int) -> float:
    """K at which all patterns of a Hopfield network are fixed points with all their units: D/(4 ln D) (McEliece et al. 1987)."""
    return dim / (4 * _log(dim))


def one_step_error(dim: int, num_patterns: float, n: int = 2) -> float:
    """The chance that one unit of a stored pattern flips in the first update of a dense memory xⁿ (Krotov & Hopfield 2016, eq. 5).

    Their Gaussian integral before its asymptotic form: Q(sqrt(D^(n-1) / (K (2n-3)!!))); for n = 2 Hopfield's Q(1/sqrt(K/D)).
    """
    return tail(math.sqrt(dim ** (n - 1) / (num_patterns * odd_factorial(n))))


def dense_ratio(dim: int, num_patterns: int, n: int = 2) -> float:
    """Signal over crosstalk of the field on a unit of a stored pattern: sqrt((D-1)^(n-1)/((K-1)(2n-3)!!)) (Krotov & Hopfield 2016).

    n = 2 is the Hopfield network, and exact. At least 2 patterns.
    """
    _check_others("dense_ratio", num_patterns)
    return math.sqrt((dim - 1) ** (n - 1) / ((num_patterns - 1) * odd_factorial(n)))


def exponential_ratio(dim: int, num_patterns: int, beta: float = 1.0) -> float:
    """The same for F = exp(βx): sqrt(b^(D-1)/(K-1)) with b = e^(2β)/cosh 2β, the second moment being exact. At least 2 patterns."""
    _check_others("exponential_ratio", num_patterns)
    log_b = 4 * beta + math.log(2) - math.log1p(math.exp(4 * beta))
    return math.exp((dim - 1) * log_b / 2) / math.sqrt(num_patterns - 1)


def pseudo_inverse_ratio(dim: int, num_patterns: int) -> float:
    """The same for the pseudo-inverse without own votes: sqrt(D (1-α)/2)/α, α = K/D < 1; with α² taken as K(K-1)/D².

    The field is (1 - W_ii) ξ_i, so what varies is W_ii = q/(1+q), q = x_iᵀA x_i with A the inverse correlations of the other units:
    Var q = 2 (tr A² - Σ A_kk²) for ±1 entries, its traces by the law of Marchenko & Pastur 1967. A derivation of our own.
    """
    _check_others("pseudo_inverse_ratio", num_patterns)
    if num_patterns >= dim:
        raise ValueError(f"pseudo_inverse_ratio: fewer patterns than units are needed, got {num_patterns} and {dim}.")
    load = num_patterns / dim
    return math.sqrt(dim * (1 - load) / (2 * load * (num_patterns - 1) / dim))


def dense_with_errors(dim: int, n: int, error: float = 0.005) -> float:
    """K at which each unit of a stored pattern errs with the chance `error`: α_n D^(n-1), α_n = 1/(z² (2n-3)!!) (ibid.).

    At .5 % α_2 = .1507, α_3 = .0502, α_4 = .01005.
    """
    if not 0 < error < 0.5:
        raise ValueError(f"dense_with_errors: error must be between 0 and 0.5, got {error}.")
    return float(dim) ** (n - 1) / (_NORMAL.inv_cdf(error) ** 2 * odd_factorial(n))


def dense_without_errors(dim: int, n: int, flips: float = 0.0) -> float:
    """K at which one update corrects a pattern with a fraction of flipped entries: D^(n-1) (1-2 flips)^(2n-2) / (2 (2n-3)!! ln D).

    Without flips eq. 6 of Krotov & Hopfield 2016: 11, 360 and 7240 at D = 100 and n = 2, 3, 4. Flips weaken the signal m^(n-1) only.
    """
    return _overlap("dense_without_errors", flips) ** (2 * n - 2) * float(dim) ** (n - 1) / (2 * odd_factorial(n) * _log(dim))


def exponential_exact(dim: int, flips: float = 0.0) -> float:
    """K of the exponential memory within reach of cues with a fraction of flipped entries (Demircigil et al. 2017, theorem 3).

    exp(αD), α = I(1 - 2 flips)/2, I(a) = ((1+a) ln(1+a) + (1-a) ln(1-a))/2; 2^(D/2) without flips. A sufficient load, not a collapse.
    """
    a = _overlap("exponential_exact", flips)
    rate = sum((1 + s * a) * math.log1p(s * a) for s in (-1, 1) if s * a > -1) / 2
    return math.exp(dim * rate / 2)


def kernel_exact(dim: int, gamma: float, flips: float = 0.0) -> float:
    """K at which one step of a Gaussian-kernel memory corrects a cue: (e^{4γm}/cosh 4γ)^D / (2 ln D), m = 1 - 2 flips.

    Signal e^{-2γD(1-m)} against the crosstalk K E[k²] = K (e^{-4γ} cosh 4γ)^D of independent coefficients: a law of our own for the
    networks of Tamamori 2025, that of Chaudhry et al. 2023 at 4γ = 2. Learned coefficients hold more where patterns overlap much.
    Beyond tanh 4γ = m (`robust_gamma`) E[k²] counts patterns nearer than the cue's own, which are not there; the nearest decides alone, and
    K stays what it is at that γ: the load of a random code.
    """
    if not 0 < gamma < math.inf:
        raise ValueError(f"kernel_exact: gamma must be positive and finite, got {gamma}.")
    m = _overlap("kernel_exact", flips)
    gamma = min(gamma, math.atanh(m) / 4) if m < 1 else gamma
    # ln cosh x without overflow
    log_cosh = 4 * gamma + math.log1p(math.exp(-8 * gamma)) - math.log(2)
    return math.exp(dim * (4 * gamma * m - log_cosh)) / (2 * _log(dim))


def storkey_exact(dim: int) -> float:
    """K of Storkey's rule: D/sqrt(2 ln D) (Storkey & Valabregue 1999)."""
    return dim / math.sqrt(2 * _log(dim))


def pseudo_inverse_exact(dim: int) -> float:
    """K of the pseudo-inverse: D, as many as can be linearly independent (Personnaz et al. 1985); D - 1 without self-connections."""
    return float(dim)


def gardner(margin: float = 0.0) -> float:
    """K/D beyond which no weights hold random patterns with the margin κ: 1/∫_{-κ}^∞ Dt (t + κ)² (Gardner 1988); 2 at κ = 0."""
    if not 0 <= margin < math.inf:
        raise ValueError(f"gardner: margin must be >= 0 and finite, got {margin}.")
    return 1 / ((1 + margin**2) * _NORMAL.cdf(margin) + margin * _NORMAL.pdf(margin))


def willshaw_exact(dim: int, active: int) -> float:
    """K at which half of the weights of a Willshaw network are 1: ln 2 (D/k)², its best load (Willshaw et al. 1969)."""
    check_count("willshaw_exact", "active", active)
    return -math.log(2) / math.log1p(-((active / dim) ** 2))


def transitions_exact(dim: int, d: int) -> float:
    """K at which one transition of a sequence memory x^d is right: D^d/(2 (2d-1)!! ln D) (Chaudhry et al. 2023)."""
    return float(dim) ** d / (2 * odd_factorial(d + 1) * _log(dim))


def sequence_exact(dim: int, d: int) -> float:
    """K at which a whole sequence is right: D^d/(2 (d+1) (2d-1)!! ln D) (Chaudhry et al. 2023)."""
    return transitions_exact(dim, d) / (d + 1)


def exponential_transitions_exact(dim: int) -> float:
    """The same for the exponential separation, one transition: b^(D-1)/(2 ln D), b = e²/cosh 2 (Chaudhry et al. 2023)."""
    return _GROWTH ** (dim - 1) / (2 * _log(dim))


def exponential_sequence_exact(dim: int) -> float:
    """The same for the exponential separation, a whole sequence: b^D/(2 ln(b) D) (Chaudhry et al. 2023)."""
    return _GROWTH**dim / (2 * math.log(_GROWTH) * dim)


def palimpsest_overlap(dim: int, forgetting: float, age: int, self_connections: bool = False) -> float:
    """The overlap after one update with the pattern that came `age` patterns ago, under Hebb's rule with forgetting λ.

    Signal (1-λ)^age against the crosstalk variance 1/(D (1 - (1-λ)²)) of all that came before and after (Mézard, Nadal & Toulouse 1986);
    with self-connections each unit's own vote 1/(λD) is added to the signal. After many patterns.
    """
    if not 0 < forgetting < 1:
        raise ValueError(f"palimpsest_overlap: forgetting must be between 0 and 1, got {forgetting}.")
    kept = 1 - forgetting
    signal = kept**age + (1 / (forgetting * dim) if self_connections else 0.0)
    return math.erf(signal * math.sqrt(dim * (1 - kept**2) / 2))


def prototype_error(dim: int, num_prototypes: int, num_instances: int, flips: float) -> float:
    """The chance that a unit of a prototype flips in one update of a Hopfield network that stores only distorted instances of it.

    Each of P prototypes has k instances of overlap b = 1 - 2 flips with it. Of its own, j agree in a unit, a binomial number, and
    give the field b (2j - k); the others add a normal one of variance (P-1) k (1 + (k-1) b⁴)/D. The ensemble is that of
    Fontanari 1990 (J. Physique 51); the one-step law is our own.
    """
    check_count("prototype_error", "num_instances", num_instances)
    b = _overlap("prototype_error", flips)
    noise = math.sqrt((num_prototypes - 1) * num_instances * (1 + (num_instances - 1) * b**4) / dim)
    error = 0.0
    for agreeing in range(num_instances + 1):
        chance = math.comb(num_instances, agreeing) * (1 - flips) ** agreeing * flips ** (num_instances - agreeing)
        field = b * (2 * agreeing - num_instances)
        # without noise a field of 0 is as good as a coin
        error += chance * (tail(field / noise) if noise else (1 - math.copysign(1, field) if field else 1) / 2)
    return error


# by how much each unit adds to the signal over the crosstalk of an exponential separation
_GROWTH = math.exp(2) / math.cosh(2)


def _overlap(where: str, flips: float) -> float:
    """The overlap of a cue with a fraction of flipped entries."""
    if not 0 <= flips <= 0.5:
        raise ValueError(f"{where}: flips must be between 0 and 0.5, got {flips}.")
    return 1 - 2 * flips


def _check_others(where: str, num_patterns: int) -> None:
    if num_patterns < 2:
        raise ValueError(f"{where}: crosstalk needs at least 2 patterns, got {num_patterns}.")


def _log(dim: int) -> float:
    if dim < 2:
        raise ValueError(f"theory: these laws need at least 2 entries per pattern, got dim = {dim}.")
    return math.log(dim)
