"""LangChain: a store of episodes as a `VectorStore`, and so as a retriever. Extra `langchain`.

Documents are episodes; the id that LangChain knows stands in their metadata, where no document shows it.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import torch

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as error:
    raise ImportError("ammon.integrations.langchain needs langchain-core; install it: pip install 'ammon[langchain]'.") from error

from ammon.episodes.records import Episode, Recollected
from ammon.episodes.store import Episodes

ID = "langchain id"
# what add_texts and add_documents hand on to `Episodes.remember`, and the searches to `Episodes.recall`
WRITTEN = ("session", "time", "speaker")
ASKED = ("session", "since", "until", "speaker", "where", "blend")


class Embedded:
    """Embeddings of LangChain as an embedder of episodes; `name` is what the store remembers."""

    def __init__(self, embeddings: Embeddings, name: str | None = None) -> None:
        self.embeddings = embeddings
        model = next((str(found) for key in ("model", "model_name", "model_id") if (found := getattr(embeddings, key, None))), "")
        self.name = name or f"langchain:{type(embeddings).__name__}{':' if model else ''}{model}"

    def __call__(self, texts: list[str]) -> Any:
        return self.embeddings.embed_documents(texts)


class EpisodesVectorStore(VectorStore):
    """Documents in a store of episodes: `EpisodesVectorStore(Episodes.open(place, embedder=Embedded(embeddings)))`.

    Recall is that of episodes: by content, words and what happened around. Searches take the conditions of `Episodes.recall` (session,
    since, until, speaker, where, blend) and filter= as another name of where; adding takes session, time and speaker.
    """

    def __init__(self, store: Episodes) -> None:
        self.store = store

    @property
    def embeddings(self) -> Embeddings | None:
        """Those of LangChain that the store was opened with, if any."""
        given = self.store.embedder
        return given.embeddings if isinstance(given, Embedded) else None

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        place: str | None = None,
        **kwargs: Any,
    ) -> "EpisodesVectorStore":
        """A store at `place`, a path or a URL, with these texts added."""
        if place is None:
            raise ValueError("EpisodesVectorStore.from_texts: say where the store is, by place=, a path or a URL.")
        made = cls(Episodes.open(place, embedder=Embedded(embedding)))
        made.add_texts(texts, metadatas, ids=ids, **kwargs)
        return made

    def add_texts(
        self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, *, ids: list[str] | None = None, **kwargs: Any
    ) -> list[str]:
        """Write texts; one whose id is there already takes its place. New ones are written together, all or none."""
        where = "EpisodesVectorStore.add_texts"
        listed = list(texts)
        given = list(ids) if ids is not None else [None] * len(listed)
        extras = list(metadatas) if metadatas is not None else [{}] * len(listed)
        if not len(listed) == len(given) == len(extras):
            raise ValueError(
                f"{where}: {len(listed)} texts came with {len(given)} ids and {len(extras)} metadatas; give one of each per text."
            )
        if unknown := sorted(set(kwargs) - set(WRITTEN)):
            raise TypeError(f"{where}: unknown {', '.join(unknown)}; besides texts, metadatas and ids it takes {', '.join(WRITTEN)}.")
        named = [one or str(uuid.uuid4()) for one in given]
        held = self._find([one for one in given if one])
        # of two of one id the last stays
        last = {one: place for place, one in enumerate(named)}
        fresh = [place for one, place in last.items() if one not in held]
        if fresh:
            chosen: dict[str, Any] = {
                key: [value[p] for p in fresh] if isinstance(value, list | tuple) else value for key, value in kwargs.items()
            }
            self.store.remember([listed[p] for p in fresh], metadata=[{**extras[p], ID: named[p]} for p in fresh], **chosen)
        for one, place in last.items():
            if one in held:
                self.store.update(held[one].id, text=listed[place], metadata={**extras[place], ID: one})
        return named

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """Write documents, with the ids that they have unless ids= are given."""
        ids = kwargs.pop("ids", None)
        ids = [document.id for document in documents] if ids is None else ids
        return self.add_texts([d.page_content for d in documents], [d.metadata for d in documents], ids=ids, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Delete documents; ids that are not there are passed over. Without ids: all documents that came by LangChain."""
        if ids is None:
            gone = [episode.id for episode in self.store.iterate() if ID in episode.metadata]
        else:
            gone = sorted({episode.id for episode in self._find(ids).values()})
        if gone:
            self.store.forget(gone)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids in their order; those that are not there are left out."""
        held = self._find(ids)
        return [_document(held[one]) for one in ids if one in held]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The documents that a query brings up, best first."""
        return [_document(item.episode) for item in self._recall(query, k, kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """The same with the scores of `Episodes.recall`: larger is better, comparable within one answer."""
        return [(_document(item.episode), item.score) for item in self._recall(query, k, kwargs)]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """The documents whose keys are nearest, and what happened around them."""
        return [_document(item.episode) for item in self.store.recall(torch.tensor(embedding), k, **_asked(kwargs))]

    def _similarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        # in [0, 1] as LangChain wants it, and unlike the score comparable between answers
        return [(_document(item.episode), (1 + (item.similarity or 0.0)) / 2) for item in self._recall(query, k, kwargs)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Of the fetch_k best by recall the k that are near to the query and unlike each other (Carbonell & Goldstein 1998)."""
        found = self._recall(query, fetch_k, kwargs)
        [key] = self._keys([query])
        return self._diverse(key, found, k, lambda_mult)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """The same from a vector."""
        return self._diverse(embedding, self.store.recall(torch.tensor(embedding), fetch_k, **_asked(kwargs)).items, k, lambda_mult)

    def _diverse(self, key: Any, found: Sequence[Recollected], k: int, lambda_mult: float) -> list[Document]:
        if not found:
            return []
        keys = self.store.keys([item.episode.id for item in found])
        cue = torch.as_tensor(key, dtype=torch.float32)
        chosen = maximal_marginal_relevance(cue.numpy(), list(keys.numpy()), lambda_mult=lambda_mult, k=k)
        return [_document(found[place].episode) for place in chosen]

    def _recall(self, query: str, k: int, given: dict[str, Any]) -> Sequence[Recollected]:
        asked = _asked(given)
        # some models embed questions differently
        key = None if self.embeddings is None or self.store.origin is None else torch.tensor(self.embeddings.embed_query(query))
        return self.store.recall(query, k, key=key, **asked).items

    def _keys(self, texts: list[str]) -> Any:
        return [self.embeddings.embed_query(text) for text in texts] if self.embeddings else self.store.embedder(texts)

    def _find(self, ids: Sequence[str | None]) -> dict[str, Episode]:
        """The episodes of these ids; those that did not come by LangChain go by their number."""
        wanted = [one for one in ids if one]
        found: dict[str, Episode] = {}
        for start in range(0, len(wanted), 200):
            for episode in self.store.iterate(where={ID: wanted[start : start + 200]}):
                found[episode.metadata[ID]] = episode
        for one in wanted:
            if one not in found and one.isascii() and one.isdecimal() and len(one) < 19 and int(one) > 0:
                try:
                    episode = self.store.get(int(one))
                except ValueError:
                    continue
                if ID not in episode.metadata:
                    found[one] = episode
        return found


def _document(episode: Episode) -> Document:
    metadata = {name: value for name, value in episode.metadata.items() if name != ID}
    return Document(id=episode.metadata.get(ID, str(episode.id)), page_content=episode.text or "", metadata=metadata)


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    asked = dict(given)
    if "filter" in asked:
        asked["where"] = asked.pop("filter")
    if unknown := sorted(set(asked) - set(ASKED)):
        raise TypeError(f"EpisodesVectorStore: a search knows no {', '.join(unknown)}; it takes {', '.join(ASKED)} and filter.")
    return asked
