"""Laws of patterns and corruptions: their statistics are those asked for, and randomness comes only from the generator."""

import pytest
import torch
from torch import Tensor

from ammon.parts.corruption import Blur, Corruption, Encoding, Flip, Mask, Noise
from ammon.parts.patterns import bipolar, prepare, random_patterns, unit

ALL: list[Corruption] = [Flip(0.3), Mask(0.4), Mask(0.4, scattered=True), Noise(0.5), Blur(1.0), Encoding(0.7)]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("bias", [0.0, 0.5, -0.8])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
def test_random_patterns_have_the_mean_and_the_overlap_asked_for(bias: float, correlation: float) -> None:
    count, dim = 60, 4000
    patterns = random_patterns(count, dim, generator=_generator(), bias=bias, correlation=correlation, dtype=torch.float64)
    assert set(patterns.unique().tolist()) == {-1.0, 1.0}
    # a shared prototype makes the means of all patterns move together: sqrt(1/dim) each
    assert abs(float(patterns.mean()) - bias) < 5 / dim**0.5
    overlaps = patterns @ patterns.mT / dim
    pairs = overlaps[~torch.eye(count, dtype=torch.bool)]
    expected = bias**2 + correlation * (1 - bias**2)
    assert abs(float(pairs.mean()) - expected) < 5 / dim**0.5


@pytest.mark.parametrize(("bias", "correlation"), [(1.0, 0.0), (-2.0, 0.0), (0.0, 1.0), (0.0, -0.1)])
def test_impossible_statistics_are_refused(bias: float, correlation: float) -> None:
    with pytest.raises(ValueError, match="bias must be in"):
        random_patterns(2, 3, generator=_generator(), bias=bias, correlation=correlation)


@pytest.mark.parametrize("corruption", ALL, ids=lambda c: type(c).__name__)
def test_a_corruption_draws_only_from_its_generator_and_leaves_its_input(corruption: Corruption) -> None:
    rows = torch.rand(5, 49, generator=_generator(1))
    before, state = rows.clone(), torch.random.get_rng_state()
    once, again = corruption(rows, generator=_generator(2)), corruption(rows, generator=_generator(2))
    assert torch.equal(once, again)
    assert torch.equal(rows, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert once.shape == rows.shape
    assert once.dtype == rows.dtype
    assert not torch.equal(once, rows)


@pytest.mark.parametrize("corruption", ALL, ids=lambda c: type(c).__name__)
def test_a_corruption_keeps_the_dtype(corruption: Corruption) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        assert corruption(torch.rand(2, 49).to(dtype), generator=_generator()).dtype == dtype


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_a_flip_turns_exactly_its_fraction_of_each_row(fraction: float) -> None:
    rows = random_patterns(20, 50, generator=_generator())
    flipped = Flip(fraction)(rows, generator=_generator(1))
    assert ((flipped != rows).sum(-1) == round(50 * fraction)).all()
    assert torch.equal(flipped.abs(), rows.abs())


@pytest.mark.parametrize("corruption", [Flip(0.2), Mask(0.5), Noise(0.3)], ids=lambda c: type(c).__name__)
def test_no_rows_are_corrupted_to_no_rows(corruption: Corruption) -> None:
    assert corruption(torch.zeros(0, 5), generator=torch.Generator()).shape == (0, 5)


def test_a_flip_of_pixels_turns_their_brightness_over() -> None:
    rows = torch.rand(3, 10)
    rows[0, 0], rows[0, 1] = 0.0, 1.0
    torch.testing.assert_close(Flip(1.0)(rows, generator=_generator()), 1 - rows)


def test_a_mask_hides_the_end_or_random_entries_and_tells_which() -> None:
    rows = torch.ones(6, 10)
    assert torch.equal(Mask(0.3)(rows, generator=_generator())[0], torch.tensor([1.0] * 7 + [0.0] * 3))
    scattered = Mask(0.3, fill=-2.0, scattered=True)
    hidden = scattered.hidden(rows, generator=_generator(3))
    masked = scattered(rows, generator=_generator(3))
    assert (hidden.sum(-1) == 3).all()
    assert not (hidden == hidden[0]).all()
    assert torch.equal(masked, torch.where(hidden, torch.tensor(-2.0), rows))


def test_noise_has_its_standard_deviation() -> None:
    noise = Noise(0.5)(torch.zeros(100, 1000), generator=_generator())
    # five standard errors of a standard deviation of 1e5 draws
    assert abs(float(noise.std()) - 0.5) < 5 * 0.5 / (2e5**0.5)
    assert abs(float(noise.mean())) < 5 * 0.5 / (1e5**0.5)


def test_encoding_keeps_each_feature_with_its_probability() -> None:
    kept = Encoding(0.7)(torch.ones(100, 1000), generator=_generator())
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert abs(float(kept.mean()) - 0.7) < 5 * (0.21 / 1e5) ** 0.5


def _plain_blur(image: Tensor, sigma: float) -> Tensor:
    """Every pixel the Gaussian mean of its neighbourhood, the edge repeated."""
    reach = max(1, int(-(-4 * sigma // 1)))
    height, width = image.shape
    result = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            total = weight = 0.0
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    w = float(torch.exp(torch.tensor(-(dx * dx + dy * dy) / (2 * sigma * sigma), dtype=torch.float64)))
                    total += w * float(image[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)])
                    weight += w
            result[y, x] = total / weight
    return result


@pytest.mark.parametrize("sigma", [0.4, 1.3])
def test_a_blur_is_the_gaussian_mean_of_the_neighbourhood(sigma: float) -> None:
    image = torch.rand(5, 7, dtype=torch.float64, generator=_generator())
    blurred = Blur(sigma, (5, 7))(image.reshape(1, -1), generator=_generator())
    torch.testing.assert_close(blurred.reshape(5, 7), _plain_blur(image, sigma))
    colour = torch.stack([image, image.flip(0), 1 - image], -1)
    blurred = Blur(sigma, (5, 7, 3))(colour.reshape(1, -1), generator=_generator()).reshape(5, 7, 3)
    for channel in range(3):
        torch.testing.assert_close(blurred[..., channel], _plain_blur(colour[..., channel], sigma))


def test_preparations_give_what_they_name() -> None:
    rows = torch.rand(6, 20, generator=_generator(), dtype=torch.float64)
    assert set(bipolar(rows).unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(bipolar(bipolar(rows)), bipolar(rows))
    torch.testing.assert_close(unit(rows).mean(-1), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(unit(rows).norm(dim=-1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(unit(3 * rows + 5), unit(rows))
    assert prepare(rows, "raw") is rows
    assert torch.equal(prepare(rows, "bipolar"), bipolar(rows))
    assert torch.equal(prepare(rows, "unit"), unit(rows))


def test_a_cue_is_binarised_in_the_range_of_its_patterns() -> None:
    patterns, cue = torch.tensor([[0.0, 1.0, 0.4]]), torch.tensor([[0.0, 0.45, 3.0]])
    assert prepare(cue, "bipolar", like=patterns).tolist() == [[-1.0, -1.0, 1.0]]
    assert prepare(cue, "bipolar").tolist() == [[-1.0, -1.0, 1.0]]
    assert prepare(torch.tensor([[0.0, 0.6, 3.0]]), "bipolar", like=patterns).tolist() == [[-1.0, 1.0, 1.0]]
    assert prepare(torch.tensor([[0.0, 0.6, 3.0]]), "bipolar").tolist() == [[-1.0, -1.0, 1.0]]


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, 1e6])
def test_a_constant_row_has_no_direction(level: float) -> None:
    assert (unit(torch.full((2, 30), level)) == 0).all()
