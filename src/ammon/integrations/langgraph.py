"""LangGraph: a store of episodes as the long-term memory of a graph, `BaseStore`. Extra `langgraph`.

An item is an episode: its namespace is the session, its value stands in the metadata, the fields that are searched are its text.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

try:
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        Item,
        ListNamespacesOp,
        MatchCondition,
        Op,
        PutOp,
        Result,
        SearchItem,
        SearchOp,
        get_text_at_path,
    )
except ImportError as error:
    raise ImportError("ammon.integrations.langgraph needs langgraph-checkpoint; install it: pip install 'ammon[langgraph]'.") from error

from ammon.episodes import accept
from ammon.episodes.records import Episode
from ammon.episodes.store import Episodes

# names of metadata; a namespace and a key may be longer than what `where` compares, so their digests stand for them
ITEM, WITHIN, KEY, VALUE, CREATED = "langgraph item", "langgraph within", "key", "value", "created"
Name = tuple[str, ...]


class EpisodesStore(BaseStore):
    """Items in a store of episodes: `EpisodesStore(Episodes.open(place))`.

    fields: paths of a value that make its text, as in LangGraph's index configuration; "$" is the whole value. Each item has one key,
    of all its fields together. A search with a query ranks as `Episodes.recall` does, its score among them; without one the latest
    come first. Values are JSON of up to 100,000 characters.
    """

    def __init__(self, store: Episodes, fields: Sequence[str] = ("$",)) -> None:
        self.store, self.fields = store, list(fields)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """The results in order. Reads see the store as it was before this batch; of two writes to one key the last counts."""
        results: list[Result] = []
        puts: dict[tuple[Name, str], PutOp] = {}
        for op in ops:
            if isinstance(op, GetOp):
                held = self._held(op.namespace, op.key)
                results.append(_item(held[-1]) if held else None)
            elif isinstance(op, SearchOp):
                results.append(self._search(op))
            elif isinstance(op, ListNamespacesOp):
                results.append(self._namespaces(op))
            elif isinstance(op, PutOp):
                puts[(op.namespace, op.key)] = op
                results.append(None)
            else:
                raise ValueError(f"EpisodesStore.batch: unknown operation {type(op).__name__}.")
        self._put(list(puts.values()))
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The same, in a thread of its own."""
        return await asyncio.to_thread(self.batch, list(ops))

    def _put(self, ops: Sequence[PutOp]) -> None:
        now = datetime.now(UTC)
        fresh: list[tuple[PutOp, str | None, dict[str, Any]]] = []
        gone: list[int] = []
        for op in ops:
            held = self._held(op.namespace, op.key)
            if op.value is None:
                gone += [episode.id for episode in held]
                continue
            accept.metadata(op.value, "EpisodesStore.put")
            text = self._text(op.value, op.index)
            metadata = _metadata(op, held[-1].metadata[CREATED] if held else now.isoformat())
            if not held:
                fresh.append((op, text, metadata))
                continue
            # two who put one key at once may have made two
            gone += [episode.id for episode in held[:-1]]
            key = self._nothing() if text is None else None
            self.store.update(held[-1].id, text=text, metadata=metadata, time=now, key=key)
        for searched in (True, False):
            part = [(op, text, metadata) for op, text, metadata in fresh if (text is not None) == searched]
            if part:
                self.store.remember(
                    [text or "" for _, text, _ in part] if searched else None,
                    keys=None if searched else self._nothing()[None].repeat(len(part), 1),
                    session=[_session(op.namespace) for op, _, _ in part],
                    time=now,
                    metadata=[metadata for _, _, metadata in part],
                )
        if gone:
            self.store.forget(gone)

    def _text(self, value: Mapping[str, Any], index: Any) -> str | None:
        """What is searched of a value; None if nothing is."""
        if index is False:
            return None
        parts = [text for path in (index or self.fields) for text in get_text_at_path(value, path)]
        return "\n".join(parts) if any(part.strip() for part in parts) else None

    def _nothing(self) -> torch.Tensor:
        """A key that is similar to no cue."""
        origin = self.store.origin
        dim = origin.dim if origin is not None else len(torch.as_tensor(self.store.embedder(["nothing"]))[0])
        return torch.zeros(dim)

    def _held(self, namespace: Name, key: str) -> list[Episode]:
        return sorted(self.store.iterate(where={ITEM: _digest([*namespace, key])}), key=lambda episode: episode.id)

    def _search(self, op: SearchOp) -> list[SearchItem]:
        where = {f"{WITHIN} {len(op.namespace_prefix)}": _digest(op.namespace_prefix)}
        wanted = op.offset + op.limit
        if op.query is None or not op.query.strip():
            found = (_search_item(episode, None) for episode in self.store.iterate(where=where, newest=True))
            return _cut((item for item in found if _fulfils(item.value, op.filter)), op.offset, op.limit)
        k = max(4 * wanted, 1)
        while True:
            recalled = self.store.recall(op.query, k, where=where)
            items = [_search_item(item.episode, None if item.episode.text is None else item.score) for item in recalled]
            # what is not searched has no score and comes last
            items.sort(key=lambda item: item.score is None)
            kept = [item for item in items if _fulfils(item.value, op.filter)]
            if len(kept) >= wanted or len(recalled) >= recalled.searched:
                return kept[op.offset : wanted]
            k *= 4

    def _namespaces(self, op: ListNamespacesOp) -> list[Name]:
        names = [name for session in self.store.sessions() if (name := _namespace(session.name)) is not None]
        names = [name for name in names if all(_matches(condition, name) for condition in op.match_conditions or ())]
        short = sorted({name if op.max_depth is None else name[: op.max_depth] for name in names})
        return short[op.offset : op.offset + op.limit]


def _metadata(op: PutOp, created: str) -> dict[str, Any]:
    within = {f"{WITHIN} {depth}": _digest(op.namespace[:depth]) for depth in range(len(op.namespace) + 1)}
    return {ITEM: _digest([*op.namespace, op.key]), **within, KEY: op.key, VALUE: dict(op.value or {}), CREATED: created}


def _digest(names: Sequence[str]) -> str:
    return hashlib.blake2b(json.dumps(list(names)).encode(), digest_size=16).hexdigest()


def _session(namespace: Name) -> str:
    name = json.dumps(list(namespace), ensure_ascii=False)
    if len(name) > accept.LONGEST_NAME:
        raise ValueError(
            f"EpisodesStore.put: the namespace takes {len(name)} characters as JSON, {accept.LONGEST_NAME} are allowed; shorten it."
        )
    return name


def _namespace(session: str) -> Name | None:
    """The namespace that a session stands for; None if it is none of ours."""
    try:
        names = json.loads(session)
    except ValueError:
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _item(episode: Episode) -> Item:
    held = episode.metadata
    namespace = _namespace(episode.session) or ()
    return Item(
        value=dict(held[VALUE]),
        key=held[KEY],
        namespace=namespace,
        created_at=datetime.fromisoformat(held[CREATED]),
        updated_at=episode.time,
    )


def _search_item(episode: Episode, score: float | None) -> SearchItem:
    item = _item(episode)
    return SearchItem(item.namespace, item.key, item.value, item.created_at, item.updated_at, score)


def _cut(items: Iterator[SearchItem], offset: int, limit: int) -> list[SearchItem]:
    found = []
    for place, item in enumerate(items):
        if place >= offset + limit:
            break
        if place >= offset:
            found.append(item)
    return found


def _matches(condition: MatchCondition, name: Name) -> bool:
    path = condition.path
    part = name[: len(path)] if condition.match_type == "prefix" else name[len(name) - len(path) :] if len(path) <= len(name) else ()
    return len(part) == len(path) and all(asked in ("*", one) for asked, one in zip(path, part))


def _fulfils(value: Mapping[str, Any], conditions: Mapping[str, Any] | None) -> bool:
    return all(_compares(value.get(name), asked) for name, asked in (conditions or {}).items())


def _compares(value: Any, asked: Any) -> bool:
    """Equal, or as the operators $eq, $ne, $gt, $gte, $lt, $lte say; objects by the entries asked for."""
    if not isinstance(asked, dict):
        return bool(value == asked)
    if not any(name.startswith("$") for name in asked):
        return isinstance(value, dict) and all(_compares(value.get(name), one) for name, one in asked.items())
    return all(_operates(value, name, bound) for name, bound in asked.items())


def _operates(value: Any, name: str, bound: Any) -> bool:
    if name in ("$eq", "$ne"):
        return bool((value == bound) == (name == "$eq"))
    if name not in ("$gt", "$gte", "$lt", "$lte"):
        raise ValueError(f"EpisodesStore.search: no operator {name}; there are $eq, $ne, $gt, $gte, $lt, $lte.")
    try:
        left, right = float(value), float(bound)
    except (TypeError, ValueError):
        # what has no number is neither more nor less
        return False
    return {"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[name]
