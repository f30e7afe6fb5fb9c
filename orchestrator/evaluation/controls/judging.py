"""Cosines of any pairs of a corpus, changed or not: the narrow door through which controls ask.

Contract: a `Judge` answers pair by pair, in their order, and the labels go in with the pairs, as they would for a judge
that peeks at them. `CorpusJudge` is the product's own: `Material` -> `Towers` -> `ClipEmbeddings`; it embeds a window
once, however many controls look at it.
"""

# N pairs, T frames, E embedding

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.corpus import CorpusSplit
from orchestrator.data.media.features import LIMIT
from orchestrator.data.stream import Sample
from orchestrator.evaluation.material import Material, of_corpus
from orchestrator.evaluation.towers import ClipEmbeddings, Towers

SILENCE = -LIMIT
"""What `log_mel` gives for a wave of zeros."""

Floats = NDArray[np.float32]


class Change(StrEnum):
    """What is done to every clip before it is judged."""

    NONE = "none"
    SILENT_AUDIO = "silent_audio"
    """No sound."""
    FROZEN_FRAME = "frozen_frame"
    """Only the frame in the middle of the clip is seen, all the time."""
    REVERSED_VIDEO = "reversed_video"
    """The clip's pictures from the last to the first, under the sound as it was."""


class Judge(Protocol):
    """Whatever turns pairs into cosines."""

    def __call__(self, pairs: Sequence[Sample], change: Change, /) -> Floats:
        """(N,) cosines, in their order."""
        ...


class CorpusJudge:
    """A network's cosines.

    Args:
        clips: the split that the pairs count in.
        towers: the network.
    """

    def __init__(self, clips: CorpusSplit, towers: Towers) -> None:
        self._clips, self._towers = clips, towers
        self._seen: dict[tuple[int, int, Change], Floats] = {}
        self._heard: dict[tuple[int, int, Change], Floats] = {}

    def __call__(self, pairs: Sequence[Sample], change: Change = Change.NONE, /) -> Floats:
        """(N,) cosines of pairs.

        Raises:
            OrchestratorError: the network or the storage fails.
        """
        seen = [(pair.clip, _start(pair.frame_start, change, Change.FROZEN_FRAME), _picture(change)) for pair in pairs]
        heard = [
            (pair.audio_clip, _start(pair.audio_start, change, Change.SILENT_AUDIO), _sound(change)) for pair in pairs
        ]
        self._fill(self._seen, seen, self._see)
        self._fill(self._heard, heard, self._hear)
        vision_NE, audio_NE = (
            np.stack([found[key] for key in keys]) for found, keys in ((self._seen, seen), (self._heard, heard))
        )
        places = np.arange(len(pairs))
        return ClipEmbeddings(places, vision_NE, places, audio_NE).cosines(places.tolist(), places.tolist())

    def _fill(
        self,
        known: dict[tuple[int, int, Change], Floats],
        keys: Sequence[tuple[int, int, Change]],
        embed: Callable[[Material, NDArray[np.int64]], Floats],
    ) -> None:
        """Embed what is not known yet, clip by clip."""
        starts: dict[tuple[int, Change], set[int]] = defaultdict(set)
        for clip, start, change in keys:
            if (clip, start, change) not in known:
                starts[clip, change].add(start)
        for (clip, change), wanted in sorted(starts.items()):
            ordered = sorted(wanted)
            material = changed(of_corpus(self._clips, clip), change)
            embeds = embed(material, np.array(ordered, np.int64))
            known.update({(clip, start, change): row for start, row in zip(ordered, embeds, strict=True)})

    def _see(self, clip: Material, starts: NDArray[np.int64]) -> Floats:
        return self._towers.embed(clip, starts, starts[:0]).vision_VE

    def _hear(self, clip: Material, starts: NDArray[np.int64]) -> Floats:
        return self._towers.embed(clip, starts[:0], starts).audio_AE


def changed(clip: Material, change: Change) -> Material:
    """A clip under a change."""
    frames_TCHW = clip.frames_TCHW
    match change:
        case Change.SILENT_AUDIO:
            # every window is the same, wherever it lies
            return Material(frames_TCHW, np.full_like(clip.mel_ML, SILENCE), 0)
        case Change.FROZEN_FRAME:
            middle = frames_TCHW[len(frames_TCHW) // 2]
            return Material(np.broadcast_to(middle, frames_TCHW.shape), clip.mel_ML, clip.offset_columns)
        case Change.REVERSED_VIDEO:
            return Material(frames_TCHW[::-1], clip.mel_ML, clip.offset_columns)
        case Change.NONE:
            return clip


def _start(start: int, change: Change, same: Change) -> int:
    """Where all windows of a changed clip are the same, one of them stands for all."""
    return 0 if change is same else start


def _picture(change: Change) -> Change:
    return Change.NONE if change is Change.SILENT_AUDIO else change


def _sound(change: Change) -> Change:
    return change if change is Change.SILENT_AUDIO else Change.NONE
