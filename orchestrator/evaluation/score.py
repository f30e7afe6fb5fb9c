"""A video in, a verdict out: whether its sound and picture are in sync, by how much not, and how sure that is.

`score` is the call for a person's words, `score_video` what it does with each video. A video that cannot be judged is a
result with its reason, so that it never ends a batch; what is wrong with the network or the machine is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orchestrator.checkpoint import ModelOption, load_model
from orchestrator.config.media import FPS
from orchestrator.data.sources import LocalClip
from orchestrator.errors import DataError
from orchestrator.evaluation.clips import ClipReport, Moment, judge_clip
from orchestrator.evaluation.faces import Face, aligned_pieces, check_aligner, choose
from orchestrator.evaluation.offsets import MAX_OFFSET
from orchestrator.evaluation.towers import Towers
from orchestrator.evaluation.verdicts import Piece, VideoStatus, VideoVerdict, conclude_pieces, decide, weighted
from orchestrator.evaluation.videos import Video, check_readable, find_videos, read_video

MAX_SECONDS = 300.0
"""So much of a video is judged unless more is asked for."""


@dataclass(frozen=True)
class VideoScore:
    """What a network says of a video."""

    path: str
    """The video, without credentials."""
    status: VideoStatus
    """The verdict."""
    why: str
    """The verdict in a sentence."""
    seconds: float = 0.0
    """How much of it was judged or, where nothing was, looked at."""
    offset_frames: float | None = None
    """How much later the sound comes than the picture, in frames of 1/25 s; to be believed where the status is sure."""
    confidence: float | None = None
    """1 less the p value; of several pieces, the least of those that decide."""
    agreement: float | None = None
    """Share of the parts whose own offset is within a frame of the whole's."""
    lse_d: float | None = None
    """Least mean distance; compares videos scored by the same network only."""
    lse_c: float | None = None
    """Median less least mean distance; likewise."""
    curve: tuple[float, ...] = ()
    """Mean distance at each offset from -max to +max frames; NaN where there is none."""
    timeline: tuple[Moment, ...] = ()
    """Along the video: the best offset of ten neighbouring windows and how clear it is."""
    face: str = ""
    """How the face was found, and why so."""
    notes: tuple[str, ...] = ()
    """What else a person should know."""
    pieces: tuple[Piece, ...] = ()
    """The stretches that were judged by themselves, refused ones included."""
    reason: str = ""
    """Short code where it failed, e.g. `no_audio`."""

    @property
    def offset_ms(self) -> float | None:
        """The offset in milliseconds."""
        return None if self.offset_frames is None else self.offset_frames * 1000 / FPS

    @property
    def judged(self) -> bool:
        """Whether the network had something to say, be it that it is not sure."""
        return self.offset_frames is not None

    @property
    def report(self) -> ClipReport | None:
        """Of the longest piece that was judged; none without any."""
        reports = [piece.report for piece in self.pieces if piece.report is not None]
        return max(reports, key=lambda report: report.seconds, default=None)

    def to_row(self) -> dict[str, Any]:
        """The figures as one flat row for a table."""
        figures = ("offset_frames", "offset_ms", "confidence", "agreement", "lse_d", "lse_c")
        row = {name: _rounded(getattr(self, name)) for name in figures}
        told = {"face": self.face, "pieces": len(self.pieces), "why": self.why, "reason": self.reason}
        return {"video": self.path, "status": str(self.status), "seconds": round(self.seconds, 2), **row, **told}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data, with curve, timeline and pieces; what is not a number is none."""
        pieces = [
            {
                "start_s": round(piece.start_s, 2),
                "end_s": round(piece.end_s, 2),
                "status": str(piece.verdict.status),
                "why": piece.verdict.why,
                "offset_frames": _rounded(piece.offset.frames if piece.offset else None),
                "p_value": _rounded(piece.offset.p_value if piece.offset else None),
            }
            for piece in self.pieces
        ]
        along = {
            "curve": [_rounded(value) for value in self.curve],
            "timeline": [
                {name: _rounded(value) for name, value in moment._asdict().items()} for moment in self.timeline
            ],
        }
        return {**self.to_row(), **along, "notes": list(self.notes), "pieces": pieces}


def score(
    videos: str | Path | Sequence[str | Path],
    checkpoint: str | Path,
    *,
    model_config: ModelOption = None,
    face: Face = "auto",
    max_offset: int = MAX_OFFSET,
    max_seconds: float | None = MAX_SECONDS,
    device: str | None = None,
    batch: int = 64,
    on_start: Callable[[int], None] = lambda _: None,
    on_done: Callable[[VideoScore], None] = lambda _: None,
) -> list[VideoScore]:
    """Say of each video whether it is in sync.

    Args:
        videos: files, folders that are searched with their subfolders, or lists; also URIs.
        checkpoint: a normalized directory, a checkpoint of a run, or any SyncNet file.
        model_config: describes the network where a foreign file's weights cannot (see `load_model`).
        face: `aligned` takes the whole picture for the aligned face, `align` finds and aligns the face, `auto` looks.
        max_offset: frames to either side that are tried.
        max_seconds: judge no more of a video than this; none judges all of it.
        device: where to compute; a GPU if there is one.
        batch: windows that go through the network at once.
        on_start: called with the number of videos before the first.
        on_done: called after each video.

    Returns:
        One result for each video, in order.

    Raises:
        OrchestratorError: a folder has no video, the checkpoint cannot be used or reads no pixels, the optional
            libraries are missing where `align` was asked for, or a storage fails.
    """
    found = find_videos([videos] if isinstance(videos, str | Path) else videos)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    towers = Towers(load_model(checkpoint, model_config=model_config).to(target), batch, target)
    check_readable(towers.model.config)
    if face == "align":
        check_aligner()
    on_start(len(found))
    scores = []
    for video in found:
        scores.append(score_video(video, towers, face=face, max_offset=max_offset, max_seconds=max_seconds))
        on_done(scores[-1])
    return scores


def score_video(
    video: Video | str | Path,
    towers: Towers,
    *,
    face: Face = "auto",
    max_offset: int = MAX_OFFSET,
    max_seconds: float | None = MAX_SECONDS,
) -> VideoScore:
    """Say of a video whether it is in sync; what is wrong with the video is part of the answer.

    Args:
        video: a file.
        towers: the network.
        face, max_offset, max_seconds: as in `score`.

    Raises:
        OrchestratorError: as `score`.
    """
    check_readable(towers.model.config)
    if not isinstance(video, Video):
        (video,) = find_videos([video])
    try:
        with video.local() as content:
            choice = choose(face, content)
            most = None if max_seconds is None else max(1, round(max_seconds * FPS))
            judge = _Judge(towers, max_offset, most)
            pieces = judge.whole(content) if choice.face == "aligned" else judge.faces(video)
    except DataError as error:
        return _failed(video, error)
    notes = (f"only the first {max_seconds:g} s were judged",) if judge.cut else ()
    return replace(_concluded(video.name, pieces), face=f"{choice.face}: {choice.why}", notes=notes)


class _Judge:
    """Judges the pieces of one video."""

    def __init__(self, towers: Towers, max_offset: int, most: int | None) -> None:
        self._towers, self._max_offset, self._most = towers, max_offset, most
        self.cut = False
        """Whether the video goes on behind what was judged."""

    def whole(self, content: LocalClip, start_s: float = 0.0) -> list[Piece]:
        """A video whose picture is the aligned face, in pieces of at most a minute."""
        left = None if self._most is None else self._most - round(start_s * FPS)
        decoded = read_video(content, self._towers.model.config, left)
        self.cut |= decoded.cut
        pieces: list[Piece] = []
        for first, clip, speech_s in decoded.pieces():
            report = judge_clip(self._towers, clip, len(pieces), max_offset=self._max_offset)
            at = start_s + first / FPS
            verdict = decide(report.offset, speech_s, self._max_offset, report.timeline)
            pieces.append(Piece(at, at + report.seconds, verdict, report))
        return pieces

    def faces(self, video: Video) -> list[Piece]:
        """A video whose faces are found and aligned first, in pieces of one face in one shot each."""
        pieces: list[Piece] = []
        with aligned_pieces(video) as found:
            for row, content in found:
                if self._most is not None and row.start_s * FPS >= self._most:
                    self.cut = True
                elif content is not None:
                    pieces += self.whole(content, row.start_s)
                else:
                    verdict = VideoVerdict(VideoStatus.NO_FACE, row.detail)
                    pieces.append(Piece(row.start_s, row.end_s, verdict, None))
        broken = pieces and all(piece.end_s <= piece.start_s for piece in pieces)
        if broken:  # the aligner's way to say that a video cannot be read
            row = found[0].row
            raise DataError(row.detail, reason=row.reason)
        return pieces


def _concluded(path: str, pieces: Sequence[Piece]) -> VideoScore:
    """The result of these pieces."""
    verdict, deciding = conclude_pieces(pieces)
    judged = [piece for piece in pieces if piece.offset is not None]
    seconds = sum(piece.end_s - piece.start_s for piece in judged or pieces)
    blank = VideoScore(path, verdict.status, verdict.why, seconds, pieces=tuple(pieces))
    found = [piece.offset for piece in deciding if piece.offset is not None]
    if not found:
        return blank
    return replace(
        blank,
        offset_frames=weighted(deciding, [each.frames for each in found]),
        confidence=1 - max(each.p_value for each in found),
        agreement=weighted(deciding, [each.agreement for each in found]),
        lse_d=weighted(deciding, [each.distance for each in found]),
        lse_c=weighted(deciding, [each.confidence for each in found]),
        curve=_curve(deciding),
        timeline=tuple(
            moment._replace(seconds=moment.seconds + piece.start_s)
            for piece in judged
            for moment in (piece.report.timeline if piece.report else ())
        ),
    )


def _curve(pieces: Sequence[Piece]) -> tuple[float, ...]:
    """The mean of the pieces' curves, each by its windows; NaN where one of them has none."""
    curves = np.array([piece.offset.curve for piece in pieces if piece.offset], np.float64)
    windows = [piece.offset.windows for piece in pieces if piece.offset]
    return tuple(np.average(curves, axis=0, weights=windows).tolist())


def _failed(video: Video, error: DataError) -> VideoScore:
    """A video that cannot be judged; its path is named once."""
    what = error.message.rsplit(f"{video.clip.source}: ", 1)[-1]
    why = f"{what} ({error.hint})" if error.hint else what
    return VideoScore(video.name, VideoStatus.FAILED, why, reason=error.reason)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)
