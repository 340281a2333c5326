"""Hierarchical Bayes: subjects' parameters come from a population; all are sampled together by NUTS (nutpie) with the gradients of a fit.

On the logistic scale of its bounds a parameter of subject i is μ + σ z_i: μ ~ N(0, 1.5²), σ ~ |N(0, 1)|, z_i ~ N(0, 1). With 1.5 a priori
a typical subject lies nearly anywhere in the bounds. Sampled are z and log σ, for the funnel of small σ (Betancourt & Girolami 2015).
"""

import itertools
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ammon.cmr.fitting import Bounds, Objective, Progress, free_and_held, to_bounds
from ammon.cmr.likelihood import prepare
from ammon.cmr.lists import Lists

if TYPE_CHECKING:
    from pandas import DataFrame

    from ammon.cmr.model import CMR

# standard deviations of the priors of μ and σ
WIDTH, SPREAD = 1.5, 1.0


@dataclass(frozen=True)
class LogDensity:
    """Log posterior density, up to a constant, of a point [μ, log σ, z of each subject], and its gradient."""

    objective: Objective
    people: int

    @property
    def parameters(self) -> int:
        return len(self.objective.names)

    @property
    def size(self) -> int:
        return (2 + self.people) * self.parameters

    def split(self, points: Float[Tensor, "*draw size"]) -> tuple[Tensor, Tensor, Tensor]:
        """μ [*draw, parameter], σ [*draw, parameter] and z [*draw, subject, parameter]."""
        k = self.parameters
        shape = (*points.shape[:-1], self.people, k)
        return points[..., :k], points[..., k : 2 * k].exp(), points[..., 2 * k :].reshape(shape)

    def __call__(self, point: Float[Tensor, " size"]) -> tuple[float, Float[Tensor, " size"]]:
        mean, spread, z = self.split(point)
        loss, slope = self.objective.slope(mean + spread * z, torch.arange(self.people))
        # log σ is added for the change of variable from σ to log σ
        prior = -((mean / WIDTH).square() + (spread / SPREAD).square() - 2 * spread.log()).sum() / 2 - z.square().sum() / 2
        by_mean = -slope.sum(0) - mean / WIDTH**2
        by_spread = -(slope * z).sum(0) * spread - (spread / SPREAD).square() + 1
        by_z = -slope * spread - z
        return float(prior - loss.sum()), torch.cat([by_mean, by_spread, by_z.flatten()])


@dataclass(frozen=True)
class Posterior:
    """Draws from the posterior. mean, spread and points are on the logistic scale of the bounds."""

    model: "CMR"
    names: tuple[str, ...]  # free parameters
    fixed: Mapping[str, float]
    bounds: Bounds
    subjects: tuple[Any, ...]
    mean: Float[Tensor, "chain draw parameter"]
    spread: Float[Tensor, "chain draw parameter"]
    points: Float[Tensor, "chain draw subject parameter"]
    divergences: int  # of the sampler after warm-up: more than a few in a thousand draws and the table is not to be trusted

    @property
    def population(self) -> Float[Tensor, "chain draw parameter"]:
        """Values of the typical subject, the population's median, in natural units."""
        return to_bounds(self.names, self.bounds, self.mean)

    @property
    def values(self) -> Float[Tensor, "chain draw subject parameter"]:
        """Values of each subject, in natural units."""
        return to_bounds(self.names, self.bounds, self.points)

    def parameters(self) -> dict[str, Any]:
        """All values, the free ones posterior means [subject]: what `log_likelihood` and `simulate` take with per_subject=True."""
        means = self.values.mean((0, 1))
        return {**self.fixed, **{name: means[:, column] for column, name in enumerate(self.names)}}

    def table(self, probability: float = 0.95) -> "DataFrame":
        """One row each: `population` values, `spread` on the logistic scale, then each subject's values.

        Posterior mean, sd, the interval low to high with equal tails, R-hat and effective sample sizes of centre and tails (rank-normalised
        and split: Vehtari et al. 2021, by ArviZ). Trust rows with R-hat below 1.01 and effective sizes above 400.
        """
        if not 0 < probability < 1:
            raise ValueError(f"Posterior.table: probability must be between 0 and 1, got {probability:g}.")
        import pandas

        arviz, _ = _tools()
        draws = torch.cat([self.population, self.spread, self.values.flatten(2)], -1)
        levels = ["population", "spread", *["subject"] * len(self.subjects)]
        who = [None, None, *self.subjects]
        tails = torch.tensor([(1 - probability) / 2, (1 + probability) / 2], dtype=draws.dtype)
        low, high = torch.quantile(draws.flatten(0, 1), tails, dim=0)
        data = arviz.convert_to_dataset({"value": draws.numpy()})
        size = len(self.names)
        return pandas.DataFrame(
            {
                "level": np.repeat(levels, size),
                "subject": np.repeat(np.array(who, dtype=object), size),
                "parameter": list(self.names) * len(levels),
                "mean": draws.mean((0, 1)).tolist(),
                "sd": draws.flatten(0, 1).std(0).tolist(),
                "low": low.tolist(),
                "high": high.tolist(),
                "r_hat": arviz.rhat(data)["value"].to_numpy(),
                "ess_bulk": arviz.ess(data, method="bulk")["value"].to_numpy(),
                "ess_tail": arviz.ess(data, method="tail")["value"].to_numpy(),
            }
        )


def sample_posterior(
    model: "CMR",
    lists: Lists,
    *,
    fixed: Mapping[str, float],
    bounds: Bounds,
    draws: int,
    tune: int,
    chains: int,
    cores: int,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Posterior:
    """See `CMR.fit_bayes`."""
    _, nutpie = _tools()
    people = len(lists.subjects)
    if people < 2:
        raise ValueError(f"CMR.fit_bayes: a population needs the lists of at least two subjects, got {people}; for one use CMR.fit.")
    names, held, bounds = free_and_held(model, fixed, bounds, "CMR.fit_bayes")
    density = LogDensity(Objective(model, prepare(model, lists, "CMR.fit_bayes"), names, held, bounds), people)
    seed = int(torch.randint(2**31, (), generator=generator))
    step = itertools.count(1)

    def keep(point: Any) -> dict[str, Any]:
        if progress is not None:
            progress("sampling", next(step), chains * (tune + draws))
        return {"point": point}

    compiled = nutpie.compiled_pyfunc.from_pyfunc(
        density.size,
        lambda: _finite(density),
        lambda *_: keep,
        [np.dtype(np.float64)],
        [(density.size,)],
        ["point"],
        make_initial_point_fn=lambda seed: _start(density, seed),
    )
    with warnings.catch_warnings():
        # ArviZ announces its next version, once a day
        warnings.simplefilter("ignore", FutureWarning)
        trace = nutpie.sample(
            compiled, draws=draws, tune=tune, chains=chains, cores=cores, seed=seed, save_warmup=False, progress_bar=False
        )
    points = torch.from_numpy(trace.posterior["point"].to_numpy().copy())
    mean, spread, z = density.split(points)
    found = mean.unsqueeze(-2) + spread.unsqueeze(-2) * z
    return Posterior(model, names, held, bounds, lists.subjects, mean, spread, found, int(trace.sample_stats["diverging"].sum()))


def _finite(density: LogDensity) -> Callable[[Any], tuple[float, Any]]:
    def both(point: Any) -> tuple[float, Any]:
        value, slope = density(torch.from_numpy(np.asarray(point, dtype=np.float64).copy()))
        # the sampler turns back where the density is 0, and would be lost with a NaN
        if math.isfinite(value) and bool(torch.isfinite(slope).all()):
            return value, slope.numpy()
        return -math.inf, np.zeros(density.size)

    return both


def _start(density: LogDensity, seed: int) -> Any:
    """Near the middle of the bounds, the spread about 0.4, every chain elsewhere."""
    generator = np.random.default_rng(seed)
    k = density.parameters
    centre = np.concatenate([np.zeros(k), np.full(k, -1.0), np.zeros(density.size - 2 * k)])
    return centre + 0.5 * generator.uniform(-1, 1, density.size)


def _tools() -> tuple[Any, Any]:
    """ArviZ and nutpie."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            import arviz
            import nutpie.compiled_pyfunc
    except ImportError as error:
        raise ImportError("CMR.fit_bayes: the sampler is nutpie; install it with: pip install 'ammon[bayes]'.") from error
    return arviz, nutpie
