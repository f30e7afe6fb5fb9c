"""Wav2Lip's expert and the larger nets of its fork, with upstream's tensor names so that their files load strictly.

All read 5 BGR frames of the lower half of a face, scaled to [0, 1]. Upstream calls them with audio first; here they are
called like every SyncNet, frames first. Sources of the facts: Rudrabha/Wav2Lip, models/syncnet.py and conv.py;
primepake/wav2lip_288x288, models/syncnet.py, syncnetv2.py, conv.py and conv2.py at their several commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from orchestrator.config.model import ForkVariant, Wav2LipForkConfig, Wav2LipSyncNetConfig
from orchestrator.models.base import SyncNet, rgb_to_bgr
from orchestrator.models.conv_tower import DEEP_MEL_STAGES, MEL_STAGES, Activation, Stage, tower

LEAKY: Activation = partial(nn.LeakyReLU, 0.2)
"""The forks' activation."""


class _BgrSyncNet(SyncNet):
    """Two towers, `face_encoder` and `audio_encoder`."""

    face_encoder: nn.Sequential
    audio_encoder: nn.Sequential

    def blocks(self) -> list[nn.Module]:
        return [*self.face_encoder, *self.audio_encoder]

    def embed_frames(self, frames: Tensor) -> Tensor:
        return self.face_encoder(frames)

    def embed_audio(self, audio: Tensor) -> Tensor:
        return self.audio_encoder(audio)

    def values_to_input(self, values: Tensor) -> Tensor:
        """BGR in [0, 1], frame-major."""
        return rgb_to_bgr(values) / 255


class Wav2LipSyncNet(_BgrSyncNet):
    """`SyncNet_color`: ReLU throughout; 512 numbers per embedding."""

    config: Wav2LipSyncNetConfig

    def __init__(self, config: Wav2LipSyncNetConfig) -> None:
        super().__init__(config)
        self.face_encoder = tower(15, _FACE_96)
        self.audio_encoder = tower(1, MEL_STAGES)


class Wav2LipFork(_BgrSyncNet):
    """The nets of the fork: 512 (`288_prelu`) or 1024 numbers per embedding."""

    config: Wav2LipForkConfig

    def __init__(self, config: Wav2LipForkConfig) -> None:
        super().__init__(config)
        fork = _FORKS[config.variant]
        self.face_encoder = tower(15, fork.face, fork.activation, fork.face_relu_tail)
        self.audio_encoder = tower(1, fork.audio, fork.activation, fork.audio_relu_tail)


@dataclass(frozen=True)
class _Fork:
    """One net of the fork."""

    face: tuple[Stage, ...]
    audio: tuple[Stage, ...]
    activation: Activation
    face_relu_tail: int
    """How many of the last stages have ReLU instead."""
    audio_relu_tail: int
    """The same in the audio encoder."""


_FACE_96 = (
    Stage(32, 7, padding=3),
    Stage(64, 5, stride=(1, 2), residuals=2),
    Stage(128, stride=2, residuals=3),
    Stage(256, stride=2, residuals=2),
    Stage(512, stride=2, residuals=2),
    Stage(512, stride=2),
    Stage(512, padding=0),
    Stage(512, 1, padding=0),
)
_FACE_288 = (
    Stage(32, 7, padding=3),
    Stage(32, 5),
    Stage(32),
    *_FACE_96[1:6],
    Stage(512, stride=2, padding=0),
    Stage(512, padding=0),
    Stage(512, 2, padding=0),
    Stage(512, 1, padding=0),
)
_FACE_192 = (
    *_FACE_96[:5],
    Stage(1024, stride=2, residuals=2),
    Stage(1024, stride=2),
    Stage(1024, padding=0),
    Stage(1024, 1, padding=0),
)
_FACE_384 = (
    Stage(16, 7, padding=3),
    Stage(32, 5, stride=(1, 2), residuals=2),
    Stage(64, stride=2, residuals=2),
    Stage(128, stride=2, residuals=2),
    Stage(256, stride=2, residuals=2),
    *_FACE_192[4:],
)
_FORKS: dict[ForkVariant, _Fork] = {
    "288_prelu": _Fork(_FACE_288, MEL_STAGES, nn.PReLU, 0, 0),
    "288_v2": _Fork(_FACE_192, DEEP_MEL_STAGES, LEAKY, 3, 2),
    "384": _Fork(_FACE_384, DEEP_MEL_STAGES, LEAKY, 1, 2),
}
