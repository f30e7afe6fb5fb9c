"""Offsets: the sign, fractions of a frame, clips that are too short, and p values that mean what they say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.data.corpus import Corpus
from orchestrator.evaluation.clips import Pair, judge_clip, timeline
from orchestrator.evaluation.material import Material, of_corpus
from orchestrator.evaluation.offsets import (
    averaged,
    best_offsets,
    find_offset,
    mean_curve,
    offset_distances,
    offset_hits,
    vertex,
)
from orchestrator.evaluation.towers import ClipEmbeddings, Floats
from orchestrator.training.evaluation import PairList, evaluate_pairs
from tests.evaluation.hand_made import FRAMES, make_corpus, towers

WIDTH = 16


def series(rng: np.random.Generator, count: int, smooth: int = 5) -> Floats:
    """(count, E) unit vectors that change slowly, as embeddings of neighbouring windows do."""
    kernel, loose = np.ones(smooth) / smooth, rng.normal(size=(count + smooth - 1, WIDTH))
    found = np.stack([np.convolve(loose[:, place], kernel, mode="valid") for place in range(WIDTH)], axis=1)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def clip_of(
    rng: np.random.Generator, count: int, offset: int = 0, noise: float = 0.3, first: int = 0
) -> ClipEmbeddings:
    """A clip whose sound at frame s + offset belongs to its picture at frame s."""
    whole = series(rng, count + 40)
    vision, audio = whole[20 : 20 + count], whole[20 - offset : 20 - offset + count]
    audio = audio + noise * rng.normal(size=audio.shape).astype(np.float32)
    audio = audio / np.linalg.norm(audio, axis=1, keepdims=True)
    return ClipEmbeddings(np.arange(first, first + count), vision, np.arange(first, first + count), audio)


def by_loops(clip: ClipEmbeddings, max_offset: int) -> Floats:
    """Distances at all offsets, one by one."""
    found = np.full((len(clip.video_starts), 2 * max_offset + 1), np.nan, np.float32)
    for row, start in enumerate(clip.video_starts):
        for column, offset in enumerate(range(-max_offset, max_offset + 1)):
            for place, sound in enumerate(clip.audio_starts):
                if sound == start + offset:
                    found[row, column] = np.linalg.norm(clip.vision_VE[row] - clip.audio_AE[place])
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
    sounds=st.integers(1, 50),
    lead=st.integers(-12, 12),
    reach=st.integers(1, 15),
    stride=st.integers(1, 4),
)
def test_distances_and_what_follows_are_those_of_loops(
    seed: int, count: int, sounds: int, lead: int, reach: int, stride: int
) -> None:
    rng = np.random.default_rng(seed)
    video = np.arange(0, count, stride)
    clip = ClipEmbeddings(video, series(rng, len(video)), np.arange(lead, lead + sounds), series(rng, sounds))
    ours, theirs = offset_distances(clip, reach), by_loops(clip, reach)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    counts = (~np.isnan(theirs)).sum(0)
    enough = (counts >= 1) & (counts >= 0.25 * counts.max(initial=0))
    expected = [theirs[~np.isnan(theirs[:, o]), o].mean() if enough[o] else np.nan for o in range(2 * reach + 1)]
    np.testing.assert_allclose(mean_curve(ours), np.array(expected), atol=2e-3)
    for windows in (1, 3, 7):
        means = [theirs[first : first + windows].mean(0) for first in range(len(video) - windows + 1)]
        whole = [mean for mean in means if not np.isnan(mean).any()]
        errors = np.array([abs(int(np.argmin(mean)) - reach) for mean in whole])
        places, right = offset_hits(ours, windows)
        assert places == len(whole)
        assert right == tuple(int((errors <= within).sum()) for within in (0, 1, 2))
    found = find_offset(clip, reach)
    assert (found is None) == np.isnan(mean_curve(ours)).all()
    if found is not None:
        curve = np.array(found.curve)
        assert found.distance == pytest.approx(np.nanmin(curve), abs=1e-6)
        assert found.confidence == pytest.approx(np.nanmedian(curve) - np.nanmin(curve), abs=1e-6)
        assert abs(found.frames - (np.nanargmin(curve) - reach)) <= 0.5 and 0 < found.p_value <= 1


@pytest.mark.parametrize("offset", [-9, -1, 0, 4, 12])
@pytest.mark.parametrize("first", [0, 7])
def test_a_later_sound_is_a_positive_offset(offset: int, first: int) -> None:
    found = find_offset(clip_of(np.random.default_rng(offset + 99), 90, offset, first=first))
    assert found is not None and found.frames == pytest.approx(offset, abs=0.3)
    assert not found.at_edge and found.agreement > 0.9 and found.p_value <= 0.05


def test_the_last_offset_that_was_tried_is_said_to_be_the_edge() -> None:
    found = find_offset(clip_of(np.random.default_rng(0), 90, 8), max_offset=6)
    assert found is not None and found.at_edge


def test_the_vertex_is_that_of_the_parabola() -> None:
    for middle in (-0.49, -0.2, 0.0, 0.31, 0.5):
        curve = np.square(np.arange(-3, 4) - middle) * 2 + 1
        assert vertex(curve, 3) == pytest.approx(middle, abs=1e-9)
    flat, edge, hole = np.ones(5), np.arange(5.0), np.array([3.0, 1.0, np.nan, 2.0])
    assert vertex(flat, 2) == vertex(edge, 0) == vertex(hole, 1) == 0.0


def test_half_a_frame_is_found() -> None:
    rng = np.random.default_rng(5)
    fine = series(rng, 400, smooth=12)
    video, sound = fine[40:340:2], fine[39:339:2]  # the sound of a moment comes half a frame later
    found = find_offset(ClipEmbeddings(np.arange(150), video, np.arange(150), sound))
    assert found is not None and found.frames == pytest.approx(0.5, abs=0.12)


def test_averages_of_more_windows_than_there_are_are_none() -> None:
    distances = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert averaged(distances, 5).shape == (0, 3) and averaged(distances, 4).tolist() == [[4.5, 5.5, 6.5]]
    assert len(best_offsets(np.full((2, 3), np.nan, np.float32))) == 0
    assert offset_hits(distances[:0], 1) == (0, (0, 0, 0))


def test_clips_too_short_for_a_window_have_no_offset() -> None:
    rng = np.random.default_rng(1)
    none = np.zeros((0, WIDTH), np.float32)
    assert find_offset(ClipEmbeddings(np.arange(0), none, np.arange(5), series(rng, 5))) is None
    assert find_offset(ClipEmbeddings(np.arange(5), series(rng, 5), np.arange(0), none)) is None
    apart = ClipEmbeddings(np.arange(5), series(rng, 5), np.arange(60, 65), series(rng, 5))
    assert find_offset(apart) is None, "no offset that is tried has both"
    single = find_offset(ClipEmbeddings(np.arange(1), series(rng, 1), np.arange(1), series(rng, 1)))
    assert single is not None and single.confidence == 0 and single.p_value > 0.5


def test_p_values_of_somebody_elses_sound_are_even() -> None:
    """Sound that has nothing to do with the picture: about 5% of p values are at most 0.05, and half at most 0.5."""
    rng, found = np.random.default_rng(3), []
    for _ in range(150):
        picture, sound = (clip_of(rng, 70) for _ in range(2))
        clip = ClipEmbeddings(picture.video_starts, picture.vision_VE, sound.audio_starts, sound.audio_AE)
        told = find_offset(clip, elsewhere=[clip_of(rng, 70).audio_AE for _ in range(20)])
        assert told is not None
        found.append(told.p_value)
    shares = [float(np.mean(np.array(found) <= level)) for level in (0.05, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.05, 0.25, 0.5, 0.75], abs=0.12) and shares[0] <= 0.11


def test_p_values_of_the_own_sound_are_small_with_and_without_others() -> None:
    rng = np.random.default_rng(4)
    others = [series(rng, 80) for _ in range(20)]
    for _ in range(10):
        clip = clip_of(rng, 90, noise=0.5)
        with_others, alone = find_offset(clip, elsewhere=others), find_offset(clip)
        assert with_others is not None and alone is not None
        assert with_others.p_value == pytest.approx(1 / 61) and alone.p_value <= 0.05
        assert with_others.chance_confidence < with_others.confidence


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), speakers=2, clips=2)


def test_windows_are_those_that_training_sees(corpus: Corpus) -> None:
    clips, network = corpus.split("val"), towers()
    pairs = PairList.of(corpus, "val", FRAMES, 64)
    trained = evaluate_pairs(network.model, pairs, 16).cosines.numpy()
    for place in range(len(clips.clips)):
        mine = [number for number, pair in enumerate(pairs.pairs) if pair.clip == place]
        asked = [Pair(pairs.pairs[number].frame_start, pairs.pairs[number].audio_start) for number in mine]
        report = judge_clip(network, of_corpus(clips, place), place, asked, stride=3)
        assert report.cosines == pytest.approx(trained[mine].tolist(), abs=1e-3)
        assert report.offset is not None and abs(report.offset.frames) < 0.5
        assert len(report.hits) == 11 and report.seconds == clips.clips[place].num_frames / 25


@pytest.mark.parametrize("columns", [-16, 16, 32])
def test_a_sound_that_is_moved_is_found_where_it_went(corpus: Corpus, columns: int) -> None:
    clip = of_corpus(corpus.split("val"), 0)
    moved = Material(clip.frames_TCHW, np.roll(clip.mel_ML, columns, axis=1), 0)
    found = judge_clip(towers(), moved).offset
    assert found is not None and found.frames == pytest.approx(columns / 3.2, abs=0.3)
    told = Material(clip.frames_TCHW, np.roll(clip.mel_ML, columns, axis=1), columns)
    corrected = judge_clip(towers(), told).offset
    assert corrected is not None and abs(corrected.frames) < 0.3, "an offset that is known is taken off"


def test_a_short_clip_is_judged_as_far_as_it_goes(corpus: Corpus) -> None:
    clip = of_corpus(corpus.split("val"), 0)
    for frames, has_offset in ((FRAMES - 1, False), (FRAMES, True), (FRAMES + 9, True)):
        short = Material(clip.frames_TCHW[:frames], clip.mel_ML[:, : frames * 16 // 5 + 1])
        report = judge_clip(towers(), short)
        assert (report.offset is not None) is has_offset
        assert sum(hits[0] for hits in report.hits) == 0, "no window has sound at all 31 offsets"


def test_a_timeline_follows_a_sound_that_jumps(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    first, second = clip_of(rng, 100, 0, noise=0.1), clip_of(rng, 100, 6, noise=0.1)
    both = ClipEmbeddings(
        np.arange(200),
        np.concatenate([first.vision_VE, second.vision_VE]),
        np.arange(200),
        np.concatenate([first.audio_AE, second.audio_AE]),
    )
    line = timeline(both, FRAMES)
    early = [moment.offset for moment in line if moment.seconds < 2.5]
    late = [moment.offset for moment in line if moment.seconds > 6]
    assert set(early) == {0} and set(late) == {6} and all(moment.depth > 0.3 for moment in line)
    assert all(one.seconds < other.seconds for one, other in pairwise(line))
