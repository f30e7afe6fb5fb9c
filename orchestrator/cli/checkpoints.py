"""The commands on checkpoints: inspect, normalize, list, verify, diff, export.

Each is one library call and a rendering of its result. `verify` and `diff` end with 1 when something is damaged or
differs, as diff(1) does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.console import AsJson, Checkpoint, ModelFile, model_in, out, print_json, refusal_in_json

Weights = Annotated[
    Literal["raw", "ema"], typer.Option("--weights", help="The trained weights, or their running average in the file.")
]
Folder = Annotated[str, typer.Argument(metavar="DIR", help="A folder of states, or one state; also a URI.")]


def inspect(
    file: Checkpoint,
    config: ModelFile = None,
    weights: Weights = "raw",
    deep: Annotated[
        bool | None, typer.Option("--deep/--shallow", help="Read every value, or none; by default up to 256 MB.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What is this file? Format, network, what is missing, is it safe, and what to do next."""
    from orchestrator.checkpoint import inspect as look
    from orchestrator.cli.cards import next_steps, show_inspection

    with refusal_in_json(as_json):
        report = look(file, model_config=model_in(config), weights=weights, deep=deep)
    given = {"--model-config": str(config)} if config else {}
    steps = next_steps(report, {**given, **({"--weights": weights} if weights != "raw" else {})})
    print_json({**report.to_dict(), "next": steps}) if as_json else show_inspection(report, steps)


def normalize(
    file: Checkpoint,
    folder: Annotated[str, typer.Option("--out", help="The store for the resumable state: a folder or a URI.")],
    config: ModelFile = None,
    weights: Weights = "raw",
    dtype: Annotated[
        Literal["float32", "keep"], typer.Option("--dtype", help="Cast floating-point weights, or leave them.")
    ] = "float32",
    allow_non_finite: Annotated[
        bool, typer.Option("--allow-non-finite", help="Take weights that hold NaN or infinity.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """A weights-only file becomes a resumable state, with a report of every decision."""
    from orchestrator.checkpoint import normalize as make
    from orchestrator.checkpoint.storage import redacted
    from orchestrator.cli.cards import next_steps, show_inspection

    result = make(
        file,
        folder,
        model_config=model_in(config),
        weights=weights,
        dtype=dtype,
        allow_non_finite=allow_non_finite,
    )
    where = redacted(result.location)
    if as_json:
        facts = {"state": where, "state_hash": result.state_hash, "written": result.written}
        print_json({**result.report.to_dict(), **facts})
        return
    stored = replace(result.report, path=where, format="canonical")
    show_inspection(result.report, next_steps(stored, {}))
    out.print(f"resumable state: {where}{'' if result.written else ' (was there already)'}", soft_wrap=True)


def list_states(folder: Folder, as_json: AsJson = False) -> None:
    """The resumable states in a folder, and what interrupted programs left there."""
    from orchestrator.checkpoint import list_states as look
    from orchestrator.cli.cards import show_states

    records = look(folder)
    print_json([record.to_dict() for record in records]) if as_json else show_states(records)


def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Read every byte of a state, or of a folder of them, and name all that is wrong."""
    from orchestrator.checkpoint import verify as check
    from orchestrator.cli.cards import show_verification

    report = check(folder)
    print_json(report.to_dict()) if as_json else show_verification(report)
    raise typer.Exit(int(not report.ok))


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A checkpoint of any kind.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    config: ModelFile = None,
    weights: Weights = "raw",
    as_json: AsJson = False,
) -> None:
    """How two checkpoints differ: which tensors, how much, and everything else."""
    from orchestrator.checkpoint import diff as compare
    from orchestrator.cli.cards import show_difference

    report = compare(a, b, model_config=model_in(config), weights=weights)
    print_json(report.to_dict()) if as_json else show_difference(report)
    raise typer.Exit(int(not report.same))


def export(
    file: Checkpoint,
    form: Annotated[
        Literal["latentsync", "wav2lip", "safetensors", "lightning", "onnx"],
        typer.Option("--format", help="The layout."),
    ],
    target: Annotated[Path, typer.Option("--out", help="The file to write.")],
) -> None:
    """Weights in the layout that other programs load."""
    from orchestrator.checkpoint import export as write
    from orchestrator.checkpoint import load_state

    state = load_state(file)
    write(state, form, target)
    average = ": the running average of the weights, which is what the run is judged by" if state.ema else ""
    out.print(f"wrote {target}{average}", soft_wrap=True)
