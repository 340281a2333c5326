"""Sessions: CMR2 (Lohnas, Polyn & Kahana 2015). The lists of a session accumulate in one network, so that items of earlier lists intrude.

Context goes on from list to list; a shift parts them. Retrieved items whose context does not match are not reported. Localist items.
session   sessions are simulated side by side;  unit   the different items of one session
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ammon.cmr.layers import ContextCue, Items, between
from ammon.cmr.lists import NONE, OTHER, Lists
from ammon.cmr.parameters import Rows
from ammon.cmr.race import AccumulatorRace, run
from ammon.dynamics.drift import drift

if TYPE_CHECKING:
    from ammon.cmr.model import CMR


@dataclass(frozen=True)
class Session:
    """What a session's simulation gives: lists as `Lists` (items of other lists are intrusions), and every item reported, by its name."""

    lists: Lists
    items: Int[Tensor, "list output"]  # index in lists.names, NONE beyond the end
    times: Float[Tensor, "list output"]  # ms


class SessionNetwork:
    """Contexts and matrices of all sessions, written out: they change from list to list."""

    def __init__(self, model: "CMR", values: Rows, items: Int[Tensor, "session unit"], lists: Lists, shifts: int) -> None:
        count, units = items.shape
        self.values, self.model, self.units = values, model, units
        like = values("beta_enc")
        size = 1 + units + shifts
        self.context = like.new_zeros(count, size)
        self.context[:, 0] = 1
        self.fc, self.cf = like.new_zeros(count, units, size), like.new_zeros(count, units, size)
        place = torch.arange(units)
        self.fc[:, place, 1 + place] = values("pre_fc").unsqueeze(-1)
        self.cf[:, place, 1 + place] = values("pre_cf").unsqueeze(-1)
        if isinstance(model.semantics, ContextCue):
            pool = model.semantics.similarity
            rows = pool.find(replace_items(lists, items), "CMR.simulate_sessions")
            scores = between(pool, rows).to(like)
            if not model.semantics.diagonal:
                scores = scores * (1 - torch.eye(units, dtype=like.dtype))
            self.cf[:, :, 1 : 1 + units] += values("semantic")[:, None, None] * scores

    def study(self, unit: Int[Tensor, " session"], strength: Float[Tensor, " session"]) -> None:
        """One item in each session; NONE where its list is over."""
        rows = (unit != NONE).nonzero().squeeze(-1)
        unit = unit[rows]
        before = self.context[rows]
        after = drift(before, self.fc[rows, unit], self.values("beta_enc")[rows])
        learned = after if self.model.association == "new" else before
        self.context[rows] = after
        self.fc[rows, unit] += self.values("learn_fc")[rows].unsqueeze(-1) * learned
        self.cf[rows, unit] += strength[rows].unsqueeze(-1) * learned

    def shift(self, number: int, beta: Tensor) -> None:
        """Drift of all towards a unit of its own."""
        away = torch.zeros_like(self.context)
        away[:, 1 + self.units + number] = 1
        self.context = drift(self.context, away, beta)

    def support(self, pairs: Tensor) -> Tensor:
        return (self.cf[pairs] @ self.context[pairs].unsqueeze(-1)).squeeze(-1)

    def bring(self, pairs: Tensor, unit: Tensor) -> Tensor:
        inputs = torch.nn.functional.normalize(self.fc[pairs, unit], dim=-1)
        match = (inputs * self.context[pairs]).sum(-1)
        self.context[pairs] = drift(self.context[pairs], inputs, self.values("beta_rec")[pairs])
        return match


@torch.no_grad()
def simulate_sessions(
    model: "CMR", lists: Lists, values: Mapping[str, Any], *, generator: torch.Generator, sessions: Int[Tensor, " list"] | None = None
) -> Session:
    """Recalls of all lists, the lists of a session one after the other in their order here.

    sessions: the session of each list; by default a subject's lists are one session. values: numbers, one vector for all. The choice
    must be an `AccumulatorRace`; `match_threshold` rejects, `beta_end_list` shifts context after the recall of each list.
    """
    if not isinstance(model.choice, AccumulatorRace) or len(model.layers) > 1 or not isinstance(model.layers[0], Items):
        raise ValueError("simulate_sessions: a model with an AccumulatorRace and one layer of Items is needed; see presets.lohnas2015.")
    rows, shape = model.rows(values, "simulate_sessions")
    if shape.numel() != 1:
        raise ValueError(f"simulate_sessions: one vector of parameters is needed, got values of shape {list(shape)}.")
    sessions = lists.subject if sessions is None else sessions
    _, session = torch.unique(sessions, return_inverse=True)
    count = int(session.max()) + 1
    order = [(session == number).nonzero().squeeze(-1) for number in range(count)]
    most = max(map(len, order))
    items, unit_of = _session_units(lists, order)
    values_of = rows.at(torch.zeros(count, dtype=torch.int64))
    network = SessionNetwork(model, values_of, items, lists, most)
    present = items != NONE
    everyone = torch.arange(count)
    studied = torch.zeros_like(present)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(most):
        row = torch.tensor([int(mine[number]) if number < len(mine) else NONE for mine in order])
        there = row != NONE
        for position in range(lists.study.shape[1]):
            unit = torch.where(there, unit_of[row.clamp_min(0), position], NONE)
            base, extra = values_of("learn_cf"), values_of("primacy_scale") * torch.exp(-values_of("primacy_decay") * position)
            network.study(unit, base + extra if model.primacy == "additive" else base * (1 + extra))
            studied[everyone[unit != NONE], unit[unit != NONE]] = True
        raced = run(network, model.choice, values_of, present & studied, generator)
        network.shift(number, values_of("beta_end_list"))
        found.append((row[there], raced.units[there], raced.times[there]))
    return _gathered(lists, items, session, found)


def replace_items(lists: Lists, items: Int[Tensor, "session unit"]) -> Lists:
    """Sessions as if each were one list, so that their items can be looked up."""
    count = len(items)
    return replace(
        lists, study=torch.full((count, 0), NONE), recalls=torch.full((count, 0), NONE), items=items,
        subject=torch.zeros(count, dtype=torch.int64), numbers=tuple(f"of session {n + 1}" for n in range(count)), sources=None,
    )  # fmt: skip


def _session_units(lists: Lists, order: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The different items of each session [session, unit], and the unit of its session at each studied position [list, position]."""
    unit_of = torch.full_like(lists.study, NONE)
    pools = []
    for mine in order:
        there = lists.study[mine] != NONE
        pool_index = lists.items[mine].gather(-1, lists.study[mine].clamp_min(0))
        different, unit = torch.unique(pool_index[there], return_inverse=True)
        rows = torch.full_like(pool_index, NONE)
        rows[there] = unit
        unit_of[mine] = rows
        pools.append(different)
    return torch.nn.utils.rnn.pad_sequence(pools, batch_first=True, padding_value=NONE), unit_of


def _gathered(lists: Lists, items: Tensor, session: Tensor, found: list[tuple[Tensor, Tensor, Tensor]]) -> Session:
    most = max(units.shape[1] for _, units, _ in found)
    said = torch.full((len(lists), most), NONE)
    times = torch.full((len(lists), most), torch.nan, dtype=found[0][2].dtype)
    for row, units, when in found:
        said[row, : units.shape[1]] = torch.where(units == NONE, NONE, items[session[row]].gather(-1, units.clamp_min(0)))
        times[row, : units.shape[1]] = when
    same = (said.unsqueeze(-1) == lists.items.unsqueeze(1)) & (said != NONE).unsqueeze(-1)
    unit = torch.where(same.any(-1), same.int().argmax(-1), OTHER)
    return Session(replace(lists, recalls=torch.where(said == NONE, NONE, unit)), said, times)
