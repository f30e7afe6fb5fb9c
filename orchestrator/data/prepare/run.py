"""Preparation: videos become shards and a manifest, in units that any number of processes may share.

Promises: sources are only read; running again prepares only what is missing or changed, and repeats no clip that was
finished before it was stopped; one bad clip becomes one rejected row with its reason; the same videos and settings give
the same shard bytes; revisions of the manifest stay. `plan_units`, `PrepareUnit.run` and `finish` are the parts that a
cluster distributes; `prepare_local` runs them in this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.media import FPS
from orchestrator.data.claim import claim_folder
from orchestrator.data.files import printable
from orchestrator.data.importers import Listing, SourceClip, open_clips
from orchestrator.data.manifest import MANIFEST_NAME, ManifestRow
from orchestrator.data.prepare.records import PART_FOLDER, SHARD_FOLDER, current_records
from orchestrator.data.prepare.settings import PreparationConfig, fingerprint_of
from orchestrator.data.prepare.splits import split_speakers
from orchestrator.data.prepare.unit import PrepareUnit
from orchestrator.data.revisions import update_manifest
from orchestrator.data.sources import Sources
from orchestrator.data.work import ClipDone
from orchestrator.storage import Folder, open_folder

if TYPE_CHECKING:
    from orchestrator.data.prepare.latents import Encoder

Where = str | Path
"""A folder on this machine, or the URI of one."""


@dataclass(frozen=True)
class PreparePlan:
    """What there is and what is left to do."""

    listing: Listing
    """The clips, and what the root was taken for."""
    done: int
    """Clips that are prepared as they stand."""
    units: tuple[PrepareUnit, ...]
    """The work that is left."""

    @property
    def todo(self) -> int:
        """Clips that are left."""
        return sum(len(unit.clips) for unit in self.units)


@dataclass(frozen=True)
class PrepareSummary:
    """The totals of a prepared folder."""

    manifest: str
    """Path or URI of the manifest."""
    ok: int
    """Usable clips."""
    pending: int
    """Sources not prepared yet."""
    rejected: dict[str, int]
    """Reason -> clips."""
    hours: float
    """Length of the usable clips."""
    speakers: dict[str, int]
    """Split -> speakers."""
    clips: dict[str, int]
    """Split -> clips."""
    split_hours: dict[str, float]
    """Split -> hours."""
    warnings: tuple[str, ...]
    """What a person should know before training on it."""
    audits: dict[str, int] = field(default_factory=dict)
    """What audits said -> clips, rejected ones included; empty when nothing was audited."""


def plan_units(root: Where, out: Where, config: PreparationConfig) -> PreparePlan:
    """The work that is left: clips without a current record, sorted, in groups of `clips_per_shard`.

    Raises:
        DataError: as `open_clips`; `other_settings` when `out` was prepared differently.
        StorageError: a folder cannot be read or written.
    """
    target = open_folder(out)
    source, listing = open_clips(root, config.layout, config.speaker)
    preparation = _claim(target, config)
    clips = _usable(listing)
    done = current_records(Sources(source, many=True), target, clips, preparation)
    todo = [clip for clip in clips if clip.source not in done]
    size = config.clips_per_shard
    groups = [tuple(todo[first : first + size]) for first in range(0, len(todo), size)]
    units = tuple(PrepareUnit(source.uri, target.uri, group, config, preparation) for group in groups)
    return PreparePlan(listing, len(done), units)


def finish(root: Where, out: Where, config: PreparationConfig) -> PrepareSummary:
    """Write the manifest of everything prepared so far and sum it up. Cheap, and safe to repeat.

    Raises:
        OrchestratorError: as `plan_units`.
    """
    target = open_folder(out)
    source, listing = open_clips(root, config.layout, config.speaker)
    preparation = _claim(target, config)
    clips = _usable(listing)
    done = current_records(Sources(source, many=True), target, clips, preparation)
    rows = [_manifest_row(clip, done[clip.source].row) for clip in clips if clip.source in done]
    rows += [_refused_row(clip) for clip in listing.clips if clip.status != "ok"]
    prepared = _with_splits(rows, config.val_fraction)
    rows = update_manifest(target, prepared)
    pending = len(clips) - len(done)
    if not pending:
        _sweep(target)
    return summarise(target, rows, pending, list(_overruled(prepared, rows)))


def summarise(out: Folder, rows: list[ManifestRow], pending: int = 0, warnings: Sequence[str] = ()) -> PrepareSummary:
    """The totals of a prepared folder with these manifest rows, and the warnings beside those that the rows give."""
    ok = [row for row in rows if row.ok]
    speakers = Counter(split for split, _ in {(row.split, row.speaker) for row in ok})
    frames = {split: sum(row.num_frames for row in ok if row.split == split) for split in ("train", "val")}
    return PrepareSummary(
        manifest=f"{out.name}/{MANIFEST_NAME}",
        ok=len(ok),
        pending=pending,
        rejected=dict(sorted(Counter(row.reason for row in rows if not row.ok).items())),
        hours=sum(frames.values()) / FPS / 3600,
        speakers={split: speakers[split] for split in ("train", "val")},
        clips={split: sum(row.split == split for row in ok) for split in ("train", "val")},
        split_hours={split: count / FPS / 3600 for split, count in frames.items()},
        warnings=(*_warnings(ok), *warnings),
        audits=dict(sorted(Counter(row.audit for row in rows if row.audit).items())),
    )


def prepare_local(
    root: Where,
    out: Where,
    config: PreparationConfig,
    on_done: Callable[[ClipDone], None] | None = None,
) -> PrepareSummary:
    """Prepare everything in this process.

    Args:
        root: the videos: a folder searched with its subfolders, on this machine or in object storage, or a list.
        out: prepared folder; continued when it exists.
        config: the settings.
        on_done: called after every clip.

    Raises:
        OrchestratorError: as `plan_units` and `PrepareUnit.run`.
    """
    for unit in plan_units(root, out, config).units:
        for message in unit.run():
            if on_done is not None and isinstance(message, ClipDone):
                on_done(message)
    return finish(root, out, config)


def _usable(listing: Listing) -> list[SourceClip]:
    return [clip for clip in listing.clips if clip.status == "ok"]


def _claim(out: Folder, config: PreparationConfig) -> str:
    """The fingerprint of the settings, after a check that the folder is theirs."""
    identity = config.identity(_encoder_fingerprint)
    fingerprint = fingerprint_of(identity)
    if config.latents is not None:
        _encoder(config.latents).shape(config.resolution, config.resolution)  # refuses sizes that it cannot take
    claim_folder(out, fingerprint, identity)
    return fingerprint


def _encoder_fingerprint(specification: str) -> str:
    return _encoder(specification).fingerprint


def _encoder(specification: str) -> Encoder:
    from orchestrator.data.prepare.latents import load_encoder

    return load_encoder(specification)


def _manifest_row(clip: SourceClip, row: ManifestRow) -> ManifestRow:
    """What the content decided, with what the listing says of the clip, in valid Unicode, as Parquet wants it."""
    return replace(
        row,
        source=printable(clip.source),
        speaker=printable(clip.speaker),
        detail=printable(row.detail),
        split=clip.split if row.ok else "",
        av_offset_s=clip.av_offset_s,
        origin=printable(clip.origin),
        language=printable(clip.language),
        tag=printable(clip.tag),
    )


def _refused_row(clip: SourceClip) -> ManifestRow:
    """A clip that an earlier stage, or the list itself, has rejected: nothing disappears."""
    row = ManifestRow(printable(clip.source), clip.source, "", clip.status, clip.reason, clip.detail)
    return _manifest_row(clip, row)


def _with_splits(rows: list[ManifestRow], val_fraction: float) -> list[ManifestRow]:
    """Every usable row with its split: the one that its list fixed, or its speaker's."""
    splits = split_speakers((row.speaker for row in rows if row.ok and not row.split), val_fraction)
    return [replace(row, split=row.split or splits[row.speaker]) if row.ok else row for row in rows]


def _sweep(out: Folder) -> None:
    """Remove what no unit will ask for any more: finished clips of sources that changed, files of killed writers."""
    for entry in out.entries(PART_FOLDER):
        out.delete(entry.name)
    if out.local_path is not None:
        for name in (PART_FOLDER, SHARD_FOLDER):
            for temporary in (out.local_path / name).glob(".*.tmp"):
                temporary.unlink(missing_ok=True)


def _overruled(prepared: list[ManifestRow], written: list[ManifestRow]) -> Iterator[str]:
    """Offsets that the list gives and that a revision has replaced."""
    listed = {row.clip_id: row.av_offset_s for row in prepared}
    # a list that gives none says 0, which is no objection to what was measured
    overruled = [row for row in written if listed[row.clip_id] not in (0.0, row.av_offset_s)]
    if overruled:
        first = overruled[0]
        yield (
            f"{len(overruled)} clips keep the A/V offset of a revision, although the list gives another one, e.g. "
            f"{first.av_offset_s:g} s instead of {listed[first.clip_id]:g} s for {first.source!r}: see data undo"
        )


def _warnings(ok: list[ManifestRow]) -> Iterator[str]:
    speakers = {row.speaker for row in ok}
    if len(speakers) == 1:
        yield f"all clips belong to one speaker, {ok[0].speaker!r}, so none is left to validate on: see --speaker"
    both = (
        speakers
        & {row.speaker for row in ok if row.split == "val"}
        & {row.speaker for row in ok if row.split == "train"}
    )
    if both:
        yield f"{len(both)} speakers stand in both splits, as the list says, e.g. {min(both)!r}: validation knows them"
    copies = len(ok) - len({row.fingerprint for row in ok})
    if copies:
        yield f"{copies} clips are copies of others, byte for byte, and may stand in both splits"
