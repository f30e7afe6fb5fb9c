"""What preparation has already done: one JSON sidecar per shard, written after it, and the settings of the folder.

File contract: `shards/<name>.json` lists a record for every source of the unit, rejected ones included; where it
stands, its shard is whole. `preparation.json` holds the settings and their fingerprint. A sidecar that cannot be read
counts as absent, so that its clips are simply prepared again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.data.files import atomic_writer, sha256_of
from orchestrator.data.manifest import ManifestRow
from orchestrator.errors import DataError

SHARD_FOLDER = "shards"
PREPARATION_NAME = "preparation.json"


@dataclass(frozen=True)
class Record:
    """One source as it was when it was prepared."""

    row: ManifestRow
    """Its future manifest row, still without a split; `source` is the raw relative path."""
    size: int
    """Bytes of the source file; -1 when it could not be read, which no file matches."""
    mtime_ns: int
    """Its modification time."""

    def describes(self, source: Path) -> bool:
        """Whether the source still has the prepared content. Only a changed time costs reading the file."""
        try:
            status = source.stat()
            if status.st_size != self.size:
                return False
            return status.st_mtime_ns == self.mtime_ns or sha256_of(source) == self.row.fingerprint
        except OSError:
            return False


def write_records(out: Path, name: str, records: Iterable[Record]) -> None:
    """Write the sidecar of a finished unit, atomically."""
    _write_json(out / SHARD_FOLDER / f"{name}.json", [asdict(record) for record in records])


def current_records(root: Path, out: Path, sources: Iterable[str]) -> dict[str, Record]:
    """The record of every source that is already prepared as it stands now, by relative path."""
    known = _read_all(out)
    shards = {f"{SHARD_FOLDER}/{path.name}" for path in (out / SHARD_FOLDER).glob("*.arrow")}
    found: dict[str, Record] = {}
    for source in sources:
        for record in known.get(source, ()):
            if (not record.row.ok or record.row.shard in shards) and record.describes(root / source):
                found[source] = record
                break
    return found


def claim_folder(out: Path, fingerprint: str, settings: Mapping[str, Any]) -> None:
    """Mark the output folder as prepared with these settings, or check that it already is.

    Raises:
        DataError: `other_settings` when it was prepared with others.
    """
    path = out / PREPARATION_NAME
    if not path.exists():
        _write_json(path, {"fingerprint": fingerprint, "settings": dict(settings)})
        return
    try:
        stored = json.loads(path.read_text())
        same, old = stored["fingerprint"] == fingerprint, dict(stored["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}", reason="bad_preparation", path=str(path)) from error
    if not same:
        new = {key: value for key, value in settings.items() if old.get(key) != value}
        changed = [f"{key} is {old.get(key)} there, but {value} here" for key, value in new.items()]
        message = f"{out} was prepared with other settings: {'; '.join(changed) or 'by another version'}"
        hint = "use the same settings, or prepare into another folder"
        raise DataError(message, reason="other_settings", path=str(out), hint=hint)


def _read_all(out: Path) -> dict[str, list[Record]]:
    records: dict[str, list[Record]] = defaultdict(list)
    for path in sorted((out / SHARD_FOLDER).glob("*.json")):
        for record in _read_sidecar(path):
            records[record.row.source].append(record)
    return records


def _read_sidecar(path: Path) -> list[Record]:
    try:
        entries = json.loads(path.read_text())
        return [Record(ManifestRow(**entry["row"]), entry["size"], entry["mtime_ns"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write_json(path: Path, content: Any) -> None:
    # ASCII escapes also carry file names that are not valid Unicode.
    with atomic_writer(path) as file:
        file.write(json.dumps(content, indent=1).encode("ascii"))
