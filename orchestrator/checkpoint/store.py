"""What is in a folder of canonical directories, on this machine or in remote storage?

Promises: no tensor is read and nothing is changed; what is not whole is listed as such, and never as a checkpoint.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrator.checkpoint.directory import (
    HISTORY,
    REPORT,
    STATE,
    is_canonical,
    is_complete,
    read_manifest,
    read_plain,
    read_report,
)
from orchestrator.checkpoint.manifest import MANIFEST
from orchestrator.checkpoint.partials import PREFIX
from orchestrator.checkpoint.state import Json
from orchestrator.checkpoint.storage import (
    Location,
    checkpoint_errors,
    fetched,
    is_whole,
    join,
    local_path,
    open_place,
    state_folders,
)
from orchestrator.config import load_model_config
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import skeleton

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StateRecord:
    """One entry of a folder of states."""

    name: str
    """Its folder's name: the content hash, where `normalize` made it."""
    path: str
    """Where it is."""
    complete: bool
    """Whether its manifest and all its files are there."""
    problem: str = ""
    """Why it is not complete."""
    content_hash: str = ""
    """The digest of the state."""
    file: str = ""
    """The foreign file that it came from; empty when there was none."""
    architecture: str = ""
    """How its network was recognised."""
    parameters: int = 0
    """Numbers in the weights."""
    step: int = 0
    """Optimizer steps done."""
    averaged: bool = False
    """Whether it is judged and handed on by the running average of its weights."""
    size: int = 0
    """Bytes of all files."""
    created: float | None = None
    """When its manifest was written, in seconds since the epoch."""

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON data."""
        return asdict(self)

    def line(self) -> str:
        """For a person."""
        if not self.complete:
            return f"{self.name}  incomplete: {self.problem}"
        when = "" if self.created is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(self.created))
        facts = [self.name, f"step {self.step}", self.architecture, f"{self.parameters:,} parameters"]
        facts += ["running average"] * self.averaged
        return "  ".join((*facts, f"{self.size:,} bytes", when, f"from {self.file}" if self.file else "")).rstrip()


def list_states(folder: Location) -> list[StateRecord]:
    """Every state in a folder, newest first, then what is not whole. Reads no tensor.

    Args:
        folder: what `normalize` writes to, a run's folder, or one canonical directory; also a URI.

    Raises:
        CheckpointError: `missing` or `storage`.
    """
    local = local_path(folder)
    if local is None:
        records = [_stored_record(join(folder, name)) for name in state_folders(open_place(folder))]
        records = records or [_stored_record(str(folder))]
    elif is_canonical(local):
        records = [_record(local)]
    else:
        records = [_record(item) for item in entries(local)]
    return sorted(records, key=lambda record: (not record.complete, -(record.created or 0), record.name))


def entries(folder: Path) -> list[Path]:
    """Canonical directories and leftovers in a folder.

    Raises:
        CheckpointError: `missing`.
    """
    if not folder.is_dir():
        what = f"there is no folder {folder}"
        raise CheckpointError(what, reason=RefusalReason.MISSING, path=str(folder), hint="check the path")
    return [
        item
        for item in sorted(folder.iterdir())
        if item.name.startswith(PREFIX) or (item.is_dir() and (is_canonical(item) or _HASH.fullmatch(item.name)))
    ]


def _record(folder: Path) -> StateRecord:
    """What the small files of a directory say."""
    blank = StateRecord(folder.name, str(folder), False, "left by an interrupted program")
    if folder.name.startswith(PREFIX):
        return blank
    try:
        record = _described(folder, blank)
    except CheckpointError as error:
        return replace(blank, problem=error.message)
    if is_complete(folder):
        return replace(record, created=(folder / MANIFEST).stat().st_mtime)
    return replace(record, complete=False, problem="files are missing, or shorter than its manifest says")


def _stored_record(uri: str) -> StateRecord:
    """The same of a directory in remote storage."""
    place = open_place(uri)
    name = place.path.rpartition("/")[2]
    blank = StateRecord(name, place.name, False, "left by an interrupted program")
    try:
        with fetched(uri, only=(STATE, HISTORY, REPORT)) as folder:
            record = _described(folder, blank)
    except CheckpointError as error:
        return replace(blank, problem=error.message)
    if not is_whole(place):
        return replace(record, complete=False, problem="files are missing, or shorter than its manifest says")
    with checkpoint_errors():
        return replace(record, created=place.written(MANIFEST))


def _described(folder: Path, blank: StateRecord) -> StateRecord:
    manifest, plain, report = read_manifest(folder), read_plain(folder), read_report(folder)
    model = load_model_config(plain["model"])
    tensors = skeleton(model).state_dict().values()
    return replace(
        blank,
        complete=True,
        problem="",
        content_hash=manifest.content_hash,
        file=str(report.get("file_name", "")),
        architecture=str(report.get("architecture", model.name)),
        parameters=sum(tensor.numel() for tensor in tensors if tensor.is_floating_point()),
        step=int(plain["step"]),
        averaged="ema" in manifest.content,
        size=sum(entry.size for entry in manifest.files.values()),
    )
