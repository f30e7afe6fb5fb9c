"""The Wav2Lip-style net of LatentSync's ablation, with upstream's tensor names so that its files load strictly.

It is the `288_v2` net of Wav2Lip's fork with one other stride (three at the fourth stage of the visual encoder), under
other names, and reads what StableSyncNet reads: RGB in [-1, 1]. Source of the facts: bytedance/LatentSync,
latentsync/models/wav2lip_syncnet.py, as kept in forks of it.
"""

from __future__ import annotations

from torch import Tensor, nn

from orchestrator.config.model import LatentSyncWav2LipConfig
from orchestrator.models.base import SyncNet, signed_rgb
from orchestrator.models.conv_tower import DEEP_MEL_STAGES, Activation, Stage, tower
from orchestrator.models.wav2lip_syncnet import LEAKY


class LatentSyncWav2Lip(SyncNet):
    """Two towers; 1024 numbers per embedding. The last three visual and two audio layers have ReLU in any case."""

    config: LatentSyncWav2LipConfig

    def __init__(self, config: LatentSyncWav2LipConfig) -> None:
        super().__init__(config)
        activation = _ACTIVATIONS[config.activation]
        self.visual_encoder = tower(15, _VISUAL, activation, relu_tail=3)
        self.audio_encoder = tower(1, DEEP_MEL_STAGES, activation, relu_tail=2)

    def blocks(self) -> list[nn.Module]:
        return [*self.visual_encoder, *self.audio_encoder]

    def embed_frames(self, frames: Tensor) -> Tensor:
        return self.visual_encoder(frames)

    def embed_audio(self, audio: Tensor) -> Tensor:
        return self.audio_encoder(audio)

    def values_to_input(self, values: Tensor) -> Tensor:
        """RGB in [-1, 1]."""
        return signed_rgb(values)


_ACTIVATIONS: dict[str, Activation] = {"relu": nn.ReLU, "leaky": LEAKY, "tanh": nn.Tanh, "silu": nn.SiLU}
_VISUAL = (
    Stage(32, 7, padding=3),
    Stage(64, 5, stride=(1, 2), residuals=2),
    Stage(128, stride=2, residuals=3),
    Stage(256, stride=3, residuals=2),
    Stage(512, stride=2, residuals=2),
    Stage(1024, stride=2, residuals=2),
    Stage(1024, stride=2),
    Stage(1024, padding=0),
    Stage(1024, 1, padding=0),
)
