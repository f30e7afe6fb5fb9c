"""Counting windows and pairs of windows without listing them: the arithmetic behind an even draw.

Promises: `pair(0) ... pair(count - 1)` are all the allowed ordered pairs (video start, audio start) of a clip, each
once; with every pair its mirror image is there too, so that an even draw gives both starts the same distribution. A
positive takes the video start of the same draw, so a window's place in its clip tells nothing about the label.
Starts count from the clip's first usable frame.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Pairs(Protocol):
    """The allowed pairs of window starts of one clip."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def pair(self, index: int) -> tuple[int, int]:
        """The pair number `index` in [0, count): (video start, audio start)."""
        ...


@dataclass(frozen=True, slots=True)
class Distances:
    """Which distances between the two window starts make a negative."""

    least: int
    """Least |audio start - video start|."""
    most: int | None
    """Greatest such distance, inclusive; none means anywhere in the clip."""

    @classmethod
    def between_windows(cls, num_frames: int, min_shift: int, max_shift: int | None) -> Distances:
        """From the gap between two windows that do not overlap: 1 for adjacent ones."""
        return cls(num_frames - 1 + min_shift, None if max_shift is None else num_frames - 1 + max_shift)

    def in_clip(self, starts: int) -> tuple[int, int]:
        """(least, most) in a clip with so many window starts; it has no pair when most < least."""
        return self.least, starts - 1 if self.most is None else min(starts - 1, self.most)


@dataclass(frozen=True, slots=True)
class WindowPairs:
    """All pairs of one clip length, in closed form. They are counted, not stored."""

    starts: int
    """How many window starts the clip has."""
    least: int
    """Least |audio start - video start|."""
    most: int
    """Greatest such distance, inclusive."""

    @classmethod
    def of(cls, clip_length: int, num_frames: int, distances: Distances) -> WindowPairs:
        """The pairs of a clip of `clip_length` frames."""
        starts = clip_length - num_frames + 1
        return cls(starts, *distances.in_clip(starts))

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


class MarkedPairs:
    """The pairs of one clip of which both windows are marked, by counting the marks. Cost: the clip's length.

    Args:
        marks: bool `(starts,)`: the window starts that may be used.
        distances: which distances make a negative.
    """

    def __init__(self, marks: NDArray[np.bool_], distances: Distances) -> None:
        self._marks = marks
        self._least, self._most = distances.in_clip(len(marks))
        self._ends = np.cumsum(_later(marks, self._least, self._most) * marks)

    @property
    def count(self) -> int:
        """Number of pairs."""
        return 2 * int(self._ends[-1]) if len(self._ends) else 0

    def pair(self, index: int) -> tuple[int, int]:
        """The pair number `index` in [0, count): (video start, audio start), by the earlier window."""
        rank, swapped = divmod(index, 2)
        first = int(np.searchsorted(self._ends, rank, side="right"))
        rank -= int(self._ends[first - 1]) if first else 0
        second = first + self._least + int(np.flatnonzero(self._marks[first + self._least :])[rank])
        return (second, first) if swapped else (first, second)


def _later(marks: NDArray[np.bool_], least: int, most: int) -> NDArray[np.int64]:
    """For every start, how many marked starts lie `least` to `most` after it."""
    starts = len(marks)
    sums = np.concatenate([[0], np.cumsum(marks, dtype=np.int64)])
    places = np.arange(starts)
    counts = sums[np.clip(places + most + 1, 0, starts)] - sums[np.clip(places + least, 0, starts)]
    return np.maximum(counts, 0)  # below 0 where the clip is too short for the least distance
