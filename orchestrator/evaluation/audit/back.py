"""What of an audit is written back into the manifest: offsets, verdicts, and what was found, as revisions.

Contract: nothing is deleted, and every revision can be undone (`data.revisions`). A clip that an earlier audit rejected
comes back when this one finds where it belongs; what a person or preparation rejected stays rejected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.data.manifest import ManifestRow
from orchestrator.data.revisions import Revision
from orchestrator.evaluation.audit.results import Audit, AuditStatus, ClipAudit

REJECTED_BY_DEFAULT = (
    AuditStatus.WRONG_AUDIO,
    AuditStatus.STATIC_MOUTH,
    AuditStatus.SILENT,
    AuditStatus.AT_EDGE,
)
"""Clips that teach wrong things or nothing: their positives are none. `at_edge` is known to be out of sync by an amount
that is not known. Not `partly`: most of such a clip may be good; not `unsure` and `too_short`: nothing speaks against
them."""
_PLACED = (AuditStatus.SHIFTED, AuditStatus.PARTLY)
_GOOD = (AuditStatus.IN_SYNC, *_PLACED)


def revisions_of(
    audit: Audit, rows: Mapping[str, ManifestRow], reject: Collection[AuditStatus] = REJECTED_BY_DEFAULT
) -> list[Revision]:
    """What an audit says of its clips, for `revise_manifest`.

    Args:
        audit: the audit.
        rows: the manifest's rows that it judged, by clip id.
        reject: clips with one of these statuses are rejected.
    """
    return [_revision(clip, rows[clip.clip_id], reject) for clip in audit.clips]


def was_audited_away(row: ManifestRow) -> bool:
    """Whether an audit rejected a clip that is stored."""
    return bool(not row.ok and row.shard and row.audit and row.reason == row.audit and row.reason in set(AuditStatus))


def _revision(clip: ClipAudit, row: ManifestRow, reject: Collection[AuditStatus]) -> Revision:
    offset_s = clip.av_offset_s if clip.status in _PLACED else None
    found = {"audit": str(clip.status), "confidence": round(clip.confidence, 6)}
    if clip.status in reject:
        return Revision(clip.clip_id, offset_s, "rejected", str(clip.status), clip.why, **found)  # type: ignore[arg-type]
    if was_audited_away(row):
        if clip.status in _GOOD:
            return Revision(clip.clip_id, offset_s, "ok", **found)  # type: ignore[arg-type]
        return Revision(clip.clip_id)  # nothing speaks for it: it stays as it is
    return Revision(clip.clip_id, offset_s, **found)  # type: ignore[arg-type]
