"""The SyncNets of joonson, which read whole 224x224 BGR faces and MFCC or waveforms: embeddings only here."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from orchestrator.config.model.base import InputShape, SyncNetConfig

TEMPORAL_KERNEL = 5
"""Video frames that one embedding sees."""

_MFCC = (1, 13, 20)
_SAMPLES_PER_FRAME = 640
_MARGIN = 240


class _WholeFaces(SyncNetConfig):
    """Whole BGR faces of 224x224, unscaled."""

    resolution: ClassVar[int] = 224
    """Pixels per side of the face."""
    lower_half: ClassVar[bool] = False
    """It sees the whole face."""
    latent_space: ClassVar[bool] = False
    """It reads pixels."""


class JoonsonSyncNetConfig(_WholeFaces):
    """The net of joonson/syncnet_python, of which `syncnet_v2.model` is the usual file: 5 frames against 20 columns of
    13 MFCC."""

    name: Literal["joonson_syncnet"] = "joonson_syncnet"
    """The family."""
    n_out: int = Field(1024, ge=1)
    """Size of the embedding."""

    num_frames: ClassVar[int] = TEMPORAL_KERNEL
    """Video frames per window."""

    @property
    def input_shape(self) -> InputShape:
        """Frames as (channel, time, height, width); MFCC as (1, 13, 20)."""
        return InputShape((3, self.num_frames, self.resolution, self.resolution), _MFCC)

    @property
    def training_problem(self) -> str | None:
        """It reads MFCC."""
        return "joonson_syncnet reads MFCC"


class JoonsonTrainerConfig(_WholeFaces):
    """The net of joonson/syncnet_trainer: it computes its audio features itself, and gives one embedding per
    `temporal_stride` frames."""

    name: Literal["joonson_trainer"] = "joonson_trainer"
    """The family."""
    features: Literal["mfcc", "fbank"] = "fbank"
    """Which audio features: upstream's `SyncNetModelMFCC` or `SyncNetModelFBank`."""
    temporal_stride: int = Field(ge=1)
    """Frames from one embedding to the next. Weights do not tell it: upstream's default is 1, its published file and
    its README's example have 2."""
    n_out: int = Field(1024, ge=1)
    """Size of the embeddings."""
    num_frames: int = Field(30, ge=TEMPORAL_KERNEL)
    """Video frames per window; any length from 5 on can be read."""

    @property
    def input_shape(self) -> InputShape:
        """Frames as (channel, time, height, width); as many 16 kHz samples as upstream cuts out for them."""
        samples = self.num_frames * _SAMPLES_PER_FRAME + _MARGIN
        return InputShape((3, self.num_frames, self.resolution, self.resolution), (samples,))

    @property
    def training_problem(self) -> str | None:
        """It reads waveforms."""
        return "joonson_trainer reads waveforms"
