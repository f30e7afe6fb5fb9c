"""The charts of an evaluation and of an audit under the names of their files.

Contract: the page and MLflow show the same figures; a chart that would be empty is not made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.charts import (
    calibration_chart,
    cosine_histogram,
    groups_chart,
    offset_accuracy_chart,
    offset_curve_chart,
    offset_histogram,
    precision_recall_chart,
    roc_chart,
    timeline_chart,
)
from orchestrator.config.media import FPS
from orchestrator.evaluation.audit import Audit, AuditStatus, ClipAudit
from orchestrator.evaluation.clips import Moment
from orchestrator.evaluation.figures import CLIP_AVERAGED, Figure
from orchestrator.evaluation.report.words import is_share
from orchestrator.evaluation.results import Evaluation

if TYPE_CHECKING:
    from matplotlib import figure as matplotlib_figure

    Picture = matplotlib_figure.Figure

_OFFSET_ACCURACY = re.compile(r"offset_accuracy_(\d+)_within_(\d+)")
GROUP_FIGURES = ("accuracy", f"offset_accuracy_{CLIP_AVERAGED}_within_1")
"""What is drawn of every group."""
_HALF = 5.8
"""Inches of a chart of groups: two stand side by side."""
_TOLD = (AuditStatus.IN_SYNC, AuditStatus.SHIFTED, AuditStatus.PARTLY)
"""Clips whose offset is to be believed."""


def evaluation_figures(evaluation: Evaluation) -> dict[str, Picture]:
    """File name -> figure, in the order in which a page shows them."""
    named = {one.name: one for one in evaluation.figures}
    curves = evaluation.curves
    precision = named["average_precision"]
    found = {
        "roc.png": roc_chart(curves.roc, named["auc"]),
        "precision_recall.png": precision_recall_chart(curves.precision_recall, precision, precision.chance or 0.5),
        "cosines.png": cosine_histogram(curves.in_sync, curves.out_of_sync, evaluation.metrics["best_threshold"]),
        "calibration.png": calibration_chart(curves.calibration, named["calibration_error"]),
    }
    lines = offset_lines(evaluation.figures)
    if lines:
        chance = {within: one.chance for within, points in lines.items() for _, one in points if one.chance is not None}
        found["offset_accuracy.png"] = offset_accuracy_chart(lines, chance)
    offsets = [report.offset.frames for report in evaluation.clips if report.offset]
    if offsets:
        found["offsets.png"] = offset_histogram(offsets)
    return found | group_figures(evaluation)


def group_figures(evaluation: Evaluation) -> dict[str, Picture]:
    """A chart for each column of groups and each of `GROUP_FIGURES`."""
    whole = {one.name: one for one in evaluation.figures}
    found = {}
    for column, groups in evaluation.groups.items():
        for name in GROUP_FIGURES:
            of_group = {value: one for value, figures in groups.items() for one in figures if one.name == name}
            if of_group and name in whole:
                one, title = whole[name], f"{whole[name].title[:1].upper()}{whole[name].title[1:]}"
                found[f"{column}_{name}.png"] = groups_chart(
                    of_group, title, one.chance, one, percent=is_share(name), width=_HALF
                )
    return found


def audit_figures(audit: Audit) -> dict[str, Picture]:
    """The same of an audit."""
    before = [frames for clip in audit.clips if (frames := _before(clip)) is not None]
    if not before:
        return {}
    after = [frames for clip in audit.clips if (frames := _after(clip)) is not None]
    return {"offsets.png": offset_histogram(before, after, max(audit.max_offset, 3), ("as it was", "after the audit"))}


def clip_figures(curve: Sequence[float], offset: float | None, timeline: Sequence[Moment]) -> list[Picture]:
    """What is drawn of one clip."""
    found = [offset_curve_chart(curve, offset)] if curve else []
    return found + ([timeline_chart(timeline, offset)] if len(timeline) > 1 else [])


def offset_lines(figures: Sequence[Figure]) -> dict[int, list[tuple[int, Figure]]]:
    """Frames by which an offset may be off -> windows averaged and the figure."""
    lines: dict[int, list[tuple[int, Figure]]] = {}
    for one in figures:
        match = _OFFSET_ACCURACY.fullmatch(one.name)
        if match:
            lines.setdefault(int(match[2]), []).append((int(match[1]), one))
    return {within: sorted(points, key=lambda point: point[0]) for within, points in lines.items()}


def _before(clip: ClipAudit) -> float | None:
    """How far sound and picture were apart, in frames; none where that cannot be told."""
    if clip.status not in _TOLD:
        return None
    found = clip.report.offset if clip.report else None
    return found.frames if found else _change(clip)


def _after(clip: ClipAudit) -> float | None:
    before = _before(clip)
    return None if before is None else before - _change(clip)


def _change(clip: ClipAudit) -> float:
    return (clip.av_offset_s - clip.before_s) * FPS
