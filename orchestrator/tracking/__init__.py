"""Runs in MLflow: where they are kept, one writer per run, what a crash left behind, reading back, the registry.

The only package that imports mlflow, and only when a store is first opened, so that importing this one is fast.
"""

from orchestrator.tracking.reader import RunRecord, child_runs, find_run, read_history
from orchestrator.tracking.redaction import redact
from orchestrator.tracking.registry import Champion, Registered, model_name, register_champion
from orchestrator.tracking.stale import close_stale
from orchestrator.tracking.store import open_hint, resolve_uri
from orchestrator.tracking.writer import EndStatus, RunWriter

__all__ = [
    "Champion",
    "EndStatus",
    "Registered",
    "RunRecord",
    "RunWriter",
    "child_runs",
    "close_stale",
    "find_run",
    "model_name",
    "open_hint",
    "read_history",
    "redact",
    "register_champion",
    "resolve_uri",
]
