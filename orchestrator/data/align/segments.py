"""Which stretches of a video become clips, and why the others do not. Pure functions of what the survey found.

Every frame of the video belongs to exactly one piece: nothing that is left out disappears. A piece never crosses a cut.
"""

# T frames

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS
from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.survey import Survey
from orchestrator.data.align.template import fit, outside

OK = ""
_DETAILS = {
    "no_face": "no face is seen",
    "several_faces": "several faces are seen, up to {count}",
    "low_confidence": "the detector is not sure of a face: score {score:.2f}, {min_confidence:.2f} is needed",
    "small_face": "the face is {size:.0f} pixels wide, {min_face:.0f} are needed",
    "turned": "the head is turned away: {turn:.2f} of the eyes' distance, at most {max_turn:.2f} is allowed",
    "outside": "the face is cut off by the picture's edge: {outside:.0%} is outside, {max_outside:.0%} is allowed",
}
"""Reasons that a single frame can have, in the order in which they are asked; the first that applies counts."""
REASONS = (*_DETAILS, "too_short", "blurred")


@dataclass(frozen=True)
class Piece:
    """Frames that belong together: a future clip, or a rejected stretch."""

    start: int
    """First frame."""
    stop: int
    """The frame after the last."""
    reason: str = OK
    """Why it is rejected; empty when it is good."""
    detail: str = ""
    """The rejection in a sentence."""

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Views:
    """How well the face is seen, frame by frame."""

    reason_T: NDArray[np.str_]
    """Empty where the frame is good."""
    turn_T: NDArray[np.float64]
    """How far the nose stands beside the middle of the eyes, in distances of the eyes; NaN without a face."""
    outside_T: NDArray[np.float64]
    """Share of the aligned picture outside of the source's; NaN without a face."""


def judge(found: Survey, config: AlignConfig) -> Views:
    """Ask every frame each question."""
    seen = found.count_T > 0
    turn, out = (np.full(len(found), np.nan) for _ in range(2))
    if seen.any():
        points = found.points_T52[seen]
        turn[seen] = _turns(points)
        out[seen] = outside(fit(points), found.width, found.height)
    answers = {
        "no_face": ~seen,
        "several_faces": found.count_T > 1 if config.faces == "reject" else np.zeros_like(seen),
        "low_confidence": found.score_T < config.min_confidence,
        "small_face": found.size_T < config.min_face,
        "turned": turn > config.max_turn,
        "outside": out > config.max_outside,
    }
    reasons = np.select(list(answers.values()), list(answers), OK)
    return Views(reasons, turn, out)


def cut(found: Survey, views: Views, config: AlignConfig) -> list[Piece]:
    """The pieces of a video, in order, without a gap."""
    pieces: list[Piece] = []
    for start, stop in _runs(found.shot_T):
        # A face that jumps is lost, or another one: what follows is a segment of its own.
        jumps = _jumps(found, start, stop, views, config)
        good = _bridged(views.reason_T[start:stop] == OK, jumps, config.max_gap)
        parts = np.cumsum(jumps) * 2 + good
        for first, last in _runs(parts):
            pieces += _pieces(start + first, start + last, bool(good[first]), found, views, config)
    return pieces


def _turns(points_T52: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far the nose stands beside the middle of the eyes, along the line through them, in their distances."""
    left, right, nose = (points_T52[:, index].astype(np.float64) for index in range(3))
    line = right - left
    aside = ((nose - (left + right) / 2) * line).sum(axis=1)
    return np.asarray(np.abs(aside) / np.maximum((line**2).sum(axis=1), 1e-6))


def _runs(values_T: NDArray) -> Iterator[tuple[int, int]]:
    """Start and stop of every stretch of equal values."""
    edges = np.flatnonzero(values_T[1:] != values_T[:-1]) + 1
    bounds = [0, *edges.tolist(), len(values_T)]
    yield from pairwise(bounds)


def _bridged(good_T: NDArray[np.bool_], jumps_T: NDArray[np.bool_], max_gap: int) -> NDArray[np.bool_]:
    """The same with gaps of at most `max_gap` frames between good ones of one face taken for good."""
    bridged = good_T.copy()
    for start, stop in _runs(good_T):
        inner = not good_T[start] and start > 0 and stop < len(good_T)
        if inner and not jumps_T[stop] and stop - start <= max_gap:
            bridged[start:stop] = True
    return bridged


def _jumps(found: Survey, start: int, stop: int, views: Views, config: AlignConfig) -> NDArray[np.bool_]:
    """Marks each frame of a shot to which the face jumped since it was last well seen."""
    jumps = np.zeros(stop - start, bool)
    seen = np.flatnonzero(views.reason_T[start:stop] == OK)
    if len(seen) > 1:
        centres = found.points_T52[start:stop][seen, :3].mean(axis=1)
        moved = np.linalg.norm(np.diff(centres, axis=0), axis=1) / np.diff(seen)
        sizes = found.size_T[start:stop][seen]
        jumps[seen[1:]] = moved > config.max_jump * np.minimum(sizes[1:], sizes[:-1])
    return jumps


def _pieces(start: int, stop: int, good: bool, found: Survey, views: Views, config: AlignConfig) -> Iterator[Piece]:
    """A run of one kind as pieces: rejected whole, or cut to length."""
    if not good:
        yield _rejected(start, stop, found, views, config)
    elif stop - start < config.min_frames:
        detail = f"the face is well seen for {(stop - start) / FPS:.2f} s, {config.min_frames / FPS:.2f} s are needed"
        yield Piece(start, stop, "too_short", detail)
    else:
        parts = -(-(stop - start) // config.max_frames)
        bounds = [start + (stop - start) * part // parts for part in range(parts + 1)]
        yield from (Piece(*pair) for pair in pairwise(bounds))


def _rejected(start: int, stop: int, found: Survey, views: Views, config: AlignConfig) -> Piece:
    """A run without a good frame, under the reason that most of its frames have."""
    reason = Counter(views.reason_T[start:stop].tolist()).most_common(1)[0][0]
    frames = np.flatnonzero(views.reason_T[start:stop] == reason) + start
    limits = {name: getattr(config, name) for name in ("min_confidence", "min_face", "max_turn", "max_outside")}
    detail = _DETAILS[reason].format(
        count=found.count_T[frames].max(),
        score=np.median(found.score_T[frames]),
        size=np.median(found.size_T[frames]),
        turn=np.median(views.turn_T[frames]),
        outside=np.median(views.outside_T[frames]),
        **limits,
    )
    return Piece(start, stop, reason, detail)
