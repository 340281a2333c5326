"""Tables in psifr's format: in and out, held against psifr's own reading; and what is wrong is refused by subject, list and item."""

import pandas as pd
import pytest
import torch
from psifr import fr

from ammon.analysis.free_recall import curves, inside, page, rows
from ammon.cmr.lists import NONE, OTHER
from ammon.cmr.psifr_tables import read_table, sample, write_table


def small() -> pd.DataFrame:
    studied = {1: "abc", 2: "dbd"}
    said = {1: ["c", "x", "c"], 2: ["d"]}
    out = []
    for number, items in studied.items():
        out += [("s", number, "study", place, item, place % 2) for place, item in enumerate(items, 1)]
        out += [("s", number, "recall", place, item, None) for place, item in enumerate(said[number], 1)]
    return pd.DataFrame(out, columns=["subject", "list", "trial_type", "position", "item", "task"])


def test_units_repeats_intrusions_and_items_studied_twice_are_read() -> None:
    lists = read_table(small(), source="task")
    assert lists.study.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert lists.recalls.tolist() == [[2, OTHER, 2], [0, NONE, NONE]]
    assert [[lists.names[i] if i != NONE else None for i in row] for row in lists.items.tolist()] == [["a", "b", "c"], ["d", "b", None]]
    assert lists.sources is not None
    assert lists.sources.tolist() == [[1, 0, 1], [1, 0, 1]]
    assert lists.clean().recalls.tolist() == [[2], [0]]


def test_the_order_of_the_rows_does_not_matter_and_a_table_written_is_read_as_it_was() -> None:
    lists = read_table(small())
    again = read_table(small().sample(frac=1, random_state=0))
    assert torch.equal(again.recalls, lists.recalls)
    back = read_table(write_table(lists))
    assert torch.equal(back.recalls, lists.recalls)
    assert torch.equal(back.study, lists.study)


@pytest.mark.parametrize("name", ["Morton2013", "peers_notask"])
def test_recalls_are_counted_as_psifr_counts_them(name: str) -> None:
    table = sample(name)
    merged = fr.merge_free_recall(table)
    lists = read_table(table).clean()
    assert int(lists.num_recalls.sum()) == int((merged["recall"] & merged["study"] & (merged["repeat"] == 0)).sum())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["position", "item"]), r"no column position, item; it has subject"),
        (lambda t: t.assign(trial_type=t.trial_type.replace("recall", "said")), r"trial_type must be .* got 'said'"),
        (lambda t: t.assign(position=t.position.where(t.index != 1, 1)), r"subject s, list 1, item 'b': studied position 1 is there twice"),
        (lambda t: t.drop(index=1), r"subject s, list 1, item 'c': studied position 2 is missing; the next is 3"),
        (lambda t: t.assign(position=t.position.where(t.index != 4, 0)), r"subject s, list 1, item 'x': a position must be .* got 0"),
        (lambda t: t.assign(item=t.item.where(t.index != 2)), r"subject s, list 1: a row has no item"),
        (lambda t: t[(t.list != 2) | (t.trial_type == "recall")], r"subject s, list 2: it has recalls but no studied items"),
    ],
)
def test_wrong_tables_are_refused_by_name(change: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(change(small()))  # type: ignore[operator]


def test_a_source_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"subject s, list 1: item 'b' has no task"):
        read_table(small().assign(task=lambda t: t.task.where(t.index != 1)), source="task")
    with pytest.raises(ValueError, match=r"no column voice"):
        read_table(small(), source="voice")


def test_the_curves_of_morton_2013_are_those_of_an_independent_run_of_psifr() -> None:
    table = sample("Morton2013")
    table = table[table["list_type"] == "mixed"]
    items, distances = fr.sample_distances("Morton2013")
    found = curves(table, category="category", similarity=(items, 1 - distances))
    spc = [0.56333, 0.505, 0.47417, 0.43917, 0.44167, 0.44, 0.42, 0.40583, 0.44917, 0.41583, 0.42833, 0.44083, 0.43333, 0.44833, 0.44667,
           0.47333, 0.46667, 0.50833, 0.5425, 0.57083, 0.575, 0.66417, 0.8225, 0.96333]  # fmt: skip
    assert found["spc"].mean == pytest.approx(spc, abs=6e-6)
    factors = dict(zip(found["clustering"].points, found["clustering"].mean, strict=True))
    semantic = factors.pop("semantic")
    assert factors == pytest.approx({"temporal": 0.63999, "category": 0.65045}, abs=1e-5)
    # psifr itself, on the distances as they come
    merged = fr.merge_free_recall(table.assign(item_index=fr.pool_index(table["item"], items)), study_keys=["item_index"])
    assert semantic == pytest.approx(fr.distance_rank(merged, "item_index", distances)["rank"].mean(), rel=1e-12)
    assert inside(found["spc"], found["spc"]).all()
    assert len(page(found, found, "Morton 2013").axes) == 4
    assert len(rows(found, found)) == sum(len(curve.points) for curve in found.values())
