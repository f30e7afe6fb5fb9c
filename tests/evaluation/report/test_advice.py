"""Advice follows from the figures, and nothing is advised that they do not support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.evaluation.audit import Audit, AuditStatus, ClipAudit
from orchestrator.evaluation.clips import ClipReport
from orchestrator.evaluation.figures import Figure
from orchestrator.evaluation.offsets import ClipOffset
from orchestrator.evaluation.report import audit_advice, evaluation_advice
from orchestrator.evaluation.report.advice import typical_offset
from orchestrator.evaluation.results import Evaluation
from orchestrator.training.chance import LearningState, Verdict
from orchestrator.training.comparison import Estimate


@dataclass(frozen=True)
class Control:
    name: str
    title: str
    passed: bool | None
    expected: str = "chance"
    found: Estimate | None = None
    why: str = ""


def offset(frames: float, p_value: float = 0.01) -> ClipOffset:
    return ClipOffset(frames, 0.5, 0.6, 0.9, p_value, 0.1, False, 50, ())


def report(frames: float, p_value: float = 0.01) -> ClipReport:
    return ClipReport(0, 2.0, (), offset(frames, p_value), (), ())


def figure(name: str, value: float, half: float = 0.02) -> Figure:
    return Figure(name, name, value, value - half, value + half, 0.5, "")


def good(evaluation: Evaluation, **changes: Any) -> Evaluation:
    """A network that knows what it does."""
    figures = (
        figure("accuracy", 0.9),
        figure("accuracy_at_best_threshold", 0.91),
        figure("clip_offset_accuracy_within_1", 0.99),
    )
    verdict = Verdict(LearningState.LEARNING, "pairs are told apart")
    known = {"verdict": verdict, "figures": figures, "groups": {}, "clips": tuple(report(0.1) for _ in range(9))}
    return replace(evaluation, **{**known, **changes})


def test_nothing_is_advised_where_all_is_well(evaluation: Evaluation) -> None:
    (advice,) = evaluation_advice(good(evaluation), [Control("a", "a", True), Control("b", "b", None)])
    assert advice.startswith("Nothing stands out")


def test_a_network_at_chance_is_sent_to_the_chance_docs(evaluation: Evaluation) -> None:
    assert evaluation.verdict.state is not LearningState.LEARNING
    assert "docs/chance.md" in evaluation_advice(evaluation)[0]


def test_a_failed_control_comes_first(evaluation: Evaluation) -> None:
    advice = evaluation_advice(evaluation, [Control("a", "silent sound", False), Control("b", "b", True)])
    assert advice[0].startswith("1 of 2 controls does not come out") and "silent sound" in advice[0]


def test_a_shifted_corpus_is_to_be_audited(evaluation: Evaluation) -> None:
    shifted = good(
        evaluation, clips=tuple(report(3 + 0.1 * n) for n in range(-4, 5)), corpus="my corpus", checkpoint="c.pt"
    )
    assert typical_offset(shifted) == 3
    (advice,) = evaluation_advice(shifted)
    assert "shifted by 3 frames" in advice and "`orchestrator audit 'my corpus' --checkpoint c.pt`" in advice


def test_scattered_or_doubtful_offsets_are_no_shift(evaluation: Evaluation) -> None:
    assert typical_offset(good(evaluation, clips=tuple(report(3 * n) for n in range(-5, 5)))) is None
    assert typical_offset(good(evaluation, clips=tuple(report(3, 0.5) for _ in range(9)))) is None
    assert typical_offset(good(evaluation, clips=(report(3),))) is None, "one clip is no corpus"
    assert typical_offset(good(evaluation)) == 0


def test_some_clips_elsewhere_are_to_be_watched(evaluation: Evaluation) -> None:
    figures = (figure("accuracy", 0.9), figure("clip_offset_accuracy_within_1", 0.8))
    (advice,) = evaluation_advice(good(evaluation, figures=figures))
    assert advice.startswith("20.0% of the clips fit best elsewhere")


def test_a_better_threshold_is_told_when_it_is_surely_better(evaluation: Evaluation) -> None:
    figures = (figure("accuracy", 0.7), figure("accuracy_at_best_threshold", 0.9))
    (advice,) = evaluation_advice(good(evaluation, figures=figures))
    assert "not calibrated" in advice
    unsure = (figure("accuracy", 0.7, 0.15), figure("accuracy_at_best_threshold", 0.9, 0.15))
    assert "Nothing" in evaluation_advice(good(evaluation, figures=unsure))[0]


def test_a_group_far_below_is_named(evaluation: Evaluation) -> None:
    groups = {"speaker": {"ann": (figure("accuracy", 0.95),), "bob": (figure("accuracy", 0.6, 0.1),)}}
    (advice,) = evaluation_advice(good(evaluation, groups=groups))
    assert advice.startswith("The speaker bob is told right in 60.0%")
    wide = {"speaker": {"bob": (figure("accuracy", 0.6, 0.4),)}}
    assert "bob" not in evaluation_advice(good(evaluation, groups=wide))[0]


def audited(status: AuditStatus, frames: float = 0.0) -> ClipAudit:
    return ClipAudit("clip", "clip.mp4", "ann", "train", status, 0.0, frames / 25, 0.99, "", None)


def audit(*clips: ClipAudit, **changes: Any) -> Audit:
    known: dict[str, Any] = {"corpus": "/data/corpus", "checkpoint": "c.pt", "method": "checkpoint", "max_offset": 15}
    return Audit(**{**known, **changes}, clips=clips)


def advised(clips: Sequence[ClipAudit], **changes: Any) -> str:
    return " ".join(audit_advice(audit(*clips, **changes)))


def test_an_audit_without_a_finding_says_so() -> None:
    assert audit_advice(audit(audited(AuditStatus.IN_SYNC)))[0].startswith("Nothing is wrong")


def test_every_finding_of_an_audit_has_its_advice() -> None:
    shifted = [audited(AuditStatus.SHIFTED, 3)] * 4 + [audited(AuditStatus.SHIFTED, -2)]
    assert "5 clips are shifted, 4 of them by +3 frames (sound later)" in advised(shifted)
    assert "`orchestrator data undo /data/corpus`" in advised(shifted)
    assert "2 clips hold no pair in sync" in advised([audited(AuditStatus.WRONG_AUDIO), audited(AuditStatus.SILENT)])
    edge = advised([audited(AuditStatus.AT_EDGE)])
    assert "`orchestrator audit /data/corpus --checkpoint c.pt`" in edge and "15 frames" in edge
    assert "in sync in a part only" in advised([audited(AuditStatus.PARTLY)])


def test_where_hardly_a_clip_can_be_told_the_network_is_to_blame() -> None:
    assert "better checkpoint" in advised([audited(AuditStatus.UNSURE)] * 3 + [audited(AuditStatus.IN_SYNC)])
    assert "--checkpoint CHECKPOINT" in advised([audited(AuditStatus.UNSURE)], method="estimate", checkpoint=None)
