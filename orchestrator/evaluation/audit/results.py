"""What an audit says of a corpus and of each of its clips: plain data, which reports and manifests are made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from orchestrator.config.media import FPS
from orchestrator.evaluation.clips import ClipReport

CHANGED_FRAMES = 0.5
"""A clip that moves by more has changed; the data moves by columns of 0.3 frames."""


class AuditStatus(StrEnum):
    """What an audit says of a clip."""

    IN_SYNC = "in_sync"
    """Sound and picture belong together where the manifest says."""
    SHIFTED = "shifted"
    """They belong together, but somewhere else; the new offset is known."""
    AT_EDGE = "at_edge"
    """The best offset is the last one that was tried: the true one may lie beyond."""
    PARTLY = "partly"
    """In sync in a part of the clip only: another speaker, a cut away, or a drift."""
    WRONG_AUDIO = "wrong_audio"
    """No offset fits better than sound from elsewhere, though the corpus's other clips fit: somebody else is heard."""
    UNSURE = "unsure"
    """No offset fits better than sound from elsewhere, and too few other clips fit to blame the clip."""
    SILENT = "silent"
    """There is too little speech to tell."""
    STATIC_MOUTH = "static_mouth"
    """The mouth does not move."""
    TOO_SHORT = "too_short"
    """The clip has too few windows."""


@dataclass(frozen=True)
class ClipAudit:
    """What an audit says of one clip."""

    clip_id: str
    source: str
    speaker: str
    split: str
    status: AuditStatus
    before_s: float
    """The manifest's A/V offset so far, in seconds."""
    av_offset_s: float
    """The A/V offset that it should have; as before where nothing better is known."""
    confidence: float
    """In [0, 1]: how sure the offset is (1 less the p value; of an estimate, its chance to be right)."""
    why: str
    """The status in a sentence, with its figures."""
    report: ClipReport | None
    """What the network made of it; none without a network, or where the clip was not judged."""


@dataclass(frozen=True)
class Audit:
    """The audit of a corpus."""

    corpus: str
    """Its folder or URI, without credentials."""
    checkpoint: str | None
    """The network that judged; none for the estimate from loudness and movement."""
    method: Literal["checkpoint", "estimate"]
    max_offset: int
    """Frames to either side that were tried."""
    clips: tuple[ClipAudit, ...]
    """In the order of the corpus."""
    notes: tuple[str, ...] = ()

    def of(self, *statuses: AuditStatus) -> list[ClipAudit]:
        """The clips with one of these statuses."""
        return [clip for clip in self.clips if clip.status in statuses]

    @property
    def counts(self) -> dict[AuditStatus, int]:
        """Clips of every status, those of none included."""
        found = Counter(clip.status for clip in self.clips)
        return {status: found[status] for status in AuditStatus}

    @property
    def moved(self) -> list[ClipAudit]:
        """Clips that belong more than half a frame from where the manifest has them."""
        return [clip for clip in self.clips if abs(clip.av_offset_s - clip.before_s) * FPS > CHANGED_FRAMES]
