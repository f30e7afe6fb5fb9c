"""The kinds of negatives: what each promises, in which proportion they come, and that nothing but lip sync tells."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.config.data import DataConfig, NegativesConfig
from orchestrator.data.stream import ClipTable, Negative, Sample, SampleStream
from orchestrator.errors import DataError

FRAMES = 8
ALL = NegativesConfig(same_clip=1, near=2, cross_clip=3, cross_speaker=4)
weights = st.builds(
    lambda *values: NegativesConfig(**dict(zip(NegativesConfig.model_fields, values, strict=True))),
    *[st.sampled_from([0.0, 0.5, 3.0])] * 3,
    st.just(1.0),
)
clips = st.lists(st.tuples(st.integers(1, 120), st.integers(0, 9), st.sampled_from("abc")), min_size=0, max_size=30)


def table_of(rows: list[tuple[int, int, str]]) -> ClipTable:
    """A table of (length, first, speaker), with two speakers at least."""
    rows = [*rows, (70, 3, "x"), (80, 0, "y")]
    return ClipTable.of([row[0] for row in rows], firsts=[row[1] for row in rows], speakers=[row[2] for row in rows])


def only(kind: Negative) -> NegativesConfig:
    return NegativesConfig(**{"same_clip": 0, kind.value: 1})


@given(clips, weights, st.integers(0, 2**64 - 1), st.integers(0, 10**9))
def test_every_kind_keeps_its_promise(
    rows: list[tuple[int, int, str]], mixture: NegativesConfig, seed: int, index: int
) -> None:
    table = table_of(rows)
    stream = SampleStream(table, FRAMES, DataConfig(negatives=mixture, near_shift=(3, 10)), seed=seed)
    for sample in (stream.sample(index), stream.sample(index + 1)):
        fits(table, sample.clip, sample.frame_start)
        fits(table, sample.audio_clip, sample.audio_start)
        assert getattr(mixture, sample.kind.value) > 0
        if sample.label:
            assert (sample.audio_clip, sample.audio_start) == (sample.clip, sample.frame_start)
        else:
            keeps_its_promise(table, stream, sample)


def fits(table: ClipTable, clip: int, start: int) -> None:
    first = table.firsts[clip]
    assert first <= start <= first + table.lengths[clip] - FRAMES


def keeps_its_promise(table: ClipTable, stream: SampleStream, sample: Sample) -> None:
    distance = abs(sample.audio_start - sample.frame_start)
    speakers, usable = table.speakers, stream.drawing.usable
    match sample.kind:
        case Negative.SAME_CLIP:
            assert sample.audio_clip == sample.clip and distance >= FRAMES
        case Negative.NEAR:
            assert sample.audio_clip == sample.clip and 3 <= distance <= 10
        case Negative.CROSS_CLIP:
            assert sample.audio_clip != sample.clip
            alone = (speakers[usable] == speakers[sample.clip]).sum() == 1
            assert (speakers[sample.audio_clip] != speakers[sample.clip]) == alone
        case Negative.CROSS_SPEAKER:
            assert speakers[sample.audio_clip] != speakers[sample.clip]


def test_kinds_come_in_the_proportion_of_their_weights_for_both_labels() -> None:
    stream = SampleStream(table_of([(60, 0, "a"), (60, 0, "a"), (90, 2, "b")]), FRAMES, DataConfig(negatives=ALL))
    found = Counter((sample.label, sample.kind) for sample in map(stream.sample, range(10_000)))
    for label in (0, 1):
        for kind in Negative:
            expected = 500 * getattr(ALL, kind.value)
            assert abs(found[label, kind] - expected) < 5 * expected**0.5


def test_a_window_s_place_and_clip_tell_nothing_about_the_label() -> None:
    """With equally many clips for every speaker; both marginals, for every kind."""
    table = ClipTable.of([40, 60, 50, 40, 60, 50], speakers=["a", "b", "c"] * 2)
    for kind in Negative:
        stream = SampleStream(table, FRAMES, DataConfig(negatives=only(kind), near_shift=(3, 10)), seed=5)
        samples = [stream.sample(index) for index in range(6000)]
        for of_clip in range(6):
            heard = [(s.label, s.audio_start // 12) for s in samples if s.audio_clip == of_clip]
            for place in range(4):
                counts = [heard.count((label, place)) for label in (0, 1)]
                assert abs(counts[0] - counts[1]) <= 5 * (sum(counts) + 1) ** 0.5


def test_the_default_draws_what_it_always_drew() -> None:
    plain, explicit = SampleStream([75, 90], 16, seed=7), SampleStream([75, 90], 16, DataConfig(), seed=7)
    assert [plain.sample(i) for i in range(50)] == [explicit.sample(i) for i in range(50)]
    assert {plain.sample(i).kind for i in range(50)} == {Negative.SAME_CLIP}


def test_clips_must_be_long_enough_for_every_kind_of_the_mixture() -> None:
    lengths = [7, 8, 11, 12, 16, 17]
    for kind, needed in ((Negative.CROSS_CLIP, 8), (Negative.NEAR, 12), (Negative.SAME_CLIP, 16)):
        stream = SampleStream(lengths, FRAMES, DataConfig(negatives=only(kind), near_shift=(4, 9)))
        assert [lengths[clip] for clip in stream.excluded()] == [length for length in lengths if length < needed]


def test_what_has_no_other_clip_is_refused_at_the_start() -> None:
    one_speaker = ClipTable.of([50, 50], speakers=["a", "a"])
    with pytest.raises(DataError, match="needs clips of two speakers, but all usable clips are of one") as caught:
        SampleStream(one_speaker, FRAMES, DataConfig(negatives=only(Negative.CROSS_SPEAKER)))
    assert caught.value.reason == "one_speaker"
    with pytest.raises(DataError, match="needs two usable clips, but there is one") as caught:
        SampleStream([50, 2], FRAMES, DataConfig(negatives=only(Negative.CROSS_CLIP)))
    assert caught.value.reason == "one_clip"
    assert SampleStream(one_speaker, FRAMES, DataConfig(negatives=only(Negative.CROSS_CLIP))).sample(1).audio_clip >= 0


def test_all_other_clips_are_taken_alike() -> None:
    table = ClipTable.of([40] * 7, speakers=list("abacaba"))
    for kind, others in ((Negative.CROSS_CLIP, {2, 4, 6}), (Negative.CROSS_SPEAKER, {1, 3, 5})):
        stream = SampleStream(table, FRAMES, DataConfig(negatives=only(kind)))
        negatives = (sample for sample in map(stream.sample, range(14_000)) if not sample.label)
        found = Counter(sample.audio_clip for sample in negatives if sample.clip == 0)
        assert set(found) == others
        assert max(found.values()) - min(found.values()) < 6 * np.sqrt(333)


@pytest.mark.parametrize("shift", [(2, 9), (9, 8)])
def test_near_ones_are_not_too_near(shift: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match="near_shift with 3 <= low <= high"):
        DataConfig(near_shift=shift)
