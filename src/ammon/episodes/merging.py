"""Merging: which episodes say the same, and which the retention policies drop. Keys [episode, dim] are compared in blocks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.episodes.records import Episode
from ammon.memories.retention import Policy, Traces

BLOCK = 1024


def plan(
    episodes: Sequence[Episode],
    keys_of: Callable[[Sequence[int]], Tensor],
    merge: float | None,
    policies: Sequence[Policy],
    present: int,
) -> tuple[dict[int, list[int]], list[int]]:
    """Ids that remain, each with those merged into it, and the ids that are dropped. Episodes come in the order of time.

    present: microseconds since 1970.
    """
    groups: dict[tuple[str, str | None], list[int]] = {}
    for place, episode in enumerate(episodes):
        groups.setdefault((episode.session, episode.speaker), []).append(place)
    merged: dict[int, list[int]] = {}
    redundancy = torch.full((len(episodes),), -1.0)
    for places in groups.values():
        keys = normalize(keys_of([episodes[place].id for place in places]), dim=-1)
        first, closest = _earlier(keys, merge)
        for place, owner, cosine in zip(places, first, closest):
            redundancy[place] = cosine
            if owner is not None:
                merged.setdefault(episodes[places[owner]].id, []).append(episodes[place].id)
    gone = {one for group in merged.values() for one in group}
    left = [place for place, episode in enumerate(episodes) if episode.id not in gone]
    if not policies or not left:
        return merged, []
    by_id = {episode.id: episode for episode in episodes}
    extra = {owner: [by_id[one] for one in group] for owner, group in merged.items()}
    traces = Traces(
        strength=torch.tensor([episodes[p].strength + sum(one.strength for one in extra.get(episodes[p].id, ())) for p in left]),
        uses=torch.tensor([float(episodes[p].uses + sum(one.uses for one in extra.get(episodes[p].id, ()))) for p in left]),
        age=torch.tensor([present / 1e6 - episodes[p].time.timestamp() for p in left], dtype=torch.float64).float(),
        idle=torch.tensor([present / 1e6 - _last(episodes[p], extra.get(episodes[p].id, ())) for p in left], dtype=torch.float64).float(),
        redundancy=redundancy[left],
    )
    drop = torch.zeros(len(left), dtype=torch.bool)
    for policy in policies:
        drop |= policy(traces)
    return merged, [episodes[left[row]].id for row in drop.nonzero().flatten().tolist()]


def _last(episode: Episode, merged: Sequence[Episode]) -> float:
    """When an episode, or one that is merged into it, was last of use; else when it happened."""
    used = [one.used.timestamp() for one in (episode, *merged) if one.used is not None]
    return max(used, default=episode.time.timestamp())


def _earlier(keys: Tensor, merge: float | None) -> tuple[list[int | None], list[float]]:
    """For each row the first earlier one, itself not merged, that is near enough; and its largest cosine to an earlier one that remains."""
    owners: list[int | None] = [None] * len(keys)
    closest = [-1.0] * len(keys)
    kept = torch.ones(len(keys), dtype=torch.bool)
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK]
        cosines = block @ keys[: start + len(block)].T
        for row, scores in enumerate(cosines, start=start):
            before = torch.where(kept[:row], scores[:row], torch.tensor(-1.0))
            if not row:
                continue
            closest[row] = float(before.max())
            if merge is not None and closest[row] >= merge:
                owners[row] = int((before >= merge).nonzero()[0])
                kept[row] = False
    return owners, closest
