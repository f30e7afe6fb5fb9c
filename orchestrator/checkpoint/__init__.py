"""The heart: any SyncNet file in, one resumable training state out, without running anything that a file names.

`inspect` says what a file is, `normalize` turns it into a canonical directory, `export` turns that into what other
programs read; `list_states`, `verify` and `diff` look after what is there. `write_state`, `save_state` and `read_state`
are what training uses. Ray is known to `ray_bridge` only.
"""

from __future__ import annotations

from orchestrator.checkpoint.compare import DiffReport, diff
from orchestrator.checkpoint.convert import ModelOption
from orchestrator.checkpoint.directory import (
    is_complete,
    read_manifest,
    read_plain,
    read_state,
    save_state,
    state_hash,
    write_state,
)
from orchestrator.checkpoint.export import ExportFormat, export
from orchestrator.checkpoint.manifest import Manifest
from orchestrator.checkpoint.normalize import (
    NormalizedCheckpoint,
    inspect,
    load_model,
    load_state,
    model_of,
    normalize,
)
from orchestrator.checkpoint.report import InspectReport
from orchestrator.checkpoint.state import (
    AnyModelConfig,
    Best,
    Decision,
    DecisionSource,
    OptimizerState,
    Provenance,
    TrainState,
)
from orchestrator.checkpoint.store import StateRecord, list_states
from orchestrator.checkpoint.tensors import weights_hash
from orchestrator.checkpoint.verify import VerifyReport, verify

__all__ = [
    "AnyModelConfig",
    "Best",
    "Decision",
    "DecisionSource",
    "DiffReport",
    "ExportFormat",
    "InspectReport",
    "Manifest",
    "ModelOption",
    "NormalizedCheckpoint",
    "OptimizerState",
    "Provenance",
    "StateRecord",
    "TrainState",
    "VerifyReport",
    "diff",
    "export",
    "inspect",
    "is_complete",
    "list_states",
    "load_model",
    "load_state",
    "model_of",
    "normalize",
    "read_manifest",
    "read_plain",
    "read_state",
    "save_state",
    "state_hash",
    "verify",
    "weights_hash",
    "write_state",
]
