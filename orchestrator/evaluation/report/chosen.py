"""Which clips are worth a look, and why: pure functions of an evaluation or an audit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple, TypeVar

from orchestrator.evaluation.audit import AuditStatus, ClipAudit
from orchestrator.evaluation.clips import ClipReport
from orchestrator.evaluation.report.words import frames_text, number_text, share_text
from orchestrator.evaluation.results import Evaluation
from orchestrator.training.evaluation import PairList

T = TypeVar("T")
_RIGHT = 1.0
"""Frames by which an offset may be off before its clip counts as wrong."""
_THRESHOLD = 0.5
SUSPICIOUS = (
    AuditStatus.SHIFTED,
    AuditStatus.WRONG_AUDIO,
    AuditStatus.PARTLY,
    AuditStatus.AT_EDGE,
    AuditStatus.UNSURE,
    AuditStatus.STATIC_MOUTH,
    AuditStatus.SILENT,
    AuditStatus.TOO_SHORT,
    AuditStatus.IN_SYNC,
)
"""What an audit says of clips, the most interesting first."""


class Choice(NamedTuple):
    """A clip to show."""

    place: int
    """Among the clips of the evaluation."""
    why: str
    status: str


def evaluation_choice(evaluation: Evaluation, pairs: PairList | None, worst: int, best: int) -> list[Choice]:
    """Clips that are worst in different ways by turns, none twice, and then the clearest ones.

    Args:
        evaluation: what was found.
        pairs: its list; another one is not looked at.
        worst, best: how many of each.
    """
    chosen: dict[int, Choice] = {}
    for choice in _by_turns(_faults(evaluation, pairs)):
        if len(chosen) < worst:
            chosen.setdefault(choice.place, choice)
    clear = [place for place, report in enumerate(evaluation.clips) if _fits(report) and place not in chosen]
    clear.sort(key=lambda place: (-_confidence(evaluation.clips[place]), place))
    for place in clear[:best]:
        confidence = number_text(_confidence(evaluation.clips[place]))
        chosen[place] = Choice(place, f"one of the clearest: confidence {confidence}", "clear")
    return list(chosen.values())


def audit_choice(clips: Sequence[ClipAudit], count: int) -> list[ClipAudit]:
    """Clips of all statuses by turns, in each the most telling first; listed by status."""
    by_status: dict[AuditStatus, list[ClipAudit]] = defaultdict(list)
    for clip in clips:
        by_status[clip.status].append(clip)
    ranked = [sorted(by_status[status], key=_interest) for status in SUSPICIOUS if by_status[status]]
    # of clips in sync one is enough, to know how it should look
    ranked = [lot[:1] if lot[0].status is AuditStatus.IN_SYNC else lot for lot in ranked]
    taken = _by_turns(ranked)[:count]
    return sorted(taken, key=lambda clip: (SUSPICIOUS.index(clip.status), _interest(clip)))


def pair_accuracy(evaluation: Evaluation, pairs: PairList | None) -> dict[int, float]:
    """Place of a clip -> share of its pairs that are told right; of clips without pairs, or another list, nothing."""
    if pairs is None or pairs.hash != evaluation.pairs_hash:
        return {}
    places = {report.clip: place for place, report in enumerate(evaluation.clips)}
    right: dict[int, list[bool]] = defaultdict(list)
    for pair, cosine in zip(pairs.pairs, evaluation.cosines, strict=True):
        right[places[pair.clip]].append((cosine > _THRESHOLD) == bool(pair.label))
    return {place: sum(found) / len(found) for place, found in right.items()}


def _faults(evaluation: Evaluation, pairs: PairList | None) -> list[list[Choice]]:
    """The clips that are at fault in each way, the worst first."""
    known = [(place, report) for place, report in enumerate(evaluation.clips) if report.offset]

    def ranked(key: Callable[[ClipReport], float]) -> list[tuple[int, ClipReport]]:
        rows = [(place, report) for place, report in known if math.isfinite(key(report))]
        return sorted(rows, key=lambda row: (key(row[1]), row[0]))

    off = [
        Choice(place, f"its best offset is {frames_text(_frames(report))}", "offset wrong")
        for place, report in ranked(lambda report: -abs(_frames(report)))
        if abs(_frames(report)) > _RIGHT
    ]
    split = [
        Choice(place, f"only {share_text(_agreement(report))} of its windows agree on an offset", "unsteady")
        for place, report in ranked(_agreement)
        if _agreement(report) < 1
    ]
    flat = [
        Choice(place, f"one of the least clear: confidence {number_text(_confidence(report))}", "unclear")
        for place, report in ranked(_confidence)
    ]
    right = sorted(pair_accuracy(evaluation, pairs).items(), key=lambda item: (item[1], item[0]))
    wrong = [
        Choice(place, f"only {share_text(share)} of its pairs are told right", "pairs wrong")
        for place, share in right
        if share < 1
    ]
    return [off, wrong, split, flat]


def _by_turns(lots: Sequence[Sequence[T]]) -> list[T]:
    """The first of each, then the second of each, and so on."""
    return [one for turn in zip_longest(*lots) for one in turn if one is not None]


def _interest(clip: ClipAudit) -> tuple[float, str]:
    """Low for clips that tell most: those that are moved far, those that are sure."""
    moved = abs(clip.av_offset_s - clip.before_s)
    return -moved if clip.status is AuditStatus.SHIFTED else -clip.confidence, clip.clip_id


def _fits(report: ClipReport) -> bool:
    return report.offset is not None and abs(report.offset.frames) <= _RIGHT and not report.offset.at_edge


def _frames(report: ClipReport) -> float:
    return report.offset.frames if report.offset else math.nan


def _agreement(report: ClipReport) -> float:
    return report.offset.agreement if report.offset else math.nan


def _confidence(report: ClipReport) -> float:
    return report.offset.confidence if report.offset else math.nan
