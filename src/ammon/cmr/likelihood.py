"""Likelihood: the exact probability of what was recalled, for many parameter vectors and many lists in one tensor program.

pair: one parameter vector with one list. The only loop is over output positions; pairs go in chunks of lists with about as many recalls,
so that memory stays flat and short lists pay for no long ones.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ammon.cmr.choice import Support
from ammon.cmr.layers import ItemCue, Source, between
from ammon.cmr.lists import NONE, OTHER, Lists
from ammon.cmr.parameters import Rows
from ammon.cmr.study import Kinds, Reads, kinds, study
from ammon.dynamics.drift import retention

if TYPE_CHECKING:
    from ammon.cmr.model import CMR

# numbers that one tensor of a chunk may hold; a few such tensors then stay in the cache
CHUNK = 2**19


class Floor(Protocol):
    """How no event gets the probability 0. clip: supports are cut off at 1e-6 before the choice."""

    @property
    def clip(self) -> bool: ...

    def __call__(self, choice: Tensor, go_on: Tensor, left: Tensor) -> Tensor:
        """Log probability of an event from those of the choice and of going on; `left`: between how many items."""
        ...


@dataclass(frozen=True)
class SmoothFloor:
    """(1 - ε) P + ε / n of the choice between n items: still a probability, with a slope everywhere."""

    epsilon: float = 1e-6
    clip: ClassVar[bool] = False

    def __call__(self, choice: Tensor, go_on: Tensor, left: Tensor) -> Tensor:
        if not self.epsilon:
            return choice + go_on
        return torch.logaddexp(choice + math.log1p(-self.epsilon), math.log(self.epsilon) - left.clamp_min(1).log()) + go_on


@dataclass(frozen=True)
class ClippedFloor:
    """max(P, 1e-5) of each event, as cymr has it: not normalised, and flat below."""

    least: float = 1e-5
    clip: ClassVar[bool] = True

    def __call__(self, choice: Tensor, go_on: Tensor, left: Tensor) -> Tensor:
        return torch.log((choice + go_on).exp().clamp(self.least, 1))


@dataclass(frozen=True)
class Prepared:
    """Lists as the likelihood reads them."""

    lists: Lists
    kinds: Kinds
    outputs: Int[Tensor, "list output"]  # unit recalled; the number of units where it was none of the list
    count: Int[Tensor, " list"]  # recalls
    recalled: Bool[Tensor, "list output unit"]  # before each output
    present: Bool[Tensor, "list unit"]
    similarity: Float[Tensor, "list unit unit"] | None  # of the item cue

    @property
    def units(self) -> int:
        return self.present.shape[1]


def prepare(model: "CMR", lists: Lists, where: str) -> Prepared:
    """Check that the model can have made these recalls, and put down what does not depend on parameters."""
    if model.events == "unique":
        dirty = lists.dirty()
        if bool(dirty.any()):
            row, others = int(dirty.nonzero()[0]), int(dirty.sum()) - 1
            raise ValueError(
                f"{where}: {lists.label(row)}: {_unclean(lists, row)}{f' ({others} more such lists)' if others else ''}, which this model "
                'cannot make; use lists.clean(), or CMR(events="all").'
            )
    if any(isinstance(layer, Source) for layer in model.layers) and lists.sources is None:
        raise ValueError(f"{where}: the model has a source layer, but the lists have no sources; give their column.")
    units = lists.items.shape[1]
    outputs = torch.where(lists.recalls >= 0, lists.recalls, units)
    marks = torch.nn.functional.one_hot(outputs, units + 1)[..., :units].cumsum(1) > 0
    recalled = torch.nn.functional.pad(marks, (0, 0, 1, 0))
    similarity = None
    if isinstance(model.semantics, ItemCue):
        similarity = between(model.semantics.similarity, model.semantics.similarity.find(lists, where))
    of = kinds(lists, model.layers, model.semantics, where)
    return Prepared(lists, of, outputs, lists.num_recalls, recalled, lists.items != NONE, similarity)


def _unclean(lists: Lists, row: int) -> str:
    """What is wrong with the first recall of a list that is a repeat or an intrusion."""
    seen: set[int] = set()
    for output, unit in enumerate(lists.recalls[row].tolist(), 1):
        if unit == OTHER:
            return f"recall {output} is of an item that was not studied"
        if unit in seen:
            return f"item {lists.names[int(lists.items[row, unit])]!r} is recalled again as recall {output}"
        seen.add(unit)
    raise AssertionError("a clean list")


def chunks(model: "CMR", data: Prepared, values: Rows, vector: Tensor, which: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Log probabilities of the events of each pair (vector[pair], list which[pair]): chunks of (pairs, events [pair, output + 1]).

    The events of a list are its recalls and then its stop; what comes after is 0.
    """
    order = torch.argsort(data.count[which], stable=True)
    shared = _shared(model, data, values, vector, which)
    longest = int(data.count[which].max()) + 1 if len(which) else 1
    size = max(1, CHUNK // (data.units * longest))
    for start in range(0, len(order), size):
        pairs = order[start : start + size]
        reads, rows = shared(pairs)
        yield pairs, _events(model, data, values.at(vector[pairs]), reads, rows, which[pairs])


def _shared(model: "CMR", data: Prepared, values: Rows, vector: Tensor, which: Tensor) -> Callable[[Tensor], tuple[Reads, Tensor]]:
    """A function of pairs that gives their reads and the rows in them: studied once for all pairs where many have the same study."""
    of = data.kinds
    kind = of.of[which]

    def studied(vectors: Tensor, kinds_of: Tensor) -> Reads:
        return study(values.at(vectors), kinds_of, of, model.layers, data.units, model.primacy, model.association)

    code, rows = torch.unique(vector * len(of) + kind, return_inverse=True)
    if 2 * len(code) > len(vector):
        return lambda pairs: (studied(vector[pairs], kind[pairs]), torch.arange(len(pairs)))
    reads = studied(code // len(of), code % len(of))
    return lambda pairs: (reads, rows[pairs])


def supports(reads: Reads, rows: Int[Tensor, " pair"], outputs: Int[Tensor, "pair output"]) -> Support:
    """Support of each unit before the first recall and after each: [pair, output + 1, unit].

    Context drifts to what each recalled unit brings back, and with it all that is read of it.
    """
    units = reads.units
    state = reads.begin[rows]
    where = rows.unsqueeze(-1) * (units + 1) + outputs
    drifts = reads.table.flatten(0, 1)[where.T]
    beta = reads.beta.flatten(0, 1)[where.T]
    states = [state]
    for output in range(outputs.shape[1]):
        unit = outputs[:, output, None, None].expand(-1, state.shape[1], 1)
        keep = retention(state.gather(-1, unit).squeeze(-1), beta[output])
        state = torch.addcmul(drifts[output], keep.unsqueeze(-1), state)
        states.append(state)
    whole = torch.stack(states, 1)[..., units + 1 :]
    return whole.squeeze(2) if whole.shape[2] == 1 else whole.sum(2)


def _events(model: "CMR", data: Prepared, values: Rows, reads: Reads, rows: Tensor, which: Tensor) -> Tensor:
    count = data.count[which]
    most = int(count.max())
    outputs, recalled = data.outputs[which, :most], data.recalled[which, : most + 1]
    support = supports(reads, rows, outputs)
    if data.similarity is not None and most:
        before = outputs.clamp_max(data.units - 1)
        cue = data.similarity[which.unsqueeze(-1), before] * (outputs < data.units).unsqueeze(-1)
        bias = values("semantic")[:, None, None] * cue.to(support)
        support = torch.cat([support[:, :1], support[:, 1:] + bias], 1)
    present = data.present[which].unsqueeze(1)
    output = torch.arange(most + 1)
    going = model.stop.probability(support, recalled & present, present & ~recalled, output, values)
    logits, left = choice_logits(model, values, support, recalled, present)
    last = torch.nn.functional.pad(outputs, (0, 1))
    last = last if model.events == "all" else last.clamp_max(data.units - 1)
    # log_softmax of rows as short as a list is several times slower than this
    chosen = logits.gather(-1, last.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(logits, -1)
    before = output < count.unsqueeze(-1)
    # where the list has ended the choice is not asked for, and may be infinite
    chosen = torch.where(before, chosen, 0)
    go_on = model.floor(chosen, torch.log1p(-going), left.to(chosen))
    halt = model.floor(torch.zeros_like(going), going.log(), torch.ones_like(going))
    if model.events == "unique":
        # nothing is left to recall
        halt = torch.where(output == present.sum(-1), 0, halt)
    return torch.where(before, go_on, torch.where(output == count.unsqueeze(-1), halt, 0))


def choice_logits(model: "CMR", values: Rows, support: Support, recalled: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of what may be recalled next, -inf for what may not, and between how many. With all events the last is an intrusion."""
    if model.events == "all":
        outside = values("intrusion_support")[:, None, None].expand(*support.shape[:-1], 1)
        support = torch.cat([support, outside], -1)
        logits = model.choice.logits(support, values, model.floor.clip)
        again = torch.nn.functional.pad(recalled, (0, 1))
        logits = logits - torch.where(again, values("repeat_penalty")[:, None, None], 0)
        hidden = torch.nn.functional.pad(~present, (0, 1))
        return logits.masked_fill(hidden, -torch.inf), (~hidden).sum(-1).expand(logits.shape[:-1])
    logits = model.choice.logits(support, values, model.floor.clip)
    hidden = recalled | ~present
    left = support.shape[-1] - hidden.sum(-1)
    # where nothing is left all are compared: it is not asked for, and must give no NaN
    return logits.masked_fill(hidden & (left > 0).unsqueeze(-1), -torch.inf), left
