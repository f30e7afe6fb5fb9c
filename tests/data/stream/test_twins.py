"""The stream of twins: two windows of each draw, both in sync, and everything else as in the default stream."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.data import DataConfig, NegativesConfig
from orchestrator.data.stream import ClipTable, Negative, Sample, SampleStream
from orchestrator.errors import DataError

FRAMES = 8
lengths = st.lists(st.integers(1, 120), max_size=30)
seeds = st.integers(0, 2**64 - 1)


def twins_of(clip_lengths: list[int], seed: int = 0, **settings: object) -> SampleStream:
    """A stream with at least one clip that is long enough."""
    return SampleStream([*clip_lengths, 90], FRAMES, DataConfig(**settings), seed=seed, twins=True)


def couple(stream: SampleStream, number: int) -> tuple[Sample, Sample]:
    return stream.sample(2 * number), stream.sample(2 * number + 1)


@given(lengths, seeds, st.integers(0, 10**9), st.integers(1, 9), st.integers(0, 20) | st.none())
def test_twins_are_in_sync_and_one_negative_apart(
    clip_lengths: list[int], seed: int, number: int, least: int, extra: int | None
) -> None:
    most = None if extra is None else least + extra
    stream = twins_of(clip_lengths, seed, min_shift=least, max_shift=most)
    first, second = couple(stream, number)
    for sample in (first, second):
        assert (sample.label, sample.audio_clip, sample.audio_start) == (1, sample.clip, sample.frame_start)
        assert 0 <= sample.frame_start <= stream.table.lengths[sample.clip] - FRAMES
    gap = abs(first.frame_start - second.frame_start) - (FRAMES - 1)
    assert first.clip == second.clip and least <= gap <= (most or gap)


@given(lengths, seeds, st.integers(0, 10**6))
def test_an_epoch_visits_every_usable_clip_once_with_two_samples(
    clip_lengths: list[int], seed: int, epoch: int
) -> None:
    stream = twins_of(clip_lengths, seed)
    positions = range(epoch * stream.epoch_length, (epoch + 1) * stream.epoch_length)
    visited = Counter(stream.sample(position).clip for position in positions)
    assert set(visited.values()) == {2}
    assert sorted([*visited, *stream.excluded()]) == list(range(len(clip_lengths) + 1))


@given(lengths, seeds, st.integers(0, 10**9))
def test_they_are_the_two_windows_of_a_draw_of_the_default_stream(
    clip_lengths: list[int], seed: int, number: int
) -> None:
    default = SampleStream([*clip_lengths, 90], FRAMES, seed=seed)
    drawn, (first, second) = default.sample(number), couple(twins_of(clip_lengths, seed), number)
    assert (first.clip, first.frame_start) == (drawn.clip, drawn.frame_start)
    if not drawn.label:
        assert second.frame_start == drawn.audio_start


def test_twins_never_change_between_versions() -> None:
    """Known values: another result would silently move every run that is resumed."""
    stream = SampleStream([75, 200, 33, 31, 128], 16, seed=7, twins=True)
    assert [(stream.sample(index).clip, stream.sample(index).frame_start) for index in (0, 1, 2, 3, 10**9)] == GOLDEN


def test_no_place_belongs_to_the_first_or_the_second() -> None:
    stream = twins_of([])
    places = [Counter(stream.sample(index).frame_start // 21 for index in range(twin, 8000, 2)) for twin in (0, 1)]
    assert all(abs(places[0][place] - places[1][place]) < 200 for place in range(4))  # over 4 standard deviations


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ({"same_clip": 1, "near": 3}, {Negative.SAME_CLIP: 0.25, Negative.NEAR: 0.75}),
        ({"same_clip": 1, "near": 3, "cross_clip": 9}, {Negative.SAME_CLIP: 0.25, Negative.NEAR: 0.75}),
        ({"same_clip": 0, "near": 0.1, "cross_speaker": 1}, {Negative.NEAR: 1.0}),
        ({"same_clip": 0, "cross_clip": 1}, {Negative.SAME_CLIP: 1.0}),
    ],
)
def test_kinds_inside_a_clip_keep_their_proportion(weights: dict[str, float], shares: dict[Negative, float]) -> None:
    stream = twins_of([], negatives=NegativesConfig(**weights), near_shift=(3, 5))
    drawn = [couple(stream, number) for number in range(4000)]
    found = Counter(first.kind for first, _ in drawn)
    assert set(found) == set(shares)
    for kind, share in shares.items():
        assert abs(found[kind] - 4000 * share) <= 5 * (4000 * share * (1 - share)) ** 0.5
    for first, second in drawn:
        apart = abs(first.frame_start - second.frame_start)
        assert 3 <= apart <= 5 if first.kind is Negative.NEAR else apart >= FRAMES


def test_both_windows_hold_enough_speech() -> None:
    heard = np.repeat([False, True, False, True, False], 15)
    table = ClipTable.of([75], speech=[np.packbits(heard).tobytes()])
    stream = SampleStream(table, FRAMES, DataConfig(min_speech=1.0), twins=True)
    starts = {stream.sample(index).frame_start for index in range(200)}
    assert starts == {*range(15, 15 + 8), *range(45, 45 + 8)}


def test_clips_need_room_for_two_windows_whatever_the_mixture() -> None:
    cross = NegativesConfig(same_clip=0, cross_clip=1)
    assert SampleStream([15, 16, 17], FRAMES, DataConfig(negatives=cross), twins=True).excluded() == (0,)
    with pytest.raises(DataError, match="needs clips of 16 frames, but the longest has 15"):
        SampleStream([15], FRAMES, DataConfig(negatives=cross), twins=True)


GOLDEN = [(1, 53), (1, 177), (2, 17), (2, 0), (0, 4)]
