"""Simulation: recalls drawn from the model, all lists at once; the loop is over output positions only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ammon.cmr.likelihood import Prepared, choice_logits, prepare
from ammon.cmr.lists import NONE, OTHER, Lists
from ammon.cmr.parameters import Rows
from ammon.cmr.race import AccumulatorRace, run
from ammon.cmr.study import Reads, study
from ammon.dynamics.drift import retention

if TYPE_CHECKING:
    from ammon.cmr.model import CMR

# lists that are simulated together, so that tables stay in the cache
TOGETHER = 4096


@dataclass
class Recaller:
    """The state of recall of many lists; `bring` lets context drift to what was recalled."""

    reads: Reads
    row: Int[Tensor, " pair"]
    state: Float[Tensor, "pair layer read"]

    def support(self, pairs: Int[Tensor, " pair"]) -> Float[Tensor, "pair unit"]:
        return self.state[pairs, :, self.reads.units + 1 :].sum(1)

    def bring(self, pairs: Int[Tensor, " pair"], unit: Int[Tensor, " pair"]) -> Float[Tensor, " pair"]:
        """Pairs recall a unit each; the number of units stands for something from outside the list. Returns c_in · c of before."""
        where = self.row[pairs] * (self.reads.units + 1) + unit
        state = self.state[pairs]
        overlap = state.gather(-1, unit[:, None, None].expand(-1, state.shape[1], 1)).squeeze(-1)
        keep = retention(overlap, self.reads.beta.flatten(0, 1)[where])
        self.state[pairs] = keep.unsqueeze(-1) * state + self.reads.table.flatten(0, 1)[where]
        return overlap.sum(-1)


@dataclass(frozen=True)
class Simulation:
    """Lists with recalls drawn from the model; times: of each recall in ms, of a race."""

    lists: Lists
    times: Float[Tensor, "list output"] | None = None


@torch.no_grad()
def simulate(model: "CMR", lists: Lists, values: Rows, vector: Tensor, generator: torch.Generator) -> Simulation:
    """The lists with recalls drawn anew; list n with the parameters of row vector[n]."""
    data = prepare(replace_events(model), lists, "CMR.simulate")
    kind = data.kinds.of
    code, rows = torch.unique(vector * len(data.kinds) + kind, return_inverse=True)
    drawn, times = [], []
    shared = 2 * len(code) <= len(lists)
    if shared:
        reads = _studied(model, data, values, code // len(data.kinds), code % len(data.kinds))
    for part in torch.arange(len(lists)).split(TOGETHER):
        if shared:
            row = rows[part]
        else:
            reads, row = _studied(model, data, values, vector[part], kind[part]), torch.arange(len(part))
        recaller, own = Recaller(reads, row, reads.begin[row].clone()), values.at(vector[part])
        if isinstance(model.choice, AccumulatorRace):
            raced = run(recaller, model.choice, own, data.present[part], generator)
            drawn.append(raced.units)
            times.append(raced.times)
        else:
            drawn.append(_draw(model, data, own, recaller, part, generator))
    recalls = _side_by_side(drawn, NONE)
    return Simulation(replace(lists, recalls=recalls), _side_by_side(times, math.nan) if times else None)


def _studied(model: "CMR", data: Prepared, values: Rows, vector: Tensor, kind: Tensor) -> Reads:
    return study(values.at(vector), kind, data.kinds, model.layers, data.units, model.primacy, model.association)


def replace_events(model: "CMR") -> "CMR":
    """The model as it takes any lists: what was recalled before does not matter."""
    return replace(model, events="all")


def _draw(model: "CMR", data: Prepared, values: Rows, recaller: Recaller, which: Tensor, generator: torch.Generator) -> Tensor:
    units, count = data.units, len(which)
    present = data.present[which]
    recalled = torch.zeros_like(present)
    last = torch.full((count,), units)
    going = torch.arange(count)
    # repeats and intrusions have no end of their own but the stop rule's
    most = units if model.events == "unique" else 10 * units
    outputs: list[Tensor] = []
    for output in range(most + 1):
        own = values.at(going)
        support = recaller.support(going)
        if data.similarity is not None and output:
            cue = data.similarity[which[going], last[going].clamp_max(units - 1)] * (last[going] < units).unsqueeze(-1)
            support = support + own("semantic").unsqueeze(-1) * cue.to(support)
        support, done, there = support.unsqueeze(1), recalled[going].unsqueeze(1), present[going].unsqueeze(1)
        halt = model.stop.probability(support, done & there, there & ~done, torch.tensor([output]), own).squeeze(-1)
        if model.events == "unique":
            halt = torch.where((there & ~done).any(-1).squeeze(-1), halt, 1)
        stays = torch.rand(len(going), generator=generator, dtype=halt.dtype) >= halt
        logits, _ = choice_logits(model, own, support, done, there)
        going, logits = going[stays], logits[stays].squeeze(1)
        if not len(going) or output == most:
            break
        unit = _sample(model, logits, generator)
        last[going] = unit
        inside = unit < units
        recalled[going[inside], unit[inside]] = True
        recaller.bring(going, unit)
        column = torch.full((count,), NONE)
        column[going] = torch.where(inside, unit, OTHER)
        outputs.append(column)
    return torch.stack(outputs, 1) if outputs else torch.empty(count, 0, dtype=torch.int64)


def _sample(model: "CMR", logits: Tensor, generator: torch.Generator) -> Tensor:
    """One unit of each row, by the inverse of the distribution function: one random number a row."""
    weights = torch.softmax(logits, -1).cumsum(-1)
    at = torch.rand(len(logits), 1, generator=generator, dtype=logits.dtype) * weights[:, -1:]
    return torch.searchsorted(weights, at, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)


def _side_by_side(parts: list[Tensor], end: float) -> Tensor:
    most = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, most - part.shape[1]), value=end) for part in parts])


def vectors_of(lists: Lists, values: Mapping[str, Any], shape: torch.Size, per_subject: bool) -> Tensor:
    """The row of the values that each list is simulated with."""
    people = len(lists.subjects)
    if per_subject:
        if shape not in ((people,), (1,)):
            raise ValueError(f"CMR.simulate: with per_subject the values must be [subject], {people} of them, got {list(shape)}.")
        return lists.subject if shape == (people,) else torch.zeros_like(lists.subject)
    if shape.numel() != 1:
        raise ValueError(f"CMR.simulate: one vector of parameters is needed (or per_subject=True), got values of shape {list(shape)}.")
    return torch.zeros(len(lists), dtype=torch.int64)
