"""DINet's SyncNet from the names and shapes of its tensors, which tell all of it but the size of its crops."""

from __future__ import annotations

from orchestrator.checkpoint.architecture.candidates import Candidate, Shapes, extent
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.config.model import DinetSyncNetConfig

ANCHOR = "face_encoder.face_conv.0.conv.weight"
"""In every net of the family."""

_FACE_NORM = "face_encoder.face_conv.0.norm.weight"
_AUDIO_NORM = "audio_encoder.audio_conv.0.norm.weight"


def candidates(shapes: Shapes, path: str) -> list[Candidate]:
    """The net that these tensors describe, or none."""
    if ANCHOR not in shapes:
        return []
    read = {
        "num_frames": max(1, extent(shapes, ANCHOR, 1) // 3),
        "audio_channels": extent(shapes, "audio_encoder.audio_conv.0.conv.weight", 1),
        "embedding": extent(shapes, "face_encoder.face_conv.15.conv.weight", 0),
        "batch_norm": "both" if _AUDIO_NORM in shapes else "face" if _FACE_NORM in shapes else "none",
    }
    config = DinetSyncNetConfig.model_validate(read)
    told = "read off the names and shapes of the weights"
    untold = "weights do not tell this, and any size gives a map; it is upstream's largest"
    decisions = [Decision(f"model.{key}", DecisionSource.DERIVED, value, told) for key, value in read.items()]
    decisions.append(Decision("model.resolution", DecisionSource.DEFAULT, config.resolution, untold))
    return [Candidate(config, f"dinet_syncnet (batch_norm {config.batch_norm})", tuple(decisions))]
