"""Pham et al. 2025 (arXiv 2505.21777): copies, then spurious states, then new data, on the unit circle, where energies are known."""

from typing import Any

import pyarrow as pa
import pytest

from ammon.experiments import memorization
from ammon.experiments.base import Grid


def fractions(grid: Grid, trials: int, data: str = "circle") -> dict[int, dict[str, Any]]:
    table: pa.Table = memorization.run({"data": (data,), **grid}, trials=trials, workers=1)
    return {int(row["stored"]): row for row in table.to_pylist() if row["row"] == "fractions"}


def test_with_2_9_and_1000_data_on_the_circle_recall_copies_then_invents_then_generalises() -> None:
    """Section 3, figure 2, at β = 20 as in the authors' code; the exact score of the data, thresholds from chance, over 20 draws."""
    rows = fractions({"denoiser": ("log_sum_exp",), "stored": (2, 9, 1000)}, trials=20)
    # the angle between two data is below 2 arcsin σ, so that their basins are one, in .14 of the draws
    assert rows[2]["memorised_low"] > max(rows[2]["spurious_high"], rows[2]["generalised_high"])
    assert rows[9]["spurious_low"] > max(rows[9]["memorised_high"], rows[9]["generalised_high"])
    assert rows[1000]["generalised_low"] > 0.8
    # what is new lies on the circle as near as data do to each other, but for the shrinking that the energy of the circle has
    assert rows[1000]["to_held"] < 0.05
    assert rows[1000]["held_to_held"] < 0.01


@pytest.mark.slow
def test_a_trained_network_goes_the_same_way() -> None:
    """The same with a perceptron trained by denoising; two draws."""
    rows = fractions({"denoiser": ("network",), "stored": (2, 9, 1000)}, trials=2)
    assert rows[2]["memorised"] > 0.8
    assert rows[9]["spurious"] > rows[9]["memorised"]
    assert rows[1000]["generalised"] > 0.7
    assert rows[1000]["to_held"] < 0.1


@pytest.mark.slow
def test_on_images_of_digits_a_unet_copies_few_and_makes_others_of_many() -> None:
    """Both ends of the transition: 8 × 8 digits of scikit-learn, a U-Net of 16 channels, one draw. States that only recur are few."""
    rows = fractions({"denoiser": ("network",), "stored": (2, 1000)}, trials=1, data="digits")
    assert rows[2]["memorised"] > 0.9
    assert rows[1000]["generalised"] > 0.9
    # what is new lies about as near to digits that were held back as these lie to each other
    assert rows[1000]["to_held"] < 1.4 * rows[1000]["held_to_held"]
