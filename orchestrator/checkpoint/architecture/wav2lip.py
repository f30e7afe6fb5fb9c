"""Wav2Lip's SyncNet, its forks and LatentSync's ablation net, from the names and shapes of their tensors.

Their layers are fixed, so an exact match settles everything but the activation of the ablation net.
"""

from __future__ import annotations

from typing import get_args

from orchestrator.checkpoint.architecture.candidates import Candidate, Shapes
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.config.model import ForkVariant, LatentSyncWav2LipConfig, Wav2LipForkConfig, Wav2LipSyncNetConfig

FACE_ANCHOR = "face_encoder.0.conv_block.0.weight"
"""In every net of Wav2Lip and its forks."""
VISUAL_ANCHOR = "visual_encoder.0.conv_block.0.weight"
"""In LatentSync's ablation net."""


def candidates(shapes: Shapes, path: str) -> list[Candidate]:
    """The four nets with a `face_encoder`, the one with a `visual_encoder`, or none."""
    found: list[Candidate] = []
    if FACE_ANCHOR in shapes:
        found += [_original(), *(_fork(variant) for variant in get_args(ForkVariant))]
    if VISUAL_ANCHOR in shapes:
        found.append(_ablation())
    return found


def _original() -> Candidate:
    why = "names and shapes are exactly those of Wav2Lip's SyncNet_color, which has no free hyperparameters"
    decision = Decision("model", DecisionSource.DERIVED, "wav2lip_syncnet", why)
    return Candidate(Wav2LipSyncNetConfig(), "wav2lip_syncnet (SyncNet_color)", (decision,))


def _fork(variant: ForkVariant) -> Candidate:
    config = Wav2LipForkConfig(variant=variant)
    known = f"it is that of the {variant} net of primepake/wav2lip_288x288, whose names and shapes these are exactly"
    return Candidate(
        config,
        f"wav2lip_fork ({variant})",
        (
            Decision("model.variant", DecisionSource.DERIVED, variant, known),
            Decision(
                "model.resolution", DecisionSource.DERIVED, config.resolution, f"weights do not tell this; {known}"
            ),
        ),
    )


def _ablation() -> Candidate:
    config = LatentSyncWav2LipConfig()
    exact = "names and shapes are exactly those of LatentSync's Wav2LipSyncNet"
    unknown = "weights do not tell this; it is the default of LatentSync's Wav2LipSyncNet"
    return Candidate(
        config,
        f"latentsync_wav2lip_syncnet ({config.activation})",
        (
            Decision("model", DecisionSource.DERIVED, config.name, exact),
            Decision("model.activation", DecisionSource.DEFAULT, config.activation, unknown),
        ),
    )
