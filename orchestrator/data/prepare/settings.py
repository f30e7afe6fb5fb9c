"""The settings of preparation, and the fingerprint by which prepared data is told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from orchestrator.config.section import Section
from orchestrator.data.media import FEATURE_VERSION
from orchestrator.data.shards import ShardKind, h264

LAYOUT_ONLY = frozenset({"layout", "speaker", "val_fraction", "clips_per_shard"})
"""Settings that decide nothing about what is stored of a clip."""


class PreparationConfig(Section):
    """How videos are prepared."""

    layout: str = "auto"
    """How the videos lie: auto, folder, voxceleb2, lrs, hdtf, wav2lip, fileslist or table (see docs/data.md)."""
    speaker: str = "auto"
    """How the speaker is told: auto (by the layout), folder, parent, file, or regex:PATTERN."""
    resolution: int = Field(default=256, ge=16, le=4096)
    """Pixels per side to which every frame is resized; videos are expected to show an aligned face."""
    lower_half: bool = True
    """Store only the lower half of each frame, which is all that the usual SyncNets see."""
    storage: Literal["raw", "compact"] = "raw"
    """raw: pixels, fastest to read, 2.5 MB per second of video. compact: H.264 with many key frames, for object storage
    and slow disks."""
    latents: str | None = None
    """An image encoder whose latents are stored instead of pixels: diffusers:FOLDER or python:MODULE:FACTORY."""
    min_frames: int = Field(default=32, ge=1)
    """Clips with fewer frames (at 25 per second) are rejected; 32 is a window of 16 and a negative beside it."""
    max_frames: int = Field(default=15_000, ge=1)
    """Clips with more frames are rejected."""
    min_rms: float = Field(default=1e-3, ge=0)
    """Clips whose wave has a smaller root mean square (of full scale 1) are rejected as silent; 1e-3 is -60 dB."""
    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the speakers kept for validation, at least one of several. May be changed without preparing again."""
    clips_per_shard: int = Field(default=16, ge=1)
    """Clips prepared and stored together. May be changed without preparing again."""

    @model_validator(mode="after")
    def _latents_show_whole_faces(self) -> PreparationConfig:
        if self.latents is not None and self.lower_half:
            raise ValueError("latents are made of whole faces: set lower_half to false")
        if self.latents is not None and self.storage != "raw":
            raise ValueError("latents are not compressed: leave storage at raw")
        return self

    @model_validator(mode="after")
    def _lengths_fit(self) -> PreparationConfig:
        if self.max_frames < self.min_frames:
            raise ValueError(f"`max_frames` must be >= `min_frames` ({self.min_frames}), but is {self.max_frames}")
        return self

    @property
    def kind(self) -> ShardKind:
        """The kind of shard."""
        return ShardKind.LATENTS if self.latents is not None else ShardKind(self.storage)

    def identity(self, fingerprint_of_encoder: Callable[[str], str] | None = None) -> dict[str, Any]:
        """Every setting that decides what is stored of a clip, with the versions of what computes it.

        Args:
            fingerprint_of_encoder: the fingerprint of an encoder by its specification; needed with `latents`.
        """
        settings = {"features": FEATURE_VERSION, **self.model_dump(mode="json", exclude=set(LAYOUT_ONLY))}
        if self.kind is ShardKind.COMPACT:
            settings["codec"] = h264.SETTINGS
        if self.latents is not None and fingerprint_of_encoder is not None:
            settings["encoder"] = fingerprint_of_encoder(self.latents)
            del settings["latents"]  # the same encoder may lie elsewhere
        return settings


def fingerprint_of(identity: Mapping[str, Any]) -> str:
    """16 hex digits that stand for an identity of settings."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
