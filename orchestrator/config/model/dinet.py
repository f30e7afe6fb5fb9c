"""DINet's SyncNet, which reads mouth crops and DeepSpeech features: embeddings and score maps only here."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from orchestrator.config.model.base import InputShape, SyncNetConfig, stacked_frames

_CONTEXT = 4
"""DeepSpeech steps around a window: each frame comes with two before and two after it."""


class DinetSyncNetConfig(SyncNetConfig):
    """The SyncNet of DINet: RGB mouth crops in [0, 1] against DeepSpeech features."""

    name: Literal["dinet_syncnet"] = "dinet_syncnet"
    """The family."""
    num_frames: int = Field(5, ge=1)
    """Video frames per window."""
    resolution: int = Field(256, ge=32)
    """Pixels per side of the mouth crop; upstream trains at 64, 128 and 256 with the same weights' shapes."""
    audio_channels: int = Field(29, ge=1)
    """Features per step of DeepSpeech."""
    embedding: int = Field(128, ge=1)
    """Channels of the face map and size of the audio vector."""
    batch_norm: Literal["none", "face", "both"] = "none"
    """Which encoders have batch normalisation: none in the published net; upstream's older `Syncnet_halfBN` and
    `Syncnet_BN` have it in the face encoder and in both."""

    lower_half: ClassVar[bool] = False
    """It sees the whole crop."""
    latent_space: ClassVar[bool] = False
    """It reads pixels."""

    @property
    def input_shape(self) -> InputShape:
        """The stacked crops, and the DeepSpeech features of their time as (features, steps)."""
        frames = stacked_frames(self.num_frames, self.resolution, lower_half=False)
        return InputShape(frames, (self.audio_channels, self.num_frames + _CONTEXT))

    @property
    def training_problem(self) -> str | None:
        """It reads DeepSpeech features."""
        return "dinet_syncnet reads DeepSpeech features"
