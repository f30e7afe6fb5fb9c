"""One clip, judged: everything that a network has to say of it, in one pass over its windows.

Contract: a `ClipReport` is small and plain, so that it travels between processes and into JSON; `judge_clip` is a pure
function of network, clip and request, so that it does not matter which process asks.
"""

# V windows of the picture, E embedding

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from orchestrator.config.media import FPS
from orchestrator.evaluation.material import Material
from orchestrator.evaluation.offsets import (
    MAX_OFFSET,
    ClipOffset,
    averaged,
    best_offsets,
    find_offset,
    offset_distances,
    offset_hits,
)
from orchestrator.evaluation.towers import ClipEmbeddings, Floats, Towers
from orchestrator.training.metrics import direction_sums

WINDOWS_AVERAGED = tuple(range(5, 16))
"""K: for each of them the offset accuracy is told."""
_TIMELINE_WINDOWS = 10


class Pair(NamedTuple):
    """Two windows of the clip to compare, by their first frames."""

    frame_start: int
    audio_start: int


class Moment(NamedTuple):
    """What ten neighbouring windows say together."""

    seconds: float
    """The middle of what they show."""
    offset: int
    """The best offset in whole frames."""
    depth: float
    """Median distance over the offsets less the least one: how clearly they say it."""


@dataclass(frozen=True)
class ClipReport:
    """What a network makes of a clip."""

    clip: int
    """Its index in the split, or its place in a list of videos."""
    seconds: float
    """How long it is."""
    cosines: tuple[float, ...]
    """Of the pairs that were asked for, in their order."""
    offset: ClipOffset | None
    """Where it fits best; none for a clip that is too short to tell."""
    hits: tuple[tuple[int, int, int, int], ...]
    """For each K of `WINDOWS_AVERAGED`: places, and those right within 0, 1 and 2 frames."""
    timeline: tuple[Moment, ...]
    """Along the clip, places at which all offsets could be compared."""
    directions: tuple[tuple[float, ...], ...] = ()
    """(2, E + 1): sums of the directions of both towers over the pairs (see `direction_sums`)."""


def judge_clip(
    towers: Towers,
    clip: Material,
    index: int = 0,
    pairs: Sequence[Pair] = (),
    *,
    stride: int = 1,
    max_offset: int = MAX_OFFSET,
    offsets: bool = True,
    elsewhere: Sequence[Floats] = (),
) -> ClipReport:
    """Judge a clip.

    Args:
        towers: the network.
        clip: its picture and sound.
        index: goes into the report.
        pairs: windows to compare, each within the clip.
        stride: frames from one window of the picture to the next, for offsets; more is faster and less sure.
        max_offset: frames to either side.
        offsets: whether to look for offsets at all; pairs alone need fewer windows.
        elsewhere: embeddings of other clips' sound, for the p value of the offset (see `find_offset`).

    Raises:
        RunError: the embeddings are not finite.
    """
    length, seconds = towers.num_frames, clip.num_frames / FPS
    grid = clip.video_starts(length, stride) if offsets else np.zeros(0, np.int64)
    video = np.unique(np.concatenate([grid, [pair.frame_start for pair in pairs]])).astype(np.int64)
    heard = np.unique([pair.audio_start for pair in pairs]).astype(np.int64)
    audio = clip.audio_starts(length, max_offset) if offsets else heard
    embeds = towers.embed(clip, video, audio)
    cosines = embeds.cosines(*zip(*pairs, strict=True)) if pairs else np.zeros(0, np.float32)
    sums = _directions(embeds, pairs)
    if not offsets or not len(grid) or not len(audio):
        return ClipReport(index, seconds, tuple(cosines.tolist()), None, (), (), sums)
    on_grid = ClipEmbeddings(grid, embeds.vision_VE[np.isin(video, grid)], audio, embeds.audio_AE, embeds.unit)
    distances_VO = offset_distances(on_grid, max_offset)
    hits = []
    for windows in WINDOWS_AVERAGED:
        places, right = offset_hits(distances_VO, windows)
        hits.append((places, *right))
    found, line = find_offset(on_grid, max_offset, elsewhere=elsewhere), timeline(on_grid, length, max_offset)
    return ClipReport(index, seconds, tuple(cosines.tolist()), found, tuple(hits), line, sums)


def timeline(
    clip: ClipEmbeddings, num_frames: int, max_offset: int = MAX_OFFSET, windows: int = _TIMELINE_WINDOWS
) -> tuple[Moment, ...]:
    """What neighbouring windows of the picture say, along the clip.

    Args:
        clip: its embeddings.
        num_frames: frames of a window.
        max_offset: frames to either side.
        windows: neighbours averaged; fewer in a short clip.
    """
    distances_VO = offset_distances(clip, max_offset)
    windows = max(1, min(windows, len(distances_VO)))
    means = averaged(distances_VO, windows)
    whole = ~np.isnan(means).any(axis=1)
    firsts, lasts = clip.video_starts[: len(means)], clip.video_starts[windows - 1 :]
    middles = (firsts + lasts + num_frames) / 2 / FPS
    depths = np.median(means[whole], axis=1) - means[whole].min(axis=1)
    found = zip(middles[whole].tolist(), best_offsets(means).tolist(), depths.tolist(), strict=True)
    return tuple(Moment(*moment) for moment in found)


def _directions(embeds: ClipEmbeddings, pairs: Sequence[Pair]) -> tuple[tuple[float, ...], ...]:
    if not pairs:
        return ()
    video = np.searchsorted(embeds.video_starts, [pair.frame_start for pair in pairs])
    audio = np.searchsorted(embeds.audio_starts, [pair.audio_start for pair in pairs])
    towers = (embeds.vision_VE[video], embeds.audio_AE[audio])
    return tuple(tuple(direction_sums(torch.from_numpy(of)).tolist()) for of in towers)
