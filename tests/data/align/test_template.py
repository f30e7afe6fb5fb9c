"""The template and the filter: known movements must come back exactly, without lag, and without the mouth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.align.template import TEMPLATE, fit, matrices, outside, smooth

EYES_AND_NOSE_IN_REFERENCE = np.array([[74.8, 66.7], [180.2, 66.7], [127.5, 111.5]])
"""Pixels of a 256x256 picture aligned by LatentSync's rule, over six faces (symmetric)."""


def landmarks(x: float, y: float, size: float, tilt: float) -> np.ndarray:
    """Five landmarks of a face whose eyes and nose stand as in the template, turned by `tilt` radians."""
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    mouth = np.array([[75.0, 170.0], [135.0, 170.0]])
    return np.concatenate([TEMPLATE, mouth]) @ turn.T * size + [x, y]


@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(0.1, 8), st.floats(-1.5, 1.5))
def test_eyes_and_nose_come_to_stand_where_the_reference_has_them(x: float, y: float, size: float, tilt: float) -> None:
    points = landmarks(x, y, size, tilt)
    matrix = matrices(fit(points[None]), 256)[0]
    # The matrix leads from the aligned picture to the source; pixel indices are half a pixel less than coordinates.
    there = EYES_AND_NOSE_IN_REFERENCE @ matrix[:, :2].T + matrix[:, 2] + 0.5
    assert np.abs(there - points[:3]).max() <= size * 0.6


def test_resolution_only_scales() -> None:
    fits = fit(landmarks(30, 40, 0.7, 0.2)[None])
    small, large = matrices(fits, 256)[0], matrices(fits, 512)[0]
    corner = np.array([-0.5, -0.5])
    assert np.allclose(small[:, :2] / 2, large[:, :2])
    assert np.allclose(corner @ small[:, :2].T + small[:, 2], corner @ large[:, :2].T + large[:, 2])


def test_the_mouth_moves_nothing() -> None:
    points = np.stack([landmarks(0, 0, 1, 0.1)] * 2)
    points[1, 3:] += [5, 40]
    assert np.array_equal(fit(points)[0], fit(points)[1])


@pytest.mark.parametrize("sigma", [0, 1.5, 4])
def test_a_steady_movement_is_followed_without_lag_up_to_the_ends(sigma: float) -> None:
    fits = np.arange(40)[:, None] * np.array([3.0, -1.0, 0.01, 0.002]) + [100, 200, 1, 0]
    assert np.allclose(smooth(fits, np.ones(40, bool), sigma), fits)


def test_noise_gets_less_and_a_turn_back_is_not_late() -> None:
    rng = np.random.default_rng(0)
    there_and_back = np.concatenate([np.arange(30), np.arange(30, -30, -1)]) * 2.0
    fits = np.column_stack([there_and_back, there_and_back, np.ones(90), np.zeros(90)])
    noisy = fits + rng.normal(0, 0.5, fits.shape)
    smoothed = smooth(noisy, np.ones(90, bool), 1.5)
    straight = slice(5, 24)
    assert np.std((smoothed - fits)[straight, :2]) < 0.6 * np.std((noisy - fits)[straight, :2])
    assert smoothed[:, 0].argmax() in (29, 30, 31)


def test_frames_without_a_view_are_filled_in() -> None:
    fits = np.arange(30)[:, None] * np.array([2.0, 1.0, 0.0, 0.01]) + [0, 0, 1, 0]
    seen = np.ones(30, bool)
    seen[[0, 10, 11, 12, 29]] = False
    hidden = np.where(seen[:, None], fits, 1e6)
    inner = slice(1, 29)
    assert np.allclose(smooth(hidden, seen, 1.5)[inner], fits[inner])
    assert np.abs(smooth(hidden, seen, 1.5) - fits).max() < 5


def test_a_single_frame_is_a_segment_too() -> None:
    fits = fit(landmarks(10, 20, 1, 0)[None])
    assert np.allclose(smooth(fits, np.ones(1, bool), 1.5), fits)


def test_how_much_lies_outside() -> None:
    whole = fit((landmarks(0, 0, 1, 0))[None])
    assert outside(whole, 210, 280)[0] == 0
    assert outside(whole, 105, 280)[0] == pytest.approx(0.5)
    assert outside(whole + np.array([1000, 0, 0, 0]), 210, 280)[0] == 1
