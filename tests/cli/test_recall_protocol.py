"""What `ammon recall` measures: which images, which cues, and how they are judged."""

import pytest
import torch

from ammon.catalog import CATALOG
from ammon.datasets.images import Images, load_images
from ammon.experiments.recall import Point, alike, attempt, corrupt, distinct, fitting, measure
from ammon.parts.corruption import Blur, Flip, Mask, Noise
from ammon.parts.patterns import bipolar, prepare


def test_images_that_come_twice_are_stored_once() -> None:
    rows = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    images = Images(rows, (1, 2), "pairs")
    assert torch.equal(distinct(images, 3), rows[[0, 2, 4]])
    assert torch.equal(distinct(images, 1), rows[:1])
    with pytest.raises(ValueError, match="4 distinct images were asked for, 'pairs' has 3"):
        distinct(images, 4)


def test_cues_stay_pixels() -> None:
    cues = corrupt(load_images().rows[:20], (Noise(1.0), Flip(0.3), Blur(1.0)), seed=0)
    assert cues.amin() >= 0
    assert cues.amax() <= 1


def test_a_cue_pixel_means_the_same_as_an_image_pixel() -> None:
    dark = torch.tensor([[0.0, 0.1, 0.3, 0.4]])
    stored, cue = alike(dark, torch.tensor([[1.0, 0.15, 0.25, 0.0]]), "bipolar")
    assert torch.equal(stored, bipolar(dark))
    # the middle of the images is 0.2, whatever the noise has added to the range
    assert cue.tolist() == [[1.0, -1.0, 1.0, -1.0]]
    for preparation in ("raw", "unit"):
        stored, cue = alike(dark, dark, preparation)
        torch.testing.assert_close(stored, prepare(dark, preparation))
        assert torch.equal(stored, cue)


def test_every_memory_gets_the_same_cues() -> None:
    images = load_images()
    seen = [attempt(Point(name, 5, (Noise(0.4),), seed=3), images).cue for name in fitting() if CATALOG[name].data == "bipolar"]
    assert len(seen) > 1
    for cue in seen[1:]:
        assert torch.equal(cue, seen[0])


@pytest.mark.parametrize("name", fitting())
def test_one_image_comes_back_from_itself_and_its_energy_never_rises(name: str) -> None:
    row = measure(Point(name, 1), load_images())
    assert row.exact == 1
    assert row.error < 1e-3
    assert row.energy_never_rose is not False
    assert (row.num_patterns, row.dim, row.load) == (1, 64, 1 / 64)


def test_the_trial_agrees_with_its_row() -> None:
    trial = attempt(Point("exponential", 50, (Mask(0.5),)), load_images())
    same = (trial.recalled == trial.stored).all(-1)
    assert tuple(same.tolist()) == trial.exact
    assert trial.row.exact == pytest.approx(same.double().mean().item())
    assert 0 < trial.row.exact < 1


def test_a_point_refuses_what_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="'nobody' is no memory"):
        Point("nobody", 5)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Point("hopfield", 0)
