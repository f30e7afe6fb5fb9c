"""Preparation: videos become shards and a manifest. `run` is the way in, `unit` what a task does."""

from orchestrator.data.prepare.run import (
    PreparePlan,
    PrepareSummary,
    Where,
    finish,
    plan_units,
    prepare_local,
    summarise,
)
from orchestrator.data.prepare.settings import PreparationConfig

__all__ = [
    "PreparationConfig",
    "PreparePlan",
    "PrepareSummary",
    "Where",
    "finish",
    "plan_units",
    "prepare_local",
    "summarise",
]
