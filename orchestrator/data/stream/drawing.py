"""Which windows of which clips may be drawn, under the settings: shared by the sample stream and the validation pairs.

Promises: a clip is usable only if it has a window, and a pair of windows for each kind of negative inside one clip that
has a weight, all with enough speech; so a draw never fails and never has to be tried again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.config.data import DataConfig
from orchestrator.data.stream.clip_table import ClipTable, Ints
from orchestrator.data.stream.keyed import scale
from orchestrator.data.stream.negatives import Negative
from orchestrator.data.stream.spoken import clips_with_speech, spoken_windows
from orchestrator.data.stream.windows import Distances, MarkedPairs, Pairs, WindowPairs
from orchestrator.errors import DataError


class Drawing:
    """Even draws of windows and of pairs of windows.

    Args:
        table: the clips.
        num_frames: video frames per window.
        settings: shifts and the least share of speech.
        kinds: the kinds of negatives that will be asked for.

    Raises:
        DataError: `bad_shift` for contradictory shifts, `no_usable_clips` when no clip is long enough or has enough
            speech, `no_speech_marks` when the corpus does not say where speech is heard.
    """

    def __init__(self, table: ClipTable, num_frames: int, settings: DataConfig, kinds: Sequence[Negative]) -> None:
        _check_shifts(settings)
        self.table, self.num_frames, self.min_speech = table, num_frames, settings.min_speech
        self.distances = {
            Negative.SAME_CLIP: Distances.between_windows(num_frames, settings.min_shift, settings.max_shift),
            Negative.NEAR: Distances(*settings.near_shift),
        }
        """The distances of the kinds inside one clip."""
        inside = [self.distances[kind] for kind in kinds if kind in self.distances]
        self.needed = num_frames + max((distance.least for distance in inside), default=0)
        """Frames that a clip needs."""
        long_enough = np.flatnonzero(table.lengths >= self.needed)
        self.usable: Ints = long_enough
        """The clips that may be drawn from."""
        if self.min_speech:
            self.usable = clips_with_speech(table, long_enough, num_frames, self.min_speech, inside)
        self.short = len(table) - len(long_enough)
        """How many clips are too short."""
        self.silent = len(long_enough) - len(self.usable)
        """How many are long enough, but hold too little speech."""
        if not len(self.usable):
            raise self._nothing()

    def pairs(self, clip: int, kind: Negative) -> Pairs:
        """The pairs of windows of a usable clip that make a negative of this kind; starts count from its first
        usable frame."""
        if self.min_speech:
            marks = spoken_windows(self.table, clip, self.num_frames, self.min_speech)
            return MarkedPairs(marks, self.distances[kind])
        return WindowPairs.of(int(self.table.lengths[clip]), self.num_frames, self.distances[kind])

    def start(self, clip: int, word: int) -> int:
        """The start of one window of a usable clip, from its first usable frame: any, evenly."""
        if self.min_speech:
            places = np.flatnonzero(spoken_windows(self.table, clip, self.num_frames, self.min_speech))
            return int(places[scale(word, len(places))])
        return scale(word, int(self.table.lengths[clip]) - self.num_frames + 1)

    def _nothing(self) -> DataError:
        lengths = self.table.lengths
        if self.silent:
            message = f"not one of {self.silent} clips has the windows of {self.num_frames} frames for a negative with "
            message += f"speech in {self.min_speech:.0%} of their frames"
            return DataError(message, reason="no_usable_clips", hint="lower data.min_speech")
        found = f"the longest has {lengths.max()}" if len(lengths) else "there are no clips"
        message = (
            f"a window of {self.num_frames} frames with a negative needs clips of {self.needed} frames, but {found}"
        )
        hint = "add longer clips, or lower data.min_shift or data.near_shift"
        return DataError(message, reason="no_usable_clips", hint=hint)


def _check_shifts(settings: DataConfig) -> None:
    low, high = settings.min_shift, settings.max_shift
    if high is not None and high < low:
        message = f"a negative's shift must be 1 <= min_shift <= max_shift, but is {low} to {high}"
        raise DataError(message, reason="bad_shift", hint="change data.min_shift or data.max_shift")
