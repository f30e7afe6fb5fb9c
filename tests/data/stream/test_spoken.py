"""Silent windows are avoided exactly: what is drawn holds enough speech, and what has none is left out and counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.data import DataConfig, NegativesConfig
from orchestrator.data.stream import ClipTable, SampleStream, spoken
from orchestrator.data.stream.drawing import Drawing
from orchestrator.data.stream.negatives import Negative
from orchestrator.data.stream.windows import Distances, MarkedPairs
from orchestrator.errors import DataError

FRAMES = 4
marks = st.lists(st.booleans(), min_size=0, max_size=40)
heard_clips = st.lists(st.tuples(marks, st.integers(0, 5)), min_size=0, max_size=12)
shares = st.sampled_from([0.01, 0.25, 0.5, 0.75, 1.0])
MIXED = NegativesConfig(same_clip=1, near=1, cross_clip=1)


def table_of(rows: list[tuple[list[bool], int]]) -> ClipTable:
    """Clips with their speech and first usable frames, one of which always has enough of everything."""
    rows = [*rows, ([True] * 40, 2)]
    lengths = [max(len(heard) - first, 0) for heard, first in rows]
    return ClipTable.of(
        lengths,
        firsts=[min(first, len(heard)) for heard, first in rows],
        speakers=["a"] * len(rows),
        speech=[np.packbits(np.array(heard, dtype=bool)).tobytes() for heard, _ in rows],
    )


def enough(heard: list[bool], share: float) -> list[bool]:
    """The definition, window by window."""
    return [sum(heard[start : start + FRAMES]) >= share * FRAMES for start in range(len(heard) - FRAMES + 1)]


@given(marks, st.integers(0, 12), st.integers(0, 20) | st.none())
def test_the_marked_pairs_are_all_there_each_once(marked: list[bool], least: int, extra: int | None) -> None:
    least = max(least, 1)
    most = None if extra is None else least + extra
    pairs = MarkedPairs(np.array(marked, dtype=bool), Distances(least, most))
    places = [place for place, mark in enumerate(marked) if mark]
    far = len(marked) if most is None else most
    expected = [(video, audio) for video in places for audio in places if least <= abs(video - audio) <= far]
    assert sorted(pairs.pair(index) for index in range(pairs.count)) == expected


@given(heard_clips, shares, st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_every_window_holds_enough_speech(
    rows: list[tuple[list[bool], int]], share: float, seed: int, index: int
) -> None:
    rows = [*rows, ([True] * 30, 0)]
    table = table_of(rows)
    stream = SampleStream(table, FRAMES, DataConfig(min_speech=share, negatives=MIXED, near_shift=(3, 9)), seed=seed)
    heard = [*(row[0] for row in rows), [True] * 40]
    for sample in (stream.sample(index), stream.sample(index + 1)):
        for clip, start in ((sample.clip, sample.frame_start), (sample.audio_clip, sample.audio_start)):
            assert sum(heard[clip][start : start + FRAMES]) >= share * FRAMES


@given(heard_clips, shares, st.integers(1, 9), st.integers(0, 9) | st.none())
@settings(max_examples=200)
def test_exactly_the_clips_without_pairs_are_left_out(
    rows: list[tuple[list[bool], int]], share: float, min_shift: int, extra: int | None
) -> None:
    """Against one clip at a time; in blocks of a few bytes, so that clips fall on both sides of an edge."""
    data = DataConfig(min_speech=share, min_shift=min_shift, max_shift=None if extra is None else min_shift + extra)
    table = table_of(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spoken, "_BLOCK", 7)
        drawing = Drawing(table, FRAMES, data, [Negative.SAME_CLIP])
    distances = Distances.between_windows(FRAMES, data.min_shift, data.max_shift)
    expected = [
        clip
        for clip, (heard, first) in enumerate([*rows, ([True] * 40, 2)])
        if MarkedPairs(np.array(enough(heard[first:], share), dtype=bool), distances).count
    ]
    assert drawing.usable.tolist() == expected
    assert drawing.short + drawing.silent + len(expected) == len(table)


def test_a_clip_that_nobody_listened_to_is_left_out() -> None:
    full = np.packbits([True] * 40).tobytes()
    table = ClipTable.of([40, 40, 40], speech=[full, b"", full[:3]])
    stream = SampleStream(table, FRAMES, DataConfig(min_speech=0.5))
    assert (stream.excluded(), stream.drawing.silent) == ((1, 2), 2)


def test_a_corpus_without_marks_or_without_speech_is_refused() -> None:
    with pytest.raises(DataError, match="does not say in which frames speech is heard") as caught:
        SampleStream([40], FRAMES, DataConfig(min_speech=0.5))
    assert caught.value.reason == "no_speech_marks"
    silent = ClipTable.of([40], speech=[bytes(5)])
    with pytest.raises(DataError, match="with speech in 50% of their frames") as caught:
        SampleStream(silent, FRAMES, DataConfig(min_speech=0.5))
    assert caught.value.reason == "no_usable_clips"
