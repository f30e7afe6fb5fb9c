"""The stateless sample stream: which window, which audio and which label stand at position i of a training run.

Promises: `SampleStream.sample(i)` is a pure function of (clip table, settings, seed, i), with no state to save, at a
cost that does not grow with the number of clips; the positions of one epoch visit every usable clip exactly once;
labels alternate, so that every even stretch is balanced; a positive's window is drawn as a negative's is, so that its
place tells nothing about the label. With the default settings a negative's audio comes from the same clip and shares
no video frame with the video window.

A stream of twins is for losses that contrast positives with one another: each two positions are the two windows of one
draw, both in sync, and so each other's negatives. It visits every usable clip exactly once per epoch too, with two
samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from orchestrator.config.data import DataConfig, NegativesConfig
from orchestrator.data.stream.clip_table import ClipTable as ClipTable
from orchestrator.data.stream.drawing import Drawing
from orchestrator.data.stream.keyed import ROUNDS, Domain, permute, scale, words
from orchestrator.data.stream.negatives import Mixture, Neighbours
from orchestrator.data.stream.negatives import Negative as Negative

Clips = ClipTable | Sequence[int]
"""The clips of a split; plain lengths where every frame is usable and nobody asks who speaks."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair of a video window and an audio window."""

    clip: int
    """Index into the clip list that the stream was made for."""
    frame_start: int
    """First video frame of the window."""
    audio_start: int
    """Video frame, of the audio's clip, at which the audio window starts; `frame_start` for a positive."""
    label: int
    """1 in sync, 0 out of sync."""
    audio_clip: int = -1
    """The clip that is heard; left out, the one that is seen."""
    kind: Negative = Negative.SAME_CLIP
    """Which kind of negative this is, or, of a positive, would have been."""

    def __post_init__(self) -> None:
        if self.audio_clip < 0:
            object.__setattr__(self, "audio_clip", self.clip)


class SampleStream:
    """The endless sequence of training samples.

    Args:
        clips: the clips of a split, in the order of the corpus.
        num_frames: video frames per window.
        settings: which negatives, how far away, and how much speech; the rest of it is not looked at.
        seed: seed of everything.
        twins: positions 2k and 2k + 1 are both in sync and of one clip: the first where a negative of that draw would
            have been seen, the second where it would have been heard. `same_clip` and `near` keep their proportion;
            kinds with another clip's sound are left out, because such negatives stand beside the twins anyway, and
            where no kind is left it is `same_clip`.

    Raises:
        DataError: as `Drawing`; `one_speaker` or `one_clip` when there is no other clip to take the sound from.
    """

    def __init__(
        self,
        clips: Clips,
        num_frames: int,
        settings: DataConfig | None = None,
        *,
        seed: int = 0,
        twins: bool = False,
    ) -> None:
        settings = settings or DataConfig()
        self.table, self.num_frames, self.seed = as_table(clips), num_frames, seed
        self._twins, self._per_draw = twins, 2 if twins else 1
        self._mixture = Mixture(_inside(settings.negatives) if twins else settings.negatives)
        self.drawing = Drawing(self.table, num_frames, settings, self._mixture.kinds)
        """The clips and windows that may be drawn."""
        self._usable = self.drawing.usable
        self._neighbours = Neighbours(self._usable, self.table.speakers) if self._mixture.crosses else None
        if self._neighbours:
            self._neighbours.check(self._mixture.kinds)

    @property
    def epoch_length(self) -> int:
        """Samples per epoch: one of every usable clip, or the two of its twins."""
        return len(self._usable) * self._per_draw

    def excluded(self) -> tuple[int, ...]:
        """Indices of the clips that are too short or too silent for the negatives, and never appear."""
        return tuple(np.setdiff1d(np.arange(len(self.table)), self._usable, assume_unique=True).tolist())

    def sample(self, index: int) -> Sample:
        """The sample at position `index` >= 0."""
        draw, twin = divmod(index, self._per_draw)
        epoch, place = divmod(draw, len(self._usable))
        rank = permute(place, len(self._usable), _epoch_keys(self.seed, epoch))
        clip, label = int(self._usable[rank]), 1 if self._twins else 1 - index % 2
        first, second, third, fourth = words(self.seed, draw, Domain.PAIR, 4)
        kind = self._mixture.kind(fourth)
        if kind in self.drawing.distances:
            pairs = self.drawing.pairs(clip, kind)
            video, audio = pairs.pair(scale(first, pairs.count))
            other = clip
        else:
            assert self._neighbours is not None
            other = self._neighbours.other(rank, kind, second)
            video, audio = self.drawing.start(clip, first), self.drawing.start(other, third)
        if twin:
            video = audio
        if label:
            other, audio = clip, video
        firsts = self.table.firsts
        return Sample(clip, video + int(firsts[clip]), audio + int(firsts[other]), label, other, kind)


def as_table(clips: Clips) -> ClipTable:
    """The table itself, or that of plain lengths."""
    return clips if isinstance(clips, ClipTable) else ClipTable.of(clips)


def _inside(weights: NegativesConfig) -> NegativesConfig:
    """The kinds that take both windows from one clip, in their proportion."""
    return NegativesConfig(same_clip=weights.same_clip or float(not weights.near), near=weights.near)


@lru_cache(maxsize=256)
def _epoch_keys(seed: int, epoch: int) -> tuple[int, ...]:
    """The keys of an epoch's order; asked for at every sample."""
    return tuple(words(seed, epoch, Domain.EPOCH, ROUNDS))
