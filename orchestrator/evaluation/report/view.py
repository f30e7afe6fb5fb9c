"""What the pages show of an evaluation and of an audit, worked out: key figures and the rows of tables.

Contract: pure functions; every figure on a page is one of the evaluation's or the audit's, or comes from here. Nothing
is escaped here: that is the template's business, everywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.config.media import FPS
from orchestrator.evaluation.audit import Audit, AuditStatus
from orchestrator.evaluation.figures import CLIP_AVERAGED, Figure
from orchestrator.evaluation.report.words import STATUS_MEANING, STATUS_WORDS, frames_text, number_text
from orchestrator.evaluation.results import Evaluation
from orchestrator.storage import redacted
from orchestrator.training.chance import LearningState

_IN_CHART = re.compile(rf"offset_accuracy_(?!{CLIP_AVERAGED}_)\d+_within_\d+")
"""Figures for which the chart is enough."""
_HERO = ("accuracy", "auc", "clip_offset_accuracy_within_1", "lse_c", "lse_d")
_OF_GROUP = ("accuracy", "auc", f"offset_accuracy_{CLIP_AVERAGED}_within_1", "lse_c")
_TONES = {
    "champion": {"in sync", "clear", "passed"},
    "stopped-early": {"shifted", "out of sync", "offset wrong", "at the edge", "partly in sync", "parts differ"},
    "failed": {"wrong sound", "failed", "no face", "pairs wrong"},
}
_MOST_MOVES = 15
_MOST_GROUPS = 200
"""Rows of a table; a corpus may have thousands of speakers."""


@dataclass(frozen=True)
class Fact:
    """One key figure."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Hero:
    """A figure that everybody asks for."""

    figure: Figure
    good: bool
    """Its interval is beyond chance."""


@dataclass(frozen=True)
class GroupTable:
    """The figures of all groups of a column."""

    column: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Figure | None, ...]], ...]
    """The lowest accuracy first."""
    left_out: int
    """Groups for which there is no room."""


@dataclass(frozen=True)
class StatusLine:
    """One status of an audit."""

    status: str
    clips: int
    share: float
    hours: float
    meaning: str


def hero(evaluation: Evaluation) -> list[Hero]:
    """The figures that are told first."""
    named = {one.name: one for one in evaluation.figures}
    return [Hero(named[name], _beyond_chance(named[name])) for name in _HERO if name in named]


def evaluation_facts(evaluation: Evaluation) -> list[Fact]:
    """What it was judged on."""
    hours = sum(report.seconds for report in evaluation.clips) / 3600
    speakers = len({row.speaker for row in evaluation.rows})
    judged = sum(report.offset is not None for report in evaluation.clips)
    return [
        Fact("Pairs", f"{evaluation.pairs:,}", "half of them in sync"),
        Fact("Clips", f"{len(evaluation.clips):,}", f"{judged:,} of them with an offset"),
        Fact(
            "Length", hours_text(hours), f"the {evaluation.split} split" if evaluation.split != "all" else "all splits"
        ),
        Fact("Speakers", f"{speakers:,}", f"intervals draw whole {evaluation.clusters}s anew"),
        Fact("Window", f"{evaluation.num_frames} frames", f"{1000 * evaluation.num_frames / FPS:.0f} ms"),
    ]


def verdict_notes(evaluation: Evaluation) -> list[str]:
    """The verdict and its causes, where it is a bad one."""
    verdict = evaluation.verdict
    return [] if verdict.state is LearningState.LEARNING else [verdict.why, *verdict.causes]


def main_figures(figures: Sequence[Figure]) -> list[Figure]:
    """The rows of the table."""
    return [one for one in figures if not _IN_CHART.fullmatch(one.name)]


def group_tables(evaluation: Evaluation) -> list[GroupTable]:
    """A table for every column by which clips are told apart."""
    titles = {one.name: one.title for one in evaluation.figures}
    names = [name for name in _OF_GROUP if name in titles]
    tables = []
    for column, groups in evaluation.groups.items():
        rows = []
        for value, figures in groups.items():
            named = {one.name: one for one in figures}
            rows.append((named["accuracy"].value, str(value), tuple(named.get(name) for name in names)))
        shown = tuple((value, row) for _, value, row in sorted(rows, key=lambda row: row[:2])[:_MOST_GROUPS])
        tables.append(GroupTable(column, tuple(titles[name] for name in names), shown, len(rows) - len(shown)))
    return tables


def evaluation_settings(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Everything by which the evaluation could be made again."""
    return [
        ("Checkpoint", redacted(evaluation.checkpoint)),
        ("Corpus", redacted(evaluation.corpus)),
        ("Split", evaluation.split),
        ("Pairs", f"{evaluation.pairs:,}"),
        ("Pair list", evaluation.pairs_hash),
        ("Frames of a window", str(evaluation.num_frames)),
        ("Intervals", f"95%; whole {evaluation.clusters}s are drawn anew"),
        ("Best threshold", number_text(evaluation.metrics["best_threshold"])),
        ("Verdict", f"{evaluation.verdict.state}: {evaluation.verdict.why}"),
    ]


def lengths(audit: Audit, seconds: Mapping[str, float]) -> dict[str, float]:
    """Clip id -> its seconds, of all clips of which that is known."""
    judged = {clip.clip_id: clip.report.seconds for clip in audit.clips if clip.report}
    return judged | {clip.clip_id: seconds[clip.clip_id] for clip in audit.clips if clip.clip_id in seconds}


def audit_facts(audit: Audit, seconds: Mapping[str, float]) -> list[Fact]:
    """What was audited."""
    moved = [clip for clip in audit.clips if clip.av_offset_s != clip.before_s]
    of = "all of them" if len(seconds) == len(audit.clips) else f"of {len(seconds):,} of them"
    length = [Fact("Length", hours_text(sum(seconds.values()) / 3600), of)] if seconds else []
    return [
        Fact("Clips", f"{len(audit.clips):,}", f"of {len({clip.speaker for clip in audit.clips}):,} speakers"),
        *length,
        Fact("New offsets", f"{len(moved):,}", "clips that belong elsewhere"),
        Fact("Tried", f"±{audit.max_offset} frames", f"±{audit.max_offset / FPS:.2f} s"),
        Fact("Judged by", "a network" if audit.checkpoint else "an estimate", _by(audit)),
    ]


def status_lines(audit: Audit, lengths: Mapping[str, float]) -> list[StatusLine]:
    """Every status that occurs, in the order of `AuditStatus`."""
    counts, total = Counter(clip.status for clip in audit.clips), max(len(audit.clips), 1)
    seconds = dict.fromkeys(AuditStatus, 0.0)
    for clip in audit.clips:
        seconds[clip.status] += lengths.get(clip.clip_id, 0.0)
    return [
        StatusLine(
            STATUS_WORDS[status], counts[status], counts[status] / total, seconds[status] / 3600, STATUS_MEANING[status]
        )
        for status in AuditStatus
        if counts[status]
    ]


def move_lines(audit: Audit) -> list[tuple[str, int]]:
    """By how many whole frames how many clips are moved, the most frequent first."""
    moves = Counter(round((clip.av_offset_s - clip.before_s) * FPS) for clip in audit.of(AuditStatus.SHIFTED))
    ordered = sorted(moves.items(), key=lambda item: (-item[1], item[0]))
    return [(frames_text(frames), count) for frames, count in ordered[:_MOST_MOVES]]


def audit_settings(audit: Audit) -> list[tuple[str, str]]:
    """Everything by which the audit could be made again."""
    return [
        ("Corpus", redacted(audit.corpus)),
        ("Judged by", redacted(audit.checkpoint) if audit.checkpoint else "an estimate from loudness and movement"),
        ("Offsets tried", f"−{audit.max_offset} to +{audit.max_offset} frames"),
    ]


def tone(status: str) -> str:
    """The colour of a status, by the name that the style knows."""
    words = status.replace("_", " ").lower()
    return next((name for name, statuses in _TONES.items() if words in statuses), "stopped")


def hours_text(hours: float) -> str:
    """A length that a person can compare."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 30 else f"{3600 * hours:.0f} s"


def _beyond_chance(figure: Figure) -> bool:
    if figure.chance is None:
        return False
    return figure.low > figure.chance if figure.higher_is_better else figure.high < figure.chance


def _by(audit: Audit) -> str:
    return "a checkpoint, see below" if audit.checkpoint else "from loudness and movement of the mouth"
