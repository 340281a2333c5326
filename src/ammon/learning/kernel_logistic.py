"""Kernel logistic regression: Σ log(1 + exp(-y h)) + λ/2 αᵀKα of every unit, all units together on one factored Gram matrix.

At the minimum λα = (y + 1)/2 - p with p = σ(h), so r = (y + 1)/2 - p - λα certifies the answer (Tamamori 2025, arXiv 2504.07633,
2609.16827 for the loss). The units share the preconditioner (d̄(K + sI))⁻¹, d̄ a mean of p(1 - p); Anderson's acceleration
mixes the last steps of each unit. What a step does to h = Kα follows from r without a matrix product. Inside, [unit, pattern].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ammon.learning.kernel import Dual, Fit, Gram
from ammon.learning.reduced import Reduced
from ammon.shapes import check_count, check_positive

# iterations of the search for the first length, and how many patterns tell it well enough where all are new
NEWTON, SAMPLE = 8, 512
# steps that Anderson's acceleration looks back on
DEPTH = 5
# the mean curvature may be off by this factor before a new factorisation pays
STALE = 2.0
# products of one Newton step in a space of few features, and how often it may be halved
PRODUCTS, HALVINGS = 30, 20
# iterations before the curvature is looked at again, and factorisations in all
WAIT, FACTORISATIONS = 3, 4


class Logistic:
    """The logistic loss as a sum over patterns. tolerance: the largest |(y + 1)/2 - p - λα| that will do; float32 reaches about 1e-5."""

    def __init__(self, penalty: float = 0.01, tolerance: float = 1e-5, iterations: int = 200) -> None:
        check_positive("Logistic", "penalty", penalty)
        check_positive("Logistic", "tolerance", tolerance)
        check_count("Logistic", "iterations", iterations)
        self.penalty, self.tolerance, self.iterations = float(penalty), float(tolerance), iterations

    def solve(self, gram: Gram, targets: Dual, start: Dual | None = None) -> tuple[Dual, Fit]:
        """The coefficients, from `start` (zero by default)."""
        problem = _Problem(gram, targets.mT.contiguous(), self.penalty)
        zero = torch.zeros_like(problem.targets)
        at = problem.at(zero, zero) if start is None else problem.at(start.mT.contiguous())
        curvature = _guess(float(gram.matrix.diagonal().mean()), self.penalty) if start is None else _curvature(at)
        if gram.held is not None and not _stale(self.penalty / gram.held.shift, curvature):
            curvature = self.penalty / gram.held.shift
        problem.factor(curvature)
        steps, waited, factored, count = _Steps(), 0, 1, 0
        if not at.residual <= self.tolerance:
            # on new patterns the curvature is 1/4: one step of the best length brings it near what it will be
            at, count = problem.along(at, curvature, SAMPLE if start is None else len(targets)), 1
        best = at
        while not at.residual <= self.tolerance and count < self.iterations:
            if waited >= WAIT and factored < FACTORISATIONS and _stale(curvature, _curvature(at)):
                curvature, waited, factored, steps = _curvature(at), 0, factored + 1, _Steps()
                problem.factor(curvature)
            at = problem.step(at, steps, curvature)
            count, waited = count + 1, waited + 1
            if at.residual <= self.tolerance or count % 20 == 0:
                # h was carried along; the certificate is of h = Kα itself
                at = problem.at(at.dual)
                best = at if at.residual < best.residual else best
        if not at.residual <= self.tolerance:
            at = problem.at(at.dual)
            at = at if at.residual < best.residual else best
        return at.dual.mT, Fit(at.residual, count, at.residual <= self.tolerance)

    def solve_reduced(self, problem: Reduced, start: Dual | None = None) -> tuple[Dual, Fit]:
        """The same loss in a space of few features, by Newton's method: each unit's step by conjugate gradients, all units together.

        Where features cannot tell patterns apart the curvature is uneven, so that one mean curvature is no longer enough.
        """

        def at(place: Tensor) -> _Place:
            loss, bend = torch.zeros_like(place[:, 0]), torch.zeros_like(place[:, 0])

            def error(field: Tensor, targets: Tensor) -> Tensor:
                margin = targets * field
                wrong = torch.sigmoid(-margin)
                loss.sub_(logsigmoid(margin).sum(0).to(loss))
                bend.add_((wrong - wrong.square()).sum(0).to(bend))
                return wrong * targets

            left = problem.gather(place.mT, error).mT - self.penalty * place
            loss.add_(self.penalty / 2 * place.square().sum(-1))
            return _Place(place, left, loss, (bend / max(1, problem.count)).clamp_min_(1e-6), problem.size(left))

        now = at(torch.zeros(problem.units, len(problem.moments)).to(problem.moments) if start is None else problem.place(start).mT)
        count = 0
        while not now.residual <= self.tolerance and count < self.iterations:
            step, taken = self._newton(problem, now)
            new, count = at(now.place + step), count + 1 + taken
            for _ in range(HALVINGS):
                worse = ~(new.loss <= now.loss + 16 * torch.finfo(new.loss.dtype).eps * now.loss.abs()).unsqueeze(-1)
                if not bool(worse.any()):
                    break
                step = torch.where(worse, step / 2, step)
                new, count = at(now.place + step), count + 1
            now = new
        return problem.dual(now.place.mT), Fit(now.residual, count, now.residual <= self.tolerance)

    def _newton(self, problem: Reduced, now: "_Place") -> tuple[Tensor, int]:
        """The Newton step of every unit to a tenth of its gradient or better, and the products that it took."""

        def product(rows: Tensor) -> Tensor:
            return problem.curve(now.place.mT, rows.mT).mT + self.penalty * rows

        scale = now.curvature.unsqueeze(-1) * problem.moments + self.penalty
        step, left = torch.zeros_like(now.place), now.left
        way = left / scale
        size = (left * way).sum(-1, keepdim=True)
        enough, taken = size * min(0.01, now.residual), 0
        while bool((size > enough).any()) and taken < PRODUCTS:
            turned = product(way)
            # units that are done stay as they are
            length = torch.where(size > enough, size / (way * turned).sum(-1, keepdim=True).clamp_min(1e-300), 0)
            step, left = step + length * way, left - length * turned
            scaled = left / scale
            new = (left * scaled).sum(-1, keepdim=True)
            way = torch.where(size > enough, scaled + new / size.clamp_min(1e-300) * way, way)
            size, taken = torch.where(size > enough, new, size), taken + 1
        return step, taken


@dataclass(frozen=True)
class _Place:
    """Coefficients in the space of features [unit, direction], what is left of the gradient there, loss and mean p(1 - p) of each unit."""

    place: Tensor
    left: Tensor
    loss: Tensor
    curvature: Tensor
    residual: float


@dataclass(frozen=True)
class _Point:
    """Coefficients, their h = Kα, the error (y + 1)/2 - p, what is left of it, and the loss of each unit."""

    dual: Tensor
    field: Tensor
    error: Tensor
    left: Tensor
    loss: Tensor
    residual: float


class _Steps:
    """The last steps of every unit: how the plain step and its end have changed from one iteration to the next."""

    def __init__(self) -> None:
        self.last: tuple[Tensor, Tensor, Tensor] | None = None
        self.changes: list[tuple[Tensor, Tensor, Tensor]] = []

    def mix(self, step: Tensor, dual: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
        """The end of the step that the last ones together make shortest (Anderson 1965, type II)."""
        if self.last is not None:
            self.changes = [*self.changes[-DEPTH + 1 :], tuple(new - old for new, old in zip((step, dual, field), self.last, strict=True))]  # type: ignore[list-item]
        self.last = step, dual, field
        if not self.changes:
            return dual, field
        history = torch.stack([change[0] for change in self.changes], 1)
        square = history @ history.mT
        # steps that are nearly alike must not be weighed against each other by rounding
        scale = square.diagonal(dim1=-2, dim2=-1)
        square.diagonal(dim1=-2, dim2=-1).add_(8 * torch.finfo(step.dtype).eps * scale.sum(-1, keepdim=True) + torch.finfo(step.dtype).tiny)
        share = torch.linalg.solve_ex(square, history @ step.unsqueeze(-1))[0]
        share = torch.where(torch.isfinite(share).all(1, keepdim=True), share, torch.zeros_like(share))
        dual, field = dual.clone(), field.clone()
        for k, (_, of_dual, of_field) in enumerate(self.changes):
            dual.addcmul_(share[:, k], of_dual, value=-1)
            field.addcmul_(share[:, k], of_field, value=-1)
        return dual, field


class _Problem:
    """The loss of all units, and steps down it."""

    def __init__(self, gram: Gram, targets: Tensor, penalty: float) -> None:
        self.gram, self.targets, self.penalty, self.shift = gram, targets, penalty, 0.0

    def factor(self, curvature: float) -> None:
        """Factor K + λ/d̄ I, with more than that where rounding asks for it."""
        shift = self.penalty / curvature
        while not self.gram.factor(shift):
            shift = max(4 * shift, float(torch.finfo(self.targets.dtype).eps) * float(self.gram.matrix.diagonal().sum()))
        self.shift = shift

    def at(self, dual: Tensor, field: Tensor | None = None) -> _Point:
        field = dual @ self.gram.matrix if field is None else field
        margin = self.targets * field
        error = torch.sigmoid(-margin).mul_(self.targets)
        loss = self.penalty / 2 * (dual * field).sum(-1) - logsigmoid(margin).sum(-1)
        left = error - self.penalty * dual
        return _Point(dual, field, error, left, loss, float(left.abs().amax()) if left.numel() else 0.0)

    def along(self, at: _Point, curvature: float, sample: int) -> _Point:
        """The least loss along the plain step: Newton's method in the length alone, on a sample of the patterns."""
        step, along = self._plain(at, curvature)
        some = slice(None, None, max(1, along.shape[1] // sample))
        targets, field, slopes = self.targets[:, some], at.field[:, some], along[:, some]
        share = targets.shape[1] / along.shape[1]
        linear = share * self.penalty * (step * along).sum(-1, keepdim=True)
        tilt = share * self.penalty * (at.dual * along).sum(-1, keepdim=True)
        length = torch.zeros_like(tilt)
        for _ in range(NEWTON):
            error = torch.sigmoid(-targets * (field + length * slopes))
            slope = (targets * error * slopes).sum(-1, keepdim=True) - tilt - length * linear
            bend = ((error - error.square()) * slopes.square()).sum(-1, keepdim=True) + linear
            length = torch.where(bend > 0, length + slope / bend, length)
        return self._safe(at, self.at(at.dual + length * step, at.field + length * along), step, along)

    def step(self, at: _Point, steps: _Steps, curvature: float) -> _Point:
        step, along = self._plain(at, curvature)
        return self._safe(at, self.at(*steps.mix(step, at.dual + step, at.field + along)), step, along)

    def _plain(self, at: _Point, curvature: float) -> tuple[Tensor, Tensor]:
        """The plain step, and K step: no product is needed, since d̄ (K + sI) step = r."""
        step = self.gram.solve(at.left).div_(curvature)
        return step, (at.left / curvature).sub_(step, alpha=self.shift)

    def _safe(self, at: _Point, new: _Point, step: Tensor, along: Tensor) -> _Point:
        """The new point; for units whose loss rose, the plain step as far as the bound 1/4 on p(1 - p) lets it fall for sure
        (Böhning & Lindsay 1988)."""
        worse = ~(new.loss <= at.loss + 16 * torch.finfo(at.loss.dtype).eps * at.loss.abs())
        if not bool(worse.any()):
            return new
        slope = (at.left * along).sum(-1)
        bend = along.square().sum(-1) / 4 + self.penalty * (step * along).sum(-1)
        length = torch.where(bend > 0, slope / bend, torch.zeros_like(bend)).clamp_(0, 1).unsqueeze(-1)
        dual = torch.where(worse.unsqueeze(-1), at.dual + length * step, new.dual)
        field = torch.where(worse.unsqueeze(-1), at.field + length * along, new.field)
        return self.at(dual, field)


def _guess(own: float, penalty: float) -> float:
    """p(1 - p) of one pattern alone: λα = σ(-κα), κ its kernel with itself; solved for u = κα by bisection."""
    low, high = 0.0, own / penalty + 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if penalty * middle < own / (1 + math.exp(min(middle, 700))) else (low, middle)
    p = 1 / (1 + math.exp(-min(low, 700)))
    return max(p * (1 - p), 1e-6)


def _curvature(at: _Point) -> float:
    size = at.error.abs()
    return max(float((size - size.square()).mean()), 1e-6)


def _stale(used: float, wanted: float) -> bool:
    return not 1 / STALE < used / wanted < STALE
