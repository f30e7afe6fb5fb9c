"""The sample stream's promises, for any corpus and any settings that hypothesis thinks of."""

from __future__ import annotations

import cProfile
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.data import DataConfig
from orchestrator.data.stream import Sample, SampleStream
from orchestrator.data.stream.windows import Distances, WindowPairs
from orchestrator.errors import DataError

lengths = st.lists(st.integers(1, 400), min_size=1, max_size=60)
windows = st.sampled_from([1, 5, 16, 25])
seeds = st.integers(0, 2**64 - 1)


def stream_of(clip_lengths: list[int], num_frames: int, seed: int = 0, **shifts: int | None) -> SampleStream:
    """A stream with at least one clip that is long enough."""
    return SampleStream([*clip_lengths, 2 * num_frames + 60], num_frames, DataConfig(**shifts), seed=seed)


@given(lengths, windows, seeds, st.integers(0, 10**12))
def test_a_sample_depends_on_seed_and_position_only(
    clip_lengths: list[int], num_frames: int, seed: int, index: int
) -> None:
    first = stream_of(clip_lengths, num_frames, seed=seed)
    sample = first.sample(index)
    first.sample(index + 1)
    assert first.sample(index) == sample == stream_of(clip_lengths, num_frames, seed=seed).sample(index)


def test_the_stream_never_changes_between_versions() -> None:
    """Known values: another result would silently move every run that is resumed."""
    stream = SampleStream([75, 200, 33, 31, 128], 16, seed=7)
    assert [stream.sample(index) for index in (0, 1, 2, 3, 10**9)] == GOLDEN


@given(lengths, seeds, st.integers(0, 10**6))
def test_an_epoch_visits_every_usable_clip_once(clip_lengths: list[int], seed: int, epoch: int) -> None:
    stream = stream_of(clip_lengths, 16, seed=seed)
    first = epoch * stream.epoch_length
    visited = [stream.sample(index).clip for index in range(first, first + stream.epoch_length)]
    assert sorted([*visited, *stream.excluded()]) == list(range(len(clip_lengths) + 1))


@given(lengths, windows, st.integers(1, 30), st.integers(0, 20) | st.none(), seeds, st.integers(0, 10**9))
def test_windows_fit_and_negatives_keep_their_distance(
    clip_lengths: list[int], num_frames: int, min_shift: int, extra: int | None, seed: int, index: int
) -> None:
    max_shift = None if extra is None else min_shift + extra
    stream = stream_of(clip_lengths, num_frames, min_shift=min_shift, max_shift=max_shift, seed=seed)
    sample = stream.sample(index)
    last = stream.table.lengths[sample.clip] - num_frames
    assert 0 <= sample.frame_start <= last and 0 <= sample.audio_start <= last
    gap = abs(sample.audio_start - sample.frame_start) - (num_frames - 1)
    if sample.label:
        assert sample.audio_start == sample.frame_start
    else:
        assert min_shift <= gap <= (max_shift or gap)


@given(lengths, seeds, st.integers(0, 10**6), st.integers(1, 100))
def test_every_even_stretch_is_balanced(clip_lengths: list[int], seed: int, start: int, half: int) -> None:
    stream = stream_of(clip_lengths, 5, seed=seed)
    assert sum(stream.sample(index).label for index in range(start, start + 2 * half)) == half


@given(st.integers(1, 90), windows, st.integers(1, 10), st.integers(0, 15) | st.none())
@settings(max_examples=60)
def test_the_pairs_are_all_there_each_once(length: int, num_frames: int, min_shift: int, extra: int | None) -> None:
    max_shift = None if extra is None else min_shift + extra
    pairs = WindowPairs.of(length, num_frames, Distances.between_windows(num_frames, min_shift, max_shift))
    starts = range(max(length - num_frames + 1, 0))
    gaps = range(min_shift, length if max_shift is None else max_shift + 1)
    expected = [(video, audio) for video in starts for audio in starts if abs(video - audio) - num_frames + 1 in gaps]
    assert sorted(pairs.pair(index) for index in range(pairs.count)) == expected


def test_a_window_s_place_tells_nothing_about_the_label() -> None:
    stream = SampleStream([60], 16, seed=3)
    places = {label: Counter() for label in (0, 1)}
    for index in range(8000):
        sample = stream.sample(index)
        places[sample.label][sample.audio_start // 9] += 1
    for place in range(5):
        assert abs(places[0][place] - places[1][place]) < 150  # over 4 standard deviations


def test_epochs_and_seeds_differ_in_their_order() -> None:
    orders = set()
    for seed in range(5):
        stream = SampleStream([100] * 50, 16, seed=seed)
        orders |= {tuple(stream.sample(50 * epoch + place).clip for place in range(50)) for epoch in range(5)}
    assert len(orders) == 25


def test_the_first_place_of_an_epoch_goes_to_every_clip_alike() -> None:
    stream = SampleStream([100] * 10, 16, seed=1)
    counts = Counter(stream.sample(10 * epoch).clip for epoch in range(3000))
    assert all(abs(counts[clip] - 300) < 80 for clip in range(10))  # almost 5 standard deviations


def test_short_clips_are_named_and_none_at_all_is_an_error() -> None:
    assert SampleStream([31, 32, 33, 5], 16).excluded() == (0, 3)
    with pytest.raises(DataError, match="needs clips of 32 frames, but the longest has 31") as caught:
        SampleStream([31, 5], 16)
    assert caught.value.reason == "no_usable_clips"
    with pytest.raises(DataError, match="there are no clips"):
        SampleStream([], 16)


def test_contradictory_shifts_are_refused() -> None:
    with pytest.raises(DataError, match="min_shift <= max_shift, but is 5 to 4"):
        SampleStream([100], 16, DataConfig(min_shift=5, max_shift=4))


def test_the_cost_of_a_sample_does_not_grow_with_the_clips() -> None:
    """Counted in calls of Python functions, because a time would depend on the machine."""
    assert calls(SampleStream([100] * 200_000, 16)) == pytest.approx(calls(SampleStream([100] * 16, 16)), rel=0.5)


def calls(stream: SampleStream) -> int:
    profile = cProfile.Profile()
    profile.runcall(lambda: [stream.sample(index) for index in range(200)])
    return sum(entry.callcount for entry in profile.getstats())


GOLDEN = [
    Sample(1, 53, 53, 1),
    Sample(2, 17, 0, 0),
    Sample(4, 70, 70, 1),
    Sample(0, 15, 43, 0),
    Sample(1, 17, 17, 1),
]
