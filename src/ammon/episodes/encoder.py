"""Encoder: the one way from texts to the keys of a store, with the embedder that the store was begun with, or an error that names both."""

import re
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import normalize

from ammon.episodes.base import Engine
from ammon.episodes.embed import PROBE, SAME, Embedder, Hashing, embed, name_of, named
from ammon.episodes.records import Origin

# keys that the user computed, without naming how
GIVEN = "given vectors"


class Encoder:
    """given: the user's embedder, if any; else the store's own, `Hashing` for a new one."""

    def __init__(self, engine: Engine, given: Embedder | None, strip_names: bool) -> None:
        self.engine, self.given, self.strip_names = engine, given, strip_names
        self._verified = False

    @property
    def blind(self) -> bool:
        """Whether the store holds vectors whose embedder nobody named, so that no text has a key."""
        held = self.engine.origin()
        return held is not None and held.embedder == GIVEN and self.given is None

    @property
    def name(self) -> str:
        """Of the embedder that was given, else that none was."""
        return GIVEN if self.given is None else name_of(self.given)

    @property
    def embedder(self) -> Embedder:
        """What makes keys of texts."""
        if self.given is None:
            origin = self.engine.origin()
            self.given = Hashing() if origin is None else named(origin.embedder)
        if self.given is None:
            held = self.engine.origin()
            raise ValueError(
                f"Episodes: the keys of {self.engine.place} come from {held.embedder if held else '?'}; "
                "open it with embedder=..., or give keys."
            )
        return self.given

    def check(self) -> None:
        origin = self.engine.origin()
        if origin is None or self.given is None or origin.embedder == GIVEN or name_of(self.given) == origin.embedder:
            return
        raise ValueError(
            f"Episodes.open: the keys of {self.engine.place} come from {origin.embedder} (dim {origin.dim}), "
            f"not from {name_of(self.given)}; open it with that embedder, or begin another store."
        )

    def origin(self, where: str) -> Origin:
        """The store's origin, once the embedder has proved to be the one that it names."""
        held = self.engine.origin()
        if held is not None and self._verified:
            return held
        probe = embed(self.embedder, [PROBE], where)[0]
        if held is None:
            return Origin(name_of(self.embedder), len(probe), probe)
        if len(probe) != held.dim:
            raise ValueError(f"{where}: {name_of(self.embedder)} gives dim {len(probe)}, the store has {held.dim} by {held.embedder}.")
        if held.probe is not None and float(normalize(probe, dim=0) @ normalize(held.probe, dim=0)) < SAME:
            raise ValueError(f"{where}: {name_of(self.embedder)} gives other keys than when the store was begun; use the same model.")
        self._verified = True
        return held

    def embed(self, texts: Sequence[str], names: set[str], where: str) -> Tensor:
        if self.strip_names:
            everyone = sorted(names | set(self.engine.speakers()), key=lambda name: (-len(name), name))
            if everyone:
                pattern = name_pattern(everyone)
                texts = [stripped if (stripped := pattern.sub(" ", text)).strip() else text for text in texts]
        return embed(self.embedder, texts, where)

    def fitting(self, rows: Tensor, where: str) -> Tensor:
        origin = self.engine.origin()
        if origin is not None and rows.shape[1] != origin.dim:
            raise ValueError(
                f"{where}: the keys have dim {rows.shape[1]}, the store has {origin.dim} by {origin.embedder}; give such keys."
            )
        return rows


def name_pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Names as they are written, whole or the first of several, with a possessive s."""
    forms = dict.fromkeys(form for name in names for form in (name, name.split()[0]) if form[:1].isupper())
    if not forms:
        return re.compile(r"(?!)")
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(forms, key=len, reverse=True)))})(?:['’]s)?\b")
