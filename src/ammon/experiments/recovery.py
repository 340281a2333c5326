"""Recovery: of which parameters of CMR do fits find the true values again, and of which should they, by Fisher information?

People with known parameters recall lists and are fitted. What information at the true values allows is held against what fits did.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ammon.analysis import figures
from ammon.analysis.rows import groups, line
from ammon.cmr.fisher import information, uncertainty
from ammon.cmr.lists import once
from ammon.cmr.model import CMR
from ammon.cmr.parameters import PARAMETERS
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.grid import nearest
from ammon.experiments.stored import with_interval

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

TEMPERATURE = 0.1
# where people's parameters are drawn from, evenly
POPULATION = {
    "beta_enc": (0.3, 0.9), "beta_rec": (0.3, 0.95), "beta_start": (0.05, 0.9), "learn_fc": (0.1, 0.7), "learn_cf": (0.1, 0.5),
    "primacy_scale": (0.05, 0.6), "primacy_decay": (0.3, 2.0), "stop_scale": (0.005, 0.02), "stop_growth": (0.15, 0.4),
}  # fmt: skip
NOTHING = "nothing"
# r from which a parameter counts as recovered
RECOVERED = 0.9


@dataclass(frozen=True)
class _Told:
    """What information lets one expect of a parameter: errors² of one list and of a guess for each person, and variance of the truth."""

    alone: Float[Tensor, " subject"]
    guess: Float[Tensor, " subject"]
    variance: float

    def noise(self, lists: int) -> float:
        return float(torch.minimum(self.alone / lists, self.guess).mean())

    def r(self, lists: int) -> float:
        return math.sqrt(self.variance / (self.variance + self.noise(lists)))

    def lists_needed(self) -> int | None:
        """The fewest lists that recover the parameter, if a million do."""
        low, high = 1, 2**20
        if self.r(high) < RECOVERED:
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.r(middle) >= RECOVERED else (middle + 1, high)
        return low


@torch.enable_grad()
def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    """A row for each free parameter."""
    people, each, length = int(point["trials"]), int(point["lists"]), int(point["length"])
    held = {name: sum(POPULATION[name]) / 2 for name in _held(point)} | {"temperature": TEMPERATURE}
    free = [name for name in POPULATION if name not in held]
    bounds = {name: PARAMETERS[name].search for name in free}
    low, high = (torch.tensor([POPULATION[name][side] for name in free], dtype=torch.float64) for side in (0, 1))
    true = low + (high - low) * torch.rand(people, len(free), generator=generator, dtype=torch.float64)
    values = held | {name: true[:, column] for column, name in enumerate(free)}
    model = CMR()
    one = once([length] * people, torch.arange(people))
    # of one list: that of more is a multiple
    error, together = uncertainty(information(model, one, values, free, generator=generator, copies=int(point["copies"])))
    recalled = model.simulate(one.times(each), values, generator=generator, per_subject=True).lists
    found = model.fit(recalled, fixed=held, bounds=bounds, starts=int(point["starts"]))
    best = model.log_likelihood(recalled, values, per_subject=True).subjects.detach()
    place = [found.names.index(name) for name in free]
    fitted, edges = found.values[:, place], found.edges()[:, place]
    rows: list[Row] = []
    for column, name in enumerate(free):
        partner, correlation = _partner(together, column)
        least, most = bounds[name]
        # no fit errs more than a guess anywhere in the bounds of its search
        guess = (most - least) ** 2 / 12 + (true[:, column] - (least + most) / 2).square()
        told = _Told(error[:, column].square(), guess, float(true[:, column].var(correction=int(people > 1))))
        rows.append(
            {
                "parameter": name,
                **_correlation(true[:, column], fitted[:, column]),
                "r_expected": told.r(each),
                "error": float((fitted - true)[:, column].square().mean().sqrt()),
                "error_expected": math.sqrt(told.noise(each)),
                "lists_needed": told.lists_needed(),
                "partner": free[partner],
                "trade_off": correlation,
                "at_bound": float(edges[:, column].double().mean()),
                "surplus": float(2 * (found.log_likelihood - best).mean()) / len(free),
            }
        )
    return rows


def _held(point: Point) -> list[str]:
    words = [word for word in str(point["held"]).split("+") if word != NOTHING]
    for word in words:
        if word not in POPULATION:
            raise ValueError(
                f"recovery: held: did you mean {nearest(word, list(POPULATION))}? {word!r} is none of {', '.join(POPULATION)}."
            )
    return words


def _check(point: Point) -> None:
    if len(set(_held(point))) > len(POPULATION) - 2:
        raise ValueError(f"recovery: held: at least two parameters must be free, {point['held']} leaves fewer.")


def _partner(together: Float[Tensor, "subject parameter parameter"], column: int) -> tuple[int, float]:
    """The other parameter whose errors go most with this one's, in the median over people, and their correlation."""
    median = together[:, column].median(0).values
    others = median.abs().index_fill(0, torch.tensor(column), -1)
    partner = int(others.argmax())
    return partner, float(median[partner])


def _correlation(true: Float[Tensor, " subject"], fitted: Float[Tensor, " subject"]) -> Mapping[str, float]:
    """Pearson's r, and its 95 % interval by Fisher's z (1921); of three people or fewer nothing can be said."""
    r = float(torch.corrcoef(torch.stack([true, fitted]))[0, 1].clamp(-1, 1)) if len(true) > 1 else math.nan
    if len(true) <= 3:
        return {"r": r, "r_low": -1.0, "r_high": 1.0}
    middle = math.atanh(r) if abs(r) < 1 else math.copysign(math.inf, r)
    reach = 1.959964 / math.sqrt(len(true) - 3)
    return {"r": r, "r_low": math.tanh(middle - reach), "r_high": math.tanh(middle + reach)}


def draw(table: "pa.Table") -> "Figure":
    curves = groups(table, "held", "length")
    figure, axes = figures.panels(2, len(curves), high=2.6)
    for row, ((held, length), rows) in enumerate(curves.items()):
        parts = list(groups(rows, "parameter").items())
        for panel, some in ((axes[2 * row], parts[: len(parts) // 2]), (axes[2 * row + 1], parts[len(parts) // 2 :])):
            for number, ((name,), own) in enumerate(some):
                figures.measured(panel, *line(own, "lists", "r"), name=str(name), number=number)
                expected = line(own, "lists", "r_expected")
                figures.theory(panel, expected.x, expected.y, number=number)
            figures.theory(panel, [], [], name="by information")
            panel.axhline(RECOVERED, color=figures.INK, linewidth=0.6)
            figures.logarithmic(panel, "x")
            panel.set_ylim(min(0.0, *(float(own["r"] or 0) for own in rows)), 1.02)
            figures.label(panel, "lists of each person", "r of true and fitted values", f"lists of {length}; held: {held}")
            figures.legend(panel, loc="lower right")
    return figure


EXPERIMENT = Experiment(
    name="recovery",
    question="Of which parameters of free recall do fits find the true values again, and how many lists does that take?",
    protocol=(
        "A trial is a person, whose free parameters are drawn evenly from "
        + ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in POPULATION.items())
        + f"; those held are at the middle of that, T at {TEMPERATURE:g}, with which supports scale. CMR with these values recalls the "
        "person's lists, and is fitted to them by maximum likelihood within the bounds of the parameter table. r is Pearson's over people, "
        "its 95 % interval Fisher's z. Expected, from the Fisher information I at the true values (from simulated lists): errors "
        "e² = diag I⁻¹, or that of a guess within the bounds if it is less, averaged over people, and r = sqrt(V / (V + e²)) with V the "
        f"variance of the true values. A parameter is identified where that r is at least {RECOVERED:g}. Information is local: a second "
        "maximum far away it does not see."
    ),
    axes={
        "lists": Axis("lists of each person", (10, 40, 160), kind=int, least=1),
        "length": Axis("items of a list", (16,), kind=int, least=2),
        "held": Axis(f"parameters that are known, joined by +; or {NOTHING}", ("primacy_decay",)),
        "starts": Axis("starts of each fit", (4,), kind=int, least=1),
        "copies": Axis("simulated lists of each person for the information", (300,), kind=int, least=10),
    },
    columns={
        "parameter": Column("name of the parameter", type=str),
        **with_interval("r", "correlation of true and fitted values over people"),
        "r_expected": Column("the same, as Fisher information has it"),
        "error": Column("root mean square of fitted less true value"),
        "error_expected": Column("least such error of unbiased estimates"),
        "lists_needed": Column(f"lists of each person with which an r of {RECOVERED:g} is expected", type=int),
        "partner": Column("parameter whose error goes most with this one's", type=str),
        "trade_off": Column("correlation of those errors, median over people"),
        "at_bound": Column("share of fits that end at a bound of the search"),
        "surplus": Column(
            "twice the log likelihood of the fit above that of the truth, over the number of free parameters: 1 by Wilks' law"
        ),
    },
    measure=measure,
    draw=draw,
    trials=40,
    check=_check,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
