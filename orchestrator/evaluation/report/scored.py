"""Scored videos as a page shows them: the verdict, and some seconds of the video around the place that fits worst.

Contract: what plays is the video's own picture, whole and upright, with its own sound; a video that cannot be opened
again is shown without, never an error.
"""

# T frames, H W pixels, C channels

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE
from orchestrator.data.media.frames import upright
from orchestrator.errors import OrchestratorError
from orchestrator.evaluation.report.clip import playable
from orchestrator.evaluation.report.page import Scored
from orchestrator.evaluation.report.samples import MOST, Sample
from orchestrator.evaluation.report.words import frames_text, number_text, share_text
from orchestrator.evaluation.score import VideoScore
from orchestrator.evaluation.verdicts import VideoStatus
from orchestrator.evaluation.videos import find_videos

_SECONDS = 4.0
_SIDE = 320
"""Pixels of the longer side of what plays."""
_FIRST = (VideoStatus.OUT_OF_SYNC, VideoStatus.DIFFERS, VideoStatus.UNSURE)
"""What people want to see before all else."""


def scored_videos(scores: Sequence[VideoScore]) -> list[Scored]:
    """All videos, the first dozen of those that matter with a sample of theirs."""
    ranked = sorted(range(len(scores)), key=lambda place: _rank(scores[place]))
    shown = set(ranked[:MOST])
    return [_scored(score, with_sample=place in shown and score.judged) for place, score in enumerate(scores)]


def _rank(score: VideoScore) -> tuple[int, float]:
    group = _FIRST.index(score.status) if score.status in _FIRST else len(_FIRST)
    return group, -abs(score.offset_frames or 0.0)


def _scored(score: VideoScore, *, with_sample: bool) -> Scored:
    return Scored(
        title=score.path,
        status=str(score.status),
        why=score.why,
        seconds=score.seconds,
        offset=score.offset_frames,
        confidence=score.confidence,
        lse_d=score.lse_d,
        lse_c=score.lse_c,
        sample=_sample(score) if with_sample else None,
    )


def _sample(score: VideoScore) -> Sample:
    first = _first_frame(score)
    videos: tuple[tuple[str, bytes], ...] = ()
    with suppress(OrchestratorError):  # it was readable when it was scored; the verdict stands without a picture
        videos = (("as it is", _played(score.path, first)),)
    facts = [("length", f"{score.seconds:.1f} s")]
    if score.offset_frames is not None:
        facts.append(("best offset", frames_text(score.offset_frames)))
    for name, value, words in (
        ("confidence", score.confidence, share_text),
        ("parts that agree", score.agreement, share_text),
        ("LSE-D", score.lse_d, number_text),
        ("LSE-C", score.lse_c, number_text),
    ):
        facts += [(name, words(value))] if value is not None else []
    return Sample(
        title=score.path,
        facts=tuple(facts),
        videos=videos,
        curve=score.curve,
        offset=score.offset_frames,
        timeline=score.timeline,
        why=score.why,
        status=str(score.status),
        sound="",
    )


def _first_frame(score: VideoScore) -> int:
    """Where the excerpt begins: it surrounds the place that fits worst."""
    worst = max(score.timeline, key=lambda moment: (abs(moment.offset), -moment.depth), default=None)
    return max(0, round((worst.seconds - _SECONDS / 2) * FPS)) if worst else 0


def _played(path: str, first: int) -> bytes:
    (video,) = find_videos([path])
    excerpt = _Excerpt(first, round(_SECONDS * FPS))
    with video.local() as content:
        wave = content.decode(excerpt)
    per_frame = SAMPLE_RATE // FPS
    return playable(
        np.stack(excerpt.frames), wave[excerpt.first * per_frame :][: len(excerpt.frames) * per_frame].copy()
    )


class _Excerpt:
    """A sink that keeps a stretch of frames, small."""

    def __init__(self, first: int, count: int) -> None:
        self._wanted, self._count, self._seen = first, count, 0
        self._converter = VideoReformatter()
        self.first = first
        """The frame that the stretch begins with."""
        self.frames: list[NDArray[np.uint8]] = []
        """(H, W, 3) each."""

    def add(self, frame: VideoFrame, times: int) -> None:
        """Take a source frame for the next `times` ticks."""
        inside = range(max(self._seen, self._wanted), min(self._seen + times, self._wanted + self._count))
        if inside:
            self.frames += [self._small(frame)] * len(inside)
        self._seen += times

    def _small(self, frame: VideoFrame) -> NDArray[np.uint8]:
        pixels_HWC = np.ascontiguousarray(upright(frame, self._converter))
        height, width = pixels_HWC.shape[:2]
        scale = min(1.0, _SIDE / max(height, width))
        size = {"width": max(2, round(width * scale / 2) * 2), "height": max(2, round(height * scale / 2) * 2)}
        small = av.VideoFrame.from_ndarray(pixels_HWC, format="rgb24").reformat(format="rgb24", **size)
        return small.to_ndarray().astype(np.uint8, copy=False)
