"""Dense training: hidden patterns of a dense memory, learned from the errors of its own completions (Krotov & Hopfield 2016, section 4).

A unit i of the visible ones is completed from all others, c_i = tanh Σ_μ [F(h_μ with x_i = +1) - F(h_μ with x_i = -1)], h = Wx,
F(h) = relu(h/T)ⁿ (their eq. 8 with β = 1/Tⁿ), and W descends Σ (c_i - t_i)^2m. Patterns [pattern, dim], labels [pattern, label],
weights [hidden, visible], the visible units being those of the pattern and then the labels, which wait at -1.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.learning.base import Fit, wide
from ammon.parts.separations import RectifiedPower
from ammon.shapes import check_count, check_positive

HiddenWeights = Float[Tensor, "hidden visible"]
Contexts = Float[Tensor, "pattern visible"]
Completions = Float[Tensor, "pattern unit"]

# scores [pattern, unit, hidden] that are held at a time
ROOM = 2**22
# below this a gradient is none
TINY = 1e-30


class Hidden(NamedTuple):
    """What was learned: weights, the temperature they were learned for, what holds them, and the record of the last fit."""

    matrix: Tensor
    temperature: Tensor
    importance: Tensor  # Fisher information of all tasks so far [hidden, visible]; no rows without consolidation
    epochs: Tensor
    converged: Tensor
    residual: Tensor

    @property
    def fit(self) -> Fit:
        return Fit(int(self.epochs), bool(self.converged), float(self.residual))


@dataclass(frozen=True)
class ErrorDescent:
    """Minibatch descent with momentum in which the largest step of each hidden pattern is `rate`, and weights stay in [-1, 1].

    n: degree of F, rectified. error_power: m, errors count as (c - t)^2m. rate, decay: the step of epoch e is rate · decay^e.
    temperature: T at the first epoch and from epoch `cooling` on, linear between, in units of the number of entries of a pattern (the
    paper's 250-400 down to 30-100 of 784, and 500-700 for n = 20 and more). It stops after `epochs`, or where no completion of an
    epoch is further than `tolerance` from its target: the residual. consolidation: strength of the quadratic penalty (0: none) that
    holds weights by their Fisher information in all that was learned before (elastic weights, Kirkpatrick et al. 2017; one anchor,
    the last weights, as in Schwarz et al. 2018).
    """

    n: float = 3
    hidden: int = 100
    error_power: int = 2
    epochs: int = 100
    batch: int = 1000
    rate: float = 0.04
    decay: float = 0.98
    momentum: float = 0.6
    start: float = 0.4
    end: float = 0.1
    cooling: int = 50
    tolerance: float = 0.1
    consolidation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        where = "ErrorDescent"
        for name in ("hidden", "error_power", "epochs", "batch", "cooling"):
            check_count(where, name, getattr(self, name))
        for name in ("rate", "start", "end", "tolerance"):
            check_positive(where, name, getattr(self, name))
        if not 2 <= self.n < math.inf:
            raise ValueError(f"{where}: n must be >= 2 and finite, got {self.n}.")
        if not 0 < self.decay <= 1 or not 0 <= self.momentum < 1:
            raise ValueError(f"{where}: decay must be in (0, 1] and momentum in [0, 1), got {self.decay} and {self.momentum}.")
        if not 0 <= self.consolidation < math.inf:
            raise ValueError(f"{where}: consolidation must be >= 0 and finite, got {self.consolidation}.")
        # the largest h is about the number of entries; F of it, summed over hidden patterns, must be a float32
        if self.n * math.log(1 / min(self.start, self.end)) > 70:
            raise ValueError(f"{where}: relu(h/T)^{self.n:g} overflows at a temperature of {min(self.start, self.end):g}; raise it.")

    def begin(self, dim: int, labels: int, like: Tensor) -> Hidden:
        """Random weights, N(-.3, .3) as in the paper's appendix A, in at least float32 on the device of `like`."""
        drawn = torch.randn(self.hidden, dim + labels, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        matrix = (0.3 * drawn - 0.3).clamp_(-1, 1).to(wide(like))
        nothing = torch.zeros((), dtype=torch.int64, device=like.device)
        importance = matrix.new_zeros(matrix.shape if self.consolidation else (0, matrix.shape[1]))
        temperature = matrix.new_tensor(self.start * dim)
        return Hidden(matrix, temperature, importance, nothing, nothing.to(torch.bool), nothing.to(torch.float32))

    def learn(self, state: Hidden, patterns: Float[Tensor, "pattern dim"], labels: Float[Tensor, "pattern label"] | None = None) -> Hidden:
        """What is known after the patterns; without labels every unit of a pattern is completed from its others. Pure."""
        matrix, dim = state.matrix.clone(), patterns.shape[1]
        context, targets = contexts(patterns.to(matrix), labels), (patterns if labels is None else labels).to(matrix)
        units = slice(0, dim) if labels is None else slice(dim, None)
        generator = torch.Generator().manual_seed(self.seed)
        velocity, temperature, residual, epoch = torch.zeros_like(matrix), self.start * dim, math.inf, 0
        while epoch < self.epochs and not residual <= self.tolerance:
            temperature = dim * (self.start + (self.end - self.start) * min(1.0, epoch / self.cooling))
            worst = []
            for rows in torch.split(torch.randperm(len(context), generator=generator).to(matrix.device), self.batch):
                pull, wrong = _pull(matrix, context[rows], targets[rows], units, self.n, temperature, self.error_power)
                if len(state.importance):
                    held = self.consolidation * len(rows) / len(context) * state.importance
                    pull = pull + held * (state.matrix - matrix)
                velocity = self.momentum * velocity + pull
                step = velocity / velocity.abs().amax(-1, keepdim=True).clamp_min(TINY)
                matrix = (matrix + self.rate * self.decay**epoch * step).clamp_(-1, 1)
                worst.append(wrong)
            residual = float(torch.stack(worst).amax())
            epoch += 1
        importance = state.importance
        if self.consolidation:
            importance = importance + fisher(matrix, context, units, self.n, temperature, self.error_power)
        found = [torch.tensor(value, device=matrix.device) for value in (epoch, residual <= self.tolerance, residual)]
        return Hidden(matrix, matrix.new_tensor(temperature), importance, *found)


def contexts(patterns: Float[Tensor, "pattern dim"], labels: Tensor | int | None) -> Contexts:
    """All visible units of each pattern, its labels (or that many of them) waiting at -1."""
    count = 0 if labels is None else labels if isinstance(labels, int) else labels.shape[1]
    return torch.cat([patterns, patterns.new_full((len(patterns), count), -1.0)], 1)


def fields(matrix: HiddenWeights, context: Contexts, units: slice, n: float, temperature: float) -> Completions:
    """Σ_μ F(unit at +1) - F(unit at -1) of each of `units`: half their energy difference in units of Tⁿ."""
    found = []
    for part in torch.split(context, _rows(matrix, units)):
        plus, minus = _powers(matrix, part, units, n, temperature)
        found.append((plus[0] * plus[1]).sum(-1) - (minus[0] * minus[1]).sum(-1))
    return torch.cat(found) if found else context[:, units]


def objective(
    matrix: HiddenWeights, context: Contexts, targets: Completions, units: slice, n: float, temperature: float, error_power: int
) -> Float[Tensor, ""]:
    """Σ (c - t)^2m over patterns and units."""
    return (torch.tanh(fields(matrix, context, units, n, temperature)) - targets).pow(2 * error_power).sum()


def descent(
    matrix: HiddenWeights, context: Contexts, targets: Completions, units: slice, n: float, temperature: float, error_power: int
) -> HiddenWeights:
    """Minus the gradient of `objective`, in closed form."""
    return _pull(matrix, context, targets, units, n, temperature, error_power)[0]


def fisher(matrix: HiddenWeights, context: Contexts, units: slice, n: float, temperature: float, error_power: int) -> HiddenWeights:
    """Diagonal Fisher information of the weights, summed over the patterns: I_m Σ (∂c_i/∂w)².

    The objective is minus the logarithm of the density exp(-(t - c)^2m), whose information about c is
    I_m = (2m)² Γ(2 - 1/2m)/Γ(1/2m), whatever c is.
    """
    power = 2 * error_power
    about = power**2 * math.exp(math.lgamma(2 - 1 / power) - math.lgamma(1 / power))
    total = torch.zeros_like(matrix)
    for part in torch.split(context, _rows(matrix, units)):
        (bent_plus, plus), (bent_minus, minus) = _powers(matrix, part, units, n, temperature)
        gain = about * (_slope((bent_plus * plus).sum(-1) - (bent_minus * minus).sum(-1)) * n / temperature).square()
        change = bent_plus - bent_minus
        moved = torch.einsum("bu,buk->bk", gain, change.square())
        total += moved.mT @ part.square()
        # a unit's own weight acts by +1 on one side and by -1 on the other, not by what the unit is now
        own = (bent_plus + bent_minus).square() - change.square() * part[:, units].square().unsqueeze(-1)
        total[:, units] += torch.einsum("bu,buk->ku", gain, own)
    return total


def _pull(
    matrix: Tensor, context: Tensor, targets: Tensor, units: slice, n: float, temperature: float, error_power: int
) -> tuple[Tensor, Tensor]:
    """Minus the gradient, and the largest error."""
    size = _rows(matrix, units)
    total, worst = torch.zeros_like(matrix), []
    for part, target in zip(torch.split(context, size), torch.split(targets, size), strict=True):
        (bent_plus, plus), (bent_minus, minus) = _powers(matrix, part, units, n, temperature)
        field = (bent_plus * plus).sum(-1) - (bent_minus * minus).sum(-1)
        error = target - torch.tanh(field)
        back = error.pow(2 * error_power - 1) * _slope(field) * (2 * error_power * n / temperature)
        x = part[:, units]
        toward = torch.einsum("bu,buk->bk", back, bent_plus) - (
            back.sum(-1, keepdim=True) * bent_minus[:, 0] if bent_minus.shape[1] == 1 else torch.einsum("bu,buk->bk", back, bent_minus)
        )
        total += toward.mT @ part
        total[:, units] += torch.einsum("bu,buk->ku", back * (1 - x), bent_plus)
        if bent_minus.shape[1] != 1:
            total[:, units] += torch.einsum("bu,buk->ku", back * (1 + x), bent_minus)
        worst.append(error.abs().amax())
    return total, torch.stack(worst).amax()


def _powers(matrix: Tensor, context: Tensor, units: slice, n: float, temperature: float) -> tuple[tuple[Tensor, Tensor], ...]:
    """relu(h/T)^(n-1) and relu(h/T) for every unit at +1 and at -1, [pattern, unit, hidden]; one for all units where they are at -1."""
    h, own, x = (context @ matrix.mT).unsqueeze(1), matrix[:, units].mT, context[:, units].unsqueeze(-1)
    bend = RectifiedPower(n, unit=temperature)
    plus = torch.addcmul(h, 1 - x, own)
    minus = h if bool((x == -1).all()) else torch.addcmul(h, 1 + x, own, value=-1)
    return tuple((bend.activation(scores), torch.relu(scores / temperature)) for scores in (plus, minus))


def _slope(field: Tensor) -> Tensor:
    """1 - tanh², which is not rounded to 0 where tanh is to ±1: steps are normalised, so small gradients count."""
    return 4 * torch.sigmoid(2 * field) * torch.sigmoid(-2 * field)


def _rows(matrix: Tensor, units: slice) -> int:
    return max(1, ROOM // max(1, len(matrix) * len(range(*units.indices(matrix.shape[1])))))
