"""Where sound and picture of a clip fit best, and how sure that is. Pure arithmetic on distances between embeddings.

Definitions (Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016, as the field uses them): the
distance at an offset of o frames is that between the picture's window from frame s on and the sound's window from
frame s + o on, averaged over all s that have both; a clip's offset is where it is least; the confidence is its median
over the offsets less its least value; LSE-D is the least value, LSE-C the confidence. Distances depend on the network,
so LSE figures compare clips, and never two networks.

The sign is that of `av_offset_s`: positive where the sound comes later than the picture. A fraction of a frame comes
from the parabola through the three distances around the least one.
"""

# V windows of the picture, O offsets, K windows averaged

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.evaluation.towers import ClipEmbeddings

MAX_OFFSET = 15
"""Offsets reach from minus this to this many frames: 31 of them."""
_LEAST_SHARE = 0.25
"""An offset counts only where it has this share of the windows of the offset that has most."""
_AGREES = 1
"""Windows whose best offset is so many frames from the clip's agree with it."""
_WRONG = 59
"""Wrong alignments that are tried: a p value of 0.05 then rests on three of them."""
_TURNS = 3
"""Places of another clip's sound that are tried, at least: more where there are few other clips, ..."""
_APART = 3
"""... but no nearer to one another than this, because neighbours say nearly the same."""
_BLOCK = 16
"""Windows of a block of the clip's own sound that is put elsewhere."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ClipOffset:
    """Where a clip fits best."""

    frames: float
    """How much later the sound comes than the picture, in frames of 1/25 s."""
    confidence: float
    """Median less minimum of the mean distances (LSE-C of the clip)."""
    distance: float
    """The least mean distance (LSE-D of the clip)."""
    agreement: float
    """Share of windows whose own best offset, of `K` windows averaged, is within a frame of the clip's."""
    p_value: float
    """How often the picture fits sound from elsewhere as well; at most 1, and never 0."""
    chance_confidence: float
    """The mean confidence of those; NaN where there is no room for any."""
    at_edge: bool
    """The best offset is the last that was tried: the true one may lie beyond."""
    windows: int
    """Windows of the picture that were compared."""
    curve: tuple[float, ...]
    """Mean distance at each offset from -max to +max frames; NaN where the clip is too short to tell."""
    alignments: int = 0
    """Wrong alignments that it was compared with."""

    @property
    def least_p(self) -> float:
        """The p value of a clip of this length that fits better than all of them."""
        return 1 / (1 + self.alignments)


def offset_distances(clip: ClipEmbeddings, max_offset: int = MAX_OFFSET) -> Floats:
    """(V, 2 * max_offset + 1) distance of every window of the picture to the sound at every offset; NaN without sound.

    Args:
        clip: its embeddings.
        max_offset: frames to either side.
    """
    return _at_offsets(clip, np.arange(len(clip.audio_starts)), max_offset)


def averaged(distances_VO: Floats, windows: int) -> Floats:
    """(V - windows + 1, O): the mean over each `windows` neighbours; NaN where one of them has no sound."""
    if windows > len(distances_VO):
        return np.zeros((0, distances_VO.shape[1]), np.float32)
    return np.lib.stride_tricks.sliding_window_view(distances_VO, windows, axis=0).mean(-1)


def best_offsets(distances_VO: Floats) -> NDArray[np.int64]:
    """Of every row that has a distance at all offsets, the best one in whole frames."""
    whole = distances_VO[~np.isnan(distances_VO).any(axis=1)]
    return np.argmin(whole, axis=1) - (distances_VO.shape[1] - 1) // 2


def offset_hits(distances_VO: Floats, windows: int, true_offset: float = 0.0) -> tuple[int, tuple[int, int, int]]:
    """Of each `windows` neighbours averaged: how many places there are, and at how many the best offset is within 0, 1
    and 2 frames of the true one."""
    errors = np.abs(best_offsets(averaged(distances_VO, windows)) - true_offset)
    return len(errors), (int((errors < 0.5).sum()), int((errors <= 1).sum()), int((errors <= 2).sum()))


def mean_curve(distances_VO: Floats) -> Floats:
    """(O,) the mean distance at every offset; NaN where too few windows have sound there."""
    counts = (~np.isnan(distances_VO)).sum(0)
    enough = counts >= max(1.0, _LEAST_SHARE * counts.max(initial=0))
    sums = np.nansum(distances_VO, axis=0)
    return np.where(enough, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def find_offset(
    clip: ClipEmbeddings, max_offset: int = MAX_OFFSET, windows: int = 10, elsewhere: Sequence[Floats] = ()
) -> ClipOffset | None:
    """Where a clip fits best; none for one that is too short for a window of each.

    Args:
        clip: its embeddings.
        max_offset: frames to either side.
        windows: neighbours that are averaged before windows say whether they agree.
        elsewhere: (A, E) embeddings of the sound of other clips, best some 20, for the p value; without any, it is
            an approximation from the clip's own sound.
    """
    distances_VO = offset_distances(clip, max_offset)
    curve = mean_curve(distances_VO)
    if np.isnan(curve).all():
        return None
    place = int(np.nanargmin(curve))
    low, high = np.flatnonzero(~np.isnan(curve))[[0, -1]]
    confidence, wrong = _depth(curve), _wrong_confidences(clip, max_offset, elsewhere)
    votes = best_offsets(averaged(distances_VO, min(windows, len(distances_VO))))
    agreement = float((np.abs(votes - (place - max_offset)) <= _AGREES).mean()) if len(votes) else float("nan")
    return ClipOffset(
        frames=place - max_offset + vertex(curve, place),
        confidence=confidence,
        distance=float(curve[place]),
        agreement=agreement,
        p_value=(1 + int((wrong >= confidence).sum())) / (1 + len(wrong)),
        chance_confidence=float(wrong.mean()) if len(wrong) else float("nan"),
        at_edge=place in (low, high),
        windows=len(distances_VO),
        curve=tuple(float(value) for value in curve),
        alignments=len(wrong),
    )


def _depth(curve: Floats) -> float:
    """Median less minimum."""
    return float(np.nanmedian(curve) - np.nanmin(curve))


def vertex(curve: NDArray[Any], place: int) -> float:
    """How far the lowest point of the parabola through three neighbours lies from the middle one, in [-0.5, 0.5]."""
    if not 0 < place < len(curve) - 1 or np.isnan(curve[place - 1 : place + 2]).any():
        return 0.0
    before, here, after = (float(value) for value in curve[place - 1 : place + 2])
    bend = before - 2 * here + after
    return 0.0 if bend <= 0 else max(-0.5, min(0.5, (before - after) / (2 * bend)))


def _wrong_confidences(clip: ClipEmbeddings, max_offset: int, elsewhere: Sequence[Floats]) -> Floats:
    """The confidences of wrong alignments.

    Best is the sound of other clips, in several places: then the clip's own confidence is one of many alike if its
    sound has nothing to do with it, and p values are even. Without any, the clip's own sound is cut into blocks in
    another order: how sounds follow one another must be kept, since sounds that run backwards fit no picture as well
    as foreign ones do. On embeddings of wrong sound, 4 s long, 3 to 7% of p values are at most 0.05 by the first, 9 to
    16% by the second; and a third where the sound ran backwards. Few other clips say less than many.
    """
    count, sounds = len(clip.audio_starts), elsewhere or [clip.audio_AE]
    curves = []
    for sound_AE in sounds if count else ():
        here = ClipEmbeddings(clip.video_starts, clip.vision_VE, clip.audio_starts, sound_AE, clip.unit)
        orders = _turned(count, len(sound_AE), len(elsewhere)) if elsewhere else _cut(count)
        curves += [mean_curve(_at_offsets(here, order, max_offset)) for order in orders]
    return np.array([_depth(curve) for curve in curves if not np.isnan(curve).all()], np.float32)


def _turned(count: int, length: int, clips: int) -> list[NDArray[np.int64]]:
    """Another clip's windows of sound, from several places on, around its end as often as needed."""
    turns = max(_TURNS, min(-(-_WRONG // clips), length // _APART))
    return [(np.arange(count) + turn * length // turns) % length for turn in range(turns)] if length else []


def _cut(count: int) -> list[NDArray[np.int64]]:
    """The clip's own windows of sound in blocks, which are exchanged; the same every time."""
    rng, found = np.random.default_rng(0), []
    for _ in range(_WRONG):
        turned = np.roll(np.arange(count), rng.integers(count))
        blocks = np.array_split(turned, max(2, round(count / _BLOCK)))
        found.append(np.concatenate([blocks[place] for place in rng.permutation(len(blocks))]))
    return found


def _at_offsets(clip: ClipEmbeddings, order: NDArray[np.int64], max_offset: int) -> Floats:
    """`offset_distances` of a clip whose windows of sound, by their place, are taken in this order."""
    shifts = np.arange(-max_offset, max_offset + 1)
    first = clip.audio_starts[0] if len(order) else 0
    places_VO = clip.video_starts[:, None] + shifts - first
    there_VO = (places_VO >= 0) & (places_VO < len(order))
    found = np.full(places_VO.shape, np.nan, np.float32)
    rows_VO = np.broadcast_to(np.arange(len(clip.video_starts))[:, None], places_VO.shape)
    found[there_VO] = clip.distances_VA[rows_VO[there_VO], order[places_VO[there_VO]]]
    return found
