"""Forgetting between two calls: fade, prune, flush. The state of an episodic memory in, another out; nothing is changed in place.

What happens as slots overflow is the memory's own policy (`evict`).
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ammon.memories.retention import Policy, Traces
from ammon.nn.episodic import EpisodicState
from ammon.nn.paging import without
from ammon.nn.state import check_rows_of
from ammon.shapes import check_positive


def faded(state: EpisodicState, tau: float) -> EpisodicState:
    """Strengths s_j exp(-age_j / τ), age in tokens. `pruned` counts them, and reads of a memory made with `strength=True`."""
    check_positive("faded", "tau", tau)
    age = (state.seen[:, None] - state.slots.times).to(state.slots.strengths.dtype)
    strengths = torch.where(state.slots.there, state.slots.strengths * torch.exp(-age / tau), torch.zeros_like(age))
    return replace(state, slots=replace(state.slots, strengths=strengths))


def pruned(state: EpisodicState, *policies: Policy) -> EpisodicState:
    """Without the items that any of the policies drops, in each row by itself (`ammon.memories.retention`; their seconds are tokens here).

    Redundancy is an item's largest cosine, over all heads together, to an older one of its row.
    """
    there = state.slots.there.clone()
    for row in range(state.batch):
        kept = there[row].nonzero().squeeze(1)
        keys = normalize(state.slots.keys[row, kept].flatten(1).double(), dim=-1)
        age = (state.seen[row] - state.slots.times[row, kept]).double()
        cosines = (keys @ keys.T).tril(-1) - torch.ones(len(kept), len(kept), dtype=keys.dtype, device=keys.device).triu()
        redundancy = cosines.amax(-1) if len(kept) else age
        traces = Traces(state.slots.strengths[row, kept].double(), state.slots.uses[row, kept].double(), age, age, redundancy)
        for policy in policies:
            there[row, kept[policy(traces).to(kept.device)]] = False
    return _with(state, there)


def flushed(state: EpisodicState, rows: Tensor) -> EpisodicState:
    """The rows [batch] that are True without any item; their context and the count of tokens go on (`reset` begins anew)."""
    check_rows_of("flushed", state, rows)
    open_tokens, pooled = torch.where(rows, 0, state.open), torch.where(rows[:, None], 0, state.pooled)
    return replace(_with(state, state.slots.there & ~rows[:, None]), open=open_tokens, pooled=pooled)


def _with(state: EpisodicState, there: Tensor) -> EpisodicState:
    def keep(rows: Tensor) -> Tensor:
        return torch.where(there.reshape(*there.shape, *[1] * (rows.ndim - 2)), rows, torch.zeros_like(rows))

    return replace(state, slots=state.slots.map(keep), pages=without(state.pages, there, state.seen))
