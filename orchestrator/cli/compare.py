"""The command `compare`: several checkpoints on the same pairs, and which one to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.console import AsJson, Gpus, Stride, Workers, out, print_json, print_lines, print_notes
from orchestrator.cli.evaluate import Data, Experiment, PairFile, Pairs, Record, Split, Storage, Tracking

if TYPE_CHECKING:
    from orchestrator.evaluation.compare import Comparison
    from orchestrator.training.comparison import Estimate, Metric


def compare(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Checkpoints, two or more; also URIs.")],
    data: Data,
    split: Split = "val",
    pairs: Pairs = 2048,
    pair_list: PairFile = None,
    metric: Annotated[Literal["auc", "accuracy", "loss"], typer.Option(help="The figure that counts.")] = "auc",
    offsets: Annotated[bool, typer.Option(help="Compare how often the A/V offset is found, too; slower.")] = True,
    stride: Stride = 1,
    workers: Workers = None,
    gpus: Gpus = 0,
    storage: Storage = "runs",
    tracking: Tracking = None,
    experiment: Experiment = "syncnet",
    record: Record = True,
    as_json: AsJson = False,
) -> None:
    """Which of several checkpoints is best, and whether that is more than luck."""
    from orchestrator.runtime.compare import compare as judge
    from orchestrator.runtime.recording import Shelf

    counts: dict[str, Metric] = {"auc": "val/auc", "accuracy": "val/accuracy", "loss": "val/loss"}
    found = judge(
        files,
        data,
        split=split,
        pairs=pairs,
        pair_list=pair_list,
        metric=counts[metric],
        offsets=offsets,
        stride=stride,
        workers=workers,
        gpus=gpus,
        shelf=Shelf.under(storage, tracking, experiment) if record else None,
        console=Console(quiet=True) if as_json else out,
    )
    if as_json:
        print_json(found.to_dict())
        return
    _show(found)


def _show(found: Comparison) -> None:
    from orchestrator.evaluation.compare import TITLES

    names = list(found.standings[0].figures)
    heads = ["checkpoint", *(TITLES[name] for name in names), f"{TITLES[found.metric]} over {found.reference}"]
    rows = []
    for standing in found.standings:
        values = [_value(standing.figures[name]) for name in names if name in standing.figures]
        gain = "" if standing.name == found.reference else _gain(standing.over_reference[found.metric])
        rows.append([standing.name, *values, gain])
    if out.is_terminal:
        table = Table(*map(escape, heads), box=None)
        for row in rows:
            table.add_row(*map(escape, row))
        out.print(table)
    else:
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = (zip(row, widths, strict=True) for row in (heads, *rows))
        print_lines("  ".join(f"{cell:<{width}}" for cell, width in line).rstrip() for line in lines)
    print_lines([found.advice])
    where = f"{found.pairs} pairs of {found.split} clips of {found.corpus}, pair list {found.pairs_hash[:12]}"
    print_lines([f"{where}; intervals draw each {found.clusters} anew"])
    print_notes(found.notes)


def _value(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _gain(found: Estimate) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
