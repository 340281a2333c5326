"""Laws of few-shot labels: how files become classes, what an episode holds, and what a learner of episodes may know."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ammon.datasets.classes import OMNIGLOT, Classes, draw_episodes, load_classes
from ammon.experiments import few_shot
from ammon.nn.configurations import CONFIGURATIONS, Size
from ammon.nn.few_shot import FewShot, ImageEncoder, label_loss


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def marked(classes: int = 7, each: int = 5) -> Classes:
    """Images that say which class they are of, and which of its images, in their corner."""
    images = torch.zeros(classes * each, 4, 4)
    for place in range(classes * each):
        images[place, 0, 0], images[place, 0, 1] = place // each + 1, place + 1
    members = tuple(torch.arange(start, start + each) for start in range(0, classes * each, each))
    return Classes(images, members, tuple(place // 2 for place in range(classes)), "marked")


def pair(image: Tensor) -> tuple[int, int]:
    """Class and number of a marked image, however it is turned: its two largest entries, in either order."""
    low, high = (int(number) for number in image.flatten().sort().values[-2:])
    # numbers count from the first class on, so a number is never below its class
    return low - 1, high - 1


@pytest.mark.parametrize(("shots", "turned"), [(1, False), (3, False), (2, True)])
def test_an_episode_shows_each_class_as_often_as_said_and_asks_other_images_of_them(shots: int, turned: bool) -> None:
    some = draw_episodes(marked(), 50, 4, shots, 9, generator=generator(), turned=turned)
    assert some.shown.shape == (50, 4 * shots, 4, 4)
    for episode in range(50):
        labels, answers = some.labels[episode].tolist(), some.answers[episode].tolist()
        assert sorted(labels) == sorted(list(range(4)) * shots)
        shown, asked = ([pair(image) for image in rows] for rows in (some.shown[episode], some.asked[episode]))
        assert not set(shown) & set(asked)
        named = {label: kind for label, (kind, _) in zip(labels, shown, strict=True)}
        assert len(set(named.values())) == 4
        assert all(named[label] == kind for label, (kind, _) in zip(labels + answers, shown + asked, strict=True))
        assert all(number // 5 == kind for kind, number in shown + asked)
    corners = some.shown[..., 0, 0] > 0
    assert bool(corners.all()) != turned
    again = draw_episodes(marked(), 50, 4, shots, 9, generator=generator(), turned=turned)
    assert torch.equal(again.shown, some.shown)
    assert torch.equal(again.answers, some.answers)
    # labels are drawn anew: a class has had each of them
    had = {(int(label), pair(image)[0]) for label, image in zip(some.labels.flatten(), some.shown.flatten(0, 1), strict=True)}
    assert len(had) == 4 * 7


def test_a_share_of_the_questions_may_be_images_that_were_shown() -> None:
    some = draw_episodes(marked(), 200, 4, 2, 9, generator=generator(), again=0.3)
    shown = [{pair(image) for image in rows} for rows in some.shown]
    known = [pair(image) in those for those, rows in zip(shown, some.asked, strict=True) for image in rows]
    # 1800 draws, four standard errors
    assert abs(sum(known) / len(known) - 0.3) < 4 * (0.3 * 0.7 / 1800) ** 0.5


def test_classes_of_groups_are_those_and_share_the_images() -> None:
    some = marked().of([0, 3])
    assert [int(member[0]) // 5 for member in some.members] == [0, 1, 6]
    assert some.groups == (0, 0, 3)
    assert some.images.shape == (35, 4, 4)


def test_packed_drawings_are_unpacked_shrunk_and_sorted_by_alphabet_and_character(tmp_path: Path) -> None:
    drawings = np.random.default_rng(0).random((6, OMNIGLOT, OMNIGLOT)) < 0.3
    packed = np.packbits(drawings.reshape(6, -1), axis=1)
    alphabet, character = np.array([1, 0, 1, 0, 1, 1], np.uint8), np.array([1, 1, 2, 1, 1, 2], np.uint8)
    np.savez(tmp_path / "packed.npz", images_packed=packed, alphabet=alphabet, character=character)
    found = load_classes(str(tmp_path / "packed.npz"), OMNIGLOT)
    assert torch.equal(found.images.bool(), torch.as_tensor(drawings))
    assert [member.tolist() for member in found.members] == [[1, 3], [0, 4], [2, 5]]
    assert found.groups == (0, 1, 1)
    small = load_classes(str(tmp_path / "packed.npz"), 21)
    assert small.images.shape == (6, 21, 21)
    # each pixel is a mean over what it covers, so the share of ink stays but at the edges
    torch.testing.assert_close(small.images.mean(), found.images.mean(), rtol=0.02, atol=0)


def test_labelled_images_and_digits_are_classes_too(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (9, 8, 8)).astype(np.uint8)
    labels = np.array([3, 3, 3, 5, 5, 5, 9, 9, 9])
    np.savez(tmp_path / "some.npz", images=images, labels=labels, groups=labels // 4)
    found = load_classes(str(tmp_path / "some.npz"))
    assert [member.tolist() for member in found.members] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert found.groups == (0, 1, 2)
    torch.testing.assert_close(found.images, torch.as_tensor(images) / 255)
    digits = load_classes()
    assert sum(len(member) for member in digits.members) == 1797
    assert digits.groups == tuple(range(10))


def learner(name: str = "hybrid") -> FewShot:
    torch.manual_seed(0)
    blocks = CONFIGURATIONS[name](Size(16, 2, near=2, window=None, chunk=4, segment=1, slots=20))
    # as in use: norms do not depend on the batch
    return FewShot(ImageEncoder(16, (8, 8), 8), 3, blocks).eval()


@pytest.mark.parametrize("name", ["attention", "hybrid"])
def test_an_answer_depends_on_what_was_shown_and_asked_before_and_not_on_later_questions(name: str) -> None:
    model, shown, labels, asked = learner(name), torch.rand(2, 6, 8, 8), torch.arange(6).remainder(3).expand(2, -1), torch.rand(2, 4, 8, 8)
    logits = model(shown, labels, asked)
    assert logits.shape == (2, 4, 3)
    later = asked.clone()
    later[:, 3] += 1
    torch.testing.assert_close(model(shown, labels, later)[:, :3], logits[:, :3], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(model(shown, labels.flip(1), asked)[:, 0], logits[:, 0])
    torch.testing.assert_close(model(shown[:1], labels[:1], asked[:1]), logits[:1], rtol=1e-4, atol=1e-5)
    label_loss(logits, torch.zeros(2, 4, dtype=torch.int64)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_held_out_groups_are_never_trained_on() -> None:
    point: dict[str, Any] = {"size": 20, "held": 0.4}
    known, unseen = few_shot.sides(point)
    assert len(known.members) == 6
    assert not set(known.groups) & set(unseen.groups)
    assert few_shot.sides(point)[1].groups == unseen.groups


def test_what_holds_no_classes_and_what_makes_no_episodes_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", images=np.zeros((4, 8, 8)))
    np.savez(tmp_path / "few.npz", images=np.zeros((4, 8, 8)), labels=np.zeros(3, int))
    np.savez(tmp_path / "packed.npz", images_packed=np.zeros((4, 10), np.uint8), alphabet=np.zeros(4, int))
    np.savez(tmp_path / "colours.npz", images=np.zeros((4, 8, 8, 3)), labels=np.zeros(4, int))
    (tmp_path / "text.npz").write_text("no archive")
    for name, message in (
        ("bare", "must hold labels"),
        ("few", r"labels must be whole numbers \[4\], got int64 \[3\]"),
        ("packed", "got no character"),
        ("colours", "grey images are needed"),
        ("text", "no readable npz file"),
    ):
        with pytest.raises(ValueError, match=message):
            load_classes(str(tmp_path / f"{name}.npz"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_classes(str(tmp_path / "none.npz"))
    with pytest.raises(ValueError, match="size must be at least 4"):
        load_classes(None, 2)
    for way, shots in ((8, 1), (3, 5)):
        with pytest.raises(ValueError, match="classes with more than"):
            draw_episodes(marked(), 2, way, shots, 3, generator=generator())
    with pytest.raises(ValueError, match=r"images of \[8, 8\] and a label for each"):
        learner()(torch.rand(2, 6, 8, 8), torch.zeros(2, 5, dtype=torch.int64), torch.rand(2, 4, 8, 8))
    for point, message in (
        ({"data": "none.npz"}, "few_shot: load_classes: there is no file"),
        ({"way": 6}, "6 classes to train on with more than 1 images each are needed, got 5 of 5; change way, shots or held"),
        ({"test": str(tmp_path / "packed.npz")}, "must hold images_packed"),
    ):
        with pytest.raises(ValueError, match=message):
            few_shot.check({"size": 20, "held": 0.5, "way": 5, "shots": 1, **point})
