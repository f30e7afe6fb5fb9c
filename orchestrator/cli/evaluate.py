"""The command `evaluate`: a checkpoint judged on a prepared corpus, as a table, as JSON, as a report and in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from orchestrator.cli.console import (
    AsJson,
    Checkpoint,
    Gpus,
    ModelFile,
    Stride,
    Workers,
    model_in,
    out,
    print_json,
    print_notes,
)

Data = Annotated[str, typer.Option("--data", metavar="DIR", help="The folder or URI that `prepare` wrote.")]
Split = Annotated[Literal["val", "train", "all"], typer.Option(help="Which clips.")]
Pairs = Annotated[int, typer.Option(min=2, help="Balanced pairs to judge.")]
PairFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A stored list of pairs; a missing file is written.")
]
Storage = Annotated[str, typer.Option(help="The folder or URI of runs: the report goes there, into `findings`.")]
Tracking = Annotated[str | None, typer.Option(metavar="URI", help="The tracking store, as `tracking.uri` of a run.")]
Experiment = Annotated[str, typer.Option(help="The MLflow experiment.")]
Record = Annotated[bool, typer.Option("--record/--no-record", help="Keep the report and an MLflow run, or nothing.")]

_MANY = "offset_accuracy_"
_SHOWN = tuple(f"{_MANY}{windows}_within_1" for windows in (5, 10, 15))
"""Of the many offset accuracies, those that the table shows; the report shows all."""


def evaluate(
    file: Checkpoint,
    data: Data,
    split: Split = "val",
    pairs: Pairs = 2048,
    pair_list: PairFile = None,
    offsets: Annotated[bool, typer.Option("--offsets/--pairs-only", help="Look for every clip's offset, too.")] = True,
    stride: Stride = 1,
    controls: Annotated[bool, typer.Option("--controls", help="Outcomes that are known: leaks show in them.")] = False,
    workers: Workers = None,
    gpus: Gpus = 0,
    config: ModelFile = None,
    storage: Storage = "runs",
    tracking: Tracking = None,
    experiment: Experiment = "syncnet",
    record: Record = True,
    as_json: AsJson = False,
) -> None:
    """How good is this file? Accuracy, curves, offsets, with intervals and chance beside each."""
    from orchestrator.runtime.evaluate import Options
    from orchestrator.runtime.evaluate import evaluate as judge
    from orchestrator.runtime.recording import Shelf

    asked = Options(split=split, pairs=pairs, pair_list=pair_list, offsets=offsets, stride=stride, controls=controls)
    found = judge(
        file,
        data,
        asked,
        model_config=model_in(config),
        workers=workers,
        gpus=gpus,
        shelf=Shelf.under(storage, tracking, experiment) if record else None,
        console=Console(quiet=True) if as_json else out,
    )
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)
    raise typer.Exit(int(any(control.passed is False for control in found.controls)))


def _show(found: Any) -> None:
    out.print(found.checkpoint, markup=False, soft_wrap=True, style="bold")
    out.print(figures_table(found.figures))
    listed = f"{found.pairs} pairs of {len(found.clips)} {found.split} clips, pair list {found.pairs_hash[:12]}"
    out.print(f"{listed}; intervals hold in 95% of such corpora, drawn by {found.clusters}", soft_wrap=True)
    out.print(f"{found.verdict.state}: {found.verdict.why}", markup=False, soft_wrap=True)
    for control in found.controls:
        state = {True: "passed", False: "FAILED", None: "not shown"}[control.passed]
        out.print(f"control {control.name}: {state}; {control.why}", markup=False, soft_wrap=True)
    print_notes(list(found.notes))


def figures_table(figures: Sequence[Any]) -> Table:
    """Figures with their intervals and chance."""
    table = Table("figure", "value", "95% interval", "chance", box=None)
    for figure in figures:
        if figure.name.startswith(_MANY) and figure.name not in _SHOWN:
            continue
        chance = "" if figure.chance is None else f"{figure.chance:.3f}"
        table.add_row(figure.title, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}", chance)
    return table
