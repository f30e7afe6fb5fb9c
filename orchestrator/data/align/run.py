"""Aligning a folder of raw videos: what is left to do, the table of what is done, and both in this process.

`align_plan`, `AlignUnit.run` and `align_finish` are the parts that a cluster distributes; `align_local` runs them here.
Running again repeats nothing that is finished; the table holds every piece of every video, rejected ones included.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.extra import check_extra
from orchestrator.data.align.folders import clear_leftovers
from orchestrator.data.align.records import RECORD_FOLDER, TABLE_NAME, ClipRow, current_record, write_table
from orchestrator.data.align.unit import AlignResult, AlignUnit, align_unit
from orchestrator.data.claim import claim_folder
from orchestrator.data.importers import Listing, SourceClip, open_clips
from orchestrator.data.sources import Sources
from orchestrator.errors import DataError
from orchestrator.storage import Folder, open_folder


@dataclass(frozen=True)
class AlignPlan:
    """What there is and what is left to do."""

    listing: Listing
    """The raw videos, and what the root was taken for."""
    done: int
    """Videos that are aligned as they stand."""
    units: tuple[AlignUnit, ...]
    """The videos that are left."""


@dataclass(frozen=True)
class AlignSummary:
    """The totals of an aligned folder."""

    table: str
    """Path of the table of clips."""
    videos: int
    """Raw videos in the table."""
    pending: int
    """Raw videos that are not aligned yet."""
    clips: int
    """Good clips."""
    hours: float
    """Their length."""
    hours_rejected: dict[str, float]
    """Reason -> length of the rejected pieces."""
    rejected: dict[str, int]
    """Reason -> rejected pieces; a video that cannot be read is one piece."""
    speakers: int
    """Speakers with a good clip."""
    videos_without_clip: int
    """Videos of which nothing was kept."""
    notes: tuple[str, ...]
    """What the folder of raw videos was taken for."""


def align_plan(root: str | Path, out: str | Path, config: AlignConfig) -> AlignPlan:
    """See which videos are not aligned as they stand now.

    Args:
        root: folder of raw videos, a path or URI; only read.
        out: local folder for the clips; continued when it exists.
        config: the rules.

    Raises:
        DataError: `missing`, `no_videos` and the like (see `open_clips`); `other_settings` when `out` was made with
            others; `bad_folder` when `out` is no local folder outside of `root`.
        RunError: the optional libraries are not installed.
    """
    check_extra()
    source, target, listing = _opened(root, out, config)
    sources = Sources(source, many=True)
    good = [clip for clip in listing.clips if clip.status == "ok"]
    left = [clip for clip in good if current_record(clip, sources, target) is None]
    units = tuple(AlignUnit(source.uri, target.uri, clip, config) for clip in left)
    return AlignPlan(listing, len(good) - len(left), units)


def align_finish(root: str | Path, out: str | Path, config: AlignConfig) -> AlignSummary:
    """Write the table of everything aligned so far and sum it up. Safe to repeat.

    Raises:
        DataError: as `align_plan`.
    """
    source, target, listing = _opened(root, out, config)
    sources = Sources(source, many=True)
    rows: list[ClipRow] = []
    pending = 0
    for clip in listing.clips:
        if clip.status != "ok":
            rows.append(_listed(_refused(clip), clip))
            continue
        record = current_record(clip, sources, target)
        pending += record is None
        rows += [_listed(row, clip) for row in record.rows] if record is not None else []
    write_table(target, rows)
    if not pending and target.local_path is not None:
        clear_leftovers(target.local_path)
    return _summary(posixpath.join(target.name, TABLE_NAME), rows, pending, listing.notes)


def align_local(
    root: str | Path,
    out: str | Path,
    config: AlignConfig | None = None,
    on_progress: Callable[[int, int, AlignResult], None] | None = None,
) -> AlignSummary:
    """Align everything in this process.

    Args:
        root: folder of raw videos, a path or URI; only read.
        out: local folder for the clips and `clips.parquet`, which `prepare` takes.
        config: the rules.
        on_progress: called after every video with (videos done, videos to do, what became of it).

    Raises:
        DataError: as `align_plan`.
        RunError: as `align_plan`.
    """
    config = config or AlignConfig()
    units = align_plan(root, out, config).units
    for done, unit in enumerate(units, 1):
        result = align_unit(unit)
        if on_progress is not None:
            on_progress(done, len(units), result)
    return align_finish(root, out, config)


def _opened(root: str | Path, out: str | Path, config: AlignConfig) -> tuple[Folder, Folder, Listing]:
    """Both folders, the output marked with its settings, and what there is to align."""
    target = open_folder(out)
    source, listing = open_clips(root, config.layout, config.speaker)
    if target.local_path is None:
        message = f"clips are written to a local folder, but {target.name} is none"
        raise DataError(message, reason="bad_folder", path=target.name, hint="align into a local folder")
    if source.local_path is not None and target.local_path.resolve().is_relative_to(source.local_path.resolve()):
        message = f"{target.name} lies in the folder of raw videos, so that its clips would be taken for raw videos"
        raise DataError(message, reason="bad_folder", path=target.name, hint="align into a folder outside of it")
    claim_folder(target.child(RECORD_FOLDER), config.fingerprint(), config.settings())
    return source, target, listing


def _refused(clip: SourceClip) -> ClipRow:
    """A video that the listing rejects already."""
    return ClipRow(clip.source, clip.speaker, clip.status, clip.reason, clip.detail, clip.source)


def _listed(row: ClipRow, clip: SourceClip) -> ClipRow:
    """A piece with what the list says of its video now, and which decides nothing about the piece."""
    return replace(row, language=clip.language, tag=clip.tag)


def _summary(table: str, rows: list[ClipRow], pending: int, notes: tuple[str, ...]) -> AlignSummary:
    good, bad = [row for row in rows if row.ok], [row for row in rows if not row.ok]
    videos, used = {row.origin for row in rows}, {row.origin for row in good}
    hours: Counter[str] = Counter()
    for row in bad:
        hours[row.reason] += row.seconds / 3600  # type: ignore[assignment]
    return AlignSummary(
        table=table,
        videos=len(videos),
        pending=pending,
        clips=len(good),
        hours=sum(row.seconds for row in good) / 3600,
        hours_rejected=dict(sorted(hours.items())),
        rejected=dict(sorted(Counter(row.reason for row in bad).items())),
        speakers=len({row.speaker for row in good}),
        videos_without_clip=len(videos - used),
        notes=notes,
    )
