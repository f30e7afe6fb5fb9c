"""What to do next, by rules on the figures. Pure functions; each piece of advice is a sentence with its reason in it.

Contract: nothing is advised that the figures do not support: an interval decides where there is one. Commands are what
a person types; `DIR` and `CHECKPOINT` stand for places that are not known.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Protocol

from orchestrator.config.media import FPS
from orchestrator.evaluation.audit import Audit, AuditStatus
from orchestrator.evaluation.figures import Figure
from orchestrator.evaluation.report.words import frames_text, number_text, share_text
from orchestrator.evaluation.results import Evaluation
from orchestrator.training.chance import LearningState
from orchestrator.training.comparison import Estimate

_LEAST_CLIPS = 5
"""Fewer say nothing of a corpus."""
_MOST = 0.5
"""More than this share of something is most of it."""
_UNCALIBRATED = 0.05
"""Accuracy that another threshold has to give before it is worth a word."""
_FAR_BELOW = 0.10
_SETTLED = 0.97
"""Clips whose offset is found: the share above which nothing is left to correct."""
_BEYOND_CHANCE = 0.05


class ControlLine(Protocol):
    """One control of an evaluation: something whose outcome is known beforehand."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def expected(self) -> str: ...
    @property
    def found(self) -> Estimate | None: ...
    @property
    def passed(self) -> bool | None: ...
    @property
    def why(self) -> str: ...


def evaluation_advice(evaluation: Evaluation, controls: Sequence[ControlLine] = ()) -> list[str]:
    """What to do after an evaluation, the most urgent first."""
    rules = [_controls(controls), _chance(evaluation), _shift(evaluation), _scattered(evaluation)]
    rules += [_threshold(evaluation), *_groups(evaluation)]
    found = [advice for advice in rules if advice]
    return found or ["Nothing stands out: watch the clips below, and train on or put it to use."]


def audit_advice(audit: Audit) -> list[str]:
    """What to do after an audit, the most urgent first."""
    found = [_unfit(audit), _moved(audit), _rejected(audit), _beyond(audit), _partly(audit)]
    told = [advice for advice in found if advice]
    if not told:
        return ["Nothing is wrong with these clips: train on them with `orchestrator train`."]
    return [
        *told,
        f"What an audit wrote into the manifest is taken back by `orchestrator data undo {_typed(audit.corpus)}`.",
    ]


def typical_offset(evaluation: Evaluation) -> int | None:
    """The whole frames by which most clips seem shifted alike, 0 in sync; none where most clips differ."""
    offsets = [
        report.offset.frames for report in evaluation.clips if report.offset and _believable(report.offset.p_value)
    ]
    if len(offsets) < _LEAST_CLIPS:
        return None
    middle = round(median(offsets))
    alike = sum(abs(frames - middle) <= 1 for frames in offsets)
    return middle if alike > _MOST * len(offsets) else None


def _controls(controls: Sequence[ControlLine]) -> str:
    failed = [control.title for control in controls if control.passed is False]
    if not failed:
        return ""
    verb = "does" if len(failed) == 1 else "do"
    return (
        f"{len(failed)} of {len(controls)} controls {verb} not come out as they must ({', '.join(failed)}): find out "
        "why before you believe any other figure, because the network may use something else than lip sync."
    )


def _chance(evaluation: Evaluation) -> str:
    state = evaluation.verdict.state
    if state is LearningState.LEARNING:
        return ""
    cause = f" Most likely: {evaluation.verdict.causes[0]}." if evaluation.verdict.causes else ""
    what = (
        "Its embeddings are all the same"
        if state is LearningState.COLLAPSED
        else "Nothing shows that it tells pairs apart"
    )
    return f"{what}: see docs/chance.md for the causes, then train on with `orchestrator train`.{cause}"


def _shift(evaluation: Evaluation) -> str:
    middle = typical_offset(evaluation)
    if not middle:
        return ""
    audit = f"orchestrator audit {_typed(evaluation.corpus)} --checkpoint {_typed(evaluation.checkpoint)}"
    return (
        f"Most clips fit best at {frames_text(middle)}: the corpus seems to be shifted by {abs(middle)} "
        f"frame{'' if abs(middle) == 1 else 's'} against the data that this network was trained on. Run `{audit}`."
    )


def _scattered(evaluation: Evaluation) -> str:
    """Clips here and there at other offsets, though the network is able to find them."""
    found = _named(evaluation.figures, "clip_offset_accuracy_within_1")
    state = evaluation.verdict.state
    if found is None or typical_offset(evaluation) != 0 or state is not LearningState.LEARNING or found.high > _SETTLED:
        return ""
    audit = f"orchestrator audit {_typed(evaluation.corpus)} --checkpoint {_typed(evaluation.checkpoint)}"
    return (
        f"{share_text(1 - found.value)} of the clips fit best elsewhere than where the corpus has them. Watch the "
        f"worst clips below; if the sound is off in them, run `{audit}`."
    )


def _threshold(evaluation: Evaluation) -> str:
    plain, best = _named(evaluation.figures, "accuracy"), _named(evaluation.figures, "accuracy_at_best_threshold")
    if plain is None or best is None or best.low <= plain.high or best.value - plain.value < _UNCALIBRATED:
        return ""
    threshold = number_text(evaluation.metrics["best_threshold"])
    return (
        f"A threshold of {threshold} instead of 0.5 tells {share_text(best.value)} of the pairs instead of "
        f"{share_text(plain.value)}: the cosines are not calibrated. Judge this network by its AUC, and set its "
        "threshold on other clips."
    )


def _groups(evaluation: Evaluation) -> list[str]:
    """Of each column the group that is surely and far below all clips together."""
    whole = _named(evaluation.figures, "accuracy")
    found = []
    for column, groups in evaluation.groups.items():
        figures = {name: _named(figures, "accuracy") for name, figures in groups.items()}
        below = {
            name: one.value
            for name, one in figures.items()
            if one and whole and one.high < whole.low and whole.value - one.value > _FAR_BELOW
        }
        if below and whole:
            worst = min(below, key=lambda name: (below[name], name))
            others = f", and {len(below) - 1} more" if len(below) > 1 else ""
            found.append(
                f"The {column} {worst} is told right in {share_text(below[worst])} of pairs only, all together in "
                f"{share_text(whole.value)}{others}: watch clips of that {column}, and train with more of the kind."
            )
    return found


def _unfit(audit: Audit) -> str:
    """When hardly a clip can be told, the network is to blame."""
    unsure = len(audit.of(AuditStatus.UNSURE))
    if not audit.clips or unsure <= _MOST * len(audit.clips):
        return ""
    way = "a better checkpoint" if audit.method == "checkpoint" else "a checkpoint: `--checkpoint CHECKPOINT`"
    return (
        f"{unsure:,} of {len(audit.clips):,} clips cannot be told: believe none of the offsets here, and audit again "
        f"with {way}. `orchestrator evaluate` says how good one is."
    )


def _moved(audit: Audit) -> str:
    moved = [round((clip.av_offset_s - clip.before_s) * FPS) for clip in audit.of(AuditStatus.SHIFTED)]
    if not moved:
        return ""
    ((frames, count),) = Counter(moved).most_common(1)
    alike = f", {count:,} of them by {frames_text(frames)}" if count > 1 and frames else ""
    return (
        f"{_clips(len(moved), 'are')} shifted{alike}. With the new offsets in the manifest, train with "
        "`orchestrator train` and compare: figures from before and after are not of the same pairs."
    )


def _rejected(audit: Audit) -> str:
    useless = audit.of(AuditStatus.WRONG_AUDIO, AuditStatus.STATIC_MOUTH, AuditStatus.SILENT)
    if not useless:
        return ""
    return (
        f"{_clips(len(useless), 'hold')} no pair in sync (wrong sound, still mouth or silence): watch some of them "
        "below, and leave them out of training."
    )


def _beyond(audit: Audit) -> str:
    edge = audit.of(AuditStatus.AT_EDGE)
    if not edge:
        return ""
    network = f" --checkpoint {_typed(audit.checkpoint)}" if audit.checkpoint else ""
    return (
        f"{_clips(len(edge), 'fit')} best at the last offset tried, {audit.max_offset} frames: run "
        f"`orchestrator audit {_typed(audit.corpus)}{network}` again with a farther reach."
    )


def _partly(audit: Audit) -> str:
    count = len(audit.of(AuditStatus.PARTLY))
    if not count:
        return ""
    return (
        f"{_clips(count, 'are')} in sync in a part only: a cut or another speaker. `orchestrator align` on the raw "
        "videos splits clips where the face changes."
    )


def _clips(count: int, verb: str) -> str:
    """So many clips and what they do."""
    one = {"are": "is"}.get(verb, f"{verb}s")
    return f"1 clip {one}" if count == 1 else f"{count:,} clips {verb}"


def _named(figures: Sequence[Figure], name: str) -> Figure | None:
    return next((one for one in figures if one.name == name and math.isfinite(one.value)), None)


def _believable(p_value: float) -> bool:
    return p_value <= _BEYOND_CHANCE


def _typed(place: str | None) -> str:
    """A place as it is typed in a shell."""
    return shlex.quote(place) if place else "DIR"
