"""The commands `audit` and `bootstrap`: where the sound of every clip belongs, and training on what that corrects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestrator.cli.console import (
    AsJson,
    ConfigFile,
    Gpus,
    ModelFile,
    Overrides,
    Prepared,
    Stride,
    Workers,
    model_in,
    out,
    print_card,
    print_json,
    print_lines,
    print_notes,
)

_NAMED = 10
Name = Annotated[str, typer.Option("--name", help="The bootstrap's name: the same name continues the same one.")]
Reach = Annotated[int, typer.Option(min=5, max=125, help="Frames to either side that are tried.")]
Reject = Annotated[
    list[str] | None,
    typer.Option("--reject", metavar="STATUS", help="Reject clips of this status, instead of those by default."),
]


def audit(
    folder: Prepared,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="The network that judges; none: an estimate without any.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write what was found as a new manifest version.")] = False,
    reject: Reject = None,
    max_offset: Reach = 15,
    stride: Stride = 1,
    split: Annotated[str, typer.Option(help="Which clips: train, val or all.")] = "all",
    workers: Workers = None,
    gpus: Gpus = 0,
    config: ModelFile = None,
    storage: Annotated[str, typer.Option(help="The folder that holds the runs, where MLflow's store is.")] = "runs",
    name: Annotated[str | None, typer.Option("--name", help="The name of its MLflow run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find where the sound of every clip belongs, and what is wrong with it; nothing is written without --write."""
    from rich.console import Console

    from orchestrator.runtime.audit import Ask, Record
    from orchestrator.runtime.audit import audit as run

    ask = Ask(max_offset, stride, _split(split), workers, gpus, model_config=model_in(config))
    found = run(
        folder,
        checkpoint,
        write=write,
        reject=_statuses(reject),
        ask=ask,
        record=Record(storage=storage, name=name),
        console=Console(quiet=True) if as_json else out,
    )
    if as_json:
        print_json(_plain(found))
        return
    _print_audit(folder, found)


def bootstrap(
    config: ConfigFile,
    name: Name,
    overrides: Overrides = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of training and auditing at most.")] = 3,
    first: Annotated[
        str, typer.Option(help="What comes first: train, or estimate, which corrects the corpus before that.")
    ] = "train",
    settled: Annotated[
        float, typer.Option(min=0, max=1, help="End when less than this share of the clips changed.")
    ] = 0.01,
    warm: Annotated[bool, typer.Option("--warm", help="Every run starts from the one before, not from START.")] = False,
    holdout: Annotated[str | None, typer.Option(metavar="DIR", help="A corpus in sync to judge every run by.")] = None,
    reject: Reject = None,
    max_offset: Reach = 15,
    stride: Stride = 1,
    workers: Workers = None,
    gpus: Gpus = 0,
) -> None:
    """Train, audit the corpus with what was trained, correct its manifest, train again, until it settles."""
    from orchestrator.config import load_config_with_notes
    from orchestrator.runtime.audit import Ask
    from orchestrator.runtime.bootstrap import BootstrapOptions
    from orchestrator.runtime.bootstrap import bootstrap as run

    checked, notes = load_config_with_notes(config, overrides or [])
    print_notes(notes)
    options = BootstrapOptions(
        rounds=rounds,
        estimate_first=_one_of("--first", first, ("train", "estimate")) == "estimate",
        settled=settled,
        warm=warm,
        reject=_statuses(reject),
        holdout=holdout,
        ask=Ask(max_offset, stride, workers=workers, gpus=gpus),
    )
    result = run(checked, name, options, console=out)
    _print_rounds(result)
    raise typer.Exit(int(result.ended == "blind"))


def _statuses(given: list[str] | None) -> Any:
    from orchestrator.evaluation.audit import REJECTED_BY_DEFAULT, AuditStatus

    if not given:
        return REJECTED_BY_DEFAULT
    known = (*(str(status) for status in AuditStatus), "none")
    chosen = [_one_of("--reject", status, known) for status in given]
    return tuple(AuditStatus(status) for status in chosen if status != "none")


def _split(split: str) -> Any:
    return _one_of("--split", split, ("train", "val", "all"))


def _one_of(option: str, given: str, known: tuple[str, ...]) -> str:
    from orchestrator.errors import ConfigError

    if given not in known:
        raise ConfigError([f"`{option}` must be one of {', '.join(known)}, but is {given}"], source="the options")
    return given


def _plain(result: Any) -> dict[str, Any]:
    from dataclasses import asdict

    found = result.audit
    clips = [{key: value for key, value in asdict(clip).items() if key != "report"} for clip in found.clips]
    facts = {name: getattr(found, name) for name in ("corpus", "checkpoint", "method", "max_offset", "notes")}
    version = None if result.version is None else result.version.number
    return {**facts, "counts": found.counts, "version": version, "clips": clips}


def _print_audit(folder: str, result: Any) -> None:
    from orchestrator.evaluation.audit import AuditStatus
    from orchestrator.tracking import open_hint

    found = result.audit
    table = Table("status", "clips", "share", box=None)
    for status, count in found.counts.items():
        if count:
            table.add_row(str(status), str(count), f"{count / len(found.clips):.1%}")
    out.print(table)
    others = [clip for clip in found.clips if clip.status is not AuditStatus.IN_SYNC]
    print_lines(f"{clip.source}: {clip.status}, {clip.why}".replace("\n", "\\n") for clip in others[:_NAMED])
    if len(others) > _NAMED:
        print_lines([f"{len(others) - _NAMED} more are in the table audit/clips.csv of the MLflow run"])
    print_notes(found.notes)
    if result.version is None:
        print_lines(["nothing was written; give --write to correct the manifest"])
    else:
        undo = f"`orchestrator data undo {folder}` takes it back"
        print_lines([f"the manifest is at version {result.version.number}; {undo}"])
    print_card(
        "", {"report": result.report, "MLflow run": result.run_id, "open MLflow": open_hint(result.tracking_uri)}
    )


def _print_rounds(result: Any) -> None:
    from orchestrator.storage import redacted
    from orchestrator.tracking import open_hint

    table = Table("round", "in sync", "shifted", "changed", "manifest", "val/accuracy", "holdout/accuracy", box=None)
    for known in result.rounds:
        found, figures = known.audited or {}, known.trained or {}
        counts = [f"{found[f'audit/{name}']:.0f}" if found else "" for name in ("in_sync", "shifted")]
        told = [f"{figures[name]:.3f}" if name in figures else "" for name in ("val/accuracy", "holdout/accuracy")]
        version = "" if known.version is None else str(known.version)
        table.add_row(str(known.number), *counts, str(known.changed) if found else "", version, *told)
    out.print(table)
    print_lines([_ENDS[result.ended]])
    back = f"orchestrator data undo DIR --to {result.first_version}"
    places = {"run": result.run, "checkpoint": redacted(Path(result.checkpoint)) if result.checkpoint else "none"}
    print_card(result.name, {**places, "undo all": back, "open MLflow": open_hint(result.tracking_uri)})


_ENDS = {
    "settled": "the corpus has settled: the last audit changed hardly a clip",
    "rounds": "all rounds are done; the last run was trained on what the last audit wrote",
    "blind": "the network tells too little to audit by it: train longer, or give --first estimate under another name",
}
