"""What figures say of a video in words: in sync, out of sync by how much, or why nobody can tell. Pure policy.

The thresholds are those of docs/evaluation.md. A verdict needs two things that chance seldom gives together: the whole
clip must fit its sound better than the same sound put elsewhere, and its parts must say the same by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from orchestrator.config.media import FPS
from orchestrator.evaluation.clips import ClipReport, Moment
from orchestrator.evaluation.offsets import ClipOffset

IN_SYNC_FRAMES = 1
"""Whole frames (40 ms) to either side that still count as in sync."""
MOST_CHANCE = 0.05
"""The p value above which an offset may well be chance."""
LEAST_AGREEMENT = 0.5
"""Share of a clip's parts that must say the same as the whole; another's voice alone seldom gets so far."""
OTHER_SHARE = 0.3
"""Share of a clip's parts from which another offset, on which they agree, counts as one of its own..."""
BOTH_SHARE = 0.8
"""... if both offsets together explain so much of the clip."""
LEAST_WINDOWS = 55
"""Windows that are needed: with fewer, too few wrong alignments can be tried for a p value of 0.05."""
LEAST_SPEECH_S = 1.0
"""Seconds in which something must be heard."""
SAME_FRAMES = 1.5
"""Pieces of a video whose offsets differ by no more say the same."""


class VideoStatus(StrEnum):
    """What is said of a video, or of a piece of it."""

    IN_SYNC = "in sync"
    """Sound and picture belong together as they are, within a frame."""
    OUT_OF_SYNC = "out of sync"
    """They belong together elsewhere; the offset is known."""
    DIFFERS = "parts differ"
    """Parts of the video are clear about different offsets: it was cut together, or frames were lost."""
    UNSURE = "not sure"
    """No offset stands out: another's voice, an unknown kind of face, noise, or an offset beyond those tried."""
    NO_SPEECH = "no speech"
    """Too little is heard."""
    TOO_SHORT = "too short"
    """Too few windows to tell offset from chance."""
    NO_FACE = "no face"
    """The aligner found no usable face."""
    FAILED = "failed"
    """It cannot be read, or has no sound."""

    @property
    def sure(self) -> bool:
        """Whether there is an offset to believe."""
        return self in (VideoStatus.IN_SYNC, VideoStatus.OUT_OF_SYNC)


@dataclass(frozen=True)
class VideoVerdict:
    """A status and why."""

    status: VideoStatus
    """The status."""
    why: str
    """The reason in a sentence."""


class Piece(NamedTuple):
    """A stretch of a video that was judged by itself: one face in one shot, at most a minute of it."""

    start_s: float
    """Where it begins in the video."""
    end_s: float
    """Where it ends."""
    verdict: VideoVerdict
    """What is said of it."""
    report: ClipReport | None
    """What the network made of it; none where it was not asked. Its times count from the piece's start."""

    @property
    def offset(self) -> ClipOffset | None:
        """Where it fits best."""
        return self.report.offset if self.report else None


def in_words(frames: float) -> str:
    """An offset as a sentence: "the sound comes 3 frames (120 ms) after the picture"."""
    if round(frames) == 0:
        return "the sound comes with the picture"
    count, side = f"{abs(frames):.1f}".removesuffix(".0"), "after" if frames > 0 else "before"
    ms = abs(frames) * 1000 / FPS
    return f"the sound comes {count} frame{'s' * (count != '1')} ({ms:.0f} ms) {side} the picture"


def decide(found: ClipOffset | None, speech_s: float, max_offset: int, timeline: Sequence[Moment] = ()) -> VideoVerdict:
    """What is said of one piece.

    Args:
        found: where it fits best; none for one without a window.
        speech_s: seconds in which something is heard.
        max_offset: frames to either side that were tried.
        timeline: what its parts say.
    """
    if found is None or found.windows < LEAST_WINDOWS or math.isnan(found.agreement):
        windows = found.windows if found else 0
        why = f"{windows} windows are too few to tell an offset of {max_offset} frames from chance"
        return VideoVerdict(VideoStatus.TOO_SHORT, f"{why}; {max(LEAST_WINDOWS, 2 * max_offset + 1)} are needed")
    if speech_s < LEAST_SPEECH_S:
        why = f"sound is heard in {speech_s:.1f} s only; {LEAST_SPEECH_S:g} s are needed"
        return VideoVerdict(VideoStatus.NO_SPEECH, why)
    doubt = _doubt(found, max_offset)
    if doubt:
        return VideoVerdict(VideoStatus.UNSURE, doubt)
    other, share = _other_offset(found, timeline)
    if share >= OTHER_SHARE and share + found.agreement >= BOTH_SHARE:
        mine = f"{found.agreement:.0%} of its parts say {found.frames:+.1f} frames"
        return VideoVerdict(VideoStatus.DIFFERS, f"{mine}, {share:.0%} say {other:+d}")
    if found.agreement < LEAST_AGREEMENT:
        doubt = f"its parts disagree: {found.agreement:.0%} of them have the offset of the whole"
        return VideoVerdict(VideoStatus.UNSURE, doubt)
    sure = f"{found.agreement:.0%} of its parts say so, p = {found.p_value:.2g}"
    if abs(round(found.frames)) <= IN_SYNC_FRAMES:
        return VideoVerdict(VideoStatus.IN_SYNC, f"{in_words(found.frames)}: {sure}")
    return VideoVerdict(VideoStatus.OUT_OF_SYNC, f"{in_words(found.frames)}: {sure}")


def conclude_pieces(pieces: Sequence[Piece]) -> tuple[VideoVerdict, tuple[Piece, ...]]:
    """The verdict on a video, and the pieces that it rests on.

    A piece whose parts differ decides, then those that are sure. Where there is none, the longest piece that was judged
    speaks for the video.

    Args:
        pieces: at least one.
    """
    sure = [piece for piece in pieces if piece.verdict.status.sure]
    split = [piece for piece in pieces if piece.verdict.status is VideoStatus.DIFFERS]
    if split or not sure:
        judged = split or [piece for piece in pieces if piece.offset is not None] or list(pieces)
        longest = max(judged, key=lambda piece: piece.end_s - piece.start_s)
        return longest.verdict, (longest,)
    if len(pieces) == 1:
        return sure[0].verdict, tuple(sure)
    offsets = [piece.offset.frames for piece in sure if piece.offset]
    if max(offsets) - min(offsets) > SAME_FRAMES:
        told = (f"{p.start_s:.0f}-{p.end_s:.0f} s: {p.offset.frames:+.1f} frames" for p in sure if p.offset)
        return VideoVerdict(
            VideoStatus.DIFFERS, f"its pieces are sure of different offsets ({'; '.join(told)})"
        ), tuple(sure)
    frames = weighted(sure, offsets)
    status = VideoStatus.IN_SYNC if abs(round(frames)) <= IN_SYNC_FRAMES else VideoStatus.OUT_OF_SYNC
    return VideoVerdict(status, f"{in_words(frames)}: sure in {len(sure)} of {len(pieces)} pieces"), tuple(sure)


def weighted(pieces: Sequence[Piece], values: Sequence[float]) -> float:
    """The mean of a value of these pieces, each by its windows; all of them have an offset."""
    windows = [piece.offset.windows if piece.offset else 0 for piece in pieces]
    return sum(count * value for count, value in zip(windows, values, strict=True)) / max(sum(windows), 1)


def _other_offset(found: ClipOffset, timeline: Sequence[Moment]) -> tuple[int, float]:
    """The offset, other than the clip's, on which most parts agree, and their share."""
    said = [moment.offset for moment in timeline if abs(moment.offset - found.frames) > SAME_FRAMES]
    if not said:
        return 0, 0.0
    near = {offset: sum(abs(each - offset) <= IN_SYNC_FRAMES for each in said) for offset in said}
    best = max(near, key=lambda offset: near[offset])
    return best, near[best] / len(timeline)


def _doubt(found: ClipOffset, max_offset: int) -> str:
    """Why an offset should not be believed; empty where it may."""
    if found.at_edge:
        tried = f"the last one of those tried, {round(found.frames):+d} frames"
        return f"the best offset is {tried}: the true one may lie beyond {max_offset} frames"
    if found.p_value > MOST_CHANCE:
        wrong = f"{found.p_value:.0%} of wrong alignments of the same clip fit as well"
        return f"no offset stands out (LSE-C {found.confidence:.2f}): {wrong}"
    return ""
