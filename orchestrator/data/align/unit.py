"""A unit of aligning: one raw video becomes its clips and its record, in any process that sees sources and output.

Promises: sources are only read; the clips of a video appear all together, under names of their own, and its record
after them; running it twice gives the same bytes; a bad video is a row with its reason, never an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from orchestrator.config.media import FPS
from orchestrator.data.align.cascade import face_model
from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.extra import check_extra, need
from orchestrator.data.align.folders import made_folder, replace_folder
from orchestrator.data.align.records import ClipRow, SourceRecord, current_record, key_of, write_record
from orchestrator.data.align.render import Job, render
from orchestrator.data.align.segments import OK, Piece, Views, cut, judge
from orchestrator.data.align.survey import Survey, survey
from orchestrator.data.align.template import fit, matrices, smooth
from orchestrator.data.importers import SourceClip
from orchestrator.data.sources import LocalClip, Sources
from orchestrator.data.work import ClipDone, ClipStarted, Message
from orchestrator.errors import DataError
from orchestrator.storage import open_folder


@dataclass(frozen=True)
class AlignResult:
    """What became of one video."""

    record: SourceRecord
    """Its pieces."""
    reused: bool
    """Whether an earlier run had finished it."""

    @property
    def seconds(self) -> float:
        """Length of the clips."""
        return sum(row.seconds for row in self.record.rows if row.ok)

    @property
    def main_reason(self) -> tuple[str, str]:
        """Reason and detail of the longest rejected piece when there is no clip; else empty."""
        if any(row.ok for row in self.record.rows):
            return "", ""
        row = max(self.record.rows, key=lambda row: row.seconds)
        return row.reason, row.detail


@dataclass(frozen=True)
class AlignUnit:
    """One raw video to align."""

    root: str
    """Where the sources are: a path or URI."""
    out: str
    """The local folder for the clips."""
    clip: SourceClip
    """The video."""
    config: AlignConfig
    """The rules."""
    given_up: tuple[str, str] | None = None
    """Reason and detail to reject it with, unseen."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The one source."""
        return (self.clip.source,)

    def without(self, source: str, reason: str, detail: str) -> AlignUnit:
        """The same unit, which rejects its video unseen."""
        return replace(self, given_up=(reason, detail)) if source == self.clip.source else self

    def run(self) -> Iterator[Message]:
        """Align the video.

        Raises:
            OrchestratorError: the storage fails or the optional libraries are missing; the video is not to blame.
        """
        yield ClipStarted(self.clip.source)
        result = align_unit(self)
        yield ClipDone(self.clip.source, *result.main_reason, result.seconds, result.reused)


def align_unit(unit: AlignUnit) -> AlignResult:
    """Do a unit's work, or find it done.

    Raises:
        OrchestratorError: as `AlignUnit.run`.
    """
    sources, out = Sources(open_folder(unit.root)), open_folder(unit.out)
    finished = current_record(unit.clip, sources, out)
    if finished is not None:
        return AlignResult(finished, True)
    check_extra()
    need("cv2").setNumThreads(1)  # units run one per core
    record = _aligned(unit, sources)
    write_record(out, record)
    return AlignResult(record, False)


def _aligned(unit: AlignUnit, sources: Sources) -> SourceRecord:
    clip, blank = unit.clip, SourceRecord(unit.clip.source, "", -1, 0, ())
    state = sources.state(clip)  # read before the content, so that a later change is seen
    try:
        if state is None:
            raise DataError("there is no such file", reason="missing")
        with sources.local(clip) as content:
            with _unreadable_is_missing():
                blank = replace(blank, fingerprint=content.fingerprint(), size=state.size, mtime_ns=state.mtime_ns)
            if unit.given_up is not None:
                raise DataError(unit.given_up[1], reason=unit.given_up[0])
            return replace(blank, rows=_clips(unit, content))
    except DataError as error:
        replace_folder(Path(unit.out) / _place(clip), None)
        # Without the path, which the row names already and which differs between machines.
        detail = error.message.rsplit(f"{clip.source}: ", 1)[-1]
        row = replace(_blank_row(clip, _place(clip)), status="rejected", reason=error.reason, detail=detail)
        return replace(blank, rows=(row,))


@contextmanager
def _unreadable_is_missing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(str(error), reason="missing") from error


def _clips(unit: AlignUnit, content: LocalClip) -> tuple[ClipRow, ...]:
    """Both passes over the video; its clips lie at their place when this returns."""
    config, place = unit.config, _place(unit.clip)
    found = survey(content, face_model(), config)
    views = judge(found, config)
    pieces = cut(found, views, config)
    with made_folder(Path(unit.out) / place) as making:
        good = [number for number, piece in enumerate(pieces) if piece.reason == OK]
        jobs = [_job(making / _name(number), pieces[number], found, views, config) for number in good]
        sharp = dict(zip(good, render(content, jobs, found.wave, config) if jobs else [], strict=True))
        rows = []
        for number, piece in enumerate(pieces):
            row = _row(_blank_row(unit.clip, f"{place}/{_name(number)}"), piece, found, views)
            rows.append(_judged(row, sharp.get(number), config))
            if number in sharp and not rows[-1].ok:
                (making / _name(number)).unlink()
    return tuple(rows)


def _job(path: Path, piece: Piece, found: Survey, views: Views, config: AlignConfig) -> Job:
    """How the frames of a piece are warped."""
    frames = slice(piece.start, piece.stop)
    good = views.reason_T[frames] == OK
    # Frames without a good view have no say; what they would get is filled in from their neighbours.
    points = np.where(good[:, None, None], found.points_T52[frames], 0)
    return Job(path, piece.start, matrices(smooth(fit(points), good, config.smoothing), config.resolution))


def _blank_row(clip: SourceClip, source: str) -> ClipRow:
    return ClipRow(source, clip.speaker, origin=clip.source, av_offset_s=clip.av_offset_s, split=clip.split)


def _row(row: ClipRow, piece: Piece, found: Survey, views: Views) -> ClipRow:
    """The row of a piece, with how well the face is seen in it."""
    frames = slice(piece.start, piece.stop)
    row = replace(row, start_s=piece.start / FPS, end_s=piece.stop / FPS, reason=piece.reason, detail=piece.detail)
    row = replace(row, status="ok" if piece.reason == OK else "rejected")
    seen = found.count_T[frames] > 0
    if not seen.any():
        return row
    return replace(
        row,
        face_px=_rounded(np.median(found.size_T[frames][seen])),
        confidence=_rounded(found.score_T[frames][seen].mean()),
        turn=_rounded(np.median(views.turn_T[frames][seen])),
        outside=_rounded(views.outside_T[frames][seen].max()),
        bridged=int((views.reason_T[frames] != OK).sum()) if piece.reason == OK else None,
    )


def _judged(row: ClipRow, sharpness: float | None, config: AlignConfig) -> ClipRow:
    """The row with its sharpness, which is known last."""
    if sharpness is None:
        return row
    row = replace(row, sharpness=_rounded(sharpness))
    if sharpness >= config.min_sharpness:
        return row
    detail = f"the face is blurred: sharpness {sharpness:.1f}, {config.min_sharpness:g} is needed"
    return replace(row, status="rejected", reason="blurred", detail=detail)


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)


def _place(clip: SourceClip) -> str:
    """The folder of a video's clips, relative to the output: speaker, then the video's name and a hash of its path.

    The hash keeps videos of the same name apart; the names are there for people.
    """
    stem = os.path.splitext(os.path.basename(clip.source))[0]
    return f"{_safe(clip.speaker)}/{_safe(stem)}-{key_of(clip.source)[:10]}"


def _safe(name: str) -> str:
    """A name that every file system takes and that is not hidden."""
    plain = re.sub(r"[^\w.+=-]", "_", name.encode("utf-8", "replace").decode("utf-8"))[:60].strip(".")
    return plain or "_"


def _name(number: int) -> str:
    return f"{number:04d}.mp4"
