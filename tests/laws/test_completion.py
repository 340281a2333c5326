"""Completion of images: patches, hidden tokens, and the recipe that trains it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ammon.analysis.completions import completions
from ammon.datasets.images import Images
from ammon.nn.completion import Completion
from ammon.nn.energy_transformer import EnergyTransformer
from ammon.nn.patches import cut, hide, join
from ammon.recipes.energy_transformer import Completing, Recipe, about, made_again, make, parameters, pictures, standard
from ammon.training.plan import Plan
from ammon.training.trainer import CHECKPOINT, train

SMALL = Recipe(patch=2, dim=32, heads=2, memories=128, descents=3, step=0.3, batch=20, held=0.2)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def model(channels: int = 1) -> Completion:
    torch.manual_seed(0)
    return Completion(EnergyTransformer(16, 2, head_dim=8, memories=32, steps=3), 16, (channels, 6, 8), 2)


def prototypes(count: int = 120) -> Images:
    """Images that are one of six, a little different each."""
    rows = draw(6, 48).round()[torch.arange(count) % 6]
    return Images((0.9 * rows + 0.1 * draw(count, 48, seed=1)), (6, 8), "prototypes")


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_the_squares_of_the_image_row_by_row_and_join_again(channels: int) -> None:
    images = draw(2, channels, 6, 8)
    patches = cut(images, 2)
    assert patches.shape == (2, 12, channels * 4)
    assert torch.equal(patches[1, 5], images[1, :, 2:4, 2:4].flatten())
    assert torch.equal(join(patches, (channels, 6, 8), 2), images)


def test_as_many_patches_are_hidden_in_each_image_and_others_in_each() -> None:
    hidden = hide(50, 12, 0.5, torch.Generator().manual_seed(0))
    assert hidden.sum(-1).tolist() == [6] * 50
    assert len({tuple(row.tolist()) for row in hidden}) > 40
    assert hide(3, 12, 0.01).sum(-1).tolist() == [1] * 3
    assert bool(hide(3, 12, 1.0).all())


def test_what_is_hidden_has_no_part_in_the_answer_even_if_it_is_nan() -> None:
    completion, images = model(), draw(4, 1, 6, 8)
    hidden = hide(4, 12, 0.5, torch.Generator().manual_seed(0))
    other = join(cut(images, 2).masked_fill(hidden[..., None], torch.nan), (1, 6, 8), 2)
    assert torch.equal(completion(images, hidden), completion(other, hidden))
    assert bool(completion.complete(other, hidden).isfinite().all())


def test_completed_images_keep_what_is_seen() -> None:
    completion, images = model(3), draw(4, 3, 6, 8)
    hidden = hide(4, 12, 0.5, torch.Generator().manual_seed(0))
    completed = cut(completion.complete(images, hidden), 2)
    assert torch.equal(completed[~hidden], cut(images, 2)[~hidden])
    assert not torch.equal(completed[hidden], cut(images, 2)[hidden])


def test_training_learns_which_images_there_are_and_the_energy_of_its_tokens_falls(tmp_path: Path) -> None:
    images = prototypes()
    completion = make(SMALL, (1, 6, 8))
    task = Completing(completion, pictures(images), SMALL, seed=0)
    trained = train(
        completion, task, Plan(150, rate=1e-2, warmup=10, every=50), measure=task.measure, folder=tmp_path, about=about(SMALL, images)
    )
    losses = [row["held_loss"] for row in trained.rows]
    assert losses[-1] < 0.75 * task.guess()
    block = completion.block
    assert isinstance(block, EnergyTransformer)
    energies = block.descend(completion.tokens(task.held, task.hidden), tolerance=0.0).energies
    assert bool((energies.diff(dim=0) < 0).all())
    same = made_again(tmp_path)
    assert torch.equal(same(task.held, task.hidden), completion.eval()(task.held, task.hidden))


def test_a_training_that_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    images = prototypes()

    def run(steps: int, folder: Path) -> Completion:
        completion = make(SMALL, (1, 6, 8))
        task = Completing(completion, pictures(images), SMALL, seed=0)
        # the rate stays, so that a shorter training is the beginning of a longer one
        train(completion, task, Plan(steps, final=1.0, every=4), measure=task.measure, folder=folder, about=about(SMALL, images))
        return completion

    run(4, tmp_path / "parts")
    parts, whole = run(12, tmp_path / "parts"), run(12, tmp_path / "whole")
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_standard_block_has_as_many_parameters_within_one_hidden_unit() -> None:
    for recipe in (Recipe(), Recipe(dim=96, heads=4, memories=384), SMALL):
        energy = make(recipe, (1, 8, 8)).block
        block = standard(recipe.dim, recipe.heads, parameters(energy))
        if recipe is not SMALL:
            assert abs(parameters(block) - parameters(energy)) <= recipe.dim + 1
        assert block(draw(2, 5, recipe.dim)).shape == (2, 5, recipe.dim)


def test_the_picture_has_three_rows() -> None:
    images = draw(5, 3, 6, 8)
    figure = completions(images, draw(5, 1, 6, 8) < 0.5, images, title="five")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["original", "shown", "completed"]
    with pytest.raises(ValueError, match="at least one image"):
        completions(images[:0], images[:0] > 0, images[:0])


def test_bad_input_is_refused_in_one_sentence(tmp_path: Path) -> None:
    completion, images = model(), draw(4, 1, 6, 8)
    hidden = hide(4, 12, 0.5)
    with pytest.raises(ValueError, match=r"images must be \[batch, 1, 6, 8\], got \[4, 1, 8, 8\]"):
        completion(draw(4, 1, 8, 8), hidden)
    with pytest.raises(ValueError, match=r"hidden must be bool \[batch, patch\] = \[4, 12\]"):
        completion(images, hidden[:, :4])
    with pytest.raises(ValueError, match="6 × 8 pixels do not fall into patches of 4 × 4"):
        Completion(nn.Identity(), 16, (1, 6, 8), 4)
    with pytest.raises(ValueError, match="both sides multiples of 5"):
        cut(images, 5)
    with pytest.raises(ValueError, match="share must be above 0"):
        hide(2, 4, 0.0)
    with pytest.raises(ValueError, match="a batch needs 20"):
        Completing(completion, draw(10, 1, 6, 8), SMALL, 0)
    with pytest.raises(ValueError, match="multiple of the heads"):
        make(Recipe(dim=10, heads=4), (1, 8, 8))
    with pytest.raises(ValueError, match='must be "energy" or "standard"'):
        make(Recipe(block="both"), (1, 8, 8))  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        made_again(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(ValueError):
        made_again(tmp_path)
