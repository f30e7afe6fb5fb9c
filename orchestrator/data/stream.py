"""The stateless sample stream: which window, which audio and which label stand at position i of a training run.

Promises: `SampleStream.sample(i)` is a pure function of (clip lengths, settings, seed, i), with no state to save;
the positions of one epoch visit every usable clip exactly once; labels alternate, so that every even stretch is
balanced; a negative's audio comes from the same clip and shares no video frame with the video window. Raw words of
numpy's Philox generator are used, because those, unlike its derived draws, never change between versions.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.errors import DataError

_WORD = 1 << 64
_PAIR, _EPOCH, _EVALUATION = range(3)  # independent domains of randomness under one seed
_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair of a video window and an audio window."""

    clip: int
    """Index into the clip list that the stream was made for."""
    frame_start: int
    """First video frame of the window."""
    audio_start: int
    """Video frame at which the audio window starts; `frame_start` for a positive."""
    label: int
    """1 in sync, 0 out of sync."""


@dataclass(frozen=True)
class WindowPairs:
    """All ordered pairs (video start, audio start) of one clip length whose distance makes a negative.

    They are counted, not stored. Drawing one pair evenly gives both starts the same distribution; positives take the
    same video start, so that a window's place in its clip tells nothing about the label.
    """

    starts: int
    """How many window starts the clip has."""
    least: int
    """Least |audio start - video start|."""
    most: int
    """Greatest such distance, inclusive."""

    @classmethod
    def of(cls, clip_length: int, num_frames: int, min_shift: int, max_shift: int | None) -> WindowPairs:
        """The pairs of a clip of `clip_length` frames; a shift is the gap, counted from 1 for adjacent windows."""
        starts = clip_length - num_frames + 1
        most = starts - 1 if max_shift is None else min(starts - 1, num_frames - 1 + max_shift)
        return cls(starts, num_frames - 1 + min_shift, most)

    @property
    def count(self) -> int:
        """Number of pairs; 0 when the clip is too short for a negative."""
        return 2 * self._up_to(self.most - self.least + 1) if self.most >= self.least else 0

    def pair(self, index: int) -> tuple[int, int]:
        """The pair number `index` in [0, count): (video start, audio start). Nearest distances come first."""
        rank, swapped = divmod(index, 2)
        step = bisect_right(range(self.most - self.least + 1), rank, key=self._up_to) - 1
        first = rank - self._up_to(step)
        second = first + self.least + step
        return (second, first) if swapped else (first, second)

    def _up_to(self, steps: int) -> int:
        """Pairs with video before audio over the first `steps` distances: one distance d has `starts - d` of them."""
        return steps * (self.starts - self.least) - steps * (steps - 1) // 2


class SampleStream:
    """The endless sequence of training samples.

    Args:
        clip_lengths: frames of every clip, in the order of the corpus.
        num_frames: video frames per window.
        min_shift: least gap of a negative in frames; 1 means that the windows are adjacent.
        max_shift: greatest gap; none means anywhere in the clip.
        seed: seed of everything.

    Raises:
        DataError: `bad_shift` for contradictory shifts, `no_usable_clips` when every clip is too short.
    """

    def __init__(
        self,
        clip_lengths: Sequence[int],
        num_frames: int,
        min_shift: int = 1,
        max_shift: int | None = None,
        seed: int = 0,
    ) -> None:
        self.num_frames, self.min_shift, self.max_shift, self.seed = num_frames, min_shift, max_shift, seed
        self.clip_lengths = tuple(clip_lengths)
        self._usable = usable_clips(self.clip_lengths, num_frames, min_shift, max_shift)

    @property
    def epoch_length(self) -> int:
        """Samples per epoch: one of every usable clip."""
        return len(self._usable)

    def excluded(self) -> tuple[int, ...]:
        """Indices of the clips that are too short for a negative and never appear."""
        usable = set(self._usable)
        return tuple(clip for clip in range(len(self.clip_lengths)) if clip not in usable)

    def sample(self, index: int) -> Sample:
        """The sample at position `index` >= 0."""
        epoch, place = divmod(index, self.epoch_length)
        clip = self._usable[_permute(place, self.epoch_length, _words(self.seed, epoch, _EPOCH, _ROUNDS))]
        pairs = WindowPairs.of(self.clip_lengths[clip], self.num_frames, self.min_shift, self.max_shift)
        video, audio = pairs.pair(_scale(_words(self.seed, index, _PAIR, 1)[0], pairs.count))
        label = 1 - index % 2
        return Sample(clip, video, video if label else audio, label)


def usable_clips(
    clip_lengths: Sequence[int], num_frames: int, min_shift: int = 1, max_shift: int | None = None
) -> list[int]:
    """Indices of the clips that are long enough for a window and a negative: 2 * num_frames - 1 + min_shift frames.

    Raises:
        DataError: `bad_shift` for contradictory shifts, `no_usable_clips` when none is long enough.
    """
    if min_shift < 1 or (max_shift is not None and max_shift < min_shift):
        message = f"a negative's shift must be 1 <= min_shift <= max_shift, but is {min_shift} to {max_shift}"
        raise DataError(message, reason="bad_shift", hint="change data.min_shift or data.max_shift")
    needed = 2 * num_frames - 1 + min_shift
    usable = [clip for clip, length in enumerate(clip_lengths) if length >= needed]
    if not usable:
        longest = f"the longest has {max(clip_lengths)}" if clip_lengths else "there are no clips"
        message = f"a window of {num_frames} frames with a negative needs clips of {needed} frames, but {longest}"
        raise DataError(message, reason="no_usable_clips", hint="add longer clips, or lower data.min_shift")
    return usable


def evaluation_pairs(
    clip_lengths: Sequence[int],
    num_frames: int,
    count: int,
    *,
    seed: int = 0,
    min_shift: int = 1,
    max_shift: int | None = None,
) -> list[Sample]:
    """The fixed validation list: a positive and a same-clip negative of each of `count // 2` windows, side by side.

    Windows are spread evenly over the usable clips and, within a clip, over its possible pairs, which repeat only
    when the clip has fewer than are asked of it. A pure function of its arguments.

    Raises:
        DataError: as `usable_clips`.
    """
    usable = usable_clips(clip_lengths, num_frames, min_shift, max_shift)
    windows = count // 2
    samples: list[Sample] = []
    for number in range(windows):
        clip = usable[number * len(usable) // windows]
        pairs = WindowPairs.of(clip_lengths[clip], num_frames, min_shift, max_shift)
        video, audio = pairs.pair(_stratum(number, windows, len(usable), pairs.count, seed))
        samples += [Sample(clip, video, video, 1), Sample(clip, video, audio, 0)]
    return samples


def pairs_hash(pairs: Sequence[Sample], clip_ids: Sequence[str], preparation: str = "") -> str:
    """Hex SHA-256 of what the pairs show: two figures are comparable only if these agree.

    Args:
        pairs: the evaluation list.
        clip_ids: clip ids by clip index; they contain the content's fingerprint.
        preparation: fingerprint of the preparation settings.
    """
    digest = hashlib.sha256(preparation.encode())
    for pair in pairs:
        line = f"\n{clip_ids[pair.clip]}\t{pair.frame_start}\t{pair.audio_start}\t{pair.label}"
        digest.update(line.encode())
    return digest.hexdigest()


def _stratum(number: int, windows: int, clips: int, pair_count: int, seed: int) -> int:
    """The pair of evaluation window `number`: one draw from its own share of the clip's pairs."""
    place = number * clips // windows
    first = -(-place * windows // clips)
    share = -(-(place + 1) * windows // clips) - first
    low, high = ((number - first + k) * pair_count // share for k in (0, 1))
    return low + _scale(_words(seed, number, _EVALUATION, 1)[0], max(high - low, 1))


def _words(seed: int, index: int, domain: int, count: int) -> list[int]:
    """`count` random 64-bit words that belong to (seed, index, domain) alone."""
    key = np.array([seed % _WORD, index], dtype=np.uint64)
    counter = np.array([0, 0, 0, domain], dtype=np.uint64)
    return [int(word) for word in np.random.Philox(key=key, counter=counter).random_raw(count)]


def _scale(word: int, count: int) -> int:
    """A 64-bit word as a number in [0, count)."""
    return word * count >> 64


def _permute(place: int, count: int, keys: list[int]) -> int:
    """Where a keyed permutation of [0, count) sends `place`, in constant time and memory.

    A Feistel network permutes the next power of four; walking its cycle until it is back inside keeps it a
    permutation of the smaller range.
    """
    half = max(((count - 1).bit_length() + 1) // 2, 1)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for key in keys:
            left, right = right, left ^ (_mix(right, key) & mask)
        place = left << half | right
        if place < count:
            return place


def _mix(value: int, key: int) -> int:
    """Scramble a word with a key: two rounds of multiply and shift, enough for neighbours to part."""
    value = ((value + 1) * 0x9E3779B97F4A7C15 ^ key) % _WORD
    value = (value ^ value >> 31) * 0xD6E8FEB86659FD93 % _WORD
    return value ^ value >> 32
