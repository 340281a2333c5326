"""Energy Transformer on images: hidden patches are completed; the model, its loss, its measure, and a standard block to hold it against.

The last images of the data are held out, with patches hidden once for all, so that all measurements are of the same work.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ammon.datasets.images import Images
from ammon.nn.completion import Completion
from ammon.nn.energy_transformer import EnergyTransformer
from ammon.nn.patches import cut, hide, join
from ammon.training.checkpoints import load_weights, read_about
from ammon.training.trainer import CHECKPOINT, Moment, shuffled

Block = Literal["energy", "standard"]
# of the held-out images, which patches are hidden
HELD_SEED = 2**31 - 1


@dataclass(frozen=True)
class Recipe:
    """What makes a model and its training.

    descents: steps down the energy, of the size `step`; share: of the patches, hidden; held: of the images, held out.
    """

    patch: int = 4
    dim: int = 64
    heads: int = 4
    memories: int = 256
    descents: int = 12
    step: float = 0.1
    share: float = 0.5
    batch: int = 64
    held: float = 0.1
    block: Block = "energy"


def pictures(images: Images) -> Tensor:
    """[image, channel, height, width] of rows."""
    height, width, *colours = images.shape
    return images.rows.reshape(-1, height, width, *(colours or [1])).movedim(-1, 1)


def make(recipe: Recipe, shape: tuple[int, int, int], seed: int = 0) -> Completion:
    """A new model for images of this shape (channel, height, width); its weights come from the seed."""
    if recipe.dim % recipe.heads:
        raise ValueError(f"the width must be a multiple of the heads, got {recipe.dim} and {recipe.heads}.")
    if recipe.block not in ("energy", "standard"):
        raise ValueError(f'the block must be "energy" or "standard", got {recipe.block!r}.')
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        energy = EnergyTransformer(
            recipe.dim,
            recipe.heads,
            head_dim=recipe.dim // recipe.heads,
            memories=recipe.memories,
            steps=recipe.descents,
            step=recipe.step,
        )
        block = energy if recipe.block == "energy" else standard(recipe.dim, recipe.heads, parameters(energy))
        return Completion(block, recipe.dim, shape, recipe.patch)


def standard(dim: int, heads: int, budget: int) -> nn.Module:
    """A standard transformer block: attention, then a network of one hidden layer, each after a layer norm. Parameters near a budget."""
    # 4 dim² + 4 dim of attention, 4 dim of norms, then dim of the network's last bias
    hidden = max(1, round((budget - 4 * dim * dim - 9 * dim) / (2 * dim + 1)))
    return nn.TransformerEncoderLayer(dim, heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True)


def parameters(module: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def about(recipe: Recipe, images: Images) -> dict[str, Any]:
    """What a checkpoint says of its model and data."""
    return {**asdict(recipe), "shape": list(pictures(images).shape[1:]), "data": images.name, "images": len(images)}


def made_again(folder: str | Path) -> Completion:
    """The model that a training has left in a folder. ValueError, FileNotFoundError if there is none."""
    path = Path(folder) / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} holds no {CHECKPOINT}; name a folder of `ammon train energy-transformer`.")
    said = read_about(path)
    try:
        channels, height, width = said["shape"]
        recipe = Recipe(**{name: said[name] for name in Recipe.__dataclass_fields__})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is no completion of images of this version ({error}).") from error
    model = make(recipe, (channels, height, width))
    load_weights(path, model)
    return model.eval()


class Completing:
    """The mean square error of hidden pixels over batches of the images, in a new order each round; it also measures those held out."""

    def __init__(self, model: Completion, images: Tensor, recipe: Recipe, seed: int) -> None:
        count = int(len(images) * recipe.held)
        cut_at = len(images) - count
        if cut_at < recipe.batch:
            raise ValueError(
                f"{cut_at} images are left to train on, and a batch needs {recipe.batch}; take a smaller batch or hold out less."
            )
        self.model, self.recipe, self.seed = model, recipe, seed
        self.images, self.held = images[:cut_at], images[cut_at:]
        generator = torch.Generator().manual_seed(HELD_SEED)
        self.hidden = hide(count, model.num_patches, recipe.share, generator)

    def __call__(self, model: nn.Module, moment: Moment) -> Tensor:
        chosen = shuffled(len(self.images), self.recipe.batch, moment.step, self.seed)
        hidden = hide(self.recipe.batch, self.model.num_patches, self.recipe.share, moment.generator)
        device = self.model.hidden.device
        images, hidden = moment.mine(self.images[chosen]).to(device), moment.mine(hidden).to(device)
        return squared_error(model(images, hidden), images, hidden, self.recipe.patch).mean()

    def measure(self, model: nn.Module) -> Mapping[str, float]:
        """The loss of the images held out, and that of guessing each hidden pixel to be the mean of its place."""
        if not len(self.held):
            return {}
        device, sums = self.model.hidden.device, []
        for images, hidden in zip(self.held.split(256), self.hidden.split(256), strict=True):  # type: ignore[no-untyped-call]
            images, hidden = images.to(device), hidden.to(device)
            sums.append(squared_error(model(images, hidden), images, hidden, self.recipe.patch))
        return {"loss": float(torch.cat(sums).mean())}

    def guess(self) -> float:
        """The held-out loss of the mean image: what a model that looks at nothing can reach."""
        mean = cut(self.images.mean(0, keepdim=True), self.recipe.patch).expand(len(self.held), -1, -1)
        return float(squared_error(mean, self.held, self.hidden, self.recipe.patch).mean())

    @torch.no_grad()
    def examples(self, count: int = 8) -> tuple[Tensor, Tensor, Tensor]:
        """Of the first images held out: the originals, bool [image, 1, height, width] where a pixel was hidden, and the completed ones."""
        device = self.model.hidden.device
        images, hidden = self.held[:count].to(device), self.hidden[:count].to(device)
        _, height, width = self.model.shape
        where = join(hidden[..., None].expand(-1, -1, self.recipe.patch**2).float(), (1, height, width), self.recipe.patch) > 0
        return images, where, self.model.complete(images, hidden)


def squared_error(predicted: Tensor, images: Tensor, hidden: Tensor, patch: int) -> Tensor:
    """Of each image, the mean over its hidden pixels. As many patches are hidden in each."""
    error = (predicted - cut(images, patch)).square().mean(-1)
    return (error * hidden).sum(-1) / hidden.sum(-1)
