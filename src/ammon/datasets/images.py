"""Images: files in, rows out. Scikit-learn's digits, an npz archive or a folder of pictures.

All give grey levels or colours in [0, 1] as rows [image, dim], and the shape that makes a picture of a row again.
"""

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
Array = np.ndarray[Any, np.dtype[Any]]
BILINEAR = 2  # of pillow: means over what is shrunk, and unlike its default never overshoots the grey levels
# the arrays of images in the archives that people share; any other name will do if none of these is there
NAMES = ("images", "train_images", "x_train", "X_train", "X", "x", "data")


@dataclass(frozen=True)
class Images:
    """Rows in [0, 1], float32, and how to look at them."""

    rows: Float[Tensor, "image dim"]
    shape: tuple[int, ...]  # (height, width), or (height, width, 3) in colour; dim is their product
    name: str

    def __len__(self) -> int:
        return len(self.rows)


def load_images(source: str | None = None, size: int = 64) -> Images:
    """The images of `source`; pictures with a side beyond `size` pixels are shrunk until none is.

    None or "digits": the 1797 handwritten digits of scikit-learn, 8 × 8 (extra `images`).
    FILE.npz: the first array [image, height, width] or [image, height, width, 1 or 3], those called images, train_images, x_train
    or X before others; else rows [image, dim] whose dim is a square. uint8 is divided by 255; floats in [0, 1] stay; anything else is
    stretched so that its smallest entry becomes 0 and its largest 1. Never unpickles.
    FOLDER: its pictures sorted by name, in grey, all brought to the size of the first (extra `images`).

    FileNotFoundError if nothing is there, ValueError if it holds no readable images, ImportError if the extra is missing.
    """
    if size < 1:
        raise ValueError(f"load_images: size must be at least 1 pixel, got {size}.")
    if source is None or source == "digits":
        return _digits()
    path = Path(source)
    if path.is_dir():
        return _folder(path, size)
    if not path.exists():
        raise FileNotFoundError(f'load_images: nothing at {source!r}; give a FILE.npz, a FOLDER of images, or "digits".')
    if path.suffix.lower() != ".npz":
        raise ValueError(f"load_images: an npz file or a folder of images is needed, got the file {source!r}; give the folder it is in.")
    return _archive(path, size)


def _digits() -> Images:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "load_images: the digits come with scikit-learn, which is missing; pip install 'ammon[images]', or give a FILE.npz."
        ) from error
    return Images(torch.as_tensor(load_digits().data).to(torch.float32) / 16, (8, 8), "digits")


def _archive(path: Path, size: int) -> Images:
    arrays = _numbers(path)
    stacks = {name: array for name, array in arrays.items() if array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))}
    flat = {name: array for name, array in arrays.items() if array.ndim == 2 and _square(array.shape[1])}
    found = {name: array for name, array in (stacks or flat).items() if array.size}
    if not found:
        held = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "no arrays of numbers"
        raise ValueError(
            f"load_images: {str(path)!r} must hold images [image, height, width] or [image, height, width, 1 or 3], "
            f"got {held}; save one so, e.g. np.savez(file, images=array)."
        )
    array = found[next((name for name in NAMES if name in found), next(iter(found)))]
    if array.ndim == 2:
        side = math.isqrt(array.shape[1])
        array = array.reshape(-1, side, side)
    pixels = _pixels(array, path)
    # grey images have no channel axis of their own
    pixels = pixels.squeeze(-1) if pixels.ndim == 4 and pixels.shape[-1] == 1 else pixels
    pixels = _shrink(pixels, size)
    return Images(pixels.flatten(1), tuple(pixels.shape[1:]), path.stem)


def _square(dim: int) -> bool:
    return dim > 1 and math.isqrt(dim) ** 2 == dim


def _numbers(path: Path) -> dict[str, Array]:
    """The arrays of an archive that hold numbers."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    try:
                        array = np.lib.format.read_array(stream, allow_pickle=False)
                    except ValueError:
                        # objects, which would have to be unpickled, or no array at all: labels and notes may be so
                        continue
                if array.dtype.kind in "buif":
                    arrays[member.removesuffix(".npy")] = array
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"load_images: {str(path)!r} is no readable npz file ({error}); save it again with np.savez.") from error
    return arrays


def _pixels(array: Array, path: Path) -> Tensor:
    pixels = torch.as_tensor(array.astype(np.float32))
    if array.dtype == np.uint8:
        return pixels / 255
    if not torch.isfinite(pixels).all():
        raise ValueError(f"load_images: the images of {str(path)!r} hold NaN or infinite entries; clean them first, e.g. np.nan_to_num.")
    low, high = pixels.amin(), pixels.amax()
    if low >= 0 and high <= 1:
        return pixels
    return (pixels - low) / (high - low).clamp_min(torch.finfo(pixels.dtype).tiny)


def _shrink(pixels: Tensor, size: int) -> Tensor:
    """[image, height, width] or [image, height, width, 3] with no side beyond `size`."""
    height, width = _capped(pixels.shape[1], pixels.shape[2], size)
    if (height, width) == tuple(pixels.shape[1:3]):
        return pixels
    channels_first = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.movedim(-1, 1)
    small = functional.interpolate(channels_first, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
    return small.squeeze(1) if pixels.ndim == 3 else small.movedim(1, -1)


def _capped(height: int, width: int, size: int) -> tuple[int, int]:
    scale = min(1.0, size / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def _folder(path: Path, size: int) -> Images:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    if not files:
        raise ValueError(f"load_images: the folder {str(path)!r} holds no images; {', '.join(s[1:] for s in SUFFIXES)} are read.")
    first = _grey(files[0])
    shape = _capped(first.height, first.width, size)
    return Images(torch.stack([_row(_grey(file), shape) for file in files]), shape, path.resolve().name)


def _grey(file: Path) -> "Image.Image":
    """One picture in grey levels from 0 to 255."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("load_images: pictures are read by pillow, which is missing; pip install 'ammon[images]'.") from error
    try:
        with Image.open(file) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I"):
                # pillow would cut 16-bit grey off at 255
                return Image.fromarray(np.asarray(upright, dtype=np.float32) / 257)
            # a palette has no grey levels before its colours are looked up
            return upright.convert("RGBA").convert("L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"load_images: {str(file)!r} is no readable image ({error}); repair it or take it out.") from error


def _row(grey: "Image.Image", shape: tuple[int, int]) -> Tensor:
    height, width = shape
    levels = grey if (grey.height, grey.width) == shape else grey.resize((width, height), BILINEAR)
    return torch.as_tensor(np.array(levels, dtype=np.float32)).clamp(0, 255).flatten() / 255
