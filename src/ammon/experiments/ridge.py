"""Ridge: the phase diagram of kernel memories over load and γ. How the curvature of the fit is spread, how large it is, what is recalled.

At the fitted coefficients of a unit the Fisher matrix of its logistic loss is G = K D K, D = diag p(1-p), and the Hessian G + λK
(Tamamori 2025, arXiv 2609.16827); for kernel ridge regression D = 1. On the ridge the largest eigenvalue of G is largest over γ.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ammon.analysis import figures, theory
from ammon.analysis.rows import groups, mean, rate
from ammon.catalog import Entry
from ammon.experiments.base import Axis, Column, Experiment, Point, Row, make_memory
from ammon.experiments.stored import overloaded, with_interval
from ammon.learning.kernel_logistic import Logistic
from ammon.memories.kernel import KernelMemory
from ammon.parts.corruption import Flip
from ammon.parts.kernels import gram
from ammon.parts.patterns import random_patterns

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

PANELS = {
    "concentration": "concentration λ₁/Tr, Hessian",
    "curvature": "curvature, log₁₀ λ₁ of G",
    "recalled": "fraction recalled",
}


def measure(point: Point, *, generator: torch.Generator) -> Row:
    dim, flips, gamma = int(point["dim"]), float(point["flips"]), float(point["gamma"])
    num_patterns = max(1, round(float(point["load"]) * dim))
    concentrations, curvatures, residuals, counts, asked = [], [], [], [], []
    for _ in range(int(point["trials"])):
        patterns = random_patterns(num_patterns, dim, generator=generator, dtype=torch.float64)
        memory = make_memory(point, dim)
        assert isinstance(memory, KernelMemory)
        with overloaded():
            memory.write(patterns)
        largest, total = curvature(memory, int(point["units"]))
        concentrations.append(float((largest[1] / total).mean()))
        curvatures.append(float(largest[0].mean()))
        assert memory.fit is not None
        residuals.append(memory.fit.residual)
        some = patterns[torch.randperm(num_patterns, generator=generator)[: int(point["cues"])]]
        found = memory.recall(Flip(flips)(some, generator=generator), generator=generator)
        counts.append(int((found.state == some).all(-1).sum()))
        asked.append(len(some))
    law = theory.kernel_exact(dim, gamma, flips)
    return {
        "patterns": num_patterns,
        **mean("concentration", concentrations),
        **mean("curvature", curvatures),
        **rate("recalled", counts, asked),
        "recalled_theory": law / num_patterns,
        "residual": max(residuals),
    }


def curvature(memory: KernelMemory, units: int) -> tuple[Tensor, Tensor]:
    """At the fit of the first units: the largest eigenvalues of G and of the Hessian G + λK, [2, unit], and the trace of the Hessian."""
    matrix = gram(memory.kernel, memory.keys.rows)
    answer = torch.sigmoid(matrix @ memory.dual[:, :units])
    spread = (answer * (1 - answer)).mT if isinstance(memory.rule, Logistic) else torch.ones_like(answer.mT)
    # K D K is symmetric: half of D on either side of it
    half = matrix * spread.sqrt().unsqueeze(-2)
    fisher = half @ half.mT
    hessian = fisher + memory.rule.penalty * matrix
    largest = torch.stack([torch.linalg.eigvalsh(some)[..., -1] for some in (fisher, hessian)])
    return largest, hessian.diagonal(dim1=-2, dim2=-1).sum(-1)


def draw(table: "pa.Table") -> "Figure":
    by_memory = groups(table, "memory")
    figure, axes = figures.panels(len(by_memory), 3)
    for column, ((memory,), rows) in enumerate(by_memory.items()):
        loads, gammas = (sorted({float(row[key]) for row in rows}) for key in ("load", "gamma"))
        at = groups(rows, "load", "gamma")
        for row, (name, title) in enumerate(PANELS.items()):
            panel = axes[row * len(by_memory) + column]
            values = [[_mean(at.get((load, gamma), []), name) for load in loads] for gamma in gammas]
            image = _map(panel, loads, gammas, values, name)
            bar = figure.colorbar(image, ax=panel)
            bar.ax.tick_params(labelsize=7)
            bar.set_label(title, fontsize=8, color=figures.INK)
            if name == "recalled" and len(loads) > 1 and len(gammas) > 1:
                law = [[math.log10(max(1e-300, _mean(at.get((load, gamma), []), "recalled_theory"))) for load in loads] for gamma in gammas]
                panel.contour(loads, gammas, law, levels=[0.0], colors=["#D55E00"], linestyles="dashed", linewidths=1.2)
            figures.label(panel, "load K/D (patterns per unit)", "kernel width γ", str(memory) if row == 0 else "")
    return figure


def _map(panel: "Axes", loads: list[float], gammas: list[float], values: list[list[float]], name: str) -> "QuadMesh":
    shown = [[math.log10(value) if name == "curvature" and value > 0 else value for value in line] for line in values]
    low, high = (None, None) if name == "curvature" else (0.0, 1.0)
    panel.set_yscale("log")
    panel.grid(False)
    return panel.pcolormesh(loads, gammas, shown, cmap=figures.MAP, shading="nearest", rasterized=True, vmin=low, vmax=high)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [row[name] for row in rows if row[name] is not None]
    return sum(values) / len(values) if values else math.nan


def _fits(entry: Entry) -> bool:
    return entry.similarity == "Gaussian kernel"


EXPERIMENT = Experiment(
    name="ridge",
    question="Over load and kernel width, where does a kernel memory recall noisy patterns, and how is the curvature of its fit spread?",
    protocol=(
        "Each trial draws K = load × D random ±1 patterns in float64 and fits the memory. Of the first units, G = K diag(p(1-p)) K and"
        " the Hessian G + λK at the fit: concentration is the largest eigenvalue of the Hessian over its trace, curvature the largest "
        "of G, both means over units. So many stored patterns with a fraction of entries flipped are recalled; one counts if no entry "
        "is wrong. Intervals, 95 %: Student and Wilson over trials. Dashed: the load at which signal and crosstalk of independent "
        "coefficients would allow recall of this cue, (e^{4γm}/cosh 4γ)^D/(2 ln D) up to tanh 4γ = m. As published (arXiv 2609.16827):"
        " load=0.1:6:30 gamma=1e-4:10:30:log."
    ),
    axes={
        "dim": Axis("units D", (50,), kind=int, least=2),
        "load": Axis("patterns per unit, K/D", (0.1, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0), least=0),
        "gamma": Axis("kernel width γ", (1e-4, 1e-3, 5e-3, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0), least=1e-12),
        "flips": Axis("fraction of flipped entries", (0.2,), least=0, most=0.5),
        "cues": Axis("patterns recalled per trial", (10,), least=1),
        "units": Axis("units whose curvature is taken", (4,), least=1),
    },
    columns={
        "patterns": Column("patterns stored, K", type=int),
        **with_interval("concentration", "largest eigenvalue of the Hessian over its trace, 0 to 1"),
        **with_interval("curvature", "largest eigenvalue of G"),
        **with_interval("recalled", "fraction of the cues recalled without an error"),
        "recalled_theory": Column("patterns that theory allows over those stored"),
        "residual": Column("largest residual of the fits: their certificate"),
    },
    measure=measure,
    draw=draw,
    trials=1,
    memories=("kernel_logistic",),
    fits=_fits,
    needs="kernel memories with a width γ",
)
run = EXPERIMENT.run
