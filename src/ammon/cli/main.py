"""The command `ammon`. Wrong input ends with one line on stderr and the exit code 2, Ctrl-C with 130."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ammon import __version__
from ammon.cli import episodes, train
from ammon.cli.ask import ask
from ammon.cli.cost import cost
from ammon.cli.experiments import experiments
from ammon.cli.free_recall import app as free_recall
from ammon.cli.generate import generate
from ammon.cli.listing import list_memories
from ammon.cli.plot import plot
from ammon.cli.recall import recall
from ammon.cli.refusal import Refusal
from ammon.cli.remember import remember
from ammon.cli.report import report
from ammon.cli.run import run
from ammon.cli.serve import serve
from ammon.cli.train_energy_transformer import energy_transformer

# what typer raises for a wrong command line; it has no public name of its own
UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="Associative memory: store patterns, recall them from cues.")
app.command("list")(list_memories)
app.command("recall")(recall)
app.command("run")(run)
app.command("experiments")(experiments)
app.command("plot")(plot)
app.command("report")(report)
app.command("cost")(cost)
app.add_typer(free_recall, name="free-recall")
app.command("remember")(remember)
app.command("ask")(ask)
app.command("serve")(serve)
app.add_typer(episodes.app, name="episodes")
train.app.command("energy-transformer")(energy_transformer)
app.add_typer(train.app, name="train")
app.command("generate")(generate)


@app.callback(invoke_without_command=True)
def ammon(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(f"ammon {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; leaves by SystemExit with 0, 2 for wrong input, 130 for Ctrl-C."""
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="ammon", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        # the reader (`| head`) has gone: nothing more can be said, and the interpreter must not try when it closes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Refusal as refusal:
        code = _complain(str(refusal))
    except UsageError as error:
        code = _complain(error.format_message())
    sys.exit(code or 0)


def _complain(message: str) -> int:
    typer.echo(f"ammon: {' '.join(message.split())}", err=True)
    return 2
