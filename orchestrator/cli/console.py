"""What all commands share: where they print, the arguments that several of them take, and plain tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestrator.errors import CheckpointError
from orchestrator.runtime import logs

_LOG_WIDTH = 200

# logs and pipes have no width of their own: 80 columns would break paths and commands that people copy
out = logs.console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
err = logs.console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Checkpoint = Annotated[str, typer.Argument(metavar="FILE", help="A checkpoint file or folder, or the URI of one.")]
Prepared = Annotated[str, typer.Argument(metavar="DIR", help="The folder or URI that `prepare` wrote.")]
ModelFile = Annotated[
    Path | None, typer.Option("--model-config", "--config", help="A YAML file that describes the network.")
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; LatentSync's own files load too.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings that replace the file's.")]
Stride = Annotated[int, typer.Option(min=1, help="Frames from window to window: more is faster and less sure.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Tasks at a time on Ray; 0: in this process, as where RAY_ADDRESS is not set.")
]
Gpus = Annotated[float, typer.Option("--gpus", min=0, help="GPUs, or a share of one, that each task takes.")]
NameOrNone = Annotated[str | None, typer.Option("--name", help="The run's name, to tell a start from a continuation.")]


def model_in(config: Path | None) -> Any:
    """The network that a YAML file describes."""
    if config is None:
        return None
    from orchestrator.config import load_model_config

    return load_model_config(config)


def print_json(content: Any) -> None:
    """JSON on standard output, with nothing around it."""
    sys.stdout.write(json.dumps(content, indent=1, default=str) + "\n")


@contextmanager
def refusal_in_json(as_json: bool) -> Iterator[None]:
    """Say on standard output, too, why a file was refused: whoever reads JSON there looks at many files."""
    try:
        yield
    except CheckpointError as error:
        if as_json:
            print_json({"refused": str(error.reason), "message": error.message, "hint": error.hint})
        raise


def print_notes(notes: Iterable[str]) -> None:
    """Remarks, one line each."""
    for note in notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True)


def print_lines(lines: Iterable[str]) -> None:
    """Facts, one line each, never broken."""
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def print_error(text: str) -> None:
    """The one message that a command ends with, on standard error."""
    if isinstance(err, logs.JsonConsole):
        err.event("error", text, level="error")
        return
    err.print("error:", style="bold red", end=" ")
    err.print(text, markup=False, soft_wrap=True)


def print_card(title: str, facts: Mapping[str, Any], run: str = "") -> None:
    """Facts as a two-column table, perhaps about a run or sweep."""
    if isinstance(out, logs.JsonConsole):
        out.event("result", title, run=run, facts=facts)
        return
    shown = {key: json.dumps(value) if isinstance(value, (list, dict)) else str(value) for key, value in facts.items()}
    if not out.is_terminal:  # in a log a fact is a line, however long, without blanks behind it
        width = max(map(len, shown), default=0)
        print_lines([*filter(None, [title]), *(f" {key:<{width}}  {value}" for key, value in shown.items())])
        return
    table = Table(title=title, show_header=False, box=None, title_justify="left", title_style="bold")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in shown.items():
        table.add_row(key, value)
    out.print(table)


def print_result(result: Any) -> None:
    """What a finished run has to show."""
    from orchestrator.storage import redacted
    from orchestrator.tracking import open_hint

    facts = {
        "steps": result.step,
        **({"ended early": result.ended} if result.ended else {}),
        "baseline (step 0)": "none" if result.baseline is None else f"{result.baseline:.4f}",
        "best": f"{result.best:.4f} at step {result.best_step}",
        "best checkpoint": redacted(result.best_checkpoint),
    }
    if result.verdict:
        facts["verdict"] = f"{result.verdict['state']}: {result.verdict['why']}"
        facts |= {f"likely cause {number}": cause for number, cause in enumerate(result.verdict["causes"], 1)}
    facts |= {"MLflow run": result.run_id, "open MLflow": open_hint(result.tracking_uri)}
    print_card(result.name, facts, run=result.name)
