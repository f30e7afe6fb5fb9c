"""The command `orchestrator`: what a person types. Every command is one library call and a rendering of its result.

Exit codes: 0 done, 1 done but the answer is bad (a failing doctor, a plan with problems, a damaged state, two
checkpoints that differ, no usable clip, no video that could be judged), 2 refused or failed with one clear message,
130 interrupted.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import __version__
from orchestrator.cli import audit, checkpoints, compare, data, evaluate, judge, look, sweep
from orchestrator.cli.console import (
    ConfigFile,
    Overrides,
    err,
    out,
    print_error,
    print_notes,
    print_result,
)
from orchestrator.errors import OrchestratorError, RunStopped
from orchestrator.runtime.logs import take_over
from orchestrator.training.host_memory import ask_for_huge_pages

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train SyncNets from any pretrained file: inspect, normalize, prepare, train, sweep, evaluate, export.",
)
Name = Annotated[str, typer.Option("--name", help="The run's name: the same name continues the same run.")]


_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code; errors become one message on standard error."""
    ask_for_huge_pages()
    # a job that is stopped ends like one that is interrupted: with its record closed
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error is: a name must not end a command
    try:
        take_over("")
        app(args=list(argv) if argv is not None else None, prog_name="orchestrator")
    except RunStopped as stop:
        err.print(str(stop), markup=False, soft_wrap=True)
        return _INTERRUPTED
    except OrchestratorError as error:
        print_error(str(error))
        return 2
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:  # what typer makes of an interrupt inside a command
            return _interrupted()
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    return 0


def _interrupted() -> int:
    # who asks again while the program is being left has waited enough: no traceback out of somebody's exit handler
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    err.print("interrupted; give the same command again to continue")
    return _INTERRUPTED


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Version.")] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where the demo keeps everything.")] = Path("demo-run"),
) -> None:
    """Everything below, on a small corpus that it makes itself; run again, it continues."""
    from orchestrator.demo import run_demo

    run_demo(folder, out)


app.command()(checkpoints.inspect)
app.command()(checkpoints.normalize)
app.command("list")(checkpoints.list_states)
app.command()(checkpoints.verify)
app.command()(checkpoints.diff)


app.command()(data.align)
app.command()(data.prepare)
app.add_typer(data.app, name="data")


app.command()(look.plan)


@app.command()
def train(config: ConfigFile, name: Name, overrides: Overrides = None) -> None:
    """Start or continue a run: the same command does both."""
    from orchestrator.config import load_config_with_notes
    from orchestrator.runtime.train import train as run

    checked, notes = load_config_with_notes(config, overrides or [])
    print_notes(notes)
    result = run(checked, name, console=out)
    print_result(result)


app.add_typer(sweep.app, name="sweep")


app.command()(look.status)


app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(judge.score)


app.command()(audit.audit)
app.command()(audit.bootstrap)
app.command()(checkpoints.export)
app.command()(look.doctor)
