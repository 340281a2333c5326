"""Language model: how a transformer with memories is made for a text, what a checkpoint says of it, and how it is made again."""

import hashlib
import importlib.util
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ammon.datasets.text import Bytes, Tokenizer, TokenizerFile
from ammon.nn.configurations import CONFIGURATIONS, Configuration, Size
from ammon.nn.language_model import MemoryTransformer
from ammon.training.checkpoints import load_weights, read_about
from ammon.training.trainer import CHECKPOINT

TOKENIZER = "tokenizer.json"


MEDIUM = Size(dim=128, heads=4, layers=4, near=64, window=64, slots=1024)


@dataclass(frozen=True)
class Recipe:
    """What makes a model and its training. length: tokens in a piece; batch: readers; held: the share of the text, its end, held out."""

    configuration: str = "hybrid"
    size: Size = MEDIUM
    length: int = 128
    batch: int = 8
    held: float = 0.1

    def blocks(self) -> list[nn.Module]:
        """The blocks of the configuration: by its name, or FILE.py:FUNCTION, which is run. ValueError if there is none."""
        return configuration_of(self.configuration)(self.size)


def configuration_of(name: str) -> Configuration:
    """A configuration of ammon by its name, or the function FILE.py:FUNCTION of the user's, which runs the file."""
    if name in CONFIGURATIONS:
        return CONFIGURATIONS[name]
    path, colon, function = name.rpartition(":")
    if not colon or not Path(path).is_file():
        raise ValueError(f"no configuration is called {name!r}; there are {', '.join(CONFIGURATIONS)}, or name FILE.py:FUNCTION.")
    spec = importlib.util.spec_from_file_location("ammon_configuration", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path!r} is no Python file; name FILE.py:FUNCTION.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        raise ValueError(f"{path!r} has no function {function!r}; it must take a Size and give blocks.")
    made: Configuration = found
    return made


def make(recipe: Recipe, tokenizer: Tokenizer, seed: int = 0) -> MemoryTransformer:
    """A new model; its weights come from the seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return MemoryTransformer(tokenizer.vocabulary, recipe.blocks())


def about(recipe: Recipe, tokenizer: Tokenizer, text: bytes) -> dict[str, Any]:
    """What a checkpoint says of its model and data."""
    return {**asdict(recipe), "tokenizer": tokenizer.name, "data": hashlib.sha256(text).hexdigest()}


def made_again(folder: str | Path) -> tuple[MemoryTransformer, Tokenizer]:
    """The model that a training has left in a folder, and its tokenizer. ValueError, FileNotFoundError if there is none."""
    path = Path(folder) / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} holds no {CHECKPOINT}; name a folder of `ammon train lm`.")
    said = read_about(path)
    try:
        recipe = Recipe(said["configuration"], Size(**said["size"]), said["length"], said["batch"], said["held"])
        kind = str(said["tokenizer"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is no language model of this version ({error}).") from error
    tokenizer: Tokenizer = Bytes() if kind == Bytes.name else TokenizerFile(Path(folder) / TOKENIZER)
    if tokenizer.name != kind:
        raise ValueError(f"{str(Path(folder) / TOKENIZER)!r} is not the tokenizer that the model was trained with; put that one back.")
    model = make(recipe, tokenizer)
    load_weights(path, model)
    return model.eval(), tokenizer


def split(tokens: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The text to train on, and its end, held out. ValueError if either is too short to be read."""
    cut = len(tokens) - math.ceil(recipe.held * len(tokens))
    train, held = tokens[:cut], tokens[cut:]
    least = max(recipe.length + 1, recipe.batch)
    if len(train) < least or 0 < len(held) < 2:
        raise ValueError(
            f"the text has {len(tokens)} tokens, and at least {math.ceil(least / (1 - recipe.held)) + 1} are needed; read shorter pieces."
        )
    return train, held


def continued(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with some entries of it or of its size changed; None leaves an entry as it is."""
    given = {name: value for name, value in changes.items() if value is not None}
    own = {name: value for name, value in given.items() if name in Recipe.__dataclass_fields__}
    size = {name: value for name, value in given.items() if name not in own}
    return replace(recipe, **own, size=replace(recipe.size, **size))
