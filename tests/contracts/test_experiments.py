"""Experiments beside capacity and basins: tiny grids give the same rows twice, whole and in parts, and figures of any subset."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pytest

from ammon.experiments import energy_landscape
from ammon.experiments.base import Grid
from ammon.experiments.laboratory import EXPERIMENTS

TINY: dict[str, Grid] = {
    "morphing": {"memory": ("hopfield", "modern_hopfield"), "dim": (24,), "load": (0.1, 0.3), "pairs": (3,), "places": (5,)},
    "signal_to_noise": {"dim": (30,), "load": (0.03, 0.2, 2.0)},
    "ridge": {"memory": ("kernel_logistic", "kernel_ridge"), "dim": (20,), "load": (0.5, 2.0), "gamma": (0.001, 0.1), "cues": (4,)},
    "similarity_separation": {"amount": (0.2, 0.9), "stored": (10,), "separation": ("maximum", "softmax", "cube")},
    "emergence": {"dim": (3,), "stored": (3,), "betas": (5,)},
    "spurious": {"dim": (30,), "load": (0.1, 1.5), "starts": (6,)},
    "prototypes": {"dim": (30,), "load": (0.1,), "flips": (0.2,), "instances": (1, 8)},
    "sequential": {"dim": (30,), "load": (0.3,), "rehearsed": (2,)},
    "sequence": {"dim": (24,), "load": (0.05, 0.5), "flips": (0.0, 0.2), "starts": (4,)},
    "energy_landscape": {"side": (9,), "paths": (2,)},
    "induction": {"length": (6, 8)},
    "memorization": {"data": ("circle",), "stored": (2, 9), "generated": (20,), "updates": (10,), "levels": (10,)},
    "graph_anomaly": {"model": ("energy", "convolution"), "labelled": (0.4,), "nodes": (60,), "steps": (2,), "dim": (8,)},
    "recovery": {"lists": (2, 4), "length": (5,), "starts": (1,), "copies": (20,)},
    "read_contiguity": {"length": (6, 8)},
    "binding": {
        "task": ("recall_64", "copying"),
        "model": ("neural", "episodic_recency"),
        "steps": (2,),
        "dim": (8,),
        "every": (1,),
        "run": (0,),
    },
    "passkey": {"model": ("attention", "hybrid"), "length": (64,), "longer": (80,), "steps": (2,), "dim": (8,), "run": (0,)},
    "rule_exceptions": {"model": ("neural", "hybrid"), "steps": (2,), "dim": (8,), "run": (0,)},
    "few_shot": {"model": ("attention", "hybrid"), "steps": (2,), "dim": (8,), "size": (8,), "held": (0.5,), "run": (0,)},
    # any text of some thousand bytes, such as this one
    "long_text": {
        "data": (__file__,),
        "model": ("attention_neural", "hybrid"),
        "held": (0.5,),
        "steps": (2,),
        "rival_steps": (1,),
        "length": (16,),
        "dim": (8,),
        "slots": (64,),
        "run": (0,),
    },
}
# what a grid of these never has: a forgetting rule, a transformer that has learned
NEVER = {
    "sequential": {"one_step_theory"},
    "binding": {"steps_to_90"},
    "passkey": {"steps_to_90"},
    "rule_exceptions": {"steps_to_90", "once_ruled"},
    "few_shot": {"steps_to_90"},
}


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return {name: EXPERIMENTS[name].run(grid, trials=2, seed=3, workers=1) for name, grid in TINY.items()}


@pytest.mark.parametrize("name", TINY)
def test_rows_are_the_same_again_and_do_not_depend_on_the_rest_of_the_grid(name: str, tables: dict[str, pa.Table]) -> None:
    table, grid = tables[name], dict(TINY[name])
    key = next(key for key in EXPERIMENTS[name].grid if len(grid.get(key, EXPERIMENTS[name].grid[key])) > 1)
    alone = grid.get(key, EXPERIMENTS[name].grid[key])[-1]
    again = EXPERIMENTS[name].run({**grid, key: (alone,)}, trials=2, seed=3, workers=1)
    assert again.equals(table.filter(pa.compute.equal(table.column(key), alone)))
    assert table.num_rows > again.num_rows > 0


@pytest.mark.parametrize("name", TINY)
def test_estimates_are_finite_and_inside_their_intervals(name: str, tables: dict[str, pa.Table]) -> None:
    for row in tables[name].to_pylist():
        for column, value in row.items():
            assert not isinstance(value, float) or math.isfinite(value), (column, value)
            if column.endswith("_low") and value is not None:
                middle, high = row[column.removesuffix("_low")], row[f"{column.removesuffix('_low')}_high"]
                assert value <= middle <= high


@pytest.mark.parametrize("name", TINY)
def test_every_column_is_filled_somewhere(name: str, tables: dict[str, pa.Table]) -> None:
    missing = {column for column in tables[name].column_names if tables[name].column(column).null_count == tables[name].num_rows}
    assert missing == NEVER.get(name, set())


@pytest.mark.parametrize("name", TINY)
def test_a_figure_comes_of_the_whole_table_and_of_a_single_row(name: str, tables: dict[str, pa.Table], tmp_path: Path) -> None:
    table = tables[name]
    first = {key: table.column(key)[0].as_py() for key in EXPERIMENTS[name].grid}
    one = table
    for key, value in first.items():
        one = one.filter(pa.compute.equal(one.column(key), value))
    for number, some in enumerate((table, one)):
        figure = EXPERIMENTS[name].draw(some)
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000
        shown = [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in shown)


def test_a_palimpsest_is_drawn_with_its_theory() -> None:
    sequential = EXPERIMENTS["sequential"]
    grid: Grid = {"dim": (40,), "load": (1.0,), "rehearsal": ("none",), "forgetting": (0.05, 0.2)}
    table = sequential.run(grid, memories=["amari"], trials=2, workers=1)
    rows = table.to_pylist()
    assert all(row["one_step_theory"] is not None for row in rows)
    # theory and measurement, over all ages; .1: two trials of 40 units
    gaps = [abs(row["one_step"] - row["one_step_theory"]) for row in rows]
    assert sum(gaps) / len(gaps) < 0.1
    panel = sequential.draw(table).axes[-1]
    assert sum(line.get_linestyle() == "--" for line in panel.get_lines()) == 2


def test_the_landscape_moves(tables: dict[str, pa.Table], tmp_path: Path) -> None:
    from PIL import Image

    table = tables["energy_landscape"]
    some = table.filter(pa.compute.equal(table.column("memory"), "modern_hopfield"))
    some = some.filter(pa.compute.equal(some.column("beta"), 20.0))
    energy_landscape.animate(some, tmp_path / "moves.gif")
    with Image.open(tmp_path / "moves.gif") as moves:
        assert getattr(moves, "n_frames", 1) > 2


REFUSED = {
    "graph_anomaly": ({"dim": (6,)}, "multiple of the 4 heads"),
    "memorization": ({"data": ("digits",), "denoiser": ("network",), "width": (6,)}, "multiple of 4"),
    "long_text": ({}, "--grid data=FILE"),
    "passkey": ({"model": ("hybird",)}, "hybrid"),
    "emergence": ({"stored": (17,)}, "16"),
    "similarity_separation": ({"images": ("nowhere.npz",)}, "nowhere"),
    "ridge": ({"memory": ("hopfield",)}, "kernel"),
    "sequence": ({"memory": ("dense",)}, "sequences"),
    "energy_landscape": ({"arrangement": ("square",)}, "disc"),
    "sequential": ({"rehearsal": ("pseud",)}, "pseudo"),
    "recovery": ({"held": ("primacy_deca",)}, "primacy_decay"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(name: str) -> None:
    grid, said = REFUSED[name]
    with pytest.raises(ValueError, match=said) as refused:
        EXPERIMENTS[name].run(grid, workers=1)
    assert "\n" not in str(refused.value)


def test_too_many_images_are_refused_with_the_number_there_is() -> None:
    with pytest.raises(ValueError, match="1797 distinct images"):
        EXPERIMENTS["similarity_separation"].run({"stored": (5000,)})
    with pytest.raises(ValueError, match="from 0 to 1"):
        EXPERIMENTS["similarity_separation"].run({"corruption": ("mask",), "amount": (1.5,)})


def test_images_are_made_by_recall_and_by_a_unet() -> None:
    grid: Grid = {
        "data": ("digits",),
        "denoiser": ("log_sum_exp", "network"),
        "stored": (4,),
        "generated": (20,),
        "updates": (10,),
        "width": (4,),
    }
    recalled, learned = EXPERIMENTS["memorization"].run(grid, trials=1, workers=1).to_pylist()
    assert recalled["memorised"] == 1
    assert learned["loss"] > 0
    assert sum(learned[kind] for kind in ("memorised", "spurious", "generalised")) == pytest.approx(1)


def test_all_experiments_of_the_issue_are_there() -> None:
    # the last has a test of its own, on a file of conversations
    assert set(TINY) | {"capacity", "basins", "local_rules", "episodic_evidence"} == set(EXPERIMENTS)
