"""Rule and exceptions: which memory learns the rule, which the exceptions, and whom does the gate ask?"""

from typing import TYPE_CHECKING

import torch

from ammon.analysis import figures
from ammon.analysis.rows import groups, rate
from ammon.datasets.tasks import EXCEPTION, IGNORED, RULE, SEEN, Questions, rule_and_exceptions
from ammon.experiments.base import Axis, Column, Experiment, Point, Row
from ammon.experiments.trained import AXES, COLUMNS, SEARCH, examined, teach
from ammon.nn.configurations import Size
from ammon.nn.hybrid import record_gates

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

MODELS = ("neural", "episodic", "hybrid", "hybrid_surprise")
SOURCES = ("attention", "neural", "episodic")
KINDS = {"rule": RULE, "exception": EXCEPTION, "seen": SEEN}
WORDS = 32
RULED = 0.95  # the rule is known


def drawn(batch: int, generator: torch.Generator) -> Questions:
    """A batch of the task."""
    return rule_and_exceptions(batch, words=WORDS, generator=generator)


def measure(point: Point, *, generator: torch.Generator) -> list[Row]:
    """One training, and new sequences: a row for each kind of question, with the mean gate of each source there."""
    taught = teach(
        drawn,
        2 * WORDS,
        str(point["model"]),
        Size(
            dim=int(point["dim"]),
            heads=int(point["heads"]),
            segment=1,
            slots=int(point["slots"]) if "slots" in point else None,
            chunk=int(point.get("chunk", Size.chunk)),
        ),
        point,
        generator=generator,
        watched=KINDS[str(point["until"])] if "until" in point else None,
    )
    seed = int(torch.randint(2**31, (), generator=generator))
    once_ruled = next((look for look in taught.trained.rows if look.get(f"held_accuracy_{RULE}", 0) >= RULED), {})
    rows: list[Row] = []
    for name, kind in KINDS.items():
        # the same sequences for each kind
        again = torch.Generator().manual_seed(seed)
        found = examined(taught.model, drawn, int(point["trials"]), again, kind)
        learned = {"steps_to_90": taught.trained.first(f"held_accuracy_{kind}", 0.9), "once_ruled": once_ruled.get(f"held_accuracy_{kind}")}
        rows.append({"kind": name, **rate("accuracy", *found), **gates(taught.model, seed, kind), **taught.row, **learned})
    return rows


@torch.no_grad()
def gates(model: torch.nn.Module, seed: int, kind: int) -> dict[str, float]:
    """The mean gate of each source over the questions of a kind; empty for a model without gates."""
    some = drawn(128, torch.Generator().manual_seed(seed))
    try:
        with record_gates(model) as traces:
            model(some.tokens)
    except ValueError:
        return {}
    (trace,) = traces.values()
    asked = (some.targets != IGNORED) & (some.kinds == kind)
    return {f"gate_{name}": float(value) for name, value in zip(trace.names, trace.gates[asked].mean(0), strict=True)}


def draw(table: "pa.Table") -> "Figure":
    figure, axes = figures.panels(2, 1, wide=3.2)
    models = groups(table, "model")
    for number, ((model,), rows) in enumerate(models.items()):
        places = [list(KINDS).index(row["kind"]) + 0.15 * (number - 1) for row in rows]
        figures.measured(axes[0], places, [row["accuracy"] for row in rows], number=number, linestyle="none", name=str(model))
    gated = [row for row in table.to_pylist() if any(row[f"gate_{name}"] is not None for name in SOURCES)]
    for number, name in enumerate(SOURCES):
        some = [row for row in gated if row[f"gate_{name}"] is not None]
        places = [list(KINDS).index(row["kind"]) + 0.15 * (number - 1) for row in some]
        figures.measured(axes[1], places, [row[f"gate_{name}"] for row in some], number=number + 3, linestyle="none", name=name)
    for panel, y, title in ((axes[0], "answered right (share)", "answers"), (axes[1], "mean gate", "gates of the hybrid")):
        panel.set_xticks(range(len(KINDS)), list(KINDS))
        panel.set_ylim(0, 1.03)
        figures.label(panel, "kind of question", y, title)
        figures.legend(panel)
    return figure


EXPERIMENT = Experiment(
    name="rule_exceptions",
    question="Which memory learns the rule, which the exceptions, and whom does the gate ask?",
    protocol=(
        "Transformers of two layers; the first attends to 4 tokens, the second holds the memory named (hybrid: attention to 16, neural and "
        "episodic, gated per token; hybrid_surprise: the episodic memory has 8 slots, which keep the tokens that most surprised the neural "
        f"one). Each sequence has a table of its own that gives each of four classes of {WORDS} keys (key mod 4) a "
        "value. 16 examples and 4 exceptions are shown as pairs, then 40 keys ask: half of them not shown (rule), a quarter exceptions, a "
        "quarter examples (seen). steps_to_90 is of the kind; gate: its mean over the questions of the kind in 128 sequences. A trial is a "
        "new sequence; intervals, 95 %: Wilson over sequences."
    ),
    axes={
        "model": Axis("the second layer", MODELS, choices=MODELS),
        "slots": Axis("of the episodic memory, where not all or 8", kind=int, least=1),
        "chunk": Axis("tokens of which the neural memory measures the surprise at once, where not 16", kind=int, least=1),
        "until": Axis("the kind of question of which `enough` ends the training, where not all", kind=str, choices=tuple(KINDS)),
        **SEARCH,
        **AXES,
    },
    columns={
        "kind": Column("of question: rule, exception, seen", type=str),
        **COLUMNS,
        "once_ruled": Column(f"share of the kind answered right when {RULED:.0%} of the rule first were, in 128 sequences held out"),
        **{f"gate_{name}": Column(f"mean gate of {name}") for name in SOURCES},
    },
    measure=measure,
    draw=draw,
    trials=256,
    needs="no memory of the catalogue",
)
run = EXPERIMENT.run
