"""The face model and the cuts on pictures whose content is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from orchestrator.data.align.cascade import FaceModel, Faces, face_model, overlap
from orchestrator.data.align.config import AlignConfig
from orchestrator.data.align.shots import ShotSplitter
from orchestrator.data.align.tracker import ShotTracker, Sighting

from .face_video import EYES_AND_NOSE, FACE, Placement, Scene, draw, portrait, still


@pytest.fixture(scope="module")
def model() -> FaceModel:
    """The networks."""
    return face_model()


def track(model: FaceModel, pictures: list[np.ndarray], **settings: object) -> list[Sighting]:
    """Sightings of one shot."""
    tracker = ShotTracker(model, AlignConfig(**settings), 1.0)
    return [seen for picture in pictures for seen in tracker.push(picture)] + list(tracker.end_shot())


@pytest.mark.parametrize(("scale", "tilt"), [(0.3, 0), (0.6, 15), (0.6, -15), (0.9, 5)])
def test_eyes_and_nose_are_found(model: FaceModel, scale: float, tilt: float) -> None:
    place = Placement(scale=scale, tilt=tilt)
    faces = model.find(draw(Scene(1, (lambda _: place,)), 0), 30)
    assert len(faces) == 1 and faces.scores[0] > 0.95
    assert faces.sizes()[0] == pytest.approx(FACE * scale, rel=0.15)
    matrix = place.matrix()
    expected = EYES_AND_NOSE @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(faces.points[0, :3] - expected).max() < 0.05 * FACE * scale


def test_the_largest_comes_first(model: FaceModel) -> None:
    faces = model.find(draw(Scene(1, (still(x=120, scale=0.33), still(x=340, scale=0.5))), 0), 30)
    assert len(faces) == 2 and faces.boxes[0, 0] > 200 > faces.boxes[1, 0]


@pytest.mark.parametrize(("scale", "count"), [(0.25, 1), (0.4, 2)])
def test_small_faces_behind_do_not_count(model: FaceModel, scale: float, count: int) -> None:
    picture = draw(Scene(1, (still(x=170, scale=0.6), still(x=420, y=120, scale=scale))), 0)
    assert [seen.count for seen in track(model, [picture] * 3)] == [count] * 3


@pytest.mark.parametrize("shape", [(360, 480), (20, 20), (5, 300), (13, 1)])
def test_no_face_in_noise_or_in_nothing(model: FaceModel, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert len(model.find(noise, 20)) == 0
    assert len(model.find(np.zeros_like(noise), 20)) == 0


def test_a_face_that_is_cut_off_anywhere_is_no_error(model: FaceModel) -> None:
    image = portrait()
    for left, top in [(0, 0), (200, 0), (0, 150), (260, 160), (300, 240)]:
        faces = model.find(np.ascontiguousarray(image[top : top + 220, left : left + 200]), 30)
        assert np.isfinite(faces.points).all()


def test_following_finds_the_face_beside_the_box_it_is_given(model: FaceModel) -> None:
    pictures = [draw(Scene(1, (still(x=240 + shift),)), 0) for shift in (-12, 0, 12)]
    box = model.find(pictures[1], 40).boxes[:1]
    faces = model.follow(pictures, np.repeat(box, 3, axis=0))
    assert (faces.scores > 0.95).all()
    assert np.diff(faces.points[:, :3, 0].mean(axis=1)) == pytest.approx([12, 12], abs=1.5)


def test_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [2, 2, 4, 4]], np.float32)
    assert overlap(boxes[0], boxes).tolist() == pytest.approx([1, 1 / 3, 0, 0.04])
    assert overlap(boxes[0], boxes, of_smaller=True)[3] == 1


def test_a_search_now_and_then_sees_what_searching_everywhere_sees(model: FaceModel) -> None:
    pictures = [draw(Scene(1, (lambda _, f=frame: Placement(200 + 3 * f, tilt=f),)), 0) for frame in range(24)]
    seldom, always = track(model, pictures, detect_every=10), track(model, pictures, detect_every=1)
    assert len(seldom) == len(always) == 24 and {seen.count for seen in seldom} == {1}
    differences = [a.face.points[0] - b.face.points[0] for a, b in zip(seldom, always, strict=True)]
    assert np.abs(differences).max() < 1.5


@pytest.mark.parametrize("frames", [1, 2, 10, 11, 12, 21])
def test_every_picture_gets_one_sighting(model: FaceModel, frames: int) -> None:
    nothing = np.zeros((60, 80, 3), np.uint8)
    assert [seen.count for seen in track(model, [nothing] * frames)] == [0] * frames


def test_the_frame_at_which_a_face_comes_and_goes_is_seen(model: FaceModel) -> None:
    with_face, without = draw(Scene(1), 0), draw(Scene(1, ()), 0)
    seen = track(model, [without] * 4 + [with_face] * 9 + [without] * 5)
    assert [sighting.count for sighting in seen] == [0] * 4 + [1] * 9 + [0] * 5


def test_a_face_that_is_hidden_between_two_searches_is_not_invented(model: FaceModel) -> None:
    with_face, without = draw(Scene(1), 0), draw(Scene(1, ()), 0)
    seen = track(model, [with_face] * 4 + [without] * 3 + [with_face] * 4)
    assert [sighting.count for sighting in seen] == [1] * 4 + [0] * 3 + [1] * 4


def test_faces_can_be_scaled() -> None:
    one = Faces(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.ones((1, 5, 2), np.float32))
    scaled = one.scaled(np.array([2, 3], np.float32))
    assert scaled.boxes.tolist() == [[2, 3, 2, 3]] and scaled.points[0, 4].tolist() == [2, 3]


def cuts(pictures: list[np.ndarray]) -> list[int]:
    """The pictures with which shots begin."""
    splitter = ShotSplitter(3.0, 6.0)
    passed = [item for picture in pictures for item in splitter.push(picture)] + list(splitter.finish())
    assert all(a is b for (a, _), b in zip(passed, pictures, strict=True))
    return [number for number, (_, begins) in enumerate(passed) if begins]


def test_cuts_are_where_the_picture_changes() -> None:
    shots = [[draw(Scene(9, background=seed), frame) for frame in range(9)] for seed in (1, 2, 3)]
    assert cuts([picture for shot in shots for picture in shot]) == [0, 9, 18]
    assert cuts(shots[0][:1]) == [0]


def test_a_moving_camera_is_no_cut() -> None:
    wide = cv2.resize(portrait(), (1200, 900))
    assert cuts([np.ascontiguousarray(wide[100:500, 20 * k : 20 * k + 500]) for k in range(30)]) == [0]
