"""Study: what a list leaves behind, as the linear reads of context that recall will make.

Recall asks context c two things: how much it supports each item, M^CF c, and how much it matches what each item would bring back, c_in · c.
Both are linear in c, and c is a sum of the context at the end of the list and the c_in of what was recalled. So these reads, taken once
of each, are all that recall needs: contexts and matrices are not carried. row: one study of one parameter vector.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ammon.cmr.layers import ContextCue, Features, Items, Layer, Semantics, Source, between
from ammon.cmr.lists import NONE, Lists
from ammon.cmr.parameters import Rows
from ammon.dynamics.drift import decay, direction, drift, retention

Primacy = Literal["additive", "multiplicative"]
Association = Literal["new", "previous"]


@dataclass(frozen=True)
class Kinds:
    """The different studies among lists: lists that are alike to the model are studied once."""

    study: Int[Tensor, "kind position"]
    sources: Int[Tensor, "kind position"] | None
    similarity: Float[Tensor, "kind unit unit"] | None
    vectors: dict[str, Float[Tensor, "kind unit feature"]]
    once: bool  # whether each item is studied once, in the order of the units
    of: Int[Tensor, " list"]  # the kind of each list

    def __len__(self) -> int:
        return len(self.study)


@dataclass(frozen=True)
class Reads:
    """Reads of the context at the end of a list, and of what each recalled unit brings back, for each layer.

    The first `units` + 1 entries of the last axis are the matches with each unit and with nothing (0), the others the support of each unit.
    On the axis of recalled units the last is something from outside the list: a context of its own, that nothing matches.
    """

    begin: Float[Tensor, "row layer read"]
    table: Float[Tensor, "row recalled layer read"]  # times beta
    beta: Float[Tensor, "row recalled layer"]  # drift when the unit is recalled; 0 where it brings nothing back
    units: int


def kinds(lists: Lists, layers: tuple[Layer, ...], semantics: Semantics | None, where: str) -> Kinds:
    """The different studies among the lists, as far as these layers and this similarity can tell them apart."""
    columns = [lists.study]
    pools = {layer.name: layer.vectors.find(lists, where) for layer in layers if isinstance(layer, Features)}
    columns += list(pools.values())
    cued = semantics.similarity.find(lists, where) if isinstance(semantics, ContextCue) else None
    if cued is not None:
        columns.append(cued)
    sources = lists.sources if any(isinstance(layer, Source) for layer in layers) else None
    if sources is not None:
        columns.append(sources)
    place = torch.arange(lists.study.shape[1])
    once = bool(((lists.study == place) | (lists.study == NONE)).all()) and lists.study.shape[1] == lists.items.shape[1]
    if once and len(columns) == 1:
        _, of = torch.unique(lists.lengths, return_inverse=True)
    else:
        _, of = torch.unique(torch.cat(columns, -1), dim=0, return_inverse=True)
    first = torch.full((int(of.max()) + 1,), len(lists)).scatter_reduce(0, of, torch.arange(len(lists)), "amin")
    similarity = None
    if isinstance(semantics, ContextCue) and cued is not None:
        similarity = between(semantics.similarity, cued[first])
        if not semantics.diagonal:
            similarity = similarity * (1 - torch.eye(similarity.shape[-1], dtype=similarity.dtype))
    vectors = {
        layer.name: layer.vectors.rows[pools[layer.name][first].clamp_min(0)] * (lists.items[first] != NONE).unsqueeze(-1)
        for layer in layers
        if isinstance(layer, Features)
    }
    return Kinds(lists.study[first], None if sources is None else sources[first], similarity, vectors, once, of)


def study(
    values: Rows,
    kind: Int[Tensor, " row"],
    of: Kinds,
    layers: tuple[Layer, ...],
    units: int,
    primacy: Primacy,
    association: Association,
    closed: bool = True,
) -> Reads:
    """The reads that the study of kind[row] leaves with the values of that row.

    closed: where items are orthonormal and studied once, contexts are written down at once; else, and with False, position by position.
    """
    begins, tables, betas = [], [], []
    for layer in layers:
        width, inputs = _inputs(layer, of, kind, units, values)
        pre_fc = values("pre_fc", layer.name)[:, None, None] * inputs
        if not isinstance(layer, Items | Features):
            pre_fc = torch.zeros_like(inputs)
        everywhere = _everywhere(layer, of, kind, units, width, inputs)
        if values.given("shared_fc"):
            pre_fc = pre_fc + values("shared_fc", layer.name)[:, None, None] * everywhere
        plain = isinstance(layer, Items) and of.once and not values.given("shared_fc") and not values.given("beta_shift")
        if closed and plain:
            before, after, end = _contexts_at_once(values, of.study[kind], layer, units, inputs.shape[-1])
        else:
            before, after, end = _contexts_in_turn(values, of, kind, layer, pre_fc, width, association)
        bound = after if association == "new" else before
        fc = pre_fc + values("learn_fc", layer.name)[:, None, None] * _to_units(bound, of, kind, units)
        strength = _strength(values, layer, bound.shape[1], primacy).unsqueeze(-1)
        cf = _to_units(strength * bound, of, kind, units)
        if isinstance(layer, Items | Features):
            cf = cf + values("pre_cf", layer.name)[:, None, None] * inputs
        if values.given("shared_cf"):
            cf = cf + values("shared_cf", layer.name)[:, None, None] * everywhere
        if of.similarity is not None and isinstance(layer, Items):
            scores = values("semantic")[:, None, None] * of.similarity[kind].to(cf)
            cf = cf + torch.nn.functional.pad(scores, (1, cf.shape[-1] - 1 - units))
        brought = torch.nn.functional.pad(direction(fc), (0, 0, 0, 1))
        asked = torch.cat([brought, cf], 1)
        some = (brought != 0).any(-1)
        some[:, -1] = True
        beta = values("beta_rec", layer.name).unsqueeze(-1) * some
        begins.append((asked @ end.unsqueeze(-1)).squeeze(-1))
        tables.append(beta.unsqueeze(-1) * (brought @ asked.mT))
        betas.append(beta)
    return Reads(torch.stack(begins, 1), torch.stack(tables, 2), torch.stack(betas, 2), units)


def _inputs(layer: Layer, of: Kinds, kind: Tensor, units: int, values: Rows) -> tuple[int, Tensor]:
    """Units that carry items or sources, and the pattern of each item [row or 1, unit, context]; for sources it is 0."""
    like = values("beta_enc", layer.name)
    positions = of.study.shape[1]
    fresh = positions + 1 if values.given("beta_distract") or values.given("beta_retention") else 0
    fresh += positions if values.given("beta_shift") else 0
    if isinstance(layer, Items):
        width, rows = units, torch.eye(units, dtype=like.dtype).unsqueeze(0)
    elif isinstance(layer, Features):
        rows = of.vectors[layer.name][kind].to(like)
        width = rows.shape[-1]
    else:
        assert of.sources is not None
        width = int(of.sources.max()) + 1
        rows = torch.zeros(1, units, width, dtype=like.dtype)
    return width, torch.nn.functional.pad(rows, (1, fresh))


def _everywhere(layer: Layer, of: Kinds, kind: Tensor, units: int, width: int, like: Tensor) -> Tensor:
    """1 for the context units that items have in common, [row or 1, 1, context]: a shorter list has fewer of them."""
    if isinstance(layer, Items):
        most = of.study[kind].amax(-1, keepdim=True)
        there = (torch.arange(units) <= most).to(like).unsqueeze(1)
    else:
        there = like.new_ones(1, 1, width)
    return torch.nn.functional.pad(there, (1, like.shape[-1] - 1 - width))


def _strength(values: Rows, layer: Layer, positions: int, primacy: Primacy) -> Tensor:
    """Learning from context to item at each position, [row, position]."""
    base = values("learn_cf", layer.name).unsqueeze(-1)
    place = torch.arange(positions, dtype=base.dtype)
    extra = values("primacy_scale").unsqueeze(-1) * torch.exp(-values("primacy_decay").unsqueeze(-1) * place)
    return base + extra if primacy == "additive" else base * (1 + extra)


def _to_units(rows: Tensor, of: Kinds, kind: Tensor, units: int) -> Tensor:
    """Sum over the positions at which each unit was studied: [row, position, context] to [row, unit, context]."""
    studied = of.study[kind]
    if of.once:
        return rows * (studied != NONE).unsqueeze(-1)
    which = (studied.unsqueeze(-2) == torch.arange(units).unsqueeze(-1)).to(rows)
    return which @ rows


def _contexts_at_once(values: Rows, studied: Tensor, layer: Layer, units: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts before and after each item and at the end, of orthonormal items each studied once.

    c_i = r^i start + β Σ_j r^(i-j) e_j, with r = sqrt(1 - β²); a distraction before each item makes r smaller and adds its own units.
    """
    encode, distract = values("beta_enc", layer.name), values("beta_distract", layer.name)
    none = torch.zeros_like(encode)
    keep, away = retention(none, encode), retention(none, distract)
    together = decay(keep * away, units)
    age = torch.arange(1, units + 1)
    parts = [(keep * away)[:, None, None].pow(age.unsqueeze(-1)), encode[:, None, None] * together]
    count, fresh = len(studied), width - 1 - units
    if fresh:
        parts += [(keep * distract)[:, None, None] * together, together.new_zeros(count, units, 1)]
    after = torch.cat(parts, -1)
    start = torch.nn.functional.pad(after.new_ones(count, 1, 1), (0, width - 1))
    before = torch.cat([start, after[:, :-1]], 1)
    last = torch.cat([start, after], 1)[torch.arange(count), (studied != NONE).sum(-1)]
    if fresh:
        before = away[:, None, None] * before
        place = torch.arange(units)
        before[:, place, 1 + units + place] = distract.unsqueeze(-1).expand(-1, units)
        last = _fresh(last, width - 1, values("beta_retention", layer.name))
    return before, after, drift(last, _unit(0, last), values("beta_start", layer.name))


def _contexts_in_turn(
    values: Rows, of: Kinds, kind: Tensor, layer: Layer, pre_fc: Tensor, width: int, association: Association
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, position by position, for any items, studied any number of times, and for sources."""
    studied = of.study[kind]
    count, positions = studied.shape
    encode, distract, shift = (values(name, layer.name) for name in ("beta_enc", "beta_distract", "beta_shift"))
    learn_fc = values("learn_fc", layer.name)[:, None, None]
    pre_fc = pre_fc.expand(count, -1, -1)
    context = _unit(0, pre_fc[:, 0]).expand(count, -1)
    sources = of.sources[kind] if of.sources is not None else None
    same = studied.unsqueeze(-1) == studied.unsqueeze(-2)
    again = bool(same.tril(-1)[(studied != NONE)].any())
    distracted = values.given("beta_distract") or values.given("beta_retention")
    before: list[Tensor] = []
    after: list[Tensor] = []
    for position in range(positions):
        there = studied[:, position] != NONE
        if values.given("beta_shift") and sources is not None and position and isinstance(layer, Items | Features):
            moved = there & (sources[:, position] != sources[:, position - 1])
            slot = 1 + width + (positions + 1 if distracted else 0) + position
            context = _fresh(context, slot, shift * moved)
        if values.given("beta_distract"):
            context = _fresh(context, 1 + width + position, distract * there)
        before.append(context)
        if isinstance(layer, Items | Features):
            row = pre_fc[torch.arange(count), studied[:, position].clamp_min(0)]
            if again and position:
                earlier = (same[:, position, :position] & there.unsqueeze(-1)).to(row)
                row = row + (learn_fc * (earlier.unsqueeze(-2) @ torch.stack(after if association == "new" else before[:-1], 1))).squeeze(
                    -2
                )
        else:
            assert sources is not None
            row = torch.nn.functional.one_hot(1 + sources[:, position].clamp_min(0), pre_fc.shape[-1]).to(pre_fc)
        context = drift(context, row, encode * there)
        after.append(context)
    end = context
    if values.given("beta_retention"):
        end = _fresh(end, 1 + width + positions, values("beta_retention", layer.name))
    end = drift(end, _unit(0, end), values("beta_start", layer.name))
    return torch.stack(before, 1), torch.stack(after, 1), end


def _unit(place: int, like: Tensor) -> Tensor:
    unit = torch.zeros_like(like)
    unit[..., place] = 1
    return unit


def _fresh(context: Tensor, place: int, beta: Tensor) -> Tensor:
    """Drift towards a unit that the context has nothing of yet."""
    return retention(torch.zeros_like(beta), beta).unsqueeze(-1) * context + beta.unsqueeze(-1) * _unit(place, context)
