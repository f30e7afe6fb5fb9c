"""Where speech is heard: which windows of a clip hold enough of it, and which clips have such windows at all.

A window of silence cannot be told apart from another window of silence, so a negative made of two of them would carry a
wrong label. Whole corpora are looked through in blocks of bounded size, without a loop over their clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.stream.clip_table import ClipTable, Ints
from orchestrator.data.stream.windows import Distances
from orchestrator.errors import DataError

_BLOCK = 1 << 16
"""Bytes of speech bits looked through at once: half a million frames, whose arrays fit into a cache."""


def spoken_windows(table: ClipTable, clip: int, num_frames: int, share: float) -> NDArray[np.bool_]:
    """Which windows of a clip hold speech in at least `share` of their frames: bool, one for each window start.

    The clip must be one of `clips_with_speech`, which have their speech bits.
    """
    assert table.speech is not None
    first, length = int(table.firsts[clip]), int(table.lengths[clip])
    return _enough(table.speech.clip(clip, first, length), num_frames, share)


def clips_with_speech(
    table: ClipTable, clips: Ints, num_frames: int, share: float, distances: Sequence[Distances]
) -> Ints:
    """Those of `clips` that have a window with enough speech and, for each of `distances`, a pair of such windows.

    Raises:
        DataError: `no_speech_marks` when the corpus does not say where speech is heard.
    """
    if table.speech is None:
        message = f"data.min_speech is {share:g}, but the corpus does not say in which frames speech is heard"
        raise DataError(message, reason="no_speech_marks", hint="prepare it again, or set data.min_speech=0")
    kept = [_in_block(table, block, num_frames, share, distances) for block in _blocks(table, clips)]
    return np.concatenate([*kept, np.empty(0, dtype=np.int64)])


def _blocks(table: ClipTable, clips: Ints) -> Iterator[Ints]:
    """`clips`, in stretches whose speech bits fit into a block."""
    assert table.speech is not None
    if len(clips):
        number = (table.speech.offsets[clips] - table.speech.offsets[clips[0]]) // _BLOCK
        yield from np.split(clips, np.flatnonzero(np.diff(number)) + 1)


def _in_block(table: ClipTable, clips: Ints, num_frames: int, share: float, distances: Sequence[Distances]) -> Ints:
    """All clips at once: `marks` says of every bit of the block whether a usable window starts there."""
    assert table.speech is not None
    offsets = table.speech.offsets
    origin, end = offsets[clips[0]], offsets[clips[-1] + 1]
    heard = np.unpackbits(table.speech.bits[origin:end])
    # a clip without bits, or with too few, was not listened to: it is left out
    listened = table.firsts[clips] + table.lengths[clips] <= (offsets[clips + 1] - offsets[clips]) * 8
    begins = (offsets[clips] - origin) * 8 + table.firsts[clips] * listened
    starts = np.maximum(table.lengths[clips] - num_frames + 1, 0) * listened
    edges = np.zeros(len(heard) + 1, dtype=np.int32)
    np.add.at(edges, begins, 1)
    np.add.at(edges, begins + starts, -1)
    enough = _enough(heard, num_frames, share)
    marks = np.cumsum(edges[:-1]) > 0
    marks[: len(enough)] &= enough
    marks[len(enough) :] = False
    good = _any_between(marks, begins, begins + starts)
    for distance in distances:
        good &= _any_between(_has_partner(marks, begins, starts, distance), begins, begins + starts)
    return clips[good]


def _has_partner(marks: NDArray[np.bool_], begins: Ints, starts: Ints, distances: Distances) -> NDArray[np.bool_]:
    """Which marked starts have another one at an allowed distance after them in the same clip."""
    places = np.flatnonzero(marks)
    ends = np.repeat(begins + starts, np.diff(_sums(marks)[np.append(begins, len(marks))]))
    last = ends if distances.most is None else np.minimum(ends, places + distances.most + 1)
    sums, found = _sums(marks), np.zeros_like(marks)
    found[places] = sums[last] > sums[np.minimum(places + distances.least, last)]
    return found


def _any_between(marks: NDArray[np.bool_], begins: Ints, ends: Ints) -> NDArray[np.bool_]:
    sums = _sums(marks)
    return sums[ends] > sums[begins]


def _enough(heard: NDArray[np.uint8], num_frames: int, share: float) -> NDArray[np.bool_]:
    sums = _sums(heard)
    # the least whole number of frames, without 0.3 * 10 becoming 3.0000000000000004
    return sums[num_frames:] - sums[:-num_frames] >= np.ceil(share * num_frames - 1e-9)


def _sums(marks: NDArray[np.bool_] | NDArray[np.uint8]) -> NDArray[np.int32]:
    """How many come before each place, and in all."""
    sums = np.zeros(len(marks) + 1, dtype=np.int32)
    np.cumsum(marks, out=sums[1:])
    return sums
