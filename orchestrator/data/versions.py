"""The versions of a manifest: the current one and its history, in one file; those before it beside it.

File contract: `manifest.parquet` is the current version, and its schema's metadata lists all versions up to itself
(`syncnet.manifest_history`, JSON), so that file and history change together or not at all. A version that is replaced
is kept, byte for byte, as `manifests/NNNN.parquet` before its successor appears: killed in between, both are the same
version. A manifest without a history is version 0, as `prepare` writes it. Preparing again changes the current version
in place: versions are of revisions. One process writes at a time.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from orchestrator.data.manifest import MANIFEST_NAME, ManifestRow, manifest_bytes, parse_manifest, write_manifest
from orchestrator.errors import DataError
from orchestrator.storage import Entry, Folder

VERSIONS_FOLDER = "manifests"
_PREPARED = "prepared"
_FOREIGN = "written by a program that keeps no history"
_LOST = "prepared again after the manifest was lost"
_HINT = "`orchestrator data history DIR` lists the versions"


@dataclass(frozen=True)
class ManifestVersion:
    """One version of a manifest."""

    number: int
    """0 as prepared, then one more with every revision."""
    when: str
    """When it was written: ISO 8601, UTC; empty where the storage does not tell."""
    why: str
    """In a sentence."""
    changed: int = 0
    """Clips whose rows differ from those of the version before."""
    restores: int | None = None
    """The version whose revisions it brought back; none when it is a revision itself."""
    current: bool = False
    """Whether it is the one that is read."""


@dataclass(frozen=True)
class CurrentManifest:
    """A manifest as it stands, with its history."""

    content: bytes
    """The file."""
    rows: list[ManifestRow]
    """Its rows."""
    history: tuple[ManifestVersion, ...]
    """All versions by their number, itself included."""

    @property
    def version(self) -> ManifestVersion:
        """Itself."""
        return self.history[-1]


def manifest_versions(folder: Folder) -> list[ManifestVersion]:
    """All versions of a prepared folder's manifest, the oldest first.

    Raises:
        DataError: as `read_manifest`.
        StorageError: the storage does not answer.
    """
    return list(open_current(folder).history)


def open_current(folder: Folder) -> CurrentManifest:
    """The current manifest with its history.

    Raises:
        DataError: as `read_manifest`.
        StorageError: the storage does not answer.
    """
    content = manifest_bytes(folder)
    rows, history = parse_manifest(content, f"{folder.name}/{MANIFEST_NAME}")
    past = _parsed(history, folder) or _history_without(folder, content)
    return CurrentManifest(content, rows, (*past[:-1], replace(past[-1], current=True)))


def lost_current(folder: Folder) -> CurrentManifest | None:
    """What is known of a manifest that is gone or damaged: no rows and the history; none when nothing was kept."""
    if _newest_kept(folder) is None:
        return None
    past = _history_without(folder, b"")
    return CurrentManifest(b"", [], (*past[:-1], replace(past[-1], current=True)))


def rows_of(folder: Folder, manifest: CurrentManifest, number: int) -> list[ManifestRow]:
    """The rows of a version.

    Raises:
        DataError: `no_such_version`; as `read_manifest`.
    """
    if number == manifest.version.number:
        return manifest.rows
    name = _kept_name(number)
    if not 0 <= number < len(manifest.history):
        known = f"0 to {manifest.version.number}"
        message = f"the manifest of {folder.name} has no version {number}, but {known}"
        raise DataError(message, reason="no_such_version", path=folder.name, hint=_HINT)
    if folder.entry(name) is None:
        message = f"version {number} of the manifest is gone: there is no {name} in {folder.name}"
        raise DataError(message, reason="no_such_version", path=folder.name, hint="go back to another version")
    return parse_manifest(folder.read(name), f"{folder.name}/{name}")[0]


def latest_rows(
    folder: Folder, manifest: CurrentManifest, numbers: Iterable[int], clip_ids: set[str]
) -> dict[str, ManifestRow]:
    """Clips as they stand in the first of some versions that has them; versions that are gone have none.

    Raises:
        DataError: as `read_manifest`.
    """
    found: dict[str, ManifestRow] = {}
    for number in numbers:
        wanted = clip_ids - found.keys()
        if not wanted:
            break
        if number == manifest.version.number or folder.entry(_kept_name(number)) is not None:
            rows = rows_of(folder, manifest, number)
            found |= {row.clip_id: row for row in rows if row.clip_id in wanted}
    return found


def ancestry(history: tuple[ManifestVersion, ...], number: int) -> Iterator[int]:
    """A version and those that led to it, the latest first; what was undone on the way did not."""
    while number >= 0:
        yield number
        restored = history[number].restores
        number = number - 1 if restored is None else restored


def add_version(
    folder: Folder,
    manifest: CurrentManifest,
    rows: list[ManifestRow],
    why: str,
    now: Callable[[], float],
    restores: int | None = None,
) -> ManifestVersion:
    """Keep the current version and write the next one.

    Raises:
        StorageError: the folder cannot be written.
    """
    number = manifest.version.number + 1
    when, changed = _moment(now()), _count_changed(manifest.rows, rows)
    version = ManifestVersion(number, when, " ".join(why.split()), changed, restores, current=True)
    folder.write(_kept_name(manifest.version.number), manifest.content)
    write_manifest(folder, rows, _plain((*manifest.history, version)))
    return version


def rewrite_current(folder: Folder, manifest: CurrentManifest | None, rows: list[ManifestRow]) -> None:
    """Write other rows into the current version; there may be none yet.

    Raises:
        StorageError: the folder cannot be written.
    """
    kept = manifest is not None and _newest_kept(folder) is not None
    write_manifest(folder, rows, _plain(manifest.history) if manifest is not None and kept else "")


def _parsed(history: str, folder: Folder) -> tuple[ManifestVersion, ...]:
    if not history:
        return ()
    try:
        return tuple(ManifestVersion(**version) for version in json.loads(history))
    except (ValueError, TypeError) as error:
        message = f"the history in {folder.name}/{MANIFEST_NAME} cannot be read: {error}"
        raise DataError(message, reason="bad_manifest", path=folder.name, hint="prepare the videos again") from error


def _plain(history: Iterable[ManifestVersion]) -> str:
    plain = [asdict(version) for version in history]
    for version in plain:
        del version["current"]
    return json.dumps(plain)


def _history_without(folder: Folder, content: bytes) -> tuple[ManifestVersion, ...]:
    """The history of a manifest that holds none: of version 0, or of one that another program wrote over ours."""
    kept = _newest_kept(folder)
    if kept is None:
        return (ManifestVersion(0, _written(folder.entry(MANIFEST_NAME)), _PREPARED),)
    last = folder.read(kept.name)
    past = _parsed(parse_manifest(last, f"{folder.name}/{kept.name}")[1], folder)
    past = past or (ManifestVersion(0, _written(kept), _PREPARED),)
    if last == content:  # killed after version 0 was kept, before the next one was written
        return past
    return *past, ManifestVersion(
        past[-1].number + 1, _written(folder.entry(MANIFEST_NAME)), _FOREIGN if content else _LOST
    )


def _newest_kept(folder: Folder) -> Entry | None:
    stems = {
        entry: posixpath.basename(entry.name).removesuffix(".parquet") for entry in folder.entries(VERSIONS_FOLDER)
    }
    numbered = {entry: int(stem) for entry, stem in stems.items() if stem.isdecimal()}
    return max(numbered, key=lambda entry: numbered[entry], default=None)


def _kept_name(number: int) -> str:
    return f"{VERSIONS_FOLDER}/{number:04}.parquet"


def _written(entry: Entry | None) -> str:
    return _moment(entry.mtime_ns / 1e9) if entry is not None and entry.mtime_ns else ""


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _count_changed(before: Iterable[ManifestRow], after: Iterable[ManifestRow]) -> int:
    """Clips whose rows differ, those that only one has included."""
    old, new = ({row.clip_id: row for row in rows} for rows in (before, after))
    return sum(old.get(clip_id) != new.get(clip_id) for clip_id in old.keys() | new.keys())
