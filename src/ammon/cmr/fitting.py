"""Fitting: the parameters that make each subject's recalls most likely, all subjects and all restarts at once.

Bounds are kept by a logistic map from the whole line. Starts are the best of many random vectors; each then goes downhill by BFGS.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ammon.cmr.descent import minimise
from ammon.cmr.likelihood import Prepared, chunks, prepare
from ammon.cmr.lists import Lists
from ammon.cmr.parameters import PARAMETERS, Rows, as_rows

if TYPE_CHECKING:
    from pandas import DataFrame

    from ammon.cmr.model import CMR

Bounds = Mapping[str, tuple[float, float]]
Progress = Callable[[str, int, int], None]
# vectors tried for every start that goes downhill
CANDIDATES = 16


@dataclass(frozen=True)
class Fit:
    """What a fit found: a row for each subject."""

    model: "CMR"
    names: tuple[str, ...]  # free parameters
    fixed: Mapping[str, float]
    bounds: Bounds
    subjects: tuple[Any, ...]
    values: Float[Tensor, "subject parameter"]
    log_likelihood: Float[Tensor, " subject"]
    num_events: Int[Tensor, " subject"]  # recalls and stops
    converged: Bool[Tensor, " subject"]
    spread: Float[Tensor, "subject start"]  # log likelihood that each start reached, the best first
    evaluations: int  # of the likelihood of one subject's lists

    @property
    def num_parameters(self) -> int:
        return len(self.names)

    @property
    def aic(self) -> Float[Tensor, " subject"]:
        """2 k - 2 log L (Akaike 1974)."""
        return 2 * self.num_parameters - 2 * self.log_likelihood

    @property
    def aicc(self) -> Float[Tensor, " subject"]:
        """AIC corrected for few data (Hurvich & Tsai 1989), as cymr reports it; infinite where there are no more data than parameters."""
        k, n = self.num_parameters, self.num_events
        return torch.where(n > k + 1, self.aic + 2 * k * (k + 1) / (n - k - 1).clamp_min(1), torch.inf)

    @property
    def bic(self) -> Float[Tensor, " subject"]:
        """k log n - 2 log L (Schwarz 1978)."""
        return self.num_parameters * self.num_events.log() - 2 * self.log_likelihood

    def parameters(self) -> dict[str, Any]:
        """All values, the free ones [subject]: what `log_likelihood` and `simulate` take with per_subject=True."""
        free = {name: self.values[:, column] for column, name in enumerate(self.names)}
        return {**self.fixed, **free}

    def table(self, errors: Float[Tensor, "subject parameter"] | None = None) -> "DataFrame":
        """One row a subject: parameters, their standard errors as `<name>_se`, log likelihood, n, k, AIC, AICc, BIC."""
        import pandas

        columns: dict[str, Any] = {"subject": list(self.subjects)}
        for column, name in enumerate(self.names):
            columns[name] = self.values[:, column].tolist()
            if errors is not None:
                columns[f"{name}_se"] = errors[:, column].tolist()
        columns |= {name: [value] * len(self.subjects) for name, value in self.fixed.items()}
        columns |= {"log_likelihood": self.log_likelihood.tolist(), "n": self.num_events.tolist(), "k": self.num_parameters}
        columns |= {"aic": self.aic.tolist(), "aicc": self.aicc.tolist(), "bic": self.bic.tolist(), "converged": self.converged.tolist()}
        return pandas.DataFrame(columns)

    def edges(self) -> Bool[Tensor, "subject parameter"]:
        """Which values lie at a bound of their search, within a thousandth of its width."""
        low, high = limits(self.names, self.bounds)
        return ((self.values - low).abs() < 1e-3 * (high - low)) | ((high - self.values).abs() < 1e-3 * (high - low))


def fit(
    model: "CMR",
    lists: Lists,
    *,
    fixed: Mapping[str, float],
    bounds: Bounds,
    starts: int,
    generator: torch.Generator,
    evaluations: int = 400,
    progress: Progress | None = None,
) -> Fit:
    """See `CMR.fit`."""
    data = prepare(model, lists, "CMR.fit")
    names, held, bounds = free_and_held(model, fixed, bounds, "CMR.fit")
    people = len(lists.subjects)
    task = Objective(model, data, names, held, bounds)
    tried = torch.logit(torch.rand(CANDIDATES * starts, people, len(names), generator=generator, dtype=torch.float64).clamp(0.02, 0.98))
    everyone = torch.arange(people).repeat(len(tried))
    if progress is not None:
        progress("trying starts", 0, 1)
    first = task.value(tried.flatten(0, 1), everyone).reshape(len(tried), people)
    best = first.argsort(0)[:starts]
    begin = tried.gather(0, best.unsqueeze(-1).expand(-1, -1, len(names)))
    subject = torch.arange(people).repeat(starts)
    said = None if progress is None else (lambda done, total: progress("fitting", done, total))
    found = minimise(lambda points, rows: task.slope(points, subject[rows]), begin.flatten(0, 1), evaluations=evaluations, progress=said)
    reached = found.values.reshape(starts, people)
    order = reached.argsort(0)
    row = order[0] * people + torch.arange(people)
    counts = torch.zeros(people, dtype=torch.int64).index_add(0, lists.subject, data.count + 1)
    return Fit(
        model,
        names,
        held,
        bounds,
        lists.subjects,
        task.natural(found.points[row]),
        -found.values[row],
        counts,
        found.converged[row],
        -reached.gather(0, order).T,
        int(found.evaluations.sum()) + first.numel(),
    )


def evolve(
    model: "CMR",
    lists: Lists,
    *,
    fixed: Mapping[str, float],
    bounds: Bounds,
    seed: int = 0,
    popsize: int = 15,
    tol: float = 0.01,
    generations: int = 1000,
    progress: Progress | None = None,
) -> Fit:
    """The same fit by SciPy's differential evolution, one subject after the other: slow, and a check that no better optimum was missed.

    Populations are evaluated at once. The last step is SciPy's own polish.
    """
    try:
        from scipy.optimize import differential_evolution
    except ImportError as error:
        raise ImportError("evolve: differential evolution is SciPy's; install it with: pip install 'ammon[recall]'.") from error
    data = prepare(model, lists, "CMR.evolve")
    names, held, bounds = free_and_held(model, fixed, bounds, "CMR.evolve")
    task = Objective(model, data, names, held, bounds)
    values, best, converged, evaluations = [], [], [], 0
    for person in range(len(lists.subjects)):
        if progress is not None:
            progress("evolving", person, len(lists.subjects))

        def loss(population: Any, person: int = person) -> Any:
            points = torch.from_numpy(np.atleast_2d(population.T))
            worth = task.value_at(points, torch.full((len(points),), person)).numpy()
            return worth if population.ndim > 1 else worth[0]

        found = differential_evolution(
            loss,
            [bounds[name] for name in names],
            rng=np.random.default_rng(seed),
            popsize=popsize,
            tol=tol,
            maxiter=generations,
            vectorized=True,
            updating="deferred",
            polish=True,
        )
        values.append(torch.from_numpy(found.x))
        best.append(-float(found.fun))
        converged.append(bool(found.success))
        evaluations += int(found.nfev)
    counts = torch.zeros(len(lists.subjects), dtype=torch.int64).index_add(0, lists.subject, data.count + 1)
    reached = torch.tensor(best, dtype=torch.float64)
    return Fit(
        model,
        names,
        held,
        bounds,
        lists.subjects,
        torch.stack(values),
        reached,
        counts,
        torch.tensor(converged),
        reached[:, None],
        evaluations,
    )


@dataclass(frozen=True)
class Objective:
    """Minus the log likelihood of a subject's lists, for many points at once; points on the whole line, or `_at` in natural units."""

    model: "CMR"
    data: Prepared
    names: tuple[str, ...]
    fixed: Mapping[str, float]
    bounds: Bounds

    def natural(self, points: Float[Tensor, "point parameter"]) -> Float[Tensor, "point parameter"]:
        return to_bounds(self.names, self.bounds, points)

    @torch.no_grad()
    def value(self, points: Tensor, subject: Tensor) -> Tensor:
        return self.value_at(self.natural(points), subject)

    @torch.no_grad()
    def value_at(self, values: Float[Tensor, "point parameter"], subject: Int[Tensor, " point"]) -> Float[Tensor, " point"]:
        vector, which = self._pairs(subject)
        total = values.new_zeros(len(values))
        for pairs, events in chunks(self.model, self.data, self._rows(values), vector, which):
            total.index_add_(0, vector[pairs], events.sum(-1))
        return -total

    def slope(self, points: Tensor, subject: Tensor) -> tuple[Tensor, Tensor]:
        """Values and gradients; the graph of each chunk is freed before the next, so that memory stays flat."""
        values, slopes = self.slope_at(self.natural(points), subject)
        low, high = limits(self.names, self.bounds)
        share = torch.sigmoid(points)
        return values, slopes * (high - low) * share * (1 - share)

    def slope_at(self, values: Tensor, subject: Tensor) -> tuple[Tensor, Tensor]:
        vector, which = self._pairs(subject)
        leaf = values.detach().requires_grad_()
        total = values.new_zeros(len(values))
        for pairs, events in chunks(self.model, self.data, self._rows(leaf), vector, which):
            lists = events.sum(-1)
            total.index_add_(0, vector[pairs], lists.detach())
            # where all chunks read the same study its graph is needed again
            if lists.requires_grad:  # not where nothing was recalled and stopping is fixed
                lists.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        gradient = leaf.grad if leaf.grad is not None else torch.zeros_like(values)
        return -total, -gradient

    def _rows(self, values: Tensor) -> Rows:
        free = {name: values[:, column] for column, name in enumerate(self.names)}
        held = {name: torch.as_tensor(value, dtype=values.dtype).expand(len(values)) for name, value in self.fixed.items()}
        return Rows({**held, **free})

    def _pairs(self, subject: Tensor) -> tuple[Tensor, Tensor]:
        """All pairs of a point and a list of its subject."""
        mine = self.data.lists.subject == subject.unsqueeze(-1)
        vector, which = mine.nonzero(as_tuple=True)
        return vector, which


def standard_errors(found: Fit, lists: Lists, step: float = 1e-4) -> Float[Tensor, "subject parameter"]:
    """Square roots of the diagonal of the inverse Hessian of minus the log likelihood, in natural units.

    The Hessian is the central difference of exact gradients on the logistic scale. NaN where the likelihood has no curved maximum in that
    parameter: at a bound, at a kink, or where parameters trade off exactly.
    """
    task = Objective(found.model, prepare(found.model, lists, "standard_errors"), found.names, found.fixed, found.bounds)
    low, high = limits(found.names, found.bounds)
    inner = ((found.values - low) / (high - low)).clamp(1e-9, 1 - 1e-9)
    points = torch.logit(inner)
    people, size = points.shape
    shifts = torch.cat([torch.zeros(1, size), torch.eye(size), -torch.eye(size)]).to(points)
    around = points.unsqueeze(1) + step * shifts
    subject = torch.arange(people).repeat_interleave(2 * size + 1)
    slopes = task.slope(around.flatten(0, 1), subject)[1].reshape(people, 2 * size + 1, size)
    ahead = (slopes[:, 1 : size + 1] - slopes[:, :1]) / step
    back = (slopes[:, :1] - slopes[:, size + 1 :]) / step
    hessian = (ahead + back) / 2
    hessian = (hessian + hessian.mT) / 2
    # a maximum at a bound, or at a kink (a stop probability that just reaches 1), has no curvature: left out as if it were known
    curve = hessian.diagonal(dim1=-2, dim2=-1)
    kink = (ahead - back).diagonal(dim1=-2, dim2=-1).abs() > 0.1 * curve.abs()
    free = ~found.edges() & ~kink & (curve > 0)
    both = free.unsqueeze(-1) & free.unsqueeze(-2)
    kept = torch.where(both, hessian, torch.eye(size, dtype=points.dtype))
    # the logistic scale has slopes as different as the parameters' widths; a unit diagonal keeps the inverse sharp
    scale = kept.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12).rsqrt()
    inverse, wrong = torch.linalg.inv_ex(scale.unsqueeze(-1) * kept * scale.unsqueeze(-2))
    variance = inverse.diagonal(dim1=-2, dim2=-1) * scale.square()
    # a negative eigenvalue: no maximum
    proper = (torch.linalg.eigvalsh(kept) > 0).all(-1, keepdim=True) & (wrong == 0).unsqueeze(-1)
    slope = (high - low) * inner * (1 - inner)
    return torch.where(free & proper & (variance > 0), slope * variance.clamp_min(0).sqrt(), math.nan)


def limits(names: Sequence[str], bounds: Bounds) -> tuple[Tensor, Tensor]:
    edges = torch.tensor([bounds[name] for name in names], dtype=torch.float64)
    return edges[:, 0], edges[:, 1]


def to_bounds(names: Sequence[str], bounds: Bounds, points: Float[Tensor, "*any parameter"]) -> Float[Tensor, "*any parameter"]:
    """From the whole line into the bounds, by the logistic map."""
    low, high = limits(names, bounds)
    return low + (high - low) * torch.sigmoid(points)


def free_and_held(
    model: "CMR", fixed: Mapping[str, float], bounds: Bounds, where: str
) -> tuple[tuple[str, ...], dict[str, float], dict[str, tuple[float, float]]]:
    """Names that are free, values that are held, bounds of the free ones: what is not fixed is searched where the table says."""
    free = {name: PARAMETERS[name].search for name in model.searched}
    free.update(bounds)
    free = {name: (float(low), float(high)) for name, (low, high) in free.items() if name not in fixed}
    both = [name for name in bounds if name in fixed]
    if both:
        raise ValueError(f"{where}: {both[0]} is both fixed and free; give it in one of them.")
    for name, (low, high) in free.items():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{where}: the bounds of {name} must be two finite numbers, the lower first, got ({low:g}, {high:g}).")
    if not free:
        raise ValueError(f"{where}: at least one parameter must be free; all are fixed.")
    layers = [layer.name for layer in model.layers]
    for side in (0, 1):
        as_rows({**fixed, **{name: edge[side] for name, edge in free.items()}}, model.needs, layers, where)
    return tuple(free), dict(fixed), free
