"""How a clip is judged, as tables: every status has its reason, and near every threshold both sides are asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.evaluation.audit import AuditStatus
from orchestrator.evaluation.audit.policy import Crowd, Finding, Signs, judge_finding, moved, parts
from orchestrator.evaluation.clips import ClipReport, Moment
from orchestrator.evaluation.estimate import Estimate
from orchestrator.evaluation.offsets import ClipOffset

GOOD = Signs(static=False, silent=False, speech_s=3.0)
STRONG, WEAK = Crowd(fit=0.95, agreement=0.95, judged=100), Crowd(fit=0.4, agreement=0.5, judged=100)
OFFSET = ClipOffset(
    frames=0.2,
    confidence=0.4,
    distance=0.5,
    agreement=0.9,
    p_value=0.03,
    chance_confidence=0.1,
    at_edge=False,
    windows=93,
    curve=(),
    alignments=32,
)
DOUBTFUL = replace(OFFSET, p_value=0.5, agreement=0.1)


def line(*runs: tuple[int, int, float]) -> tuple[Moment, ...]:
    """A timeline of runs of (frames, offset, depth)."""
    told = [(offset, depth) for count, offset, depth in runs for _ in range(count)]
    return tuple(Moment(place / 25, offset, depth) for place, (offset, depth) in enumerate(told))


def finding(offset: ClipOffset | None, signs: Signs = GOOD, timeline: tuple[Moment, ...] = ()) -> Finding:
    """What a network says of a clip."""
    return Finding(signs, ClipReport(0, 4.0, (), offset, (), timeline), None)


@pytest.mark.parametrize(
    ("offset", "crowd", "status"),
    [
        (OFFSET, STRONG, AuditStatus.IN_SYNC),
        (replace(OFFSET, frames=-0.5), STRONG, AuditStatus.IN_SYNC),
        (replace(OFFSET, frames=0.51), STRONG, AuditStatus.SHIFTED),
        (replace(OFFSET, frames=-7.3), WEAK, AuditStatus.SHIFTED),
        (replace(OFFSET, frames=-7.3), replace(WEAK, fit=0.39), AuditStatus.UNSURE),
        (replace(OFFSET, frames=15, at_edge=True), STRONG, AuditStatus.AT_EDGE),
        (replace(DOUBTFUL, at_edge=True), WEAK, AuditStatus.UNSURE),
        (replace(OFFSET, p_value=0.06), STRONG, AuditStatus.UNSURE),
        (replace(OFFSET, agreement=0.39), STRONG, AuditStatus.UNSURE),
        (DOUBTFUL, STRONG, AuditStatus.WRONG_AUDIO),
        (DOUBTFUL, WEAK, AuditStatus.UNSURE),
        (DOUBTFUL, replace(STRONG, agreement=0.74), AuditStatus.UNSURE),
        (DOUBTFUL, replace(STRONG, fit=0.49), AuditStatus.UNSURE),
        (replace(DOUBTFUL, p_value=0.19), STRONG, AuditStatus.UNSURE),
        (replace(DOUBTFUL, agreement=0.31), STRONG, AuditStatus.UNSURE),
        (replace(OFFSET, alignments=12, p_value=1 / 13), STRONG, AuditStatus.TOO_SHORT),
        (None, STRONG, AuditStatus.TOO_SHORT),
    ],
)
def test_a_clip_is_judged_by_its_offset_and_its_neighbours(
    offset: ClipOffset | None, crowd: Crowd, status: AuditStatus
) -> None:
    told = judge_finding(finding(offset), 0.0, crowd)
    assert told.status is status, told.why
    assert told.why


@pytest.mark.parametrize(
    ("signs", "status"),
    [
        (replace(GOOD, static=True), AuditStatus.STATIC_MOUTH),
        (replace(GOOD, silent=True), AuditStatus.SILENT),
        (replace(GOOD, speech_s=0.4), AuditStatus.SILENT),
        (replace(GOOD, speech_s=None), AuditStatus.SHIFTED),
    ],
)
def test_signs_come_before_offsets(signs: Signs, status: AuditStatus) -> None:
    told = judge_finding(finding(replace(OFFSET, frames=5.0), signs), 0.12, STRONG)
    assert told.status is status
    assert (told.av_offset_s != 0.12) == (status is AuditStatus.SHIFTED)


@pytest.mark.parametrize(
    ("timeline", "crowd", "status"),
    [
        (line((40, 0, 0.4), (30, 9, 0.4)), STRONG, AuditStatus.PARTLY),
        (line((40, 0, 0.4), (30, 0, 0.01)), STRONG, AuditStatus.PARTLY),
        (line((40, 0, 0.4), (20, 9, 0.4)), STRONG, AuditStatus.IN_SYNC),
        (line((70, 0, 0.4)), STRONG, AuditStatus.IN_SYNC),
        (line(*[(10, 0, 0.4), (10, 9, 0.4)] * 5), STRONG, AuditStatus.IN_SYNC),
        (line((40, 0, 0.4), (30, 9, 0.4)), WEAK, AuditStatus.IN_SYNC),
    ],
)
def test_parts_are_judged_where_a_network_is_able_to(
    timeline: tuple[Moment, ...], crowd: Crowd, status: AuditStatus
) -> None:
    assert judge_finding(finding(OFFSET, timeline=timeline), 0.0, crowd).status is status


def test_the_longest_stretches_are_told_in_seconds() -> None:
    assert parts(line((10, 3, 0.4), (25, 3, 0.4), (5, -9, 0.4)), 3.0) == pytest.approx((35 / 25, 5 / 25))
    assert parts(line((10, 8, 0.4)), 0.0) == pytest.approx((0.0, 10 / 25))


@pytest.mark.parametrize(
    ("confidence", "frames", "reason", "status"),
    [
        (0.9, 0.3, "", AuditStatus.IN_SYNC),
        (0.9, 4.0, "", AuditStatus.SHIFTED),
        (0.79, 4.0, "", AuditStatus.UNSURE),
        (0.1, 4.0, "at_edge", AuditStatus.UNSURE),
        (0.0, 0.0, "too_short", AuditStatus.TOO_SHORT),
        (0.0, 0.0, "little_speech", AuditStatus.SILENT),
        (0.0, 0.0, "static_mouth", AuditStatus.STATIC_MOUTH),
    ],
)
def test_an_estimate_is_believed_when_it_is_sure(
    confidence: float, frames: float, reason: str, status: AuditStatus
) -> None:
    found = Finding(GOOD, None, Estimate(frames, confidence, np.zeros(31), reason))
    assert judge_finding(found, 0.0, STRONG).status is status


def test_a_shift_is_added_to_what_was_known_in_whole_columns() -> None:
    told = judge_finding(finding(replace(OFFSET, frames=-4.1)), 0.05, STRONG)
    assert told.av_offset_s == moved(0.05, -4.1) == -9 / 80
    assert moved(0.0, 2.5) == 8 / 80


def test_the_crowd_is_those_that_could_fit() -> None:
    still, short = replace(GOOD, static=True), finding(None)
    known = [finding(OFFSET), finding(DOUBTFUL), finding(DOUBTFUL, still), short]
    assert Crowd.of(known) == Crowd(fit=0.5, agreement=0.9, judged=2)
    assert Crowd.of([]) == Crowd(0.0, 0.0, 0)
