"""Free recall: CMR's likelihood, fit and simulation against cymr in its fastest configuration, on the data that comes with cymr.

cymr is given 24 localist units (its documentation uses 768) and lists that are already prepared, so that only its compiled core and the
loop around it are timed. Log likelihoods must be equal for every subject, and the fit at least as good, before there is a ratio.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ammon.cmr.likelihood import ClippedFloor
from ammon.cmr.lists import Lists
from ammon.cmr.model import CMR
from ammon.cmr.psifr_tables import read_table
from benchmarks.report import Report, Row
from benchmarks.timing import Samples, Unequal, here, race

UNITS, VECTORS, SUBJECTS = 24, 128, 3
VALUES = {
    "beta_enc": 0.7, "beta_start": 0.3, "beta_rec": 0.9, "learn_fc": 0.15, "learn_cf": 0.15, "primacy_scale": 0.2, "primacy_decay": 2.0,
    "temperature": 0.1, "stop_scale": 0.001, "stop_growth": 0.25,
}  # fmt: skip
THEIRS = {
    "beta_enc": "B_enc", "beta_start": "B_start", "beta_rec": "B_rec", "learn_fc": "Lfc", "learn_cf": "Lcf", "primacy_scale": "P1",
    "primacy_decay": "P2", "temperature": "T", "stop_scale": "X1", "stop_growth": "X2",
}  # fmt: skip
BOUNDS = {
    "beta_enc": (0, 1), "beta_start": (0, 1), "beta_rec": (0, 1), "learn_fc": (0, 1), "learn_cf": (0, 1), "primacy_scale": (0, 10),
    "primacy_decay": (0, 5), "stop_scale": (0, 0.1), "stop_growth": (0, 1),
}  # fmt: skip
MODEL = CMR(floor=ClippedFloor())


class Peer:
    """cymr with its data prepared."""

    def __init__(self) -> None:
        import cymr
        import pandas
        from cymr import cmr, fit

        self.table = pandas.read_csv(Path(cymr.__file__).parent / "data" / "Morton2013_mixed.csv")
        # units are numbered within each list, so that 24 are enough
        keys = ["subject", "list"]
        study = self.table[self.table["trial_type"] == "study"]
        place = study.set_index([*keys, "item"])["position"] - 1
        index = place.reindex(self.table.set_index([*keys, "item"]).index).to_numpy()
        self.table["item_index"] = index
        self.model, self.definition = cmr.CMR(), cmr.config_loc_cmr(UNITS)
        self.subjects = sorted(self.table["subject"].unique())
        self.prepared = {
            subject: fit.prepare_lists(part, study_keys=["input", "item_index"], recall_keys=["input", "item_index"], clean=True)
            for subject, part in self.table.groupby("subject")
        }

    def likelihood(self) -> Any:
        values = peer_values()
        definition, patterns = self.definition
        return np.array(
            [self.model.likelihood_subject(study, recall, values, definition, patterns)[0] for study, recall in self.prepared.values()]
        )

    def simulate(self) -> Any:
        values = peer_values()
        definition, patterns = self.definition
        drawn = [self.model.generate_subject(study, recall, values, definition, patterns) for study, recall in self.prepared.values()]
        return np.array([len(recalls) for subject in drawn for recalls in subject])

    def fit(self, subjects: int) -> Any:
        """Differential evolution with the settings of the published values: population 10, tolerance .01, polish."""
        from cymr import cmr

        definition = cmr.CMRParameters()
        definition.set_sublayers(f=["task"], c=["task"])
        region = (("task", "item"), ("task", "item"))
        definition.set_weights("fc", {region: "Dfc * loc"})
        definition.set_weights("cf", {region: "Dcf * loc"})
        definition.set_dependent(Dfc="1 - Lfc", Dcf="1 - Lcf")
        definition.set_fixed(T=VALUES["temperature"])
        definition.set_free({THEIRS[name]: bounds for name, bounds in BOUNDS.items()})
        patterns = self.definition[1]
        found = []
        # SciPy draws from numpy's global state, as cymr leaves it
        np.random.seed(0)  # noqa: NPY002
        for subject in self.subjects[:subjects]:
            data = self.table[self.table["subject"] == subject]
            found.append(self.model.fit_subject(data, definition, patterns, method="de", popsize=10, tol=0.01)[1])
        return np.array(found)


def peer_values() -> dict[str, float]:
    values = {THEIRS[name]: value for name, value in VALUES.items()}
    return {**values, "Afc": 0.0, "Acf": 0.0, "Dfc": 1 - values["Lfc"], "Dcf": 1 - values["Lcf"]}


def measure(quick: bool, threads: int) -> Report:
    peer = Peer()
    lists = read_table(peer.table).clean()
    count, repeats = len(lists), 3 if quick else 7
    vectors = 16 if quick else VECTORS
    many = {name: torch.full((vectors,), value, dtype=torch.float64) for name, value in VALUES.items()}
    timings = race(
        {
            "one": here(partial(_likelihood, lists, VALUES)),
            "many": here(partial(_likelihood, lists, many)),
            "cymr": here(peer.likelihood),
        },
        _check_likelihoods,
        repeats,
    )
    copies = 10
    drawn = race(
        {"ours": here(partial(_simulate, lists.times(copies))), "small": here(partial(_simulate, lists)), "cymr": here(peer.simulate)},
        _check_draws,
        repeats,
    )
    people = 1 if quick else SUBJECTS
    chosen = lists.of(lists.subjects[:people])
    slow = here(partial(peer.fit, people))()
    fast = race({"ours": here(partial(_fit, chosen))}, partial(_check_fit, slow.result), 3)
    rows = [
        Row(f"likelihood, {count} lists, 1 vector", timings["one"], "cymr", timings["cymr"], "gain", 4.0),
        Row(f"likelihood, per vector of {vectors}", _part(timings["many"].wall, vectors), "cymr", timings["cymr"], "gain", 10.0),
        Row(f"simulation, {count} lists", drawn["small"], "cymr", drawn["cymr"], "gain"),
        Row(f"simulation, per {count} of {count * copies} lists", _part(drawn["ours"].wall, copies), "cymr", drawn["cymr"], "gain", 30.0),
        Row(f"fit of {people} subjects, 9 parameters", fast["ours"], "cymr, differential evolution", Samples((slow.wall,)), "gain", 10.0),
    ]
    return Report(
        "Free recall",
        rows,
        f"Morton et al. 2013, mixed lists: 29 subjects, {count} lists of 24, float64, {threads} threads; {repeats} turns, median (least). "
        "Ours starts from `Lists`, cymr from its prepared lists with 24 units; its fit ran once.",
        [
            "Log likelihoods of all subjects equal to 1e-10; mean numbers of recalls equal within 4 standard errors.",
            f"Fit, log likelihoods by cymr's rule: ours {', '.join(f'{value:.2f}' for value in _fit(chosen).tolist())}; cymr "
            f"{', '.join(f'{value:.2f}' for value in slow.result.tolist())}. Ours: 8 starts a subject, BFGS on exact gradients.",
        ],
    )


def _likelihood(lists: Lists, values: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return MODEL.log_likelihood(lists, values).subjects


def _simulate(lists: Lists) -> Tensor:
    return MODEL.simulate(lists, VALUES, generator=torch.Generator().manual_seed(0)).lists.num_recalls


def _fit(lists: Lists) -> Tensor:
    found = CMR().fit(lists, fixed={"temperature": VALUES["temperature"]}, bounds=BOUNDS)
    # held against cymr by cymr's own clipped likelihood
    return replace(found.model, floor=ClippedFloor()).log_likelihood(lists, found.parameters(), per_subject=True).subjects


def _part(whole: Samples, count: int) -> Samples:
    return Samples(tuple(value / count for value in whole.values))


def _check_likelihoods(results: dict[str, Any]) -> None:
    theirs = torch.from_numpy(results["cymr"])
    for name in ("one", "many"):
        worst = float(((results[name] - theirs) / theirs).abs().max())
        if worst > 1e-10:
            raise Unequal(f"log likelihoods of subjects differ by {worst:.1e} of their size ({name}).")


def _check_draws(results: dict[str, Any]) -> None:
    theirs = torch.from_numpy(results["cymr"]).double()
    for name in ("ours", "small"):
        own = results[name].double()
        error = (own.var() / len(own) + theirs.var() / len(theirs)).sqrt()
        if abs(own.mean() - theirs.mean()) > 4 * error:
            raise Unequal(f"lists have {own.mean():.2f} recalls in the mean, cymr's {theirs.mean():.2f} ± {error:.2f}.")


def _check_fit(theirs: Any, results: dict[str, Any]) -> None:
    lost = torch.from_numpy(theirs) - results["ours"]
    if float(lost.max()) > 0:
        raise Unequal(f"a fit ended {float(lost.max()):.3f} below cymr's.")
