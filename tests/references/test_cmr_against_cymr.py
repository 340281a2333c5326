"""cymr 0.14.3 side by side, on its own data (Morton et al. 2013, mixed lists): the same log likelihoods, subject by subject."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cymr
import numpy as np
import pandas as pd
import pytest
import torch
from cymr import cmr as peer
from psifr import fr

from ammon.cmr.layers import Features, ItemCue, Items, Pool
from ammon.cmr.likelihood import ClippedFloor
from ammon.cmr.lists import Lists
from ammon.cmr.model import CMR
from ammon.cmr.psifr_tables import read_table

DATA = Path(cymr.__file__).parent / "data"
# the names of the parameters there and here
NAMES = {
    "B_enc": "beta_enc", "B_start": "beta_start", "B_rec": "beta_rec", "Lfc": "learn_fc", "Lcf": "learn_cf", "P1": "primacy_scale",
    "P2": "primacy_decay", "T": "temperature", "X1": "stop_scale", "X2": "stop_growth", "Dfc": "pre_fc", "Dcf": "pre_cf",
    "B_distract": "beta_distract", "B_retention": "beta_retention", "s": "semantic",
}  # fmt: skip
BASE = {"B_enc": 0.7, "B_start": 0.3, "B_rec": 0.9, "Lfc": 0.15, "Lcf": 0.15, "P1": 0.2, "P2": 2.0, "T": 0.1, "X1": 0.001, "X2": 0.25}
OURS = CMR(floor=ClippedFloor())


def ours(values: dict[str, float]) -> dict[str, float]:
    return {NAMES[name]: value for name, value in values.items() if name in NAMES}


@cache
def table() -> pd.DataFrame:
    return pd.read_csv(DATA / "Morton2013_mixed.csv")


@cache
def lists() -> Lists:
    return read_table(table()).clean()


@cache
def distances() -> tuple[tuple[str, ...], Any]:
    items, matrix = fr.sample_distances("Morton2013")
    return tuple(items.tolist()), matrix


def subjects_of_cymr(definition: Any, patterns: Any, values: dict[str, float], count: int) -> torch.Tensor:
    """cymr's log likelihood of each of the first subjects."""
    data = table()
    parts = [data[data["subject"] == subject] for subject in sorted(data["subject"].unique())[:count]]
    return torch.tensor([peer.CMR().likelihood(part, values, None, definition, patterns)["logl"].iloc[0] for part in parts])


def test_the_table_holds_the_counts_of_the_data() -> None:
    raw = read_table(table())
    assert (len(raw.subjects), len(raw), raw.items.shape[1]) == (29, 870, 24)
    assert int(lists().num_recalls.sum()) == 10427
    assert int((raw.recalls == -2).sum()) == 268
    # repeats: psifr counts 181, 2 of them of intrusions
    assert int((raw.recalls >= 0).sum()) - 10427 == 179


def test_the_sample_of_cymr() -> None:
    values = {
        "B_enc": 0.5, "B_rec": 0.8, "B_start": 0.0, "Dfc": 1.0, "Dcf": 1.0, "Lfc": 1.0, "Lcf": 1.0, "P1": 0.0, "P2": 1.0, "T": 10.0,
        "X1": 0.05, "X2": 1.0,
    }  # fmt: skip
    sample = read_table(pd.read_csv(DATA / "sample1.csv")).clean()
    assert float(OURS.log_likelihood(sample, ours(values)).total) == pytest.approx(-5.936799964636842, rel=1e-13)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({}, -29754.67744761493, id="B, the README's parameters"),
        pytest.param(
            {"B_enc": 0.5, "B_start": 0.0, "B_rec": 0.8, "Lfc": 0.8, "Lcf": 0.8, "P1": 1.0, "P2": 1.0, "T": 10.0, "X1": 0.05, "X2": 0.2},
            -36430.34909794644,
            id="C, the benchmark's",
        ),
    ],
)
def test_the_sum_over_29_subjects_is_that_of_an_independent_run_of_cymr(values: dict[str, float], expected: float) -> None:
    assert float(OURS.log_likelihood(lists(), ours({**BASE, **values})).total) == pytest.approx(expected, rel=1e-12)


def test_the_documentations_example_has_the_values_of_an_independent_run_of_cymr() -> None:
    found = OURS.log_likelihood(lists(), ours({**BASE, "Dfc": 1.0, "Dcf": 1.0})).subjects[:3]
    expected = torch.tensor([-954.9866393069782, -1112.4517585349404, -983.9921634611256], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("kind", "expected"), [("category", -29225.77375682095), ("semantic", -29010.769173920417)])
def test_the_item_cue_has_the_values_of_an_independent_run_of_cymr(kind: str, expected: float) -> None:
    names, matrix = distances()
    if kind == "category":
        of = table().drop_duplicates("item").set_index("item")["category"]
        known = [name for name in names if name in of.index]
        category = of[known].to_numpy()
        similarity = Pool(tuple(known), torch.from_numpy((category[:, None] == category[None, :]).astype(float)))
    else:
        similarity = Pool(names, torch.from_numpy(1 - matrix))
    found = replace(OURS, semantics=ItemCue(similarity)).log_likelihood(lists(), ours({**BASE, "s": 0.1})).total
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_subject_by_subject_with_localist_items() -> None:
    definition, patterns = peer.config_loc_cmr(768)
    values = {**BASE, "Afc": 0.0, "Acf": 0.0, "Dfc": 0.85, "Dcf": 0.85}
    expected = subjects_of_cymr(definition, patterns, values, 4)
    torch.testing.assert_close(OURS.log_likelihood(lists(), ours(values)).subjects[:4], expected, rtol=1e-12, atol=0)


def test_subject_by_subject_with_distraction_and_delay() -> None:
    definition, patterns = peer.config_loc_cmr(768)
    definition.set_options(distraction=True)
    values = {**BASE, "Afc": 0.0, "Acf": 0.0, "Dfc": 0.85, "Dcf": 0.85, "B_distract": 0.25, "B_retention": 0.4}
    expected = subjects_of_cymr(definition, patterns, values, 3)
    torch.testing.assert_close(OURS.log_likelihood(lists(), ours(values)).subjects[:3], expected, rtol=1e-12, atol=0)


def test_subject_by_subject_with_a_second_sublayer_of_distributed_features() -> None:
    names, matrix = distances()
    vectors = np.random.default_rng(0).standard_normal((len(names), 5))
    definition = peer.CMRParameters()
    definition.set_sublayers(f=["task"], c=["loc", "feature"])
    item = ("task", "item")
    definition.set_weights("fc", {(item, ("loc", "item")): "Dfc * loc", (item, ("feature", "item")): "Dfc * feature"})
    definition.set_weights("cf", {(item, ("loc", "item")): "Dcf * loc", (item, ("feature", "item")): "Dcf * feature"})
    definition.set_weights("ff", {item: "s * similarity"})
    rates = {"B_enc": "B_enc_feature", "Lcf": "Lcf_feature"}
    definition.set_sublayer_param("c", "feature", rates)
    definition.set_sublayer_param("c", "loc", {name: f"{name}_loc" for name in rates})
    patterns = {
        "items": np.asarray(names), "vector": {"loc": np.eye(len(names)), "feature": vectors}, "similarity": {"similarity": 1 - matrix}
    }  # fmt: skip
    values = {**BASE, "Dfc": 0.85, "Dcf": 0.5, "s": 0.2}
    more = {"B_enc_loc": 0.7, "B_enc_feature": 0.4, "Lcf_loc": 0.15, "Lcf_feature": 0.3}
    expected = subjects_of_cymr(definition, patterns, {**values, **more}, 2)
    model = replace(
        OURS,
        layers=(Items(), Features(Pool(names, torch.from_numpy(vectors)))),
        semantics=ItemCue(Pool(names, torch.from_numpy(1 - matrix))),
    )
    mine = {**ours(values), "beta_enc.features": 0.4, "learn_cf.features": 0.3}
    torch.testing.assert_close(model.log_likelihood(lists().of([1, 2]), mine).subjects, expected, rtol=1e-11, atol=0)
