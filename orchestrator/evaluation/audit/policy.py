"""How a clip is judged: from what a network or an estimate finds, from signs of its own, and from its neighbours.

Contract: pure functions of plain data; all thresholds are here, with their reasons. A clip is only blamed for what
most others can do: a network that finds nothing in any clip says something about the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.config.media import FPS, HOP, SAMPLE_RATE, mel_shift
from orchestrator.evaluation.audit.results import AuditStatus, ClipAudit
from orchestrator.evaluation.clips import ClipReport, Moment
from orchestrator.evaluation.estimate import Estimate
from orchestrator.evaluation.offsets import ClipOffset

FITS_P = 0.05
"""A clip fits when sound from elsewhere fits as well at most this often: one in twenty of foreign sounds passes."""
FITS_AGREEMENT = 0.4
"""... and when that share of its windows say so by themselves. Windows that guess agree in 3 of 31 cases; one loud
passage can carry the mean of a whole clip, but not the others' votes."""
DOUBT_P = 0.2
"""Above it, and with fewer windows than `DOUBT_AGREEMENT` of one mind, nothing speaks for a clip. A network that told
75% of drawn pairs found 1 of 144 good clips so, one that told 71% 11 of them; of foreign sounds more than half."""
DOUBT_AGREEMENT = 0.3
"""See there."""
MOST_FIT = 0.5
"""A clip is blamed for fitting nowhere only if this share of the corpus fits, and the network is strong."""
STRONG_AGREEMENT = 0.75
"""A network is strong when windows of fitting clips agree this often (median): others miss good clips, and flicker
within one. Those of 71% and 75% reached 0.6 and 0.7, one of 86% more than 0.9."""
LEAST_FIT = 0.4
"""Where fewer clips fit, chance made too many of those that do (one in twenty to ten of what cannot fit): a network
that has learned nothing must move nothing."""
ESTIMATE_SURE = 0.8
"""The same for an estimate's chance to be right: a shift that is wrong in one of five cases is no gain."""
IN_SYNC_FRAMES = 0.5
"""Nearer than that to the manifest's offset is in sync: half of what a negative is shifted by at least."""
PART_S = 1.0
"""A part counts from here on: a syllable or a cough is none."""
LEAST_SPEECH_S = 0.5
"""Less speech than that is too little: some three syllables."""
CROOKED_FRAMES = 1.0
"""A common offset beyond that is told: it may be the network's own."""

_AGREES = 1
_SHALLOW = 0.25
"""A moment says nothing when it is less deep than this share of those that agree."""


@dataclass(frozen=True)
class Signs:
    """What a clip shows without any network."""

    static: bool
    """The mouth does not move."""
    silent: bool
    """There is hardly a sound."""
    speech_s: float | None
    """Seconds with speech; none when preparation did not look."""


@dataclass(frozen=True)
class Finding:
    """All that is known of one clip."""

    signs: Signs
    report: ClipReport | None
    """A network's; none when none was asked or the clip is too short for it."""
    estimate: Estimate | None
    """An estimate from loudness and movement; none when a network was asked."""
    failed: str = ""
    """Why it could not be looked at."""


@dataclass(frozen=True)
class Crowd:
    """What a corpus is like, to judge one of its clips by."""

    fit: float
    """Share of the clips, of those long enough and with speech and movement, that fit somewhere."""
    agreement: float
    """The median agreement of those that fit; 0 without any."""
    judged: int
    """How many clips that is a share of."""

    @property
    def strong(self) -> bool:
        """Whether the network tells enough to blame clips, and to judge parts of them."""
        return self.agreement >= STRONG_AGREEMENT

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Crowd:
        """Of all clips."""
        asked = [found for found in findings if found.report and found.report.offset and not _sign(found.signs)]
        fitting = [found.report.offset.agreement for found in asked if found.report and fits(found.report)]  # type: ignore[union-attr]
        return cls(len(fitting) / max(len(asked), 1), float(np.median(fitting)) if fitting else 0.0, len(asked))


@dataclass(frozen=True)
class Judgement:
    """What becomes of a clip."""

    status: AuditStatus
    av_offset_s: float
    """Where it belongs, as far as that is known."""
    confidence: float
    why: str


def judge_finding(found: Finding, before_s: float, crowd: Crowd) -> Judgement:
    """Judge a clip.

    Args:
        found: what is known of it, relative to the manifest's offset.
        before_s: that offset.
        crowd: the corpus.
    """
    sign = _sign(found.signs)
    if found.failed:
        return Judgement(AuditStatus.UNSURE, before_s, 0.0, found.failed)
    if sign is not None:
        return Judgement(sign[0], before_s, 0.0, sign[1])
    if found.estimate is not None:
        return _of_estimate(found.estimate, before_s)
    if found.report is None or found.report.offset is None:
        return Judgement(AuditStatus.TOO_SHORT, before_s, 0.0, "it has no window of picture and sound")
    return _of_report(found.report, before_s, crowd)


def fits(report: ClipReport) -> bool:
    """Whether a clip fits somewhere clearly better than with sound from elsewhere."""
    found = report.offset
    return found is not None and found.p_value <= FITS_P and found.agreement >= FITS_AGREEMENT


def enough(report: ClipReport) -> bool:
    """Whether a clip is long enough to be found to fit: short ones have too few wrong alignments to compare with."""
    return report.offset is not None and report.offset.least_p <= FITS_P


def parts(timeline: Sequence[Moment], offset: float) -> tuple[float, float]:
    """The longest stretches, in seconds, that agree with an offset, and that do not.

    Args:
        timeline: of the clip.
        offset: the clip's, in whole frames or not.
    """
    right = np.array([abs(moment.offset - offset) <= _AGREES + 0.5 for moment in timeline], bool)
    if not right.any():
        return 0.0, _span(timeline, ~right)
    depths = np.array([moment.depth for moment in timeline])
    mute = depths < _SHALLOW * np.median(depths[right])
    return _span(timeline, right), _span(timeline, ~right | mute)


def common_offset(clips: Iterable[ClipAudit]) -> float | None:
    """The median of what was found, in frames from where the manifest had the clips; none without a clip."""
    known = (AuditStatus.IN_SYNC, AuditStatus.SHIFTED, AuditStatus.PARTLY)
    found = [(clip.av_offset_s - clip.before_s) * FPS for clip in clips if clip.status in known]
    return float(np.median(found)) if found else None


def moved(before_s: float, frames: float) -> float:
    """An offset later by so many frames, to the nearest column of the mel: the data moves by whole ones."""
    return mel_shift(before_s + frames / FPS) * HOP / SAMPLE_RATE


def _sign(signs: Signs) -> tuple[AuditStatus, str] | None:
    if signs.static:
        return AuditStatus.STATIC_MOUTH, "the region of the mouth does not move"
    if signs.silent:
        return AuditStatus.SILENT, "hardly anything is heard"
    if signs.speech_s is not None and signs.speech_s < LEAST_SPEECH_S:
        return AuditStatus.SILENT, f"speech is heard for {signs.speech_s:.1f} s only"
    return None


def _of_report(report: ClipReport, before_s: float, crowd: Crowd) -> Judgement:
    found = report.offset
    assert found is not None
    sure = 1 - found.p_value
    figures = f"p = {found.p_value:.3f}, {_share(found.agreement)} of its windows agree"
    if not enough(report):
        why = f"{report.seconds:.1f} s are too short to tell: even the best fit would have p = {found.least_p:.2f}"
        return Judgement(AuditStatus.TOO_SHORT, before_s, sure, why)
    if not fits(report):
        return _unfit(found, before_s, crowd, figures)
    place = f"it fits best {_frames(found.frames)} from where the manifest has it ({figures})"
    if crowd.fit < LEAST_FIT:
        why = f"{place}, but only {_share(crowd.fit)} of the corpus fit anywhere: the network tells too little"
        return Judgement(AuditStatus.UNSURE, before_s, sure, why)
    if found.at_edge:
        why = f"{place}, the last offset that has enough sound: the true one may lie beyond"
        return Judgement(AuditStatus.AT_EDGE, before_s, sure, why)
    shifted = abs(found.frames) > IN_SYNC_FRAMES
    after_s = moved(before_s, found.frames) if shifted else before_s
    agrees_s, differs_s = parts(report.timeline, found.frames)
    if crowd.strong and min(agrees_s, differs_s) >= PART_S:
        why = f"{place}, but only in a part: {agrees_s:.1f} s in one piece agree, and {differs_s:.1f} s do not"
        return Judgement(AuditStatus.PARTLY, after_s, sure, why)
    return Judgement(AuditStatus.SHIFTED if shifted else AuditStatus.IN_SYNC, after_s, sure, place)


def _unfit(found: ClipOffset, before_s: float, crowd: Crowd, figures: str) -> Judgement:
    why = f"no offset fits clearly better than sound from elsewhere ({figures})"
    sure, hopeless = 1 - found.p_value, found.p_value > DOUBT_P and found.agreement < DOUBT_AGREEMENT
    if hopeless and crowd.strong and crowd.fit >= MOST_FIT:
        why = f"{why}, but {_share(crowd.fit)} of the corpus's clips fit"
        return Judgement(AuditStatus.WRONG_AUDIO, before_s, sure, why)
    return Judgement(AuditStatus.UNSURE, before_s, sure, f"{why}; {_share(crowd.fit)} of the corpus fit")


def _of_estimate(found: Estimate, before_s: float) -> Judgement:
    sure, place = found.confidence, f"the estimate is {_frames(found.offset_frames)}, right with {found.confidence:.0%}"
    status = {"too_short": AuditStatus.TOO_SHORT, "static_mouth": AuditStatus.STATIC_MOUTH}.get(found.reason)
    status = status or (AuditStatus.SILENT if found.reason in ("silent", "steady_sound", "little_speech") else None)
    if status is not None:
        return Judgement(status, before_s, sure, f"the estimate gives up: {found.reason.replace('_', ' ')}")
    if found.confidence < ESTIMATE_SURE:
        return Judgement(AuditStatus.UNSURE, before_s, sure, place)
    if abs(found.offset_frames) <= IN_SYNC_FRAMES:
        return Judgement(AuditStatus.IN_SYNC, before_s, sure, place)
    return Judgement(AuditStatus.SHIFTED, moved(before_s, found.offset_frames), sure, place)


def _span(timeline: Sequence[Moment], marked: np.ndarray) -> float:
    """Seconds of the longest run of marked moments."""
    longest, start = 0.0, math.nan
    for moment, mark in zip(timeline, marked.tolist(), strict=True):
        start = (moment.seconds if math.isnan(start) else start) if mark else math.nan
        longest = max(longest, moment.seconds - start + 1 / FPS) if mark else longest
    return longest


def _frames(frames: float) -> str:
    return f"{frames:+.1f} frames"


def _share(share: float) -> str:
    return "no share" if math.isnan(share) else f"{share:.0%}"
