"""`ammon free-recall`: simulate, fit, compare and report models of free recall, on tables in psifr's format."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ammon.cli.recall_data import Material, read_fit, read_material, writable
from ammon.cli.refusal import Refusal, refusing
from ammon.cli.tables import show

if TYPE_CHECKING:
    from ammon.cmr.bayes import Posterior
    from ammon.cmr.fitting import Fit, Progress
    from ammon.cmr.model import CMR

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Models of free recall (CMR): simulate, fit, compare, report.")

Data = Annotated[
    str, typer.Option("--data", metavar="FILE.csv|sample:NAME", help="A psifr table, or sample:Morton2013, sample:peers_notask.")
]
Where = Annotated[list[str] | None, typer.Option("--where", metavar="COLUMN=VALUE", help="Only rows with this value; repeatable.")]
People = Annotated[str | None, typer.Option("--subjects", metavar="1,2,3", help="Only these subjects.", show_default="all")]
Alike = Annotated[
    str | None,
    typer.Option(
        "--similarity", metavar="FILE.npz|sample:Morton2013", help="Arrays `names` and `vectors` or `similarity`, for semantic models."
    ),
]
Origin = Annotated[str | None, typer.Option("--source", metavar="COLUMN", help="Source or category of each studied item.")]
Starts = Annotated[int, typer.Option("--starts", metavar="N", min=1, help="Random starts that go downhill, for each subject.")]
Seed = Annotated[int, typer.Option("--seed", metavar="S", min=0, max=2**63 - 1, help="Of starts and simulations.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where tables and pictures go.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="localist, item-cue, context-cue, source, power, base, base-item-cue, no-start, no-primacy, no-retrieval.",
    ),
]
Models = Annotated[list[str] | None, typer.Option("--model", metavar="NAME", help="Repeatable.", show_default="all that fit the data")]
Preset = Annotated[
    str | None, typer.Option("--preset", metavar="NAME", help="cymr, gunn2025, polyn2009 or lohnas2015.", show_default="cymr")
]
Fitted = Annotated[
    Path | None,
    typer.Option("--fit", metavar="DIR", help="The folder of an `ammon free-recall fit`: each subject with its own parameters."),
]
Copies = Annotated[int, typer.Option("--copies", metavar="N", min=1, help="Simulations of each list.")]
Bayes = Annotated[bool, typer.Option("--bayes", help="Sample subjects and their population instead (extra `bayes`).")]
Draws = Annotated[
    int, typer.Option("--draws", metavar="N", min=10, help="With --bayes: draws of each of 4 chains, after as many of warm-up.")
]
FOLDER = Path("free_recall")


@app.command()
def fit(
    data: Data = "sample:Morton2013", model: Model = "localist", where: Where = None, subjects: People = None, similarity: Alike = None,
    source: Origin = None, starts: Starts = 8, bayes: Bayes = False, draws: Draws = 1000, seed: Seed = 0, out: Out = FOLDER,
) -> None:  # fmt: skip
    """Fit a model to every subject by maximum likelihood, with standard errors; or sample all of them and their population."""
    with refusing():
        writable(out)
        material = read_material(data, where, subjects, similarity, source)
        if bayes:
            sampled = _sample(material, model, draws, seed)
            table = sampled.table()
            _show_posterior(sampled, table)
            _show_left_out(material)
            typer.echo(_save_posterior(sampled, table, model, out))
            return
        found = _fit(material, model, starts, seed)
        errors = _errors(found, material)
        _show_fit(found, errors)
        _show_left_out(material)
        typer.echo(_save_fit(found, errors, model, out))


@app.command()
def compare(
    data: Data = "sample:Morton2013",
    model: Models = None, where: Where = None, subjects: People = None, similarity: Alike = None, source: Origin = None, starts: Starts = 8,
    seed: Seed = 0, out: Out = FOLDER,
) -> None:  # fmt: skip
    """Fit rival models to the same recalls and rank them by AIC, BIC and weights."""
    from ammon.cmr.rivals import RIVALS, rank

    with refusing():
        writable(out)
        material = read_material(data, where, subjects, similarity, source)
        have = {None, *(["similarity"] if material.similarity else []), *(["source"] if source else [])}
        names = list(dict.fromkeys(model)) if model else [name for name, rival in RIVALS.items() if rival.needs in have]
        for name in names:
            _known(name)
        fits = {name: _fit(material, name, starts, seed) for name in names}
        _show_ranking(rank(fits))
        _show_left_out(material)
        typer.echo(_save_ranking(fits, out))


@app.command()
def simulate(
    data: Data = "sample:Morton2013",
    preset: Preset = None, fitted: Fitted = None, where: Where = None, subjects: People = None, similarity: Alike = None,
    source: Origin = None, copies: Copies = 1, seed: Seed = 0, out: Out = FOLDER,
) -> None:  # fmt: skip
    """Recall the lists of a table by a model; the result is a psifr table, with times where the model has them."""
    if preset and fitted:
        raise Refusal("--preset, --fit: only one of them can say which model; leave the other out.")
    with refusing():
        writable(out)
        material = read_material(data, where, subjects, similarity, source)
        table = _simulated(material, preset or "cymr", fitted, copies, seed)
        path = out / "simulated.csv"
        table.to_csv(path, index=False)
        recalled = int((table["trial_type"] == "recall").sum())
        count = len(material.lists) * copies
        typer.echo(f"{count} lists, {recalled / count:.2f} recalls each")
        typer.echo(path)


@app.command()
def report(
    data: Data = "sample:Morton2013", model: Model = "localist", fitted: Fitted = None, where: Where = None, subjects: People = None,
    similarity: Alike = None, source: Origin = None, starts: Starts = 8, copies: Copies = 4, seed: Seed = 0, out: Out = FOLDER,
) -> None:  # fmt: skip
    """Draw one page of curves: serial positions, first recalls, lags and clustering, of people and of the fitted model."""
    import pandas

    from ammon.analysis.free_recall import curves, page, rows

    with refusing():
        writable(out)
        material = read_material(data, where, subjects, similarity, source)
        if fitted is None:
            found = _fit(material, model, starts, seed)
            _save_fit(found, None, model, out)
            fitted = out
        saved = read_fit(fitted)
        table = _simulated(material, None, fitted, copies, seed)
        likeness = None if material.similarity is None else (material.similarity.names, material.similarity.rows.numpy())
        people = curves(material.table, category=source, similarity=likeness)
        made = curves(table, category="source" if source else None, similarity=likeness)
        numbers = pandas.DataFrame(rows(people, made))
        _show_curves(numbers)
        numbers.to_csv(out / "curves.csv", index=False)
        title = f"{material.name}: {len(material.lists.subjects)} subjects, {len(material.lists)} lists; model {saved.model}"
        page(people, made, title).savefig(out / "report.png", dpi=150)
        typer.echo(out / "curves.csv")
        typer.echo(out / "report.png")


def _known(name: str) -> None:
    from ammon.cmr.rivals import RIVALS

    if name not in RIVALS:
        raise Refusal(f"--model: no model is called {name!r}; there are {', '.join(RIVALS)}.")


def _made(material: Material, name: str) -> "CMR":
    """The model of this name, if the material has what it needs."""
    from ammon.cmr.rivals import RIVALS, make

    _known(name)
    need = RIVALS[name].needs
    if need == "similarity" and material.similarity is None:
        raise Refusal(f"--model {name}: a similarity between items is needed; give --similarity FILE.npz.")
    if need == "source" and material.lists.sources is None:
        raise Refusal(f"--model {name}: the source of each item is needed; give --source COLUMN.")
    return make(name, material.similarity)


def _fit(material: Material, name: str, starts: int, seed: int) -> "Fit":
    import torch

    from ammon.cmr.rivals import RIVALS

    chosen = _made(material, name)
    with _progress(name) as progress:
        return chosen.fit(
            material.lists.clean(), fixed=RIVALS[name].fixed, bounds=RIVALS[name].search, starts=starts,
            generator=torch.Generator().manual_seed(seed), progress=progress,
        )  # fmt: skip


def _sample(material: Material, name: str, draws: int, seed: int) -> "Posterior":
    import torch

    from ammon.cmr.rivals import RIVALS

    chosen = _made(material, name)
    with _progress(name) as progress:
        return chosen.fit_bayes(
            material.lists.clean(), fixed=RIVALS[name].fixed, bounds=RIVALS[name].search, draws=draws, tune=draws,
            generator=torch.Generator().manual_seed(seed), progress=progress,
        )  # fmt: skip


def _errors(found: "Fit", material: Material) -> Any:
    from ammon.cmr.fitting import standard_errors

    return standard_errors(found, material.lists.clean())


def _simulated(material: Material, preset: str | None, fitted: Path | None, copies: int, seed: int) -> Any:
    import torch

    from ammon.cmr.presets import PRESETS
    from ammon.cmr.psifr_tables import write_table
    from ammon.cmr.rivals import make
    from ammon.cmr.sessions import simulate_sessions

    generator = torch.Generator().manual_seed(seed)
    lists = material.lists.times(copies)
    if fitted is not None:
        saved = read_fit(fitted)
        lists = material.lists.of(saved.common(material.lists.subjects)).times(copies)
        drawn = make(saved.model, material.similarity).simulate(lists, saved.values(lists.subjects), generator=generator, per_subject=True)
        return write_table(drawn.lists, drawn.times)
    if preset not in PRESETS:
        raise Refusal(f"--preset: no preset is called {preset!r}; there are {', '.join(PRESETS)}.")
    chosen = PRESETS[preset](material.similarity)
    if preset == "polyn2009" and lists.sources is None:
        raise Refusal("--preset polyn2009: the model has a source context; give --source COLUMN.")
    if preset == "lohnas2015":
        session = simulate_sessions(chosen.model, lists, chosen.values, generator=generator)
        return write_table(session.lists, session.times, session.items)
    drawn = chosen.model.simulate(lists, chosen.values, generator=generator)
    return write_table(drawn.lists, drawn.times)


@contextmanager
def _progress(name: str) -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda stage, done, total: bar.update(task, description=f"{name}: {stage}", completed=done, total=total)


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(columns[0], no_wrap=True, style="cyan")
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _show_fit(found: "Fit", errors: Any) -> None:
    from torch import nanmedian

    edges = found.edges()
    table = _table("parameter", "mean", "median", "standard error", "at a bound")
    for column, name in enumerate(found.names):
        value, error = found.values[:, column], float(nanmedian(errors[:, column]))
        told = "-" if error != error else f"{error:.4f}"
        table.add_row(name, f"{float(value.mean()):.4f}", f"{float(value.median()):.4f}", told, str(int(edges[:, column].sum())))
    show(table)
    lost = int((~found.converged).sum())
    typer.echo(
        f"\n{len(found.subjects)} subjects, {int(found.num_events.sum())} recalls and stops, {found.num_parameters} parameters each"
        + (f"; {lost} did not converge, try more --starts" if lost else "")
    )
    typer.echo(
        f"log likelihood {float(found.log_likelihood.sum()):.2f}   AIC {float(found.aic.sum()):.2f}   BIC {float(found.bic.sum()):.2f}"
    )
    typer.echo("standard error: median over subjects; from the curvature at the maximum, none at a bound.")


def _show_left_out(material: Material) -> None:
    """What of the data no model here can make."""
    recalls = int(material.lists.num_recalls.sum())
    left = recalls - int(material.lists.clean().num_recalls.sum())
    if left:
        typer.echo(f"left out: {left} of {recalls} recalls, repeats and items that were not studied")


def _save_fit(found: "Fit", errors: Any, model: str, out: Path) -> Path:
    import json

    frame = found.table(errors)
    path = out / "parameters.csv"
    frame.to_csv(path, index=False)
    (out / "fit.json").write_text(json.dumps({"model": model, "free": list(found.names), "fixed": dict(found.fixed)}, indent=1) + "\n")
    return path


def _show_posterior(found: "Posterior", rows: Any) -> None:
    table = _table("parameter", "typical subject", "95 % interval", "spread (logistic)", "R-hat", "effective draws")
    typical, spread = (rows[rows["level"] == level].set_index("parameter") for level in ("population", "spread"))
    for name in found.names:
        row = typical.loc[name]
        table.add_row(
            name, f"{row['mean']:.4f}", f"{row['low']:.4f} to {row['high']:.4f}", f"{spread.loc[name, 'mean']:.3f}", f"{row['r_hat']:.3f}",
            f"{row['ess_bulk']:.0f}",
        )  # fmt: skip
    show(table)
    chains, draws = found.mean.shape[:2]
    typer.echo(f"\n{len(found.subjects)} subjects, {chains} chains of {draws} draws, {found.divergences} divergences")
    worst, least = rows["r_hat"].max(), rows["ess_bulk"].min()
    if not (worst < 1.01 and least > 400):
        typer.echo(f"largest R-hat {worst:.3f}, least effective draws {least:.0f}: below 1.01 and above 400 are needed, try more --draws")


def _save_posterior(found: "Posterior", rows: Any, model: str, out: Path) -> Path:
    """The posterior, and the subjects' means where `--fit` looks for them."""
    import json

    own = rows[rows["level"] == "subject"]
    means = own.pivot(index="subject", columns="parameter", values="mean").loc[list(found.subjects), list(found.names)]
    means.assign(**found.fixed).reset_index().to_csv(out / "parameters.csv", index=False)
    (out / "fit.json").write_text(json.dumps({"model": model, "free": list(found.names), "fixed": dict(found.fixed)}, indent=1) + "\n")
    path = out / "posterior.csv"
    rows.to_csv(path, index=False)
    return path


def _show_ranking(ranking: Any) -> None:
    table = _table("model", "parameters", "log likelihood", "AIC", "BIC", "AIC - best", "mean weight", "best for")
    for row in ranking:
        table.add_row(
            row.name, str(row.num_parameters), f"{row.log_likelihood:.2f}", f"{row.aic:.2f}", f"{row.bic:.2f}", f"{row.delta:.2f}",
            f"{row.weight:.3f}", str(row.best_for),
        )  # fmt: skip
    show(table)


def _save_ranking(fits: "dict[str, Fit]", out: Path) -> Path:
    import pandas
    import torch

    from ammon.cmr.rivals import weights

    aic, bic = (torch.stack([getattr(found, what) for found in fits.values()]) for what in ("aic", "bic"))
    by_aic, by_bic = weights(aic), weights(bic)
    rows = [
        {
            "subject": subject,
            "model": name,
            "k": found.num_parameters,
            "n": int(found.num_events[person]),
            "log_likelihood": float(found.log_likelihood[person]),
            "aic": float(found.aic[person]),
            "aicc": float(found.aicc[person]),
            "bic": float(found.bic[person]),
            "aic_weight": float(by_aic[number, person]),
            "bic_weight": float(by_bic[number, person]),
            "converged": bool(found.converged[person]),
        }
        for number, (name, found) in enumerate(fits.items())
        for person, subject in enumerate(found.subjects)
    ]
    path = out / "comparison.csv"
    pandas.DataFrame(rows).sort_values(["subject", "aic"], kind="stable").to_csv(path, index=False)
    return path


def _show_curves(numbers: Any) -> None:
    table = _table("curve", "points", "model inside the data's 95 % interval", "largest difference")
    for name, part in numbers.groupby("curve", sort=False):
        known = part[part["model"].notna() & part["half_width"].notna()]
        difference = (known["model"] - known["data"]).abs()
        table.add_row(str(name), str(len(known)), str(int(known["inside"].sum())), f"{difference.max():.3f}" if len(known) else "-")
    show(table)
