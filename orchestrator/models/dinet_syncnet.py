"""DINet's SyncNet, with upstream's tensor names so that its files load strictly.

It has no embeddings that are compared by their cosine: its two encoders feed a small net that scores each place of the
face. Source of the facts: MRzzm/DINet, models/Syncnet.py, and models/old/ for the nets with batch normalisation.

Shapes: B windows, E embedding, H W pixels, F features, L steps.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.config.model import DinetSyncNetConfig
from orchestrator.models.base import SyncNet

_WIDTH = 128


class DinetSyncNet(SyncNet):
    """(B, T*3, H, W) and DeepSpeech features (B, F, L) -> the face's map (B, E, H/32, W/32) and the audio's vector
    (B, E), neither of them normalised."""

    unit_embeddings: ClassVar[bool] = False
    config: DinetSyncNetConfig

    def __init__(self, config: DinetSyncNetConfig) -> None:
        super().__init__(config)
        width = config.embedding
        self.face_encoder = _FaceEncoder(3 * config.num_frames, width, norm=config.batch_norm != "none")
        self.audio_encoder = _AudioEncoder(config.audio_channels, width, norm=config.batch_norm == "both")
        self.merge_encoder = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 3, padding=1)
        )

    def embed_frames(self, frames: Tensor) -> Tensor:
        return self.face_encoder(frames)

    def embed_audio(self, audio: Tensor) -> Tensor:
        return self.audio_encoder(audio)

    def score_map(self, frames: Tensor, audio: Tensor) -> Tensor:
        """(B, 1, H/32, W/32): upstream's own output, high where mouth and speech belong together; no sigmoid."""
        face = self.embed_frames(frames)
        speech = self.embed_audio(audio)[:, :, None, None].expand(-1, -1, *face.shape[2:])
        return self.merge_encoder(torch.cat([face, speech], dim=1))

    def values_to_input(self, values: Tensor) -> Tensor:
        """RGB in [0, 1]. What is stored must show the mouth as DINet's crops do."""
        return values / 255


class _FaceEncoder(nn.Module):
    """Five times: residual block, convolution, half the size, convolution."""

    def __init__(self, in_channels: int, embedding: int, *, norm: bool) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_ConvReLU(nn.Conv2d(in_channels, 64, 7, padding=3), norm)]
        channels = 64
        for out in (_WIDTH, _WIDTH, _WIDTH, _WIDTH, None):
            blocks.append(_ResidualBlock(nn.Conv2d, channels, norm))
            blocks.append(_ConvReLU(nn.Conv2d(channels, channels, 3, padding=1), norm, halve=True))
            blocks.append(_ConvReLU(_widen(channels, out, embedding), norm))
            channels = _WIDTH
        self.face_conv = nn.Sequential(*blocks)

    def forward(self, frames: Tensor) -> Tensor:
        return self.face_conv(frames)


class _AudioEncoder(nn.Module):
    """Three times: residual block, strided convolution; then the mean over time."""

    def __init__(self, in_channels: int, embedding: int, *, norm: bool) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_ConvReLU(nn.Conv1d(in_channels, _WIDTH, 7, padding=3), norm)]
        for _ in range(3):
            blocks.append(_ResidualBlock(nn.Conv1d, _WIDTH, norm))
            blocks.append(_ConvReLU(nn.Conv1d(_WIDTH, _WIDTH, 3, stride=2, padding=1), norm))
        blocks.append(_ConvReLU(nn.Conv1d(_WIDTH, embedding, 3, padding=1), norm))
        self.audio_conv = nn.Sequential(*blocks)

    def forward(self, features: Tensor) -> Tensor:
        return self.audio_conv(features).mean(dim=2)


class _ConvReLU(nn.Module):
    """Convolution, batch norm where `norm`, ReLU, and the mean of each 2x2 where `halve`."""

    def __init__(self, convolution: nn.Conv1d | nn.Conv2d, norm: bool, *, halve: bool = False) -> None:
        super().__init__()
        self.conv = convolution
        self.norm = _batch_norm(convolution) if norm else None
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(_maybe(self.norm, self.conv(x)))
        return F.avg_pool2d(out, 2) if self.halve else out


class _ResidualBlock(nn.Module):
    """ReLU before each of two convolutions, batch norm before that where `norm`, and the input added."""

    def __init__(self, convolution: type[nn.Conv1d] | type[nn.Conv2d], channels: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels, 3, padding=1)
        self.conv2 = convolution(channels, channels, 3, padding=1)
        self.norm1 = _batch_norm(self.conv1) if norm else None
        self.norm2 = _batch_norm(self.conv2) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(_maybe(self.norm1, x)))
        return self.conv2(F.relu(_maybe(self.norm2, out))) + x


def _widen(channels: int, out: int | None, embedding: int) -> nn.Conv2d:
    """The convolution between two rounds, or the last one, which is 1x1."""
    return nn.Conv2d(channels, embedding, 1) if out is None else nn.Conv2d(channels, out, 3, padding=1)


def _batch_norm(convolution: nn.Conv1d | nn.Conv2d) -> nn.Module:
    norm = nn.BatchNorm1d if isinstance(convolution, nn.Conv1d) else nn.BatchNorm2d
    return norm(convolution.out_channels)


def _maybe(norm: nn.Module | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)
