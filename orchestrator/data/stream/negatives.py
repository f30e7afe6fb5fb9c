"""Where the sound of a negative comes from: the mixture of kinds, and the other clip where it takes one.

Promises: a kind is drawn before anything else and for positives too, which take the video window that the negative
would have had; who the other clip is costs the same with ten clips and with a million.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Any

import numpy as np

from orchestrator.config.data import NegativesConfig
from orchestrator.data.stream.clip_table import Ints
from orchestrator.data.stream.keyed import scale
from orchestrator.errors import DataError


class Negative(StrEnum):
    """The kinds of negatives, under the names of their settings."""

    SAME_CLIP = "same_clip"
    """Another place of the same clip; the windows never overlap."""
    NEAR = "near"
    """A place of the same clip a few frames away; the windows may overlap."""
    CROSS_CLIP = "cross_clip"
    """Another clip of the same speaker, or of another speaker where this one has a single usable clip."""
    CROSS_SPEAKER = "cross_speaker"
    """A clip of another speaker."""


class Mixture:
    """The kinds with weights above 0, and which of them a random word means."""

    def __init__(self, weights: NegativesConfig) -> None:
        known = {kind: float(getattr(weights, kind.value)) for kind in Negative}
        self.kinds = tuple(kind for kind, weight in known.items() if weight)
        total = sum(known.values())
        # the share of each kind in 2^64 words, as whole numbers, so that every machine draws alike
        sums = accumulate(known[kind] for kind in self.kinds)
        self._ends = [int(part / total * (1 << 53)) << 11 for part in sums]

    def kind(self, word: int) -> Negative:
        """The kind of a random word."""
        if len(self.kinds) == 1:
            return self.kinds[0]
        return self.kinds[min(bisect_right(self._ends, word), len(self.kinds) - 1)]

    @property
    def crosses(self) -> bool:
        """Whether some negatives take their sound from another clip."""
        return bool({Negative.CROSS_CLIP, Negative.CROSS_SPEAKER} & set(self.kinds))


class Neighbours:
    """The usable clips ordered by speaker, so that a speaker's clips and everybody else's are ranges.

    Args:
        usable: the usable clips.
        speakers: the speaker of every clip, usable or not.
    """

    def __init__(self, usable: Ints, speakers: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        order = np.argsort(speakers[usable], kind="stable")
        self._clips = usable[order]
        ordered = speakers[self._clips]
        self._place = np.empty(len(usable), dtype=np.int64)
        self._place[order] = np.arange(len(usable))
        self._usable = usable
        self._first = np.searchsorted(ordered, ordered, side="left")
        self._end = np.searchsorted(ordered, ordered, side="right")

    def check(self, kinds: Sequence[Negative]) -> None:
        """Refuse kinds for which there can be no other clip.

        Raises:
            DataError: `one_speaker`, `one_clip`.
        """
        everyone = len(self._clips)
        if Negative.CROSS_SPEAKER in kinds and self._end[0] == everyone:
            message = "data.negatives.cross_speaker needs clips of two speakers, but all usable clips are of one"
            raise DataError(message, reason="one_speaker", hint="set data.negatives.cross_speaker=0")
        if Negative.CROSS_CLIP in kinds and everyone == 1:
            message = "data.negatives.cross_clip needs two usable clips, but there is one"
            raise DataError(message, reason="one_clip", hint="set data.negatives.cross_clip=0")

    def other(self, rank: int, kind: Negative, word: int) -> int:
        """The clip whose sound a negative takes.

        Args:
            rank: the clip of the video window, as a place in `usable`.
            kind: `CROSS_CLIP` or `CROSS_SPEAKER`.
            word: one random word; all clips that may be taken are equally likely.
        """
        place = int(self._place[rank])
        first, end = int(self._first[place]), int(self._end[place])
        if kind is Negative.CROSS_CLIP and end - first > 1:
            chosen = first + scale(word, end - first - 1)
            return int(self._clips[chosen + (chosen >= place)])
        chosen = scale(word, len(self._clips) - (end - first))
        return int(self._clips[chosen + (end - first) * (chosen >= first)])
