"""Laws of the race and of sessions: limits in closed form, thresholds, times, and what accumulates from list to list."""

import math
from dataclasses import replace

import pytest
import torch

from ammon.cmr.lists import NONE, OTHER, once
from ammon.cmr.parameters import Rows
from ammon.cmr.presets import PRESETS, lohnas2015, polyn2009
from ammon.cmr.race import AccumulatorRace, run
from ammon.cmr.sessions import simulate_sessions


class Still:
    """A network whose supports never change."""

    def __init__(self, support: torch.Tensor) -> None:
        self.all = support

    def support(self, pairs: torch.Tensor) -> torch.Tensor:
        return self.all[pairs]

    def bring(self, pairs: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(pairs), dtype=self.all.dtype)


def rows(count: int, **values: float) -> Rows:
    usual = {"race_leak": 0.0, "race_inhibition": 0.0, "race_noise": 0.0, "race_time_constant": 100.0, "match_threshold": -1.0, **values}
    return Rows({name: torch.full((count,), value, dtype=torch.float64) for name, value in usual.items()})


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_without_noise_the_strongest_wins_when_its_support_has_added_up_to_1() -> None:
    support = torch.tensor([[0.3, 0.1, 0.2]], dtype=torch.float64)
    race = AccumulatorRace(step=10, limit=10_000)
    found = run(Still(support), race, rows(1), torch.ones(1, 3, dtype=torch.bool), seeded())
    assert found.units.tolist() == [[0, 2, 1]]
    # x grows by a dt/τ = .03, .02, .01 a step of 10 ms: 34, 50 and 100 steps, one race after the other
    assert found.times[0].tolist() == pytest.approx([340.0, 840.0, 1840.0], abs=10.0)


def test_leak_and_inhibition_keep_weak_items_below_the_threshold() -> None:
    # one item alone settles at a / K: at K = .5, a = .4 below 1, a = .6 above
    support = torch.tensor([[0.4, 0.0], [0.6, 0.0]], dtype=torch.float64)
    race = AccumulatorRace(step=1, limit=5_000)
    found = run(Still(support), race, rows(2, race_leak=0.5), torch.ones(2, 2, dtype=torch.bool), seeded())
    assert found.units[:, 0].tolist() == [NONE, 0]
    # (1 - e^{-K t/τ}) a / K = 1
    assert float(found.times[1, 0]) == pytest.approx(100 * -math.log(1 - 0.5 / 0.6) / 0.5, abs=2.0)


def test_what_was_recalled_is_not_recalled_again_unless_repeats_are_allowed() -> None:
    support = torch.tensor([[0.5, 0.1]], dtype=torch.float64).repeat(50, 1)
    present = torch.ones(50, 2, dtype=torch.bool)
    never = run(Still(support), AccumulatorRace(step=10, limit=5000), rows(50, race_noise=0.2), present, seeded())
    assert all(len(set(row)) == len(row) for row in ([u for u in units if u != NONE] for units in never.units.tolist()))
    again = AccumulatorRace(step=10, limit=5000, repeats=True, outputs=6)
    # the threshold is 1 + ω after a retrieval; with ω = 0 the strongest comes again and again
    free = run(Still(support), again, rows(50, repeat_omega=0.0, repeat_alpha=0.5), present, seeded())
    assert (free.units == 0).all()
    held = run(Still(support), again, rows(50, repeat_omega=1e6, repeat_alpha=1.0), present, seeded())
    assert (held.units[:, :2] == torch.tensor([0, 1])).all()


def test_units_that_a_list_has_not_and_rejected_ones_are_not_reported() -> None:
    support = torch.tensor([[0.9, 0.5, 0.4]], dtype=torch.float64)
    present = torch.tensor([[False, True, True]])
    found = run(Still(support), AccumulatorRace(step=10, limit=2000), rows(1), present, seeded())
    assert found.units.tolist() == [[1, 2]]
    none = run(Still(support), AccumulatorRace(step=10, limit=2000), rows(1, match_threshold=1.0 + 1e-9), present, seeded())
    assert none.units.shape == (1, 0)


def test_times_rise_and_end_with_the_limit() -> None:
    preset = polyn2009()
    lists = once([12] * 30, sources=torch.arange(12).expand(30, 12) // 6)
    model = replace(preset.model, choice=AccumulatorRace(step=100, limit=20_000))
    drawn = model.simulate(lists, preset.values, generator=seeded())
    assert drawn.times is not None
    there = drawn.lists.recalls != NONE
    assert torch.equal(torch.isfinite(drawn.times), there)
    later = drawn.times.diff(dim=1)[there[:, 1:]]
    assert (later > 0).all()
    assert float(drawn.times[there].max()) <= 20_000
    # recency: immediate recall begins at the end of the list
    assert float((drawn.lists.recalls[:, 0] >= 9).double().mean()) > 0.9


def test_a_race_has_no_likelihood() -> None:
    preset = polyn2009()
    with pytest.raises(TypeError, match="no closed likelihood"):
        preset.model.log_likelihood(once([3], sources=torch.zeros(1, 3, dtype=torch.int64)), preset.values)


def test_items_of_earlier_lists_intrude_in_a_session_and_a_match_that_is_asked_for_keeps_them_out() -> None:
    people, each, length = 4, 4, 6
    items = torch.arange(each * length).reshape(each, length).repeat(people, 1)
    lists = once([length] * (people * each), torch.arange(people).repeat_interleave(each), items=items)
    preset = lohnas2015()
    choice = AccumulatorRace(step=20, limit=20_000, competitors=4 * length, repeats=True, outputs=length)
    model = replace(preset.model, choice=choice)
    # context hardly moves on between lists, so that earlier ones come to mind
    values = {**preset.values, "beta_end_list": 0.05}
    open_to_all = simulate_sessions(model, lists, {**values, "match_threshold": -1.0}, generator=seeded())
    strict = simulate_sessions(model, lists, {**values, "match_threshold": 0.9}, generator=seeded())

    def share(found: object) -> float:
        recalls = found.lists.recalls  # type: ignore[attr-defined]
        return float((recalls == OTHER).sum() / (recalls != NONE).sum().clamp_min(1))

    first = torch.arange(0, people * each, each)
    assert not (open_to_all.lists.recalls[first] == OTHER).any()
    assert share(open_to_all) > 0.02
    assert share(strict) < share(open_to_all)
    # what intruded was studied before, in the same session
    row, column = (open_to_all.lists.recalls == OTHER).nonzero(as_tuple=True)
    assert (open_to_all.items[row, column] < (row % each) * length).all()


@pytest.mark.parametrize("name", ["cymr", "gunn2025"])
def test_presets_with_a_likelihood_recall_and_are_explained(name: str) -> None:
    preset = PRESETS[name]()
    drawn = preset.model.simulate(once([16] * 20), preset.values, generator=seeded()).lists
    assert int(drawn.num_recalls.sum()) > 20
    assert torch.isfinite(preset.model.log_likelihood(drawn, preset.values).total)
