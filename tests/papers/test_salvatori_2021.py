"""Salvatori et al. 2021 (2109.08063): colour images are freed from noise and completed by a generative predictive-coding network.

The paper's measures: noise of variance .2, restored where the mean square error is below .005; completed where it is below .001 on what was
hidden. Its networks have 512 to 2048 units a layer and many thousand epochs; here 256 and 100, on 50 images of CIFAR-10.
"""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import ammon as am
from ammon.learning.generative import Generative
from ammon.memories.generative import GenerativeMemory

DATA = Path(os.environ.get("AMMON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def images(count: int = 50) -> Tensor:
    path = DATA / "images" / "cifar10_train_jpeg.parquet"
    if not path.is_file():
        pytest.skip("CIFAR-10 is not here: put images/cifar10_train_jpeg.parquet (column jpeg) under the folder AMMON_DATA")
    parquet = pytest.importorskip("pyarrow.parquet")
    pictures = pytest.importorskip("PIL.Image")
    held = parquet.read_table(path, columns=["jpeg"]).slice(0, count).column("jpeg").to_pylist()
    return torch.tensor(np.stack([np.asarray(pictures.open(io.BytesIO(one)).convert("RGB")) for one in held])).float().div(255).flatten(1)


@pytest.mark.slow
def test_noise_is_taken_away_step_by_step_and_half_an_image_brings_the_other_back() -> None:
    rows = images()
    memory = GenerativeMemory(rows.shape[1], Generative((256, 256), epochs=100), inferences=30)
    memory.write(rows)
    noisy = rows + 0.2**0.5 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(5))
    errors = (memory.recall(noisy, keep=True).trajectory - rows).square().mean(-1)
    # one step leaves the noise within the plane that the images span, more steps take that away too
    assert bool((errors[[1, 5, 10, 20, 30]].mean(1).diff() < 0).all())
    assert float((errors[30] < 0.005).float().mean()) > 0.8
    known = (torch.arange(rows.shape[1]) < rows.shape[1] // 2).expand(rows.shape)
    completed = memory.recall(torch.where(known, rows, 0.0), clamp=known, steps=1).state
    assert float(((completed - rows)[:, rows.shape[1] // 2 :].square().mean(-1) < 0.001).float().mean()) > 0.9


def test_the_linear_network_meets_the_same_measures_in_closed_form() -> None:
    rows = images(20)[:, ::4]
    memory = am.predictive(rows.shape[1])
    memory.write(rows)
    noisy = rows + 0.2**0.5 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(5))
    # of noise of variance .2 what lies in the plane of 20 images: .2 · 19/768 = .0049, and it is drawn
    assert float((memory.recall(noisy).state - rows).square().mean()) < 0.006
    known = (torch.arange(rows.shape[1]) < rows.shape[1] // 8).expand(rows.shape)
    completed = memory.recall(torch.where(known, rows, 0.0), clamp=known).state
    assert float((completed - rows).square().mean()) < 0.001
