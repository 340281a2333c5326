"""Embed: text in, keys [text, dim] out. Any callable serves; two are here.

`Hashing` needs nothing and knows no meaning: it finds the same words and their parts, never synonyms. `SentenceTransformer` (extra
`sentences`) knows meaning.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.episodes.words import sequence

Embedder = Callable[[list[str]], Any]
# embedded once per store: a model that gives another key for it is another model
PROBE = "On the 8th of May two friends met by the river and talked about the pottery class."
SAME = 0.99


class Hashing:
    """Stems of words, pairs of them and their letter trigrams, each added with a sign at a hashed place (Weinberger et al. 2009).

    The inner product of two keys estimates how many of these two texts share. It cannot know that "car" and "automobile" are alike.
    """

    def __init__(self, dim: int = 384) -> None:
        if not isinstance(dim, int) or dim < 16:
            raise ValueError(f"Hashing: dim must be a whole number of at least 16, got {dim!r}.")
        self.dim, self.name = dim, f"hashing-{dim}"

    def __call__(self, texts: list[str]) -> Tensor:
        rows = torch.zeros(len(texts), self.dim)
        for row, text in enumerate(texts):
            words = sequence(text)
            features = dict.fromkeys(words, 1.0)
            features |= {f"{a} {b}": 0.5 for a, b in pairwise(words)}
            for word in words:
                features |= {f"#{word[at : at + 3]}": 0.3 for at in range(len(word) - 2)}
            places, values = [], []
            for feature, value in features.items():
                digest = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "little")
                places.append(digest % self.dim)
                values.append(value if digest >> 63 else -value)
            if places:
                rows[row].index_add_(0, torch.tensor(places), torch.tensor(values))
        return normalize(rows, dim=-1)


class SentenceTransformer:
    """A model of the package sentence-transformers, by name or folder; loaded at the first text. Extra `sentences`.

    name: under which a store remembers it; by default that of the model, so that a folder that moves can keep its name.
    """

    def __init__(
        self, model: str = "sentence-transformers/all-MiniLM-L6-v2", *, name: str | None = None, device: str | None = None
    ) -> None:
        self.model, self.device = model, device
        self.name = name or f"sentence-transformers:{os.path.basename(model.rstrip('/')) if os.path.isdir(model) else model}"
        self._loaded: Any = None

    def __call__(self, texts: list[str]) -> Tensor:
        if self._loaded is None:
            try:
                from sentence_transformers import SentenceTransformer as Model
            except ImportError as error:
                raise ImportError("SentenceTransformer needs sentence-transformers; install it: pip install 'ammon[sentences]'.") from error
            self._loaded = Model(self.model, device=self.device)
        found: Tensor = self._loaded.encode(texts, convert_to_tensor=True, show_progress_bar=False, normalize_embeddings=True)
        return found.float().cpu()


def name_of(embedder: Embedder) -> str:
    """The name under which a store remembers an embedder."""
    name = getattr(embedder, "name", None)
    if isinstance(name, str) and name:
        return name
    kind = embedder if hasattr(embedder, "__qualname__") else type(embedder)
    return f"{kind.__module__}.{kind.__qualname__}"


def named(name: str) -> Embedder | None:
    """The embedder of ours that a store names, or None."""
    kind, _, rest = name.partition("-")
    if kind == "hashing" and rest.isdigit():
        return Hashing(int(rest))
    if name.startswith("sentence-transformers:"):
        return SentenceTransformer(name.removeprefix("sentence-transformers:"))
    return None


def embed(embedder: Embedder, texts: Sequence[str], where: str) -> Tensor:
    """Keys [text, dim] on the CPU in float32, checked."""
    raw = embedder(list(texts))
    try:
        keys = torch.as_tensor(raw).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{where}: the embedder must give rows of numbers [text, dim], got {type(raw).__name__}.") from error
    if keys.ndim != 2 or len(keys) != len(texts):
        raise ValueError(f"{where}: the embedder must give one row per text, [{len(texts)}, dim], got shape {list(keys.shape)}.")
    if not bool(torch.isfinite(keys).all()):
        raise ValueError(f"{where}: the embedder gave NaN or infinite entries; look at the texts that it was given.")
    return keys
