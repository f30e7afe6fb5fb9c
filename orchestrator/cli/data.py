"""The commands on data: align raw videos, prepare aligned ones, and look at what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli import manifest
from orchestrator.cli.console import AsJson, Gpus, Prepared, out, print_card, print_json, print_notes

app = typer.Typer(no_args_is_help=True, help="Look at prepared data.")
Videos = Annotated[
    str, typer.Argument(metavar="VIDEOS", help="A folder of videos or a list of them (fileslist.txt); a path or a URI.")
]
Layout = Annotated[
    str, typer.Option(help="How the videos lie: auto, folder, voxceleb2, lrs, hdtf, wav2lip, fileslist, table.")
]
Speaker = Annotated[
    str, typer.Option(help="How the speaker is told: auto (by the layout), folder, parent, file, regex:PATTERN.")
]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting.")]


def align(
    videos: Videos,
    folder: Annotated[str, typer.Option("--out", help="Folder for the aligned clips, for `prepare`.")],
    faces: Annotated[str, typer.Option(help="Several faces in a picture: reject, or follow the largest.")] = "reject",
    layout: Layout = "auto",
    speaker: Speaker = "auto",
    settings: Settings = None,
    gpus: Gpus = 0,
    as_json: AsJson = False,
) -> None:
    """Raw videos become clips of one aligned face each; run again, it does only what is missing."""
    from orchestrator.data.align.config import AlignConfig
    from orchestrator.runtime.align import align as run

    config = _checked(AlignConfig, {"faces": faces, "layout": layout, "speaker": speaker}, settings)
    told = run(videos, folder, config, console=Console(quiet=True) if as_json else out, gpus=gpus)
    if as_json:
        print_json(asdict(told))
    else:
        _print_aligned(folder, told)
    raise typer.Exit(int(not told.clips))


def prepare(
    videos: Videos,
    folder: Annotated[str, typer.Option("--out", help="Folder for shards and manifest; a path or a URI.")],
    resolution: Annotated[int, typer.Option(help="Pixels per side of the stored face.")] = 256,
    full_face: Annotated[bool, typer.Option("--full-face", help="Store whole faces, not lower halves.")] = False,
    storage: Annotated[str, typer.Option(help="raw: fastest to read. compact: H.264, a fortieth of the size.")] = "raw",
    latents: Annotated[
        str | None, typer.Option(metavar="ENCODER", help="Store latents: diffusers:FOLDER or python:MODULE:FACTORY.")
    ] = None,
    layout: Layout = "auto",
    speaker: Speaker = "auto",
    val_fraction: Annotated[float, typer.Option(help="Share of the speakers kept for validation.")] = 0.1,
    settings: Settings = None,
    gpus: Gpus = 0,
    as_json: AsJson = False,
) -> None:
    """Videos become shards and a manifest; run again, it does only what is missing."""
    from orchestrator.data.prepare.settings import PreparationConfig
    from orchestrator.runtime.prepare import prepare as run

    options = {
        "resolution": resolution,
        "lower_half": not full_face and latents is None,
        "storage": storage,
        "latents": latents,
        "layout": layout,
        "speaker": speaker,
        "val_fraction": val_fraction,
    }
    config = _checked(PreparationConfig, options, settings)
    console = Console(quiet=True) if as_json else out
    summary = run(videos, folder, config, console=console, gpus=gpus)
    if as_json:
        print_json(asdict(summary))
    else:
        _print_prepared(folder, summary)
    raise typer.Exit(int(not summary.ok))


@app.command()
def show(
    folder: Prepared,
    picture: Annotated[Path, typer.Option("--out", help="The PNG to write.")] = Path("samples.png"),
    count: Annotated[int, typer.Option(min=1, max=64, help="How many samples.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Another seed shows others.")] = 0,
    clips: Annotated[list[str] | None, typer.Option("--clip", help="A clip to show, by its id or source.")] = None,
) -> None:
    """Draw some samples, frames over mel, as a PNG: look before you train."""
    from orchestrator.data.corpus import Corpus
    from orchestrator.data.corpus.show import contact_sheet

    out.print(
        f"wrote {contact_sheet(Corpus.open(folder), picture, count=count, seed=seed, clips=clips)}", soft_wrap=True
    )


@app.command()
def summary(
    folder: Prepared,
    rejected: Annotated[bool, typer.Option("--rejected", help="List every rejected clip with its reason.")] = False,
    as_json: AsJson = False,
) -> None:
    """What a prepared folder holds: hours, speakers, and what was rejected, by reason."""
    from orchestrator.data.manifest import read_manifest
    from orchestrator.data.prepare import summarise
    from orchestrator.storage import open_folder

    rows = read_manifest(open_folder(folder))
    told = summarise(open_folder(folder), rows)
    if as_json:
        print_json(asdict(told))
        return
    if rejected:
        for row in rows:
            if not row.ok:
                line = f"{row.source}: {row.reason}, {row.detail}".replace("\n", "\\n")  # one line, whatever the name
                out.print(line, markup=False, soft_wrap=True)
    _print_prepared(folder, told)


app.command()(manifest.history)
app.command()(manifest.undo)


def _checked(schema: type, options: dict[str, Any], settings: list[str] | None) -> Any:
    """A stage's settings from options and `key=value` strings; all problems at once."""
    import yaml
    from pydantic import ValidationError

    from orchestrator.config.findings import describe_validation
    from orchestrator.errors import ConfigError

    malformed: list[str] = []
    given: dict[str, Any] = {}
    for text in settings or []:
        key, equals, value = text.partition("=")
        try:
            given[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            malformed.append(f"`{text}` cannot be read as YAML: {' '.join(str(error).split())}")
        if not equals:
            malformed.append(f"`{text}` is not KEY=VALUE")
    if malformed:
        raise ConfigError(malformed, source="--set")
    try:
        return schema(**options | given)
    except ValidationError as error:
        raise ConfigError(describe_validation(error, schema), source="the options") from None


def _print_aligned(folder: str, told: Any) -> None:
    facts = {"clips": told.clips, "hours": f"{told.hours:.2f}", "speakers": told.speakers, "table": told.table}
    videos_told = f"{told.videos}, {told.videos_without_clip} of them without a good clip"
    print_card(folder, {"videos": videos_told, **facts} | ({"not aligned yet": told.pending} if told.pending else {}))
    _print_rejected(told.rejected, told.hours_rejected)
    out.print(f"next: orchestrator prepare {folder} --out PREPARED", markup=False, soft_wrap=True)


def _print_rejected(counts: Mapping[str, int], hours: Mapping[str, float]) -> None:
    """Reasons with how often, and how long where that is known, the most frequent first."""
    if not counts:
        return
    table = Table("rejected", "pieces" if hours else "clips", *(["hours"] if hours else []), box=None)
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(reason, str(count), *([f"{hours.get(reason, 0):.2f}"] if hours else []))
    out.print(table)


def _print_prepared(folder: str, told: Any) -> None:
    from orchestrator.storage import redacted

    out.print(redacted(folder), markup=False, soft_wrap=True)
    table = Table("split", "clips", "speakers", "hours", box=None)
    for split in ("train", "val"):
        hours = f"{told.split_hours[split]:.2f}"
        table.add_row(split, str(told.clips[split]), str(told.speakers[split]), hours)
    table.add_row("all", str(told.ok), str(sum(told.speakers.values())), f"{told.hours:.2f}", style="bold")
    out.print(table)
    _print_rejected(told.rejected, {})
    if told.audits:
        audits = Table("audit", "clips", box=None)
        for code, count in sorted(told.audits.items(), key=lambda item: -item[1]):
            audits.add_row(Text(code), str(count))
        out.print(audits)
    facts = {"manifest": told.manifest}
    if told.pending:
        facts["not prepared yet"] = told.pending
    print_card("", facts)
    print_notes(told.warnings)
