"""The commands on a manifest's versions: what was revised when and why, and the way back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from orchestrator.cli.console import AsJson, Prepared, out, print_json, print_lines


def history(folder: Prepared, as_json: AsJson = False) -> None:
    """The versions of a prepared folder's manifest: when, why, and how many clips each changed."""
    from orchestrator.data.revisions import manifest_versions
    from orchestrator.storage import open_folder

    versions = manifest_versions(open_folder(folder))
    if as_json:
        print_json([asdict(version) for version in versions])
        return
    table = Table("version", "when", "clips changed", "why", box=None)
    for version in versions:
        number = f"{version.number}{' (current)' if version.current else ''}"
        changed = str(version.changed) if version.number else ""
        table.add_row(number, version.when or "unknown", changed, Text(version.why))
    out.print(table)


def undo(
    folder: Prepared,
    number: Annotated[
        int | None, typer.Option("--to", min=0, metavar="N", help="A version, as `data history` numbers them.")
    ] = None,
) -> None:
    """Take the last revision of a manifest back, or all since a version; twice brings it back."""
    from orchestrator.data.revisions import restore_manifest
    from orchestrator.storage import open_folder

    version = restore_manifest(open_folder(folder), number)
    print_lines([f"version {version.number} is current: {version.why}; {version.changed} clips changed"])
