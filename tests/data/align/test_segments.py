"""Which frames become clips: rules on numbers alone, and that every frame is accounted for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.segments import OK, REASONS, Piece, cut, judge
from orchestrator.data.align.survey import Survey
from orchestrator.data.align.template import TEMPLATE

CONFIG = AlignConfig(min_seconds=0.4, max_seconds=2, max_gap=3)


def good(frames: int) -> Survey:
    """A face of 100 pixels in the middle of a picture, looking straight ahead."""
    points = np.array([*TEMPLATE, [75, 170], [135, 170]]) + np.array([200, 100])
    return Survey(
        2000,
        1500,
        np.zeros(frames, np.int32),
        np.ones(frames, np.int32),
        np.full(frames, 0.99, np.float32),
        np.full(frames, 100, np.float32),
        np.repeat(points[None].astype(np.float32), frames, axis=0),
        np.zeros(frames * 640, np.float32),
    )


def changed(survey: Survey, frames: slice, **values: Any) -> Survey:
    """The same with other values in some frames."""
    arrays = {name: getattr(survey, name).copy() for name in values}
    for name, value in values.items():
        arrays[name][frames] = value
    return replace(survey, **arrays)


def pieces(survey: Survey, config: AlignConfig = CONFIG) -> list[tuple[int, int, str]]:
    """Start, stop and reason of each piece."""
    return [(piece.start, piece.stop, piece.reason) for piece in cut(survey, judge(survey, config), config)]


def test_a_good_shot_is_one_segment() -> None:
    assert pieces(good(40)) == [(0, 40, OK)]


def test_a_long_shot_is_cut_into_equal_pieces() -> None:
    assert pieces(good(101)) == [(0, 33, OK), (33, 67, OK), (67, 101, OK)]


def test_a_cut_ends_a_segment() -> None:
    assert pieces(changed(good(40), slice(15, 40), shot_T=1)) == [(0, 15, OK), (15, 40, OK)]


NO_FACE = {"count_T": 0, "score_T": 0, "size_T": 0, "points_T52": np.nan}


@pytest.mark.parametrize(
    ("reason", "values"),
    [
        ("no_face", NO_FACE),
        ("several_faces", {"count_T": 2}),
        ("low_confidence", {"score_T": 0.7}),
        ("small_face", {"size_T": 50}),
    ],
)
def test_bad_frames_are_bridged_or_end_the_segment(reason: str, values: dict[str, Any]) -> None:
    assert pieces(changed(good(40), slice(20, 23), **values)) == [(0, 40, OK)]
    assert pieces(changed(good(40), slice(20, 24), **values)) == [(0, 20, OK), (20, 24, reason), (24, 40, OK)]
    assert pieces(changed(good(40), slice(0, 2), **values)) == [(0, 2, reason), (2, 40, OK)]
    assert pieces(changed(good(40), slice(0, 40), **values)) == [(0, 40, reason)]


def test_a_turned_head_and_one_at_the_edge() -> None:
    turned = good(30)
    turned.points_T52[:, 2, 0] += 0.5 * (turned.points_T52[:, 1, 0] - turned.points_T52[:, 0, 0])
    assert pieces(turned) == [(0, 30, "turned")]
    edge = good(30)
    edge.points_T52[:, :, 0] -= 240
    assert pieces(edge) == [(0, 30, "outside")]


def test_the_first_reason_that_applies_counts() -> None:
    assert pieces(changed(good(30), slice(0, 30), count_T=2, score_T=0.5, size_T=20)) == [(0, 30, "several_faces")]


def test_the_largest_face_may_be_followed() -> None:
    several = changed(good(30), slice(0, 30), count_T=2)
    assert pieces(several, CONFIG.model_copy(update={"faces": "largest"})) == [(0, 30, OK)]


def test_a_face_that_jumps_is_another_segment() -> None:
    jumping = good(40)
    jumping.points_T52[18:] += 40
    assert pieces(jumping) == [(0, 18, OK), (18, 40, OK)]
    moving = good(40)
    moving.points_T52[:] += np.arange(40, dtype=np.float32)[:, None, None] * 5
    assert pieces(moving) == [(0, 40, OK)]


def test_a_gap_with_another_face_behind_it_is_not_bridged() -> None:
    another = changed(good(40), slice(16, 18), **NO_FACE)
    another.points_T52[18:] += 150
    assert pieces(another) == [(0, 16, OK), (16, 18, "no_face"), (18, 40, OK)]


def test_too_short() -> None:
    short = changed(good(40), slice(9, 40), shot_T=1)
    found = cut(short, judge(short, CONFIG), CONFIG)
    assert found[0] == Piece(0, 9, "too_short", "the face is well seen for 0.36 s, 0.40 s are needed")


@settings(deadline=None)
@given(st.data())
def test_every_frame_belongs_to_one_piece_and_no_piece_crosses_a_cut(data: st.DataObject) -> None:
    frames = data.draw(st.integers(1, 150))
    survey = good(frames)
    for _ in range(data.draw(st.integers(0, 8))):
        first = data.draw(st.integers(0, frames - 1))
        stretch = slice(first, first + data.draw(st.integers(1, 30)))
        survey = changed(survey, stretch, **data.draw(st.sampled_from([NO_FACE, {"count_T": 2}, {"size_T": 10}])))
    for cut_at in data.draw(st.lists(st.integers(1, 149), max_size=3)):
        survey.shot_T[cut_at:] += 1
    found = pieces(survey)
    assert [found[0][0], *(stop for _, stop, _ in found)] == [*(start for start, _, _ in found), frames]
    for start, stop, reason in found:
        assert len(set(survey.shot_T[start:stop].tolist())) == 1
        assert reason == OK or reason in REASONS
        assert reason != OK or CONFIG.min_frames <= stop - start <= CONFIG.max_frames
        assert reason != OK or (survey.count_T[start:stop] == 1).sum() > 0


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least twice"):
        AlignConfig(min_seconds=3, max_seconds=5)
