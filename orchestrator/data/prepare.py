"""Preparation: a folder of videos becomes shards and a manifest, in units that any number of processes may share.

Promises: sources are only read; a unit's shard and sidecar appear whole or not at all; running again prepares only
what is missing or changed; one bad clip becomes one rejected row with its reason; the same videos and settings give
the same shard bytes. `plan_units`, `run_unit` and `finish` are the parts that a cluster distributes; `prepare_local`
runs them in this process.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from orchestrator.config.media import FPS
from orchestrator.config.section import Section
from orchestrator.data.decode import decode_clip
from orchestrator.data.features import log_mel
from orchestrator.data.files import find_videos, printable, sha256_of
from orchestrator.data.manifest import ManifestRow, write_manifest
from orchestrator.data.records import SHARD_FOLDER, Record, claim_folder, current_records, write_records
from orchestrator.data.shards import ClipArrays, write_shard
from orchestrator.data.splits import speaker_of, split_speakers
from orchestrator.errors import DataError

FEATURE_VERSION = 1
"""Changes whenever the same video would give other frames or another mel."""
_LAYOUT_ONLY = {"val_fraction", "clips_per_shard"}


class PreparationConfig(Section):
    """How videos are prepared."""

    resolution: int = Field(default=256, ge=16)
    """Pixels per side to which every frame is resized; videos are expected to show an aligned face."""
    lower_half: bool = True
    """Store only the lower half of each frame, which is all that the usual SyncNets see."""
    min_frames: int = Field(default=32, ge=1)
    """Clips with fewer frames (at 25 per second) are rejected; 32 is a window of 16 and a negative beside it."""
    max_frames: int = Field(default=15_000, ge=1)
    """Clips with more frames are rejected: a clip is held in memory while it is prepared."""
    min_rms: float = Field(default=1e-3, ge=0)
    """Clips whose wave has a smaller root mean square (of full scale 1) are rejected as silent; 1e-3 is -60 dB."""
    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the speakers kept for validation, at least one of several. May be changed without preparing again."""
    clips_per_shard: int = Field(default=16, ge=1)
    """Clips prepared and stored together. May be changed without preparing again."""

    def fingerprint(self) -> str:
        """Hash of every setting that decides what is stored of a clip, and of the features' version."""
        settings = {"features": FEATURE_VERSION, **self.model_dump(mode="json", exclude=_LAYOUT_ONLY)}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Unit:
    """A piece of work for one process: sources that become one shard."""

    root: str
    """Folder of videos."""
    out: str
    """Prepared folder."""
    sources: tuple[str, ...]
    """Relative paths."""
    config: PreparationConfig
    """The settings."""


@dataclass(frozen=True)
class UnitResult:
    """What became of a unit."""

    ok: int
    """Clips stored."""
    rejected: int
    """Clips rejected."""
    num_frames: int
    """Frames stored."""


@dataclass(frozen=True)
class PrepareSummary:
    """The totals of a prepared folder."""

    manifest: str
    """Path of the manifest."""
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
    warnings: tuple[str, ...]
    """What a person should know before training on it."""


def plan_units(root: str | Path, out: str | Path, config: PreparationConfig) -> list[Unit]:
    """The work that is left: sources without a current record, sorted, in groups of `clips_per_shard`.

    Raises:
        DataError: `missing` without a folder `root`, `no_videos` when it holds none, `other_settings` when `out` was
            prepared differently.
    """
    root, out = Path(root).resolve(), Path(out).resolve()
    sources = _sources(root)
    _claim(out, config)
    done = current_records(root, out, sources)
    todo = [source for source in sources if source not in done]
    size = config.clips_per_shard
    groups = [tuple(todo[first : first + size]) for first in range(0, len(todo), size)]
    return [Unit(str(root), str(out), group, config) for group in groups]


def run_unit(unit: Unit) -> UnitResult:
    """Prepare a unit's clips into one shard and its sidecar. Running it twice writes the same files."""
    root, out, preparation = Path(unit.root), Path(unit.out), unit.config.fingerprint()
    identities = [_identify(root, source, preparation) for source in unit.sources]
    content = "\n".join([preparation, *(record.row.clip_id for record in identities)])
    name = hashlib.sha256(content.encode()).hexdigest()[:20]
    shard = f"{SHARD_FOLDER}/{name}.arrow"
    records: list[Record] = []
    if not write_shard(out / shard, _clips(unit, identities, shard, records), preparation):
        (out / shard).unlink()
    write_records(out, name, records)
    ok = [record.row for record in records if record.row.ok]
    return UnitResult(len(ok), len(records) - len(ok), sum(row.num_frames for row in ok))


def finish(root: str | Path, out: str | Path, config: PreparationConfig) -> PrepareSummary:
    """Write the manifest of everything prepared so far and sum it up. Cheap, and safe to repeat.

    Raises:
        DataError: as `plan_units`.
    """
    root, out = Path(root).resolve(), Path(out).resolve()
    sources = _sources(root)
    _claim(out, config)
    done = current_records(root, out, sources)
    rows = [_public(record.row) for record in done.values()]
    splits = split_speakers((row.speaker for row in rows if row.ok), config.val_fraction)
    rows = [replace(row, split=splits[row.speaker]) if row.ok else row for row in rows]
    return _summary(write_manifest(out, rows), rows, len(sources) - len(done))


def prepare_local(
    root: str | Path,
    out: str | Path,
    config: PreparationConfig,
    on_progress: Callable[[int, int, UnitResult], None] | None = None,
) -> PrepareSummary:
    """Prepare everything in this process.

    Args:
        root: folder of videos, searched with its subfolders.
        out: prepared folder; continued when it exists.
        config: the settings.
        on_progress: called after every unit with (clips done, clips to do, the unit's result).

    Raises:
        DataError: as `plan_units`.
    """
    units = plan_units(root, out, config)
    total, done = sum(len(unit.sources) for unit in units), 0
    for unit in units:
        result = run_unit(unit)
        done += len(unit.sources)
        if on_progress is not None:
            on_progress(done, total, result)
    return finish(root, out, config)


def _sources(root: Path) -> list[str]:
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", reason="missing", path=str(root))
    sources = find_videos(root)
    if not sources:
        hint = "videos are files named .mp4, .mov, .mkv, .avi, .webm, .mpg, .mpeg or .m4v"
        raise DataError(f"there is no video in {root} or below", reason="no_videos", path=str(root), hint=hint)
    return sources


def _claim(out: Path, config: PreparationConfig) -> None:
    claim_folder(out, config.fingerprint(), config.model_dump(mode="json", exclude=_LAYOUT_ONLY))


def _identify(root: Path, source: str, preparation: str) -> Record:
    """Who the clip is, before anything is decoded. The time is read before the content: a later change is seen."""
    path = root / source
    try:
        status = path.stat()
        fingerprint, size, mtime_ns = sha256_of(path), status.st_size, status.st_mtime_ns
    except OSError:
        fingerprint, size, mtime_ns = "", -1, 0
    clip_id = f"{printable(source)}#{fingerprint[:12]}"
    row = ManifestRow(clip_id, source, fingerprint, "ok", speaker=speaker_of(source), preparation=preparation)
    return Record(row, size, mtime_ns)


def _clips(unit: Unit, identities: list[Record], shard: str, records: list[Record]) -> Iterator[ClipArrays]:
    """Decode one clip after the other; good ones are yielded, and every one leaves its record."""
    stored = 0
    for identity in identities:
        path = Path(unit.root) / identity.row.source
        try:
            if identity.size < 0:
                raise DataError(f"{path}: cannot be read", reason="missing")
            arrays, rms = _load(path, identity.row.clip_id, unit.config)
        except DataError as error:
            detail = error.message.removeprefix(f"{path}: ")
            row = replace(identity.row, status="rejected", reason=error.reason, detail=detail)
            records.append(replace(identity, row=row))
            continue
        yield arrays
        num_frames, _, height, width = arrays.frames.shape
        size = {"num_frames": num_frames, "duration_s": num_frames / FPS, "height": height, "width": width}
        row = replace(identity.row, **size, rms=rms, shard=shard, row=stored)
        records.append(replace(identity, row=row))
        stored += 1


def _load(path: Path, clip_id: str, config: PreparationConfig) -> tuple[ClipArrays, float]:
    """The arrays of a clip and the root mean square of its wave."""
    clip = decode_clip(path, config.resolution, lower_half=config.lower_half, max_frames=config.max_frames)
    num_frames = len(clip.frames_THWC)
    if num_frames < config.min_frames:
        message = f"the clip has {num_frames} frames, but {config.min_frames} are needed"
        raise DataError(message, reason="too_short")
    rms = float(np.sqrt(np.mean(np.square(clip.wave, dtype=np.float64))))
    if not rms >= config.min_rms:  # this way round, because a broken stream can also give NaN
        raise DataError(f"the sound is silent (root mean square {rms:.2g} of full scale)", reason="silent")
    mel = log_mel(torch.from_numpy(clip.wave)).numpy()
    return ClipArrays(clip_id, clip.frames_THWC.transpose(0, 3, 1, 2), mel), rms


def _public(row: ManifestRow) -> ManifestRow:
    """The row with names that are valid Unicode, as Parquet wants them."""
    return replace(row, source=printable(row.source), speaker=printable(row.speaker), detail=printable(row.detail))


def _summary(manifest: Path, rows: list[ManifestRow], pending: int) -> PrepareSummary:
    ok = [row for row in rows if row.ok]
    speakers = Counter(split for split, _ in {(row.split, row.speaker) for row in ok})
    return PrepareSummary(
        manifest=str(manifest),
        ok=len(ok),
        pending=pending,
        rejected=dict(sorted(Counter(row.reason for row in rows if not row.ok).items())),
        hours=sum(row.num_frames for row in ok) / FPS / 3600,
        speakers={split: speakers[split] for split in ("train", "val")},
        clips={split: sum(row.split == split for row in ok) for split in ("train", "val")},
        warnings=tuple(_warnings(ok, len({row.speaker for row in ok}))),
    )


def _warnings(ok: list[ManifestRow], speakers: int) -> Iterator[str]:
    if speakers == 1:
        yield f"all clips belong to one speaker, {ok[0].speaker!r} (the first folder), so none is left to validate on"
    copies = len(ok) - len({row.fingerprint for row in ok})
    if copies:
        yield f"{copies} clips are copies of others, byte for byte, and may stand in both splits"
