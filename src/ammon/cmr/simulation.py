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
TOGETHER = 8192


@dataclass
class Recaller:
    """The state of recall of many lists; `bring` lets context drift to what was recalled."""

    reads: Reads
    row: Int[Tensor, " pair"]
    state: Float[Tensor, "pair layer read"]

    def support(self, pairs: Int[Tensor, " pair"] | None = None) -> Float[Tensor, "pair unit"]:
        """Support of each unit in these pairs, or in all."""
        support = self.state[..., self.reads.units + 1 :] if pairs is None else self.state[pairs, :, self.reads.units + 1 :]
        return support.squeeze(1) if support.shape[1] == 1 else support.sum(1)

    def bring(self, pairs: Int[Tensor, " pair"] | None, unit: Int[Tensor, " pair"]) -> Float[Tensor, " pair"]:
        """These pairs (or all) recall a unit each, `units` standing for something from outside the list. Returns c_in · c of before."""
        row, state = (self.row, self.state) if pairs is None else (self.row[pairs], self.state[pairs])
        where = row * (self.reads.units + 1) + unit
        overlap = state.gather(-1, unit[:, None, None].expand(-1, state.shape[1], 1)).squeeze(-1)
        keep = retention(overlap, self.reads.beta.flatten(0, 1).index_select(0, where))
        new = torch.addcmul(self.reads.table.flatten(0, 1).index_select(0, where), keep.unsqueeze(-1), state)
        if pairs is None:
            self.state = new
        else:
            self.state[pairs] = new
        return overlap.sum(-1)

    def keep(self, pairs: Tensor) -> None:
        """Only these pairs go on."""
        self.row, self.state = self.row[pairs], self.state[pairs]


@dataclass(frozen=True)
class Simulation:
    """Lists with recalls drawn from the model; times: of each recall in ms, of a race."""

    lists: Lists
    times: Float[Tensor, "list output"] | None = None


@torch.no_grad()
def simulate(model: "CMR", lists: Lists, values: Rows, vector: Tensor, generator: torch.Generator) -> Simulation:
    """The lists with recalls drawn anew; list n with the parameters of row vector[n]."""
    # what was recalled before does not matter
    data = prepare(model, replace(lists, recalls=lists.recalls[:, :0]), "CMR.simulate")
    kind = data.kinds.of
    code, rows = torch.unique(vector * len(data.kinds) + kind, return_inverse=True)
    drawn, times = [], []
    shared = 2 * len(code) <= len(lists)
    if shared:
        reads = _studied(model, data, values, code // len(data.kinds), code % len(data.kinds))
    for part in torch.split(torch.arange(len(lists)), TOGETHER):
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


def _draw(model: "CMR", data: Prepared, values: Rows, recaller: Recaller, which: Tensor, generator: torch.Generator) -> Tensor:
    units, count = data.units, len(which)
    # where each row of what follows goes; rows that have stopped are left out whenever they have become many
    place = torch.arange(count)
    present = data.present[which]
    recalled = torch.zeros_like(present)
    last = torch.full((count,), units)
    going = torch.ones(count, dtype=torch.bool)
    unique = model.events == "unique"
    # repeats and intrusions have no end of their own but the stop rule's
    most = units if unique else 10 * units
    count_of = present.sum(-1)
    # added to logits: -inf where nothing can be recalled (any more)
    barred = torch.zeros(present.shape, dtype=values("beta_enc").dtype).masked_fill(~present, -torch.inf)
    outputs: list[Tensor] = []
    for output in range(most):
        support = recaller.support()
        if data.similarity is not None and output:
            cue = data.similarity[which, last.clamp_max(units - 1)] * (last < units).unsqueeze(-1)
            support = support + values("semantic").unsqueeze(-1) * cue.to(support)
        left = present & ~recalled
        halt = model.stop.probability(support.unsqueeze(1), recalled.unsqueeze(1), left.unsqueeze(1), torch.tensor([output]), values)
        stays = torch.rand(len(place), generator=generator, dtype=halt.dtype) >= halt.squeeze(-1)
        going &= stays & (count_of > output) if unique else stays
        alive = int(going.sum())
        if not alive:
            break
        if unique:
            # without the masks of `choice_logits`, which cost as much as the rest
            logits = model.choice.logits(support.unsqueeze(1), values, model.floor.clip).squeeze(1) + barred
        else:
            logits = choice_logits(model, values, support.unsqueeze(1), recalled.unsqueeze(1), present.unsqueeze(1))[0].squeeze(1)
        unit = _sample(logits, generator)
        # an item of the list, or what stands for all others
        known = unit if unique else torch.where(unit < units, unit, OTHER)
        outputs.append(torch.full((count,), NONE).index_copy_(0, place, torch.where(going, known, NONE)))
        recaller.bring(None, unit)
        if unique:
            barred.scatter_(1, unit.unsqueeze(-1), -torch.inf)
            recalled.scatter_(1, unit.unsqueeze(-1), True)
        else:
            recalled = torch.nn.functional.pad(recalled, (0, 1)).scatter_(1, unit.unsqueeze(-1), True)[:, :units]
        last = unit
        if alive < 0.75 * len(going):
            rows = going.nonzero().squeeze(-1)
            place, which, present, recalled, last, going = (t[rows] for t in (place, which, present, recalled, last, going))
            count_of, barred = count_of[rows], barred[rows]
            values = values.at(rows)
            recaller.keep(rows)
    return torch.stack(outputs, 1) if outputs else torch.empty(count, 0, dtype=torch.int64)


def _sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One unit of each row, by the inverse of the distribution function: one random number a row."""
    least = torch.finfo(logits.dtype)
    # a row in which all is barred has stopped, and what it draws is not used: it must only be a unit
    below = logits - logits.amax(-1, keepdim=True).clamp_min(least.min)
    # exp is many times slower where it underflows; the root of the smallest normal number is still far below the steps of `rand`
    sums = below.clamp_min_(math.log(least.tiny) / 2).exp_().cumsum(-1)
    # in (0, sum]: the first unit whose sum reaches it has a chance of its own, whatever the rounding
    at = (1 - torch.rand(len(logits), 1, generator=generator, dtype=logits.dtype)) * sums[:, -1:]
    return torch.searchsorted(sums, at).squeeze(-1).clamp_max(logits.shape[-1] - 1)


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
