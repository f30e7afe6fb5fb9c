"""How figures, offsets and verdicts are written for people, the same way on every page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from orchestrator.charts.style import minus
from orchestrator.evaluation.audit import Audit, AuditStatus
from orchestrator.evaluation.figures import Figure
from orchestrator.evaluation.results import Evaluation
from orchestrator.storage import redacted
from orchestrator.training.chance import LearningState

STATUS_WORDS = {
    AuditStatus.IN_SYNC: "in sync",
    AuditStatus.SHIFTED: "shifted",
    AuditStatus.AT_EDGE: "at the edge",
    AuditStatus.PARTLY: "partly in sync",
    AuditStatus.WRONG_AUDIO: "wrong sound",
    AuditStatus.UNSURE: "unsure",
    AuditStatus.SILENT: "silent",
    AuditStatus.STATIC_MOUTH: "still mouth",
    AuditStatus.TOO_SHORT: "too short",
}
STATUS_MEANING = {
    AuditStatus.IN_SYNC: "sound and picture belong together where the corpus says",
    AuditStatus.SHIFTED: "they belong together, but at another offset, which is known",
    AuditStatus.AT_EDGE: "the best offset is the last one tried; the true one may lie beyond",
    AuditStatus.PARTLY: "in sync in a part only: another speaker, a cut away, or a drift",
    AuditStatus.WRONG_AUDIO: "no offset fits better than sound from elsewhere: somebody else is heard",
    AuditStatus.UNSURE: "no offset fits clearly, and too few other clips fit to blame this one",
    AuditStatus.SILENT: "too little speech to tell",
    AuditStatus.STATIC_MOUTH: "the mouth does not move",
    AuditStatus.TOO_SHORT: "too few windows to tell",
}


def figure_text(figure: Figure, value: float) -> str:
    """A value of a figure, e.g. one end of its interval."""
    return share_text(value) if is_share(figure.name) else number_text(value)


def interval_text(figure: Figure) -> str:
    """The 95% interval, without signs of per cent."""
    if not math.isfinite(figure.low + figure.high):
        return "not known"
    if is_share(figure.name):
        return f"[{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
    return f"[{number_text(figure.low)}, {number_text(figure.high)}]"


def is_share(name: str) -> bool:
    """Whether a figure of this name is told in per cent."""
    return "accuracy" in name


def share_text(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f}%" if math.isfinite(value) else "–"


def number_text(value: float) -> str:
    """Any other figure."""
    return minus(f"{value:.3f}") if math.isfinite(value) else "–"


def frames_text(frames: float) -> str:
    """An offset, with its sign and what that means; whole frames have no decimals."""
    if not math.isfinite(frames):
        return "–"
    if abs(frames) < 0.05:
        return "0 frames"
    number = f"{frames:+d}" if isinstance(frames, int) else f"{frames:+.1f}"
    unit = "frame" if abs(frames) == 1 else "frames"
    return f"{minus(number)} {unit} (sound {'later' if frames > 0 else 'earlier'})"


def evaluation_headline(evaluation: Evaluation) -> str:
    """What an evaluation found, in a sentence."""
    accuracy, name = evaluation.figure("accuracy"), short_name(evaluation.checkpoint)
    told = f"{share_text(accuracy.value)} of pairs {interval_text(accuracy)}, chance {share_text(accuracy.chance or 0)}"
    if evaluation.verdict.state is LearningState.COLLAPSED:
        return f"{name} gives all pictures, or all sounds, the same embedding: it tells {told}"
    if evaluation.verdict.state is LearningState.AT_CHANCE:
        return f"{name} does not tell in sync from out of sync: right in {told}"
    return f"{name} tells in sync from out of sync in {told}"


def audit_headline(audit: Audit) -> str:
    """What an audit found, in a sentence."""
    counts, total = Counter(clip.status for clip in audit.clips), len(audit.clips)
    if not total:
        return "There was no clip to audit"
    fine = counts.pop(AuditStatus.IN_SYNC, 0)
    rest = ", ".join(f"{count:,} {STATUS_WORDS[status]}" for status, count in counts.most_common())
    return f"{fine:,} of {total:,} clips are in sync ({fine / total:.0%})" + (f"; {rest}" if rest else "")


def score_headline(statuses: Sequence[str]) -> str:
    """What was found of videos, in a sentence."""
    counts = ", ".join(f"{count:,} {status.replace('_', ' ')}" for status, count in Counter(statuses).most_common())
    return (
        f"{len(statuses):,} video{'' if len(statuses) == 1 else 's'}: {counts}" if statuses else "No video was scored"
    )


def short_name(address: str) -> str:
    """The last two parts of a path or address: a run's name and its step."""
    return "/".join(redacted(address).replace("\\", "/").rstrip("/").split("/")[-2:])
