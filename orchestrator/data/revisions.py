"""Revisions of a manifest: what an audit or a person says of prepared clips, and the way back.

Promises: every revision is a new version of the manifest, and so is every undoing of one, so that the history only
grows (`versions.py`). Shards are never touched. A clip that a revision rejects keeps its place in its shard and can
come back; one that preparation rejected has none and cannot. Preparing again keeps all revisions until they are
undone, also of clips that were away meanwhile, whatever the list of videos says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from orchestrator.data.files import printable
from orchestrator.data.importers.clips import LONGEST_OFFSET_S, OK, REJECTED
from orchestrator.data.manifest import ManifestRow
from orchestrator.data.versions import (
    CurrentManifest,
    ManifestVersion,
    add_version,
    ancestry,
    latest_rows,
    lost_current,
    manifest_versions,
    open_current,
    rewrite_current,
    rows_of,
)
from orchestrator.errors import DataError
from orchestrator.storage import Folder

__all__ = ["REVISED", "ManifestVersion", "Revision", "manifest_versions", "restore_manifest", "revise_manifest"]

REVISED = "revised"
"""The audit code of a clip that was revised by somebody who gave none."""
_VERDICT = ("status", "reason", "detail")
_MEASURED = ("av_offset_s", "audit", "confidence")


@dataclass(frozen=True)
class Revision:
    """What is to be said of one clip from now on; none leaves a value as it is."""

    clip_id: str
    """The clip."""
    av_offset_s: float | None = None
    """How much later the sound comes than the picture, in seconds, in all: it replaces what was known before."""
    status: str | None = None
    """`ok` or `rejected`; ok takes reason and detail away."""
    reason: str | None = None
    """Short code of a rejection, which has one."""
    detail: str | None = None
    """The rejection in a sentence."""
    audit: str | None = None
    """Short code of what the audit found; a change without any is marked as `REVISED`."""
    confidence: float | None = None
    """How sure the audit was of the offset."""


def revise_manifest(
    folder: Folder, revisions: Iterable[Revision], why: str, *, now: Callable[[], float] = time.time
) -> ManifestVersion:
    """Write revisions as a new version of the manifest.

    Args:
        folder: the prepared folder.
        revisions: at most one of each clip.
        why: what the history says of them.
        now: seconds since the epoch.

    Returns:
        The new version, or the current one when nothing changes.

    Raises:
        DataError: `no_such_clip` for ids that the manifest does not have; `bad_revision` for values that cannot be,
            and for a verdict on a clip of which nothing is stored; as `read_manifest`. Nothing is written then.
        StorageError: the folder cannot be read or written.
    """
    manifest = open_current(folder)
    if not why.strip():
        raise _bad(folder.name, "need a reason, which the history keeps, but it is empty")
    given = _by_clip(folder, manifest, revisions)
    rows = [_revised(row, given[row.clip_id]) if row.clip_id in given else row for row in manifest.rows]
    return manifest.version if rows == manifest.rows else add_version(folder, manifest, rows, why, now)


def restore_manifest(
    folder: Folder, number: int | None = None, *, now: Callable[[], float] = time.time
) -> ManifestVersion:
    """Take revisions back: offsets, verdicts and audits become those of an earlier version, in a new one.

    What was prepared since then stays: clips that the version did not know become as they were prepared.

    Args:
        folder: the prepared folder.
        number: the version; none takes the nearest one before the current one that says anything else. Undoing twice
            therefore brings the revision back.
        now: seconds since the epoch.

    Returns:
        The new version, or the current one when it says the same as the numbered one.

    Raises:
        DataError: `no_such_version`; `nothing_to_undo` when no version before says anything else; as `read_manifest`.
        StorageError: the folder cannot be read or written.
    """
    manifest = open_current(folder)
    numbers = range(manifest.version.number - 1, -1, -1) if number is None else (number,)
    for each in numbers:
        rows = _as_of(folder, manifest, each)
        if rows != manifest.rows:
            why = f"back to version {each} ({_first_said(manifest, each)})"
            return add_version(folder, manifest, rows, why, now, restores=each)
    if number is None:
        message = f"no version of the manifest of {folder.name} before the current one says anything else"
        raise DataError(message, reason="nothing_to_undo", path=folder.name, hint="it was never revised")
    return manifest.version


def update_manifest(
    folder: Folder, rows: list[ManifestRow], *, now: Callable[[], float] = time.time
) -> list[ManifestRow]:
    """Write what was prepared, with the revisions of the manifest that is there, and give the rows as written.

    The current version is changed in place. Only where revised clips are not among the rows does it become a new
    version: the one before remembers their revisions until they are back.

    Raises:
        StorageError: the folder cannot be read or written.
    """
    manifest = _current_or_lost(folder)
    rows = sorted(rows, key=lambda row: row.clip_id)
    if manifest is None:
        rewrite_current(folder, None, rows)
        return rows
    clip_ids = {row.clip_id for row in rows}
    known = latest_rows(folder, manifest, ancestry(manifest.history, manifest.version.number), clip_ids)
    rows = [_with_revisions(row, known[row.clip_id]) if _is_revised(known.get(row.clip_id)) else row for row in rows]
    away = sum(row.clip_id not in clip_ids and _is_revised(row) for row in manifest.rows)
    if away:
        add_version(folder, manifest, rows, f"prepared again without {away} of the revised clips", now)
    elif rows != manifest.rows:
        rewrite_current(folder, manifest, rows)
    return rows


def _by_clip(folder: Folder, manifest: CurrentManifest, revisions: Iterable[Revision]) -> dict[str, Revision]:
    given: dict[str, Revision] = {}
    for revision in revisions:
        if revision.clip_id in given:
            raise _bad(revision.clip_id, "is revised twice at once")
        given[revision.clip_id] = revision
    unknown = sorted(given.keys() - {row.clip_id for row in manifest.rows})
    if unknown:
        message = f"{len(unknown)} of {len(given)} revised clips are not in the manifest of {folder.name}"
        hint = "give ids as the manifest has them: a clip whose content changed has another one"
        raise DataError(f"{message}, the first is {unknown[0]}", reason="no_such_clip", path=folder.name, hint=hint)
    return given


def _revised(row: ManifestRow, revision: Revision) -> ManifestRow:
    given = {name: value for name in (*_VERDICT, *_MEASURED) if (value := getattr(revision, name)) is not None}
    if not row.shard and given.keys() & set(_VERDICT):
        raise _bad(row.clip_id, f"was rejected by preparation ({row.reason}): nothing of it is stored")
    if given.get("status") == OK:
        given = {"reason": "", "detail": ""} | given
    new = replace(row, **{name: _plain(value) for name, value in given.items()})
    if new != row and not new.audit:
        new = replace(new, audit=REVISED)
    for problem in _problems(new):
        raise _bad(row.clip_id, problem)
    return new


def _plain(value: Any) -> Any:
    """A value as the manifest keeps it: valid Unicode, or a float whichever kind of number it was."""
    return printable(value) if isinstance(value, str) else float(value)


def _problems(row: ManifestRow) -> Iterable[str]:
    if row.status not in (OK, REJECTED):
        yield f"must be {OK} or {REJECTED}, but would be {row.status!r}"
    if row.ok and (row.reason or row.detail):
        yield f"would be ok, but with a reason: {row.reason or row.detail}"
    if row.status == REJECTED and not row.reason:
        yield "would be rejected without a reason"
    if not abs(row.av_offset_s) <= LONGEST_OFFSET_S:  # this way round, because of NaN
        yield f"needs an offset of at most {LONGEST_OFFSET_S:g} s, but {row.av_offset_s} is given"
    if not math.isfinite(row.confidence):
        yield f"needs a finite confidence, but {row.confidence} is given"


def _bad(what: str, found: str) -> DataError:
    message = f"a revision cannot be written: {what} {found}"
    return DataError(message, reason="bad_revision", path=what, hint="nothing was changed; correct it and try again")


def _as_of(folder: Folder, manifest: CurrentManifest, number: int) -> list[ManifestRow]:
    """The current rows with what a version says of them."""
    known = {row.clip_id: row for row in rows_of(folder, manifest, number)}
    away = {row.clip_id for row in manifest.rows} - known.keys()
    others = chain(ancestry(manifest.history, number), range(number + 1, len(manifest.history)))
    known |= latest_rows(folder, manifest, others, away)
    pairs = [(row, known[row.clip_id]) for row in manifest.rows]
    # of a clip that was revised neither then nor now, the list of videos says what there is to say
    return [_with_revisions(*pair) if any(map(_is_revised, pair)) else pair[0] for pair in pairs]


def _first_said(manifest: CurrentManifest, number: int) -> str:
    """Why a version says what it says, however often that was restored."""
    version = manifest.history[number]
    return version.why if version.restores is None else _first_said(manifest, version.restores)


def _is_revised(row: ManifestRow | None) -> bool:
    return row is not None and bool(row.audit)


def _with_revisions(row: ManifestRow, revised: ManifestRow) -> ManifestRow:
    """What was prepared, with what another state of the clip says of it; a verdict counts where both are stored."""
    names = (*_MEASURED, *(_VERDICT if row.shard and revised.shard else ()))
    return replace(row, **{name: getattr(revised, name) for name in names})


def _current_or_lost(folder: Folder) -> CurrentManifest | None:
    """The manifest that is there; preparing again replaces one that is not, or that cannot be read."""
    try:
        return open_current(folder)
    except DataError as error:
        if error.reason not in ("no_manifest", "bad_manifest"):
            raise
        return lost_current(folder)
