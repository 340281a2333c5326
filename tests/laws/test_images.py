"""Laws of the images: what is saved comes back, in [0, 1], and what cannot be read is named."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ammon.datasets.images import load_images

RANDOM = np.random.default_rng(0)


def grey(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width), dtype=np.uint8)


def test_the_digits_are_1797_images_of_8_by_8() -> None:
    images = load_images()
    assert images.rows.shape == (1797, 64)
    assert images.shape == (8, 8)
    assert images.rows.dtype == torch.float32
    assert (images.rows.amin(), images.rows.amax()) == (0, 1)
    assert torch.equal(load_images("digits").rows, images.rows)


def test_uint8_arrays_come_back_over_255(tmp_path: Path) -> None:
    array = RANDOM.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "some.npz", labels=np.arange(5), anything=array)
    images = load_images(str(tmp_path / "some.npz"))
    assert (images.shape, images.name) == ((4, 3), "some")
    torch.testing.assert_close(images.rows, torch.as_tensor(array).reshape(5, 12) / 255)


def test_the_usual_names_come_before_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", embeddings=np.zeros((2, 5, 5)), x_train=np.ones((3, 2, 2)))
    assert load_images(str(tmp_path / "x.npz")).rows.shape == (3, 4)


def test_floats_in_range_stay_and_others_are_stretched(tmp_path: Path) -> None:
    array = RANDOM.random((3, 2, 2)).astype(np.float32)
    np.savez(tmp_path / "in.npz", images=array)
    np.savez(tmp_path / "out.npz", images=10 * array - 3)
    np.savez(tmp_path / "whole.npz", images=np.arange(8).reshape(2, 2, 2))
    assert torch.equal(load_images(str(tmp_path / "in.npz")).rows, torch.as_tensor(array).flatten(1))
    stretched = (array - array.min()) / (array.max() - array.min())
    torch.testing.assert_close(load_images(str(tmp_path / "out.npz")).rows, torch.as_tensor(stretched).flatten(1))
    torch.testing.assert_close(load_images(str(tmp_path / "whole.npz")).rows.flatten(), torch.arange(8) / 7)


def test_colour_keeps_its_channels_and_one_channel_is_grey(tmp_path: Path) -> None:
    np.savez(tmp_path / "colour.npz", images=np.ones((2, 3, 4, 3)))
    np.savez(tmp_path / "grey.npz", images=np.ones((2, 3, 4, 1)))
    assert load_images(str(tmp_path / "colour.npz")).shape == (3, 4, 3)
    assert load_images(str(tmp_path / "grey.npz")).shape == (3, 4)


def test_flat_rows_of_a_square_size_are_images(tmp_path: Path) -> None:
    rows = RANDOM.random((4, 25)).astype(np.float32)
    np.savez(tmp_path / "flat.npz", labels=np.zeros((4, 1)), X=rows)
    images = load_images(str(tmp_path / "flat.npz"))
    assert images.shape == (5, 5)
    assert torch.equal(images.rows, torch.as_tensor(rows))


def test_large_arrays_are_shrunk_to_the_means_of_their_parts(tmp_path: Path) -> None:
    half = np.zeros((1, 200, 100))
    half[:, 100:] = 1
    np.savez(tmp_path / "large.npz", images=half)
    images = load_images(str(tmp_path / "large.npz"))
    assert images.shape == (64, 32)
    picture = images.rows.reshape(64, 32)
    assert picture[:30].amax() == 0
    assert picture[34:].amin() == pytest.approx(1)


def test_a_folder_gives_its_pictures_sorted_in_grey_and_of_one_size(tmp_path: Path) -> None:
    first, second = grey(6, 5), grey(6, 5)
    Image.fromarray(second).save(tmp_path / "b.png")
    Image.fromarray(first).save(tmp_path / "a.bmp")
    Image.fromarray(np.stack([grey(9, 9)] * 3, -1)).save(tmp_path / "c.gif")
    (tmp_path / "notes.txt").write_text("no image")
    images = load_images(str(tmp_path))
    assert images.shape == (6, 5)
    assert images.name == tmp_path.name
    assert images.rows.shape == (3, 30)
    torch.testing.assert_close(images.rows[:2], torch.as_tensor(np.stack([first, second])).flatten(1) / 255)


def test_pictures_beyond_the_size_are_shrunk(tmp_path: Path) -> None:
    Image.fromarray(grey(100, 200)).save(tmp_path / "a.jpg")
    assert load_images(str(tmp_path)).shape == (32, 64)
    assert load_images(str(tmp_path), size=10).shape == (5, 10)


def test_16_bit_pictures_keep_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    torch.testing.assert_close(load_images(str(tmp_path)).rows, torch.tensor([[0, 100 / 255, 1]]))


def test_a_folder_of_noise_stays_between_0_and_1(tmp_path: Path) -> None:
    for name in "abc":
        Image.fromarray(grey(90, 70)).save(tmp_path / f"{name}.png")
    rows = load_images(str(tmp_path)).rows
    assert rows.amin() >= 0
    assert rows.amax() <= 1


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape("missing.npz")):
        load_images(str(tmp_path / "missing.npz"))
    with pytest.raises(ValueError, match="holds no images"):
        load_images(str(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbut no more")
    with pytest.raises(ValueError, match=re.escape("broken.png") + ".*no readable image"):
        load_images(str(tmp_path))
    with pytest.raises(ValueError, match="give the folder it is in"):
        load_images(str(tmp_path / "broken.png"))


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    Image.fromarray(grey(50, 50)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "whole.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=re.escape("whole.png")):
        load_images(str(tmp_path))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_broken_archive_is_refused(tmp_path: Path, kept: float) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=RANDOM.random((20, 9, 9)))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match="no readable npz file"):
        load_images(str(tmp_path / "a.npz"))


def test_damaged_pixels_in_an_archive_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=RANDOM.random((20, 9, 9)))
    damaged = bytearray((tmp_path / "a.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(damaged)
    with pytest.raises(ValueError, match="no readable npz file"):
        load_images(str(tmp_path / "a.npz"))


def test_an_archive_without_images_says_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.arange(5), planes=np.zeros((2, 3, 7, 7)))
    with pytest.raises(ValueError, match=re.escape("labels [5], planes [2, 3, 7, 7]")):
        load_images(str(tmp_path / "a.npz"))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    np.savez(tmp_path / "trap.npz", images=np.array([Trap(opened)], dtype=object))
    with pytest.raises(ValueError, match="no arrays of numbers"):
        load_images(str(tmp_path / "trap.npz"))
    assert not opened.exists()


def test_nan_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.full((2, 3, 3), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        load_images(str(tmp_path / "a.npz"))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'ammon[images]'")):
        load_images()
    Image.fromarray(grey(3, 3)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'ammon[images]'")):
        load_images(str(tmp_path))


class Trap:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)
