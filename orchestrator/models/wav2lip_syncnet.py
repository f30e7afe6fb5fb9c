"""Wav2Lip's expert, `SyncNet_color`, with upstream's tensor names so that its files load strictly.

It reads 5 BGR frames of the lower half of a 96x96 face, scaled to [0, 1]. Upstream calls it with audio first; here it
is called like every SyncNet, frames first. Source of the facts: Rudrabha/Wav2Lip, models/syncnet.py and conv.py.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.config.model import Wav2LipSyncNetConfig
from orchestrator.models.base import SyncNet, fit_pixels


class Wav2LipSyncNet(SyncNet):
    """Two plain convolutional encoders with batch normalisation; 512 numbers per embedding."""

    config: Wav2LipSyncNetConfig

    def __init__(self, config: Wav2LipSyncNetConfig) -> None:
        super().__init__(config)
        self.face_encoder = nn.Sequential(
            ConvBlock(15, 32, 7, padding=3),
            ConvBlock(32, 64, 5, stride=(1, 2), padding=1),
            *_residual(64, 2),
            ConvBlock(64, 128, 3, stride=2, padding=1),
            *_residual(128, 3),
            ConvBlock(128, 256, 3, stride=2, padding=1),
            *_residual(256, 2),
            ConvBlock(256, 512, 3, stride=2, padding=1),
            *_residual(512, 2),
            ConvBlock(512, 512, 3, stride=2, padding=1),
            ConvBlock(512, 512, 3),
            ConvBlock(512, 512, 1),
        )
        self.audio_encoder = nn.Sequential(
            ConvBlock(1, 32, 3, padding=1),
            *_residual(32, 2),
            ConvBlock(32, 64, 3, stride=(3, 1), padding=1),
            *_residual(64, 2),
            ConvBlock(64, 128, 3, stride=3, padding=1),
            *_residual(128, 2),
            ConvBlock(128, 256, 3, stride=(3, 2), padding=1),
            *_residual(256, 2),
            ConvBlock(256, 512, 3),
            ConvBlock(512, 512, 1),
        )

    def embed_frames(self, frames: Tensor) -> Tensor:
        return self.face_encoder(frames)

    def embed_audio(self, audio: Tensor) -> Tensor:
        return self.audio_encoder(audio)

    def pixels_to_input(self, pixels: Tensor) -> Tensor:
        """BGR in [0, 1], frame-major."""
        _, height, width = self.input_shape.frames
        rgb = fit_pixels(pixels, height, width).unflatten(1, (-1, 3))
        return rgb.flip(2).flatten(1, 2) / 255


class ConvBlock(nn.Module):
    """Convolution and batch norm, the input added where `residual`, then ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int = 0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding), nn.BatchNorm2d(out_channels)
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv_block(x)
        return F.relu(out + x if self.residual else out)


def _residual(channels: int, count: int) -> list[ConvBlock]:
    return [ConvBlock(channels, channels, 3, padding=1, residual=True) for _ in range(count)]
