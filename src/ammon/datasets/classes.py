"""Classes: images with a class and a group each, such as characters of alphabets, and episodes of classes that were never seen.

Scikit-learn's digits, or npz archives, Omniglot's packed ones among them. Images [image, height, width] in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ammon.datasets.images import load_images

# of Omniglot's drawings, packed eight pixels to a byte
OMNIGLOT = 105
ROOM = 2000  # images that are shrunk at once


@dataclass(frozen=True)
class Classes:
    """Images sorted into classes, and classes into groups."""

    images: Tensor  # [image, height, width]
    members: tuple[Tensor, ...]  # of each class, the indices of its images
    groups: tuple[int, ...]  # of each class
    name: str

    def of(self, groups: Sequence[int]) -> "Classes":
        """Only the classes of these groups; the images are shared."""
        kept = [place for place, group in enumerate(self.groups) if group in set(groups)]
        return Classes(self.images, tuple(self.members[place] for place in kept), tuple(self.groups[place] for place in kept), self.name)


@dataclass(frozen=True)
class Episodes:
    """A batch of episodes: images to learn from in a random order with their labels, then images that ask."""

    shown: Tensor  # [episode, way · shots, height, width]
    labels: Tensor  # [episode, way · shots], numbers below way, drawn anew for each episode
    asked: Tensor  # [episode, question, height, width]
    answers: Tensor  # [episode, question]


def load_classes(source: str | None = None, size: int = 28) -> Classes:
    """The classes of `source`, images with a side beyond `size` shrunk.

    None or "digits": scikit-learn's digits, each a group by itself (extra `images`). FILE.npz: `images_packed`, `alphabet`, `character` as
    in Omniglot (rows of 105 · 105 bits), or images as `load_images` reads them with `labels` (or train_labels, y) [image], each a group
    unless there are `groups` [image]. FileNotFoundError, ValueError.
    """
    if size < 4:
        raise ValueError(f"load_classes: size must be at least 4 pixels, got {size}.")
    if source is None or source == "digits":
        images = load_images("digits", size)
        from sklearn.datasets import load_digits

        return _sorted(images.rows.reshape(-1, *images.shape), np.asarray(load_digits().target), None, "digits")
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f'load_classes: there is no file {source!r}; give a FILE.npz, or "digits".')
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {name: archive[name] for name in archive.files if name != "alphabet_names"}
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"load_classes: {source!r} is no readable npz file ({error}); save it again with np.savez.") from error
    if "images_packed" in arrays:
        return _omniglot(arrays, path, size)
    labels = next((arrays[name] for name in ("labels", "train_labels", "y_train", "y") if name in arrays), None)
    if labels is None:
        raise ValueError(f"load_classes: {source!r} must hold labels [image] beside its images, got {', '.join(arrays) or 'nothing'}.")
    images = load_images(source, size)
    if len(images.shape) != 2:
        raise ValueError(f"load_classes: grey images are needed, got {list(images.shape)}; average the colours first.")
    for name, array in (("labels", labels), ("groups", arrays.get("groups", labels))):
        if array.shape != (len(images),) or array.dtype.kind not in "iu":
            raise ValueError(f"load_classes: {name} must be whole numbers [{len(images)}], got {array.dtype} {list(array.shape)}.")
    return _sorted(images.rows.reshape(-1, *images.shape), labels, arrays.get("groups"), images.name)


def draw_episodes(
    classes: Classes,
    batch: int,
    way: int,
    shots: int,
    questions: int,
    *,
    generator: torch.Generator,
    turned: bool = False,
    again: float = 0.0,
) -> Episodes:
    """Episodes of `way` classes with `shots` images of each to learn from, and other images of them that ask, at random.

    turned: each class in an episode is turned by 0, 90, 180 or 270 degrees, so that there are four times as many. again: the chance that
    an image that asks is one of those that were shown.
    """
    least = min((len(some) for some in classes.members), default=0)
    if way > len(classes.members) or shots >= least:
        raise ValueError(
            f"draw_episodes: {way} classes with more than {shots} images each are needed, got {len(classes.members)} with {least} or more; "
            "take fewer of them (way, shots)."
        )
    chosen = torch.argsort(torch.rand(batch, len(classes.members), generator=generator), 1)[:, :way]
    # more than `questions` of a class are never asked
    number = shots + min(questions, least - shots)
    members = torch.stack([some[torch.randperm(len(some), generator=generator)[:least]] for some in classes.members])
    order = torch.argsort(torch.rand(batch, way, least, generator=generator), -1)[..., :number]
    drawn = classes.images[members[chosen].gather(-1, order)]
    if turned:
        turns = torch.randint(4, (batch, way), generator=generator)[..., None, None, None]
        square = drawn.shape[-1] == drawn.shape[-2]
        for number_of_turns in (1, 2, 3) if square else (2,):
            drawn = torch.where(turns == number_of_turns, torch.rot90(drawn, number_of_turns, (-2, -1)), drawn)
    rows = torch.arange(batch)[:, None]
    places = torch.argsort(torch.rand(batch, way * shots, generator=generator), 1)
    labels = torch.arange(way).repeat_interleave(shots)[places]
    shown = drawn[:, :, :shots].flatten(1, 2)[rows, places]
    answers = torch.randint(way, (batch, questions), generator=generator)
    which = shots + torch.randint(number - shots, (batch, questions), generator=generator)
    if again:
        known = torch.rand(batch, questions, generator=generator) < again
        which = torch.where(known, torch.randint(shots, (batch, questions), generator=generator), which)
    return Episodes(shown, labels, drawn[rows, answers, which], answers)


def _omniglot(arrays: dict[str, Any], path: Path, size: int) -> Classes:
    packed, needed = arrays["images_packed"], -(-OMNIGLOT * OMNIGLOT // 8)
    missing = {"alphabet", "character"} - arrays.keys()
    if missing or packed.ndim != 2 or packed.shape[1] != needed or packed.dtype != np.uint8:
        said = f"{packed.dtype} {list(packed.shape)}" if not missing else f"no {' and no '.join(sorted(missing))}"
        raise ValueError(
            f"load_classes: {str(path)!r} must hold images_packed uint8 [image, {needed}], alphabet and character, got {said}."
        )
    parts = []
    for start in range(0, len(packed), ROOM):
        bits = np.unpackbits(packed[start : start + ROOM], axis=1)[:, : OMNIGLOT * OMNIGLOT].reshape(-1, OMNIGLOT, OMNIGLOT)
        pixels = torch.as_tensor(bits.astype(np.float32))
        small = (
            functional.interpolate(pixels[:, None], (min(size, OMNIGLOT),) * 2, mode="bilinear", antialias=True)
            if size < OMNIGLOT
            else None
        )
        parts.append(pixels if small is None else small.squeeze(1).clamp(0, 1))
    alphabet, character = (arrays[name].astype(np.int64) for name in ("alphabet", "character"))
    return _sorted(torch.cat(parts), alphabet * 1000 + character, alphabet, path.stem)


def _sorted(images: Tensor, labels: "np.ndarray[Any, Any]", groups: "np.ndarray[Any, Any] | None", name: str) -> Classes:
    kinds, inverse = np.unique(labels, return_inverse=True)
    members = tuple(torch.as_tensor(np.flatnonzero(inverse == place)) for place in range(len(kinds)))
    owner = labels if groups is None else groups
    return Classes(images, members, tuple(int(owner[some[0]]) for some in members), name)
