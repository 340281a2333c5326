"""Completions: original, hidden and completed images, one under the other. Extra `plot`."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ammon.analysis.figures import INK, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN = (0.55, 0.72, 0.85)  # the colour of what is not shown: no grey, which a pixel may have


def completions(originals: Tensor, hidden: Tensor, completed: Tensor, title: str = "") -> "Figure":
    """A column for each image [image, 1 or 3, height, width] in [0, 1]; hidden [image, 1, height, width]: True where a pixel was not shown.

    ValueError if there is no image, ImportError without matplotlib.
    """
    if not len(originals):
        raise ValueError("completions: at least one image is needed, got none.")
    in_colour = originals.expand(-1, 3, -1, -1)
    shown = torch.where(hidden, torch.tensor(HIDDEN).to(originals)[:, None, None], in_colour)
    height, width = originals.shape[2:]
    wide = max(4.0, 0.75 * len(originals))
    figure, rows = panels(1, 3, wide=wide, high=wide / len(originals) * height / width + 0.25)
    for axes, images, name in zip(rows, (originals, shown, completed), ("original", "shown", "completed"), strict=True):
        # white between the images
        framed = torch.nn.functional.pad(images.detach().float().cpu().clamp(0, 1), (1, 1, 1, 1), value=1.0)
        strip = torch.cat(list(framed), -1).movedim(0, -1)
        axes.imshow(strip.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(name, fontsize=9, color=INK, loc="left")
    if title:
        figure.suptitle(title, fontsize=9, color=INK)
    return figure
