"""Curves of fitted models against those of people, by psifr: fit, simulate, and ask at which points the model lies in the data's interval.

Morton et al. 2013, mixed lists: 40 subjects, 1,200 lists of 24; every list is simulated 10 times with its subject's own parameters.
"""

import pandas as pd
import pytest
import torch
from psifr import fr

from ammon.analysis.free_recall import curves, rows
from ammon.cmr.layers import Pool
from ammon.cmr.lists import once
from ammon.cmr.model import CMR
from ammon.cmr.psifr_tables import read_table, sample, write_table
from ammon.cmr.rivals import RIVALS, make


def against(table: pd.DataFrame, name: str, similarity: Pool | None, starts: int, copies: int) -> pd.DataFrame:
    """The points of all curves: data, half width of the interval, model, and whether the model is inside."""
    lists, model = read_table(table), make(name, similarity)
    found = model.fit(lists.clean(), fixed=RIVALS[name].fixed, bounds=RIVALS[name].search, starts=starts)
    drawn = model.simulate(lists.times(copies), found.parameters(), generator=torch.Generator().manual_seed(0), per_subject=True)
    return pd.DataFrame(rows(curves(table), curves(write_table(drawn.lists)))).set_index(["curve", "point"])


def test_a_model_fitted_to_its_own_recalls_has_their_curves() -> None:
    generator, people = torch.Generator().manual_seed(0), 12
    values = {
        "temperature": 0.1, "beta_enc": 0.7, "beta_rec": 0.8, "beta_start": 0.4, "learn_fc": 0.3, "learn_cf": 0.3, "primacy_scale": 0.3,
        "primacy_decay": 1.0, "stop_scale": 0.02, "stop_growth": 0.4,
    }  # fmt: skip
    studied = once([8] * (people * 12), torch.arange(people).repeat_interleave(12))
    table = write_table(CMR().simulate(studied, values, generator=generator).lists)
    found = against(table, "localist", None, 1, 10)
    # where nobody began recall the interval has no width
    known = found[(found["half_width"] > 0) & found["model"].notna()]
    assert len(known) >= 20
    # intervals of 95 %, but 9 parameters were fitted to the same data, and errors of one curve go together
    assert known["inside"].mean() >= 0.8
    # and nowhere, even outside, is the model far away
    assert ((known["model"] - known["data"]).abs() <= 3 * known["half_width"] + 0.01).all()


@pytest.mark.slow
def test_the_item_cue_model_lies_in_the_intervals_of_people_at_these_positions_and_lags() -> None:
    table = sample("Morton2013")
    items, distances = fr.sample_distances("Morton2013")
    similarity = Pool(tuple(items.tolist()), torch.from_numpy(1 - distances))
    found = against(table[table["list_type"] == "mixed"], "item-cue", similarity, 4, 10)
    positions = [3, 5, 9, 12, 16, 18, 22]
    assert found.loc["spc"].loc[positions, "inside"].all()
    assert found.loc[("pfr", 23), "inside"]
    assert found.loc["lag_crp"].loc[[-5, -2], "inside"].all()
    assert found.loc["spc"]["inside"].sum() >= 18
    # what the model does not do: it flattens the steepest parts, at the end of the list and between neighbours
    assert (found.loc["lag_crp"].loc[[-1, 1], "model"] < found.loc["lag_crp"].loc[[-1, 1], "data"]).all()
    assert (found["model"] - found["data"]).abs().max() < 0.1
