"""What figures of a video are called: each threshold from both sides, and what several pieces say together."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from orchestrator.evaluation.clips import ClipReport, Moment
from orchestrator.evaluation.offsets import ClipOffset
from orchestrator.evaluation.verdicts import (
    LEAST_WINDOWS,
    Piece,
    VideoStatus,
    VideoVerdict,
    conclude_pieces,
    decide,
    in_words,
)

GOOD = ClipOffset(
    frames=0.2,
    confidence=0.6,
    distance=0.5,
    agreement=0.9,
    p_value=0.02,
    chance_confidence=0.1,
    at_edge=False,
    windows=90,
    curve=(1.0, 0.5, 1.0),
)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, VideoStatus.IN_SYNC),
        ({"frames": 1.4}, VideoStatus.IN_SYNC),
        ({"frames": -1.4}, VideoStatus.IN_SYNC),
        ({"frames": 1.6}, VideoStatus.OUT_OF_SYNC),
        ({"frames": -1.6}, VideoStatus.OUT_OF_SYNC),
        ({"p_value": 0.05}, VideoStatus.IN_SYNC),
        ({"p_value": 0.051}, VideoStatus.UNSURE),
        ({"agreement": 0.5}, VideoStatus.IN_SYNC),
        ({"agreement": 0.49}, VideoStatus.UNSURE),
        ({"agreement": math.nan}, VideoStatus.TOO_SHORT),
        ({"at_edge": True}, VideoStatus.UNSURE),
        ({"windows": LEAST_WINDOWS - 1}, VideoStatus.TOO_SHORT),
    ],
)
def test_each_threshold(changes: dict[str, float], status: VideoStatus) -> None:
    assert decide(replace(GOOD, **changes), 3.0, 15).status is status


def test_what_is_wrong_with_the_clip_comes_before_what_the_network_says() -> None:
    assert decide(None, 3.0, 15).status is VideoStatus.TOO_SHORT
    assert decide(GOOD, 0.9, 15).status is VideoStatus.NO_SPEECH
    edge = decide(replace(GOOD, at_edge=True, frames=15), 3.0, 15)
    assert "may lie beyond 15 frames" in edge.why


def test_two_offsets_in_one_clip_are_noticed() -> None:
    def along(share: float) -> list[Moment]:
        return [Moment(number / 25, 6 if number < 100 * share else 0, 0.4) for number in range(100)]

    half = replace(GOOD, agreement=0.5)
    differs = decide(half, 3.0, 15, along(0.3))
    assert differs.status is VideoStatus.DIFFERS and "30% say +6" in differs.why
    assert decide(half, 3.0, 15, along(0.29)).status is VideoStatus.IN_SYNC
    assert decide(replace(half, agreement=0.45), 3.0, 15, along(0.3)).status is VideoStatus.UNSURE
    assert decide(replace(half, agreement=0.45), 3.0, 15, along(0.35)).status is VideoStatus.DIFFERS


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (3.0, "the sound comes 3 frames (120 ms) after the picture"),
        (-3.52, "the sound comes 3.5 frames (141 ms) before the picture"),
        (1.01, "the sound comes 1 frame (40 ms) after the picture"),
        (-0.4, "the sound comes with the picture"),
    ],
)
def test_offsets_in_words(frames: float, words: str) -> None:
    assert in_words(frames) == words


def _piece(start_s: float, end_s: float, frames: float, status: VideoStatus, windows: int = 100) -> Piece:
    found = replace(GOOD, frames=frames, windows=windows)
    report = ClipReport(0, end_s - start_s, (), found, (), ())
    return Piece(start_s, end_s, VideoVerdict(status, f"piece at {start_s}"), report)


def test_sure_pieces_decide_by_their_length() -> None:
    unsure = _piece(0, 50, 9, VideoStatus.UNSURE)
    one = _piece(50, 54, 4.0, VideoStatus.OUT_OF_SYNC, windows=100)
    other = _piece(54, 66, 5.0, VideoStatus.OUT_OF_SYNC, windows=300)
    verdict, deciding = conclude_pieces([unsure, one, other])
    assert deciding == (one, other)
    assert verdict.status is VideoStatus.OUT_OF_SYNC
    assert "4.8 frames (190 ms) after" in verdict.why and "2 of 3 pieces" in verdict.why


def test_pieces_that_contradict_each_other_are_no_mean() -> None:
    pieces = [_piece(0, 10, -4, VideoStatus.OUT_OF_SYNC), _piece(10, 20, 4, VideoStatus.OUT_OF_SYNC)]
    verdict, _ = conclude_pieces(pieces)
    assert verdict.status is VideoStatus.DIFFERS
    assert "0-10 s: -4.0" in verdict.why and "10-20 s: +4.0" in verdict.why


def test_without_a_sure_piece_the_longest_judged_one_speaks() -> None:
    faceless = Piece(0, 90, VideoVerdict(VideoStatus.NO_FACE, "none"), None)
    short, long = _piece(90, 92, 0, VideoStatus.TOO_SHORT), _piece(92, 99, 3, VideoStatus.UNSURE)
    assert conclude_pieces([faceless, short, long]) == (long.verdict, (long,))
    assert conclude_pieces([faceless]) == (faceless.verdict, (faceless,))
    split = _piece(99, 101, 0, VideoStatus.DIFFERS)
    assert conclude_pieces([long, _piece(0, 9, 0, VideoStatus.IN_SYNC), split])[0] == split.verdict
