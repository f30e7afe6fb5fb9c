"""The SyncNet orchestrator: from a weights-only SyncNet file to tracked, resumable, distributed training.

    import orchestrator

    report = orchestrator.inspect("stable_syncnet.pt")
    state = orchestrator.normalize("stable_syncnet.pt", out="states")
    model = orchestrator.load_model(state.path)
    orchestrator.prepare("videos", "corpus")
    config = orchestrator.load_config("configs/latentsync_16_pixel_attn.yaml", ["data.path=corpus"])
    result = orchestrator.train(config, name="first")

Names are imported when they are first used, so that `import orchestrator` is fast. Every error derives from
`OrchestratorError`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from orchestrator.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    OrchestratorError,
    RunError,
    TrackingError,
)
from orchestrator.numerics import use_avx2

if TYPE_CHECKING:
    # where they are defined: `orchestrator.checkpoint.export` is the module to a type checker
    from orchestrator.checkpoint.compare import diff
    from orchestrator.checkpoint.export import export
    from orchestrator.checkpoint.normalize import NormalizedCheckpoint, inspect, load_model, normalize
    from orchestrator.checkpoint.store import list_states
    from orchestrator.checkpoint.verify import verify
    from orchestrator.config import RunConfig, load_config
    from orchestrator.data.align.config import AlignConfig
    from orchestrator.data.corpus import Corpus
    from orchestrator.data.prepare import PreparationConfig
    from orchestrator.evaluation.score import VideoScore, score
    from orchestrator.expert import SyncExpert
    from orchestrator.planning import plan
    from orchestrator.runtime.align import align
    from orchestrator.runtime.audit import audit
    from orchestrator.runtime.bootstrap import bootstrap
    from orchestrator.runtime.compare import compare
    from orchestrator.runtime.evaluate import evaluate
    from orchestrator.runtime.prepare import prepare
    from orchestrator.runtime.sweep import sweep
    from orchestrator.runtime.train import train

use_avx2()

__version__ = "0.1.0"

__all__ = [
    "AlignConfig",
    "CheckpointError",
    "ConfigError",
    "Corpus",
    "DataError",
    "NormalizedCheckpoint",
    "OrchestratorError",
    "PreparationConfig",
    "RunConfig",
    "RunError",
    "SyncExpert",
    "TrackingError",
    "VideoScore",
    "align",
    "audit",
    "bootstrap",
    "compare",
    "diff",
    "evaluate",
    "export",
    "inspect",
    "list_states",
    "load_config",
    "load_model",
    "normalize",
    "plan",
    "prepare",
    "score",
    "sweep",
    "train",
    "verify",
]

_HOMES = {
    "AlignConfig": "orchestrator.data.align.config",
    "Corpus": "orchestrator.data.corpus",
    "NormalizedCheckpoint": "orchestrator.checkpoint",
    "PreparationConfig": "orchestrator.data.prepare",
    "RunConfig": "orchestrator.config",
    "SyncExpert": "orchestrator.expert",
    "VideoScore": "orchestrator.evaluation.score",
    "align": "orchestrator.runtime.align",
    "audit": "orchestrator.runtime.audit",
    "bootstrap": "orchestrator.runtime.bootstrap",
    "compare": "orchestrator.runtime.compare",
    "diff": "orchestrator.checkpoint",
    "evaluate": "orchestrator.runtime.evaluate",
    "export": "orchestrator.checkpoint",
    "inspect": "orchestrator.checkpoint",
    "list_states": "orchestrator.checkpoint",
    "load_config": "orchestrator.config",
    "load_model": "orchestrator.checkpoint",
    "normalize": "orchestrator.checkpoint",
    "plan": "orchestrator.planning",
    "prepare": "orchestrator.runtime.prepare",
    "score": "orchestrator.evaluation.score",
    "sweep": "orchestrator.runtime.sweep",
    "train": "orchestrator.runtime.train",
    "verify": "orchestrator.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
