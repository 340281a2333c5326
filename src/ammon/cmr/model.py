"""CMR: the Context Maintenance and Retrieval model of free recall (Polyn, Norman & Kahana 2009), as a choice of parts.

Context drifts with each studied item and is bound to it both ways; recall asks it for an item, and the item brings its context back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.cmr.bayes import Posterior, sample_posterior
from ammon.cmr.choice import Choice, PositionStop, SoftmaxChoice, Stop
from ammon.cmr.fitting import Bounds, Fit, Progress, fit
from ammon.cmr.layers import Items, Layer, Semantics, Source
from ammon.cmr.likelihood import Floor, Prepared, SmoothFloor, chunks, prepare
from ammon.cmr.lists import Lists
from ammon.cmr.parameters import Rows, as_rows
from ammon.cmr.race import AccumulatorRace
from ammon.cmr.simulation import Simulation, simulate, vectors_of
from ammon.cmr.study import Association, Primacy
from ammon.shapes import check_count


@dataclass(frozen=True)
class LogLikelihood:
    """Log probabilities, natural logarithm, of what was recalled."""

    events: Float[Tensor, "*vector list event"]  # each recall, then the stop; 0 beyond
    data: Lists

    @property
    def lists(self) -> Float[Tensor, "*vector list"]:
        return self.events.sum(-1)

    @property
    def subjects(self) -> Float[Tensor, "*vector subject"]:
        lists = self.lists
        return lists.new_zeros(*lists.shape[:-1], len(self.data.subjects)).index_add(-1, self.data.subject, lists)

    @property
    def total(self) -> Float[Tensor, "*vector"]:
        return self.lists.sum(-1)


@dataclass(frozen=True)
class CMR:
    """The parts of the model; parameters are given with each call, so that many vectors are evaluated at once.

    layers: of context. semantics: how similarity between items enters. primacy: learning from context to item at position i is
    L + φ_s exp(-φ_d (i-1)) ("additive", cymr) or L (1 + φ_s exp(-φ_d (i-1))) ("multiplicative", Polyn 2009). association: items are bound
    to the context after ("new", Polyn 2009) or before them ("previous", Lohnas 2015). events: recalls of items of the list, each at most
    once ("unique"), or repeats and intrusions as events of their own ("all"). floor: how no event gets the probability 0.
    """

    layers: tuple[Layer, ...] = (Items(),)
    semantics: Semantics | None = None
    choice: Choice = field(default_factory=SoftmaxChoice)
    stop: Stop = field(default_factory=PositionStop)
    primacy: Primacy = "additive"
    association: Association = "new"
    events: Literal["unique", "all"] = "unique"
    floor: Floor = field(default_factory=SmoothFloor)

    def __post_init__(self) -> None:
        names = [layer.name for layer in self.layers]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"CMR: at least one context layer is needed, each with a name of its own, got {names}.")
        for name, allowed in (
            ("primacy", ("additive", "multiplicative")),
            ("association", ("new", "previous")),
            ("events", ("unique", "all")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"CMR: {name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the parameters that must be given."""
        # a race ends with its time
        stop = () if isinstance(self.choice, AccumulatorRace) else self.stop.needs
        names = ["beta_enc", "beta_rec", "learn_fc", "learn_cf", *self.choice.needs, *stop]
        names += ["semantic"] if self.semantics is not None else []
        names += ["repeat_penalty", "intrusion_support"] if self.events == "all" else []
        return tuple(names)

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the parameters that a fit searches unless they are fixed."""
        return (*self.needs[:2], "beta_start", *self.needs[2:4], "primacy_scale", "primacy_decay", *self.needs[4:])

    def log_likelihood(self, lists: Lists, values: Mapping[str, Any], *, per_subject: bool = False) -> LogLikelihood:
        """Log probability of every recall and stop, differentiable in the values; events [*vector, list, event].

        values: numbers or tensors [*vector], by the names of `ammon.cmr.parameters.PARAMETERS`. per_subject: their last axis is that of
        the subjects instead, whose lists are evaluated with their own values. ValueError for lists that the model cannot have made.
        """
        if isinstance(self.choice, AccumulatorRace):
            raise TypeError("CMR.log_likelihood: a race has no closed likelihood; simulate it, or use SoftmaxChoice or PowerChoice.")
        data = prepare(self, lists, "CMR.log_likelihood")
        rows, shape = self.rows(values, "CMR.log_likelihood")
        lead, vector, which = pairs(lists, shape, per_subject, "CMR.log_likelihood")
        events = self.events_of(data, rows, vector, which)
        return LogLikelihood(events.reshape(*lead, len(lists), events.shape[-1]), lists)

    def simulate(self, lists: Lists, values: Mapping[str, Any], *, generator: torch.Generator, per_subject: bool = False) -> Simulation:
        """The lists with recalls drawn from the model, what they recalled before ignored; for several draws use `lists.times(copies)`.

        values: one vector, or with per_subject one for each subject [subject].
        """
        rows, shape = self.rows(values, "CMR.simulate")
        return simulate(self, lists, rows, vectors_of(lists, values, shape, per_subject), generator)

    def fit(
        self,
        lists: Lists,
        *,
        fixed: Mapping[str, float] | None = None,
        bounds: Bounds | None = None,
        starts: int = 8,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> Fit:
        """The maximum of the likelihood of each subject, by gradients, from the best of many random starts.

        fixed: parameters that are held; T is, at 0.1, unless it has bounds, since with it free the scale of all supports is too. bounds:
        where to look; by default what the parameter table says for all that the model needs. Name a parameter here to free it. progress:
        called with the stage, the problems that have ended and all.
        """
        generator = generator or torch.Generator().manual_seed(0)
        check_count("CMR.fit", "starts", starts)
        held = self._held(fixed, bounds)
        return fit(self, lists, fixed=held, bounds=bounds or {}, starts=starts, generator=generator, progress=progress)

    def fit_bayes(
        self,
        lists: Lists,
        *,
        fixed: Mapping[str, float] | None = None,
        bounds: Bounds | None = None,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        cores: int = 1,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
    ) -> Posterior:
        """The posterior of all subjects' parameters and of the population they come from, by NUTS (extra `bayes`).

        fixed, bounds: as in `fit`; the model and its priors are in `ammon.cmr.bayes`. tune: steps of warm-up of each chain, before its
        draws. cores: chains that run at a time. progress: called with the stage, the draws done and all.
        """
        for name, count in (("draws", draws), ("tune", tune), ("chains", chains), ("cores", cores)):
            check_count("CMR.fit_bayes", name, count)
        return sample_posterior(
            self, lists, fixed=self._held(fixed, bounds), bounds=bounds or {}, draws=draws, tune=tune, chains=chains, cores=cores,
            generator=generator or torch.Generator().manual_seed(0), progress=progress,
        )  # fmt: skip

    def _held(self, fixed: Mapping[str, float] | None, bounds: Bounds | None) -> dict[str, float]:
        """What is fixed, and T with it."""
        held = {"temperature": 0.1} if "temperature" in self.needs and "temperature" not in (bounds or {}) else {}
        return {**held, **(fixed or {})}

    def rows(self, values: Mapping[str, Any], where: str) -> tuple[Rows, torch.Size]:
        """The values, checked, as rows; and the shape they had."""
        if any(name.partition(".")[0] == "beta_shift" for name in values) and not any(isinstance(layer, Source) for layer in self.layers):
            raise ValueError(f"{where}: beta_shift is drift where the source changes, but the model has no source layer; add Source().")
        return as_rows(values, self.needs, [layer.name for layer in self.layers], where)

    def events_of(self, data: Prepared, values: Rows, vector: Tensor, which: Tensor) -> Float[Tensor, "pair event"]:
        """Log probabilities of the events of pairs of a vector and a list."""
        width = data.outputs.shape[1] + 1
        order, events = [], []
        for pairs_of, part in chunks(self, data, values, vector, which):
            order.append(pairs_of)
            events.append(torch.nn.functional.pad(part, (0, width - part.shape[1])))
        back = torch.argsort(torch.cat(order))
        return torch.cat(events)[back]


def pairs(lists: Lists, shape: torch.Size, per_subject: bool, where: str) -> tuple[torch.Size, Tensor, Tensor]:
    """All pairs of a vector and a list, vectors first: the axes of the vectors, and the row of the values and the list of each pair."""
    everyone = torch.arange(len(lists))
    if not per_subject:
        vectors = torch.arange(shape.numel())
        return shape, vectors.repeat_interleave(len(lists)), everyone.repeat(len(vectors))
    people = len(lists.subjects)
    if not shape or shape[-1] not in (1, people):
        raise ValueError(f"{where}: with per_subject the last axis of the values must be that of the {people} subjects, got {list(shape)}.")
    lead, stride = shape[:-1], shape[-1]
    own = lists.subject if stride == people else torch.zeros_like(lists.subject)
    vectors = torch.arange(lead.numel()).unsqueeze(-1) * stride + own
    return lead, vectors.flatten(), everyone.repeat(lead.numel())
