"""Hoover et al. 2023 (2302.07253), at a small size: completion of images and anomalies of graphs, against blocks of as many parameters.

The paper's own data and budgets are far larger; what is measured here, and that the Energy Transformer is behind, is in
docs/energy_transformer.md.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ammon.experiments import graph_anomaly
from ammon.recipes.energy_transformer import Block, Completing, Recipe, make
from ammon.training.plan import Plan
from ammon.training.trainer import train

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("AMMON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
# the rate of each the best of .003, .01, .02 and .03 that was tried on seed 0 with 300 steps
RATES: dict[Block, float] = {"energy": 0.03, "standard": 0.02}


def clothes() -> Tensor:
    """10,000 images to train on, and 1,000 to hold out."""
    path = DATA / "images" / "fashion_mnist.npz"
    if not path.is_file():
        pytest.skip(
            "Fashion-MNIST is not here: put images/fashion_mnist.npz (arrays train_images, test_images) under the folder AMMON_DATA"
        )
    held = np.load(path)
    images = np.concatenate([held["train_images"][:10_000], held["test_images"][:1000]])
    return torch.tensor(images).float().div(255)[:, None]


def completed(images: Tensor, block: Block, seed: int, steps: int = 600) -> tuple[float, float]:
    """The held-out error of a training, and that of the mean image."""
    recipe = Recipe(block=block, descents=1, step=1.0, batch=32, held=1000 / 11_000)
    model = make(recipe, (1, 28, 28), seed)
    task = Completing(model, images, recipe, seed)
    rows = train(model, task, Plan(steps, RATES[block], warmup=60, every=steps, seed=seed), measure=task.measure).rows
    return float(rows[-1]["held_loss"]), task.guess()


def test_a_block_of_one_descent_completes_clothes_but_a_standard_block_does_so_better() -> None:
    images = clothes()
    found: dict[Block, list[float]] = {"energy": [], "standard": []}
    for block, errors in found.items():
        for seed in range(3):
            error, guess = completed(images, block, seed)
            errors.append(error)
            assert error < guess / 2
    print(found)
    assert sum(found["standard"]) < sum(found["energy"]) < 1.5 * sum(found["standard"])


def test_an_energy_transformer_finds_anomalies_that_cannot_be_found_without_edges() -> None:
    table = graph_anomaly.run({"labelled": (0.4,), "model": ("energy", "convolution", "alone")}, trials=3, workers=1)
    rows = {row["model"]: row for row in table.to_pylist()}
    print({name: (row["macro_f1"], row["deviation"], row["auc"]) for name, row in rows.items()})
    assert rows["energy"]["auc"] > 0.75
    assert abs(rows["alone"]["auc"] - 0.5) < 0.1
    assert rows["convolution"]["macro_f1"] > rows["energy"]["macro_f1"] > rows["alone"]["macro_f1"] + 0.1
