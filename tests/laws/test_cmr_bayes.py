"""Laws of the hierarchical fit: its density is the definition's, with that gradient; draws are from it; populations are found again."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import HalfNormal, Normal

from ammon.cmr.bayes import LogDensity
from ammon.cmr.fitting import Objective
from ammon.cmr.likelihood import prepare
from ammon.cmr.lists import NONE, Lists, once
from ammon.cmr.model import CMR

HELD = {
    "temperature": 0.2, "beta_rec": 0.8, "beta_start": 0.3, "learn_fc": 0.3, "learn_cf": 0.3, "primacy_scale": 0.3, "primacy_decay": 1.0,
    "stop_scale": 0.02,
}  # fmt: skip
BOUNDS = {"beta_enc": (0.0, 1.0), "stop_growth": (0.0, 1.0)}
MEAN = {"beta_enc": 0.5, "stop_growth": -1.0}


def crowd(people: int, each: int, length: int, seed: int = 0) -> Lists:
    """Lists of people whose free parameters are normal around MEAN, with the spread 0.5, on the logistic scale."""
    generator = torch.Generator().manual_seed(seed)
    true = {n: torch.sigmoid(m + 0.5 * torch.randn(people, generator=generator, dtype=torch.float64)) for n, m in MEAN.items()}
    studied = once([length] * (people * each), torch.arange(people).repeat_interleave(each))
    return CMR().simulate(studied, {**HELD, **true}, generator=generator, per_subject=True).lists


def density(lists: Lists) -> LogDensity:
    return LogDensity(Objective(CMR(), prepare(CMR(), lists, "test"), tuple(BOUNDS), HELD, BOUNDS), len(lists.subjects))


def points(size: int, count: int) -> torch.Tensor:
    return 0.7 * torch.randn(count, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_density_is_likelihood_times_priors() -> None:
    lists = crowd(3, 4, 5)
    target = density(lists)

    def defined(point: torch.Tensor) -> float:
        mean, log_spread, z = point[:2], point[2:4], point[4:].reshape(3, 2)
        values = torch.sigmoid(mean + log_spread.exp() * z)
        given = {**HELD, "beta_enc": values[:, 0], "stop_growth": values[:, 1]}
        prior = Normal(0.0, 1.5).log_prob(mean).sum() + Normal(0.0, 1.0).log_prob(z).sum()
        prior = prior + (HalfNormal(1.0).log_prob(log_spread.exp()) + log_spread).sum()
        return float(CMR().log_likelihood(lists, given, per_subject=True).total + prior)

    first, second = points(target.size, 2)
    # the constants of the priors are left out
    assert target(first)[0] - target(second)[0] == pytest.approx(defined(first) - defined(second), rel=1e-10)


def test_the_gradient_is_that_of_finite_differences() -> None:
    target = density(crowd(3, 4, 5))
    for point in points(target.size, 3):
        steps = 1e-5 * torch.eye(target.size, dtype=torch.float64)
        slopes = [(target(point + step)[0] - target(point - step)[0]) / 2e-5 for step in steps]
        torch.testing.assert_close(target(point)[1], torch.tensor(slopes, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_without_data_the_draws_are_those_of_the_priors() -> None:
    pytest.importorskip("nutpie")
    # nobody recalls anything, so how recall drifts leaves no trace
    studied = once([3] * 2, torch.arange(2))
    fixed = {name: value for name, value in HELD.items() if name != "beta_rec"} | {"beta_enc": 0.5, "stop_growth": 0.3}
    found = CMR().fit_bayes(studied, fixed=fixed, bounds={"beta_rec": (0, 1)}, draws=300, tune=100, chains=2)
    assert found.points.shape == (2, 300, 2, 1)
    assert found.divergences <= 8
    assert float(found.mean.mean()) == pytest.approx(0, abs=0.3)
    assert float(found.mean.std()) == pytest.approx(1.5, rel=0.2)
    assert float(found.spread.mean()) == pytest.approx((2 / torch.pi) ** 0.5, rel=0.2)
    rows = found.table().set_index(["level", "parameter"])
    assert rows.loc[("population", "beta_rec"), "mean"] == pytest.approx(0.5, abs=0.07)


def stops(recalls: list[list[int]], length: int) -> Lists:
    """Lists of each subject in which so many items are recalled, in the order of study."""
    counts = torch.tensor(recalls)
    place = torch.arange(length - 1).expand(counts.numel(), -1)
    studied = once([length] * counts.numel(), torch.arange(len(recalls)).repeat_interleave(counts.shape[1]))
    return replace(studied, recalls=torch.where(place < counts.flatten().unsqueeze(-1), place, NONE))


@pytest.mark.slow
def test_draws_are_from_the_posterior_that_quadrature_gives() -> None:
    pytest.importorskip("nutpie")
    # with the same chance X1 at every output a subject's stops are binomial, whatever is recalled
    recalls = [[0, 1, 0, 2, 1], [3, 2, 4, 3, 2], [1, 1, 3, 0, 4]]
    fixed = {**HELD, "beta_enc": 0.5, "stop_growth": 0.0}
    fixed.pop("stop_scale")
    posterior = CMR().fit_bayes(stops(recalls, 5), fixed=fixed, bounds={"stop_scale": (0, 1)}, draws=100, tune=80, chains=2)

    mean, log_spread = torch.linspace(-7, 7, 141, dtype=torch.float64)[:, None], torch.linspace(-6, 2.5, 141, dtype=torch.float64)
    prior = (Normal(0.0, 1.5).log_prob(mean) + HalfNormal(1.0).log_prob(log_spread.exp()) + log_spread).exp()
    nodes, weight = (torch.from_numpy(row) for row in np.polynomial.hermite_e.hermegauss(60))
    p = torch.sigmoid(mean.unsqueeze(-1) + log_spread.exp().unsqueeze(-1) * nodes)
    # a subject's stops [mean, spread], and the same times the chance to stop; all five lists end before all is recalled
    likely = [p ** len(row) * (1 - p) ** sum(row) for row in recalls]
    alone, timed = (torch.stack([(each * what) @ weight for each in likely]) for what in (torch.ones_like(p), p))
    joint = prior * alone.prod(0)
    exact = [torch.sigmoid(mean), log_spread.exp(), *(timed / alone)]
    exact = [float((joint * what).sum() / joint.sum()) for what in exact]

    rows = posterior.table()
    error = rows["sd"] / rows["ess_bulk"] ** 0.5
    assert (rows["ess_bulk"] > 40).all()
    assert ((rows["mean"] - exact).abs() < 4 * error).all()
    assert rows["level"].tolist() == ["population", "spread", "subject", "subject", "subject"]
    assert rows["subject"].tolist()[2:] == list(posterior.subjects)
    assert posterior.parameters()["stop_scale"].tolist() == pytest.approx(rows["mean"].tolist()[2:])
    assert set(posterior.parameters()) == {*HELD, "beta_enc", "stop_growth"}
    assert ((rows["low"] < rows["mean"]) & (rows["mean"] < rows["high"])).all()
    with pytest.raises(ValueError, match="probability must be between 0 and 1, got 1"):
        posterior.table(1)


@pytest.mark.slow
def test_the_means_of_a_population_lie_in_their_intervals() -> None:
    pytest.importorskip("nutpie")
    posterior = CMR().fit_bayes(crowd(8, 12, 6), fixed=HELD, bounds=BOUNDS, draws=200, tune=120, chains=2)
    rows = posterior.table()
    assert (rows["r_hat"] < 1.05).all()
    population = rows[rows["level"] == "population"].set_index("parameter")
    for name in posterior.names:
        mean = MEAN[name]
        true = 1 / (1 + 2.718281828459045**-mean)
        assert population.loc[name, "low"] < true < population.loc[name, "high"]
        # and the interval says something: the prior's is from 0.05 to 0.95
        assert population.loc[name, "high"] - population.loc[name, "low"] < 0.5


def test_a_seed_repeats_the_draws() -> None:
    pytest.importorskip("nutpie")
    lists, said = crowd(2, 2, 4), []
    first, second, other = (
        CMR().fit_bayes(
            lists, fixed=HELD, bounds=BOUNDS, draws=2, tune=3, chains=1, generator=torch.Generator().manual_seed(seed),
            progress=lambda *now: said.append(now),
        )
        for seed in (3, 3, 4)
    )  # fmt: skip
    assert said == [("sampling", done, 5) for done in range(1, 6)] * 3
    assert torch.equal(first.points, second.points)
    assert not torch.equal(first.points, other.points)


def test_one_subject_is_no_population() -> None:
    pytest.importorskip("nutpie")
    with pytest.raises(ValueError, match=r"at least two subjects, got 1; for one use CMR\.fit"):
        CMR().fit_bayes(crowd(1, 2, 4), fixed=HELD, bounds=BOUNDS)


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match=r"CMR\.fit_bayes: draws"):
        CMR().fit_bayes(crowd(2, 2, 4), fixed=HELD, bounds=BOUNDS, draws=0)


def test_without_the_sampler_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("nutpie", "nutpie.compiled_pyfunc"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'ammon\[bayes\]'"):
        CMR().fit_bayes(crowd(2, 2, 4), fixed=HELD, bounds=BOUNDS)
