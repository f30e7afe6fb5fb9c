"""The work of an audit: clips to look at, in any process that sees the corpus, and what all of them say together.

`plan_audit`, `AuditUnit.run` and `conclude_audit` are the parts that a cluster distributes; `audit_here` runs them in
this process, with the same result. Clips that an earlier audit rejected are looked at again: a better network may find
where they belong.
"""

# T frames, L mel columns

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from orchestrator.config.media import FPS, mel_start
from orchestrator.data.corpus import Corpus, SplitName
from orchestrator.data.corpus.corpus import usable_frames
from orchestrator.data.manifest import ManifestRow
from orchestrator.data.media.speech import unpack_bits
from orchestrator.data.work import ClipDone, ClipStarted, Message
from orchestrator.evaluation.audit.back import was_audited_away
from orchestrator.evaluation.audit.policy import (
    CROOKED_FRAMES,
    LEAST_FIT,
    Crowd,
    Finding,
    Signs,
    common_offset,
    judge_finding,
)
from orchestrator.evaluation.audit.results import Audit, ClipAudit
from orchestrator.evaluation.clips import judge_clip
from orchestrator.evaluation.elsewhere import sound_of, spread
from orchestrator.evaluation.estimate import estimate_offset
from orchestrator.evaluation.material import Material, of_row
from orchestrator.evaluation.offsets import MAX_OFFSET
from orchestrator.evaluation.signs import is_silent, is_static
from orchestrator.evaluation.towers import Floats, Towers

_GRID = 5
"""Every fifth frame begins with a column of the mel."""


@dataclass(frozen=True)
class ClipAudited(ClipDone):
    """A clip that was looked at."""

    finding: Finding | None = None
    """What is known of it; none when it was left aside."""


@dataclass(frozen=True)
class AuditRequest:
    """What is asked of every clip."""

    max_offset: int = MAX_OFFSET
    """Frames to either side that are tried."""
    stride: int = 1
    """Frames from one window of the picture to the next; more is faster and less sure."""


@dataclass(frozen=True)
class AuditUnit:
    """Some clips to look at, in any process that sees the corpus."""

    corpus: Corpus
    """Where they are."""
    rows: tuple[ManifestRow, ...]
    """The clips."""
    towers: Callable[[], Towers] | None
    """Gives the network; none for estimates without any."""
    request: AuditRequest = AuditRequest()
    """What is asked."""
    given_up: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Clips to leave aside: id -> reason and detail."""
    elsewhere: tuple[ManifestRow, ...] = ()
    """Clips whose sounds show how well a picture fits any sound; the same in all units."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The clips' ids."""
        return tuple(row.clip_id for row in self.rows)

    def without(self, source: str, reason: str, detail: str) -> AuditUnit:
        """The same unit, which leaves a clip aside."""
        return replace(self, given_up={**self.given_up, source: (reason, detail)})

    def run(self) -> Iterator[Message]:
        """Look at the clips.

        Raises:
            OrchestratorError: the network or the storage fails; no clip is to blame.
        """
        towers = self.towers() if self.towers is not None else None
        sounds = {} if towers is None else self._sounds(towers)
        for row in self.rows:
            yield ClipStarted(row.clip_id)
            if row.clip_id in self.given_up:
                reason, detail = self.given_up[row.clip_id]
                failed = Finding(Signs(False, False, None), None, None, f"it could not be looked at: {detail}")
                yield ClipAudited(row.clip_id, reason, detail, finding=failed)
            else:
                others = [sound for name, sound in sounds.items() if name != row.clip_id]
                found = look_at(of_row(self.corpus, row), row, towers, self.request, others)
                yield ClipAudited(row.clip_id, seconds=row.duration_s, finding=found)

    def _sounds(self, towers: Towers) -> dict[str, Floats]:
        rows = self.elsewhere
        return {row.clip_id: sound_of(towers, row.clip_id, partial(of_row, self.corpus, row)) for row in rows}


@dataclass(frozen=True)
class AuditPlan:
    """What an audit has to do."""

    corpus: Corpus
    """The corpus."""
    rows: tuple[ManifestRow, ...]
    """The clips, in the order of their ids."""

    @property
    def by_id(self) -> dict[str, ManifestRow]:
        """The clips by their ids."""
        return {row.clip_id: row for row in self.rows}

    def units(self, towers: Callable[[], Towers] | None, request: AuditRequest, count: int) -> list[AuditUnit]:
        """The work in `count` parts, or as many as there are clips."""
        parts = np.array_split(np.arange(len(self.rows)), max(1, min(count, len(self.rows))))
        sounds = spread([row for row in self.rows if row.ok]) if towers is not None else ()
        return [
            AuditUnit(self.corpus, tuple(self.rows[n] for n in part), towers, request, elsewhere=sounds)
            for part in parts
        ]


def plan_audit(corpus: Corpus, split: SplitName = "all") -> AuditPlan:
    """The clips of a corpus that an audit looks at: usable ones, and those that an audit rejected."""
    rows = (row for row in corpus.rows if row.ok or was_audited_away(row))
    return AuditPlan(corpus, tuple(row for row in rows if split in (row.split, "all")))


def conclude_audit(
    plan: AuditPlan, findings: dict[str, Finding], checkpoint: str | None, request: AuditRequest | None = None
) -> Audit:
    """Judge every clip, now that all are known.

    Args:
        plan: what was asked.
        findings: by clip id; of clips that have none nothing is said.
        checkpoint: the network's name; none for estimates.
        request: what was asked of every clip.
    """
    crowd = Crowd.of(findings.values())
    clips = tuple(_judged(row, findings[row.clip_id], crowd) for row in plan.rows if row.clip_id in findings)
    return Audit(
        corpus=plan.corpus.name,
        checkpoint=checkpoint,
        method="estimate" if checkpoint is None else "checkpoint",
        max_offset=(request or AuditRequest()).max_offset,
        clips=clips,
        notes=tuple(_notes(clips, crowd, checkpoint)),
    )


def audit_here(
    plan: AuditPlan,
    towers: Towers | None,
    checkpoint: str | None,
    request: AuditRequest | None = None,
    on_done: Callable[[ClipDone], None] = lambda _: None,
) -> Audit:
    """Do all of it in this process.

    Raises:
        OrchestratorError: as `AuditUnit.run`.
    """
    findings: dict[str, Finding] = {}
    give = None if towers is None else lambda: towers
    for unit in plan.units(give, request or AuditRequest(), 1):
        for message in unit.run():
            if isinstance(message, ClipAudited) and message.finding is not None:
                findings[message.source] = message.finding
                on_done(message)
    return conclude_audit(plan, findings, checkpoint, request)


def look_at(
    clip: Material, row: ManifestRow, towers: Towers | None, request: AuditRequest, elsewhere: Sequence[Floats] = ()
) -> Finding:
    """All that can be known of a clip by itself, and from the sounds of others.

    Raises:
        OrchestratorError: the network fails.
    """
    speech = unpack_bits(row.speech, row.num_frames) if row.speech else None
    signs = Signs(
        static=is_static(clip.frames_TCHW),
        silent=is_silent(clip.mel_ML),
        speech_s=None if speech is None else float(speech.sum()) / FPS,
    )
    if towers is not None:
        stride, reach = request.stride, request.max_offset
        report = judge_clip(towers, clip, stride=stride, max_offset=reach, elsewhere=elsewhere)
        return Finding(signs, report, estimate=None)
    both = _as_said(clip, row)
    return Finding(signs, None, estimate_offset(both.frames_TCHW, both.mel_ML, max_offset=request.max_offset))


def _as_said(clip: Material, row: ManifestRow) -> Material:
    """Picture and sound cut so that they begin together where the manifest says that they belong together."""
    first, count = usable_frames(row)
    start = -(-first // _GRID) * _GRID
    frames = max(count - (start - first), 0)
    column = mel_start(start) + clip.offset_columns
    return Material(clip.frames_TCHW[start : start + frames], clip.mel_ML[:, max(column, 0) :])


def _judged(row: ManifestRow, found: Finding, crowd: Crowd) -> ClipAudit:
    told = judge_finding(found, row.av_offset_s, crowd)
    return ClipAudit(
        clip_id=row.clip_id,
        source=row.source,
        speaker=row.speaker,
        split=row.split,
        status=told.status,
        before_s=row.av_offset_s,
        av_offset_s=told.av_offset_s,
        confidence=told.confidence,
        why=told.why,
        report=found.report,
    )


def _notes(clips: Iterable[ClipAudit], crowd: Crowd, checkpoint: str | None) -> Iterator[str]:
    if checkpoint is not None and crowd.judged and crowd.fit < LEAST_FIT:
        yield (f"only {crowd.fit:.0%} of the clips fit anywhere: this network tells too little to move any clip")
    frames = common_offset(clips)
    if frames is not None and abs(frames) > CROOKED_FRAMES:
        what = "network" if checkpoint is not None else "estimate"
        yield (
            f"half of the clips belong {frames:+.1f} frames or more from where the manifest has them: either the whole "
            f"corpus is shifted, or the {what} is; look at some clips before you write that"
        )
