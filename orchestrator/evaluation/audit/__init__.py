"""The audit of a corpus: of every clip where its sound belongs, how sure that is, and what is wrong with it.

`results` is what comes out, `policy` how a clip is judged, `unit` the work for one process, `back` what is written into
the manifest.
"""

from orchestrator.evaluation.audit.back import REJECTED_BY_DEFAULT, revisions_of
from orchestrator.evaluation.audit.results import Audit, AuditStatus, ClipAudit
from orchestrator.evaluation.audit.unit import (
    AuditPlan,
    AuditRequest,
    AuditUnit,
    ClipAudited,
    audit_here,
    conclude_audit,
    plan_audit,
)

__all__ = [
    "REJECTED_BY_DEFAULT",
    "Audit",
    "AuditPlan",
    "AuditRequest",
    "AuditStatus",
    "AuditUnit",
    "ClipAudit",
    "ClipAudited",
    "audit_here",
    "conclude_audit",
    "plan_audit",
    "revisions_of",
]
