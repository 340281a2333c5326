"""FewShot: a transformer with memories that learns new classes within a sequence: image, label, image, label, ..., then images that ask.

Images [episode, image, height, width] and labels [episode, image] → logits of a label for each image that asks.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ammon.nn.stack import Stack
from ammon.shapes import check_count


class ImageEncoder(nn.Module):
    """Three convolutions that halve an image and a projection: [image, height, width] → [image, dim], each entry of mean 0 and variance 1.

    Means and variances are of the batch in training, and those of all batches so far in `eval()`.
    """

    def __init__(self, dim: int, shape: tuple[int, int], channels: int = 24) -> None:
        super().__init__()
        check_count("ImageEncoder", "dim", dim)
        check_count("ImageEncoder", "channels", channels)
        self.shape, widths = shape, (1, channels, channels, 2 * channels)
        layers: list[nn.Module] = []
        height, width = shape
        for one, other in pairwise(widths):
            layers += [nn.Conv2d(one, other, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(other), nn.ReLU()]
            height, width = -(-height // 2), -(-width // 2)
        self.layers = nn.Sequential(*layers)
        # what all images share is taken away, as keys that are all alike tell nothing apart
        self.project, self.norm = nn.Linear(widths[-1] * height * width, dim, bias=False), nn.BatchNorm1d(dim, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.norm(self.project(self.layers(images[:, None]).flatten(1)))
        return found


class FewShot(nn.Module):
    """Images and labels as tokens of one sequence through blocks (`Stack`); what an image that asks becomes gives its label."""

    def __init__(self, encoder: ImageEncoder, way: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        check_count("FewShot", "way", way)
        self.encoder, self.stack = encoder, Stack(blocks)
        self.labels, self.head = nn.Embedding(way, self.stack.dim), nn.Linear(self.stack.dim, way, bias=False)

    def forward(self, shown: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        """shown [episode, image, height, width], labels [episode, image], asked [episode, question, ...] → [episode, question, way]."""
        if shown.shape[:2] != labels.shape or shown.shape[2:] != self.encoder.shape or asked.shape[2:] != self.encoder.shape:
            raise ValueError(
                f"FewShot: images of {list(self.encoder.shape)} and a label for each shown one are needed, got {list(shown.shape)}, "
                f"labels {list(labels.shape)}, {list(asked.shape)}."
            )
        seen = self.encoder(torch.cat([shown, asked], 1).flatten(0, 1)).unflatten(0, (len(shown), -1))
        known, questions = seen.split([shown.shape[1], asked.shape[1]], 1)
        pairs = torch.stack([known, self.labels(labels)], 2).flatten(1, 2)
        y, _ = self.stack(torch.cat([pairs, questions], 1))
        found: Tensor = self.head(y[:, -asked.shape[1] :])
        return found


def label_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """The mean cross entropy, in nats, of logits [episode, question, way]."""
    return functional.cross_entropy(logits.flatten(0, 1), answers.flatten())
