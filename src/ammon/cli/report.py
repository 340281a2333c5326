"""`ammon report`: one self-contained page of a run. Question, figure, table, protocol, grid, versions and seed."""

import base64
import io
from pathlib import Path
from typing import Annotated

import typer

from ammon.cli.lookup import finished
from ammon.cli.refusal import refusing
from ammon.cli.run import cell

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ammon: {{ experiment.name }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th { border-bottom: 2px solid #222 } th span { font-weight: normal; color: #666 }
td.word, th.word { text-align: left } td.text { text-align: left; white-space: normal }
.wide { overflow-x: auto; max-height: 40rem; overflow-y: auto }
</style>
<h1>{{ experiment.name }}</h1>
<p><strong>{{ experiment.question }}</strong></p>
{% if missing %}<p>{{ missing }}</p>{% endif %}
<p><img alt="Figure of {{ experiment.name }}" src="data:image/png;base64,{{ picture }}"></p>
<h2>Protocol</h2>
<p>{{ experiment.protocol }}</p>
<h2>What was asked</h2>
<table>
{% for key, values in asked %}<tr><td class="word">{{ key }}</td><td class="text">{{ values }}</td></tr>
{% endfor %}</table>
<h2>Rows</h2>
<div class="wide"><table>
<tr>{% for column in columns %}<th{% if column.word %} class="word"{% endif %}>{{ column.name }}
{% if column.unit %}<br><span>{{ column.unit }}</span>{% endif %}</th>{% endfor %}</tr>
{% for row in rows %}<tr>
{% for column in columns %}<td{% if column.word %} class="word"{% endif %}>{{ row[loop.index0] }}</td>{% endfor %}
</tr>
{% endfor %}</table></div>
<h2>Columns</h2>
<table>
{% for name, column in experiment.columns.items() %}<tr><td class="word">{{ name }}</td><td class="text">{{ column.meaning }}
{% if column.unit %}({{ column.unit }}){% endif %}</td></tr>
{% endfor %}</table>
<h2>Made with</h2>
<p>{{ made }}. Seed {{ seed }}. The same command gives the same rows, whatever the engine and the number of workers:</p>
<pre>{{ command }}</pre>
</html>
"""


def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of `ammon run`, complete or not.")]) -> None:
    """Write DIR/report.html: the whole run on one page that needs no other file."""
    asked, manifest, table, missing = finished(folder)
    from jinja2 import Environment

    picture = io.BytesIO()
    with refusing():
        asked.draw(table).savefig(picture, format="png")
    columns = [
        {
            "name": name,
            "unit": asked.columns[name].unit if name in asked.columns else "",
            "word": str(table.schema.field(name).type) == "string",
        }
        for name in table.column_names
        if set(table.column(name).to_pylist()) != {None}
    ]
    values = {**{key: ", ".join(map(cell, some)) for key, some in manifest.grid.items()}, "trials": str(manifest.trials)}
    page = (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            experiment=asked,
            missing=f"{missing} points of the grid were not measured yet." if missing else "",
            picture=base64.b64encode(picture.getvalue()).decode(),
            asked=list(values.items()),
            columns=columns,
            rows=[[cell(row[column["name"]]) for column in columns] for row in table.to_pylist()],
            made=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
            seed=manifest.seed,
            command=command(asked.name, {key: list(some) for key, some in manifest.grid.items()}, manifest.trials, manifest.seed),
        )
    )
    with refusing():
        path = folder / "report.html"
        path.write_text(page, encoding="utf-8")
        typer.echo(path)


def command(name: str, grid: dict[str, list[str | int | float]], trials: int, seed: int) -> str:
    """What to type for the same rows."""
    parts = [f"ammon run {name}", *(f"--memory {memory}" for memory in grid.get("memory", []))]
    parts += [f"--grid {key}={','.join(map(str, values))}" for key, values in grid.items() if key != "memory"]
    return " ".join([*parts, f"--trials {trials}", f"--seed {seed}"])
