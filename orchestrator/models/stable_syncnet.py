"""StableSyncNet, LatentSync's SyncNet, with upstream's tensor names so that its files load strictly.

Source of the facts: bytedance/LatentSync, latentsync/models/stable_syncnet.py and attention.py.
Shapes: B windows, C channels, H W pixels or mel bins and columns, N tokens.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.config.model import (
    GROUPS,
    HEADS,
    EncoderConfig,
    Factor,
    StableSyncNetConfig,
    downsample_padding,
)
from orchestrator.models.base import SyncNet, signed_rgb


class StableSyncNet(SyncNet):
    """Two convolutional encoders with optional self-attention."""

    config: StableSyncNetConfig

    def __init__(self, config: StableSyncNetConfig) -> None:
        super().__init__(config)
        self.audio_encoder = DownEncoder(config.audio_encoder)
        self.visual_encoder = DownEncoder(config.visual_encoder)

    def blocks(self) -> list[nn.Module]:
        return [*self.audio_encoder.down_blocks, *self.visual_encoder.down_blocks]

    def embed_frames(self, frames: Tensor) -> Tensor:
        return self.visual_encoder(frames)

    def embed_audio(self, audio: Tensor) -> Tensor:
        return self.audio_encoder(audio)

    def values_to_input(self, values: Tensor) -> Tensor:
        """RGB in [-1, 1]."""
        return signed_rgb(values)


class DownEncoder(nn.Module):
    """(B, C, H, W) -> (B, D, 1, 1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        channels = config.block_out_channels[0]
        self.conv_in = nn.Conv2d(config.in_channels, channels, 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for out, factor, attends in zip(
            config.block_out_channels, config.downsample_factors, config.attention, strict=True
        ):
            self.down_blocks.append(ResidualBlock(channels, out, factor, config.dropout))
            if attends:
                self.down_blocks.append(AttentionBlock(out, config.dropout))
            channels = out
        self.norm_out = nn.GroupNorm(GROUPS, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return F.relu(self.norm_out(x))


class ResidualBlock(nn.Module):
    """Two convolutions around a skip, then, unless the factor is the number 1, a strided convolution."""

    def __init__(self, in_channels: int, out_channels: int, factor: Factor, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        self.downsample_conv = nn.Conv2d(out_channels, out_channels, 3, stride=factor) if factor != 1 else None
        self.padding = downsample_padding(factor)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        x = x + hidden
        if self.downsample_conv is not None:
            x = self.downsample_conv(F.pad(x, self.padding))
        return x


class AttentionBlock(nn.Module):
    """Self-attention over all positions of the image, then a gated feed-forward net."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        # upstream's order, not that of the data: optimizers number the parameters by it
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, dropout)
        self.conv_in = nn.Conv2d(channels, channels, 1)
        self.conv_out = nn.Conv2d(channels, channels, 1)
        self.attn = SelfAttention(channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        tokens_BNC = self.conv_in(self.norm1(x)).flatten(2).transpose(1, 2)
        tokens_BNC = tokens_BNC + self.attn(self.norm2(tokens_BNC))
        tokens_BNC = tokens_BNC + self.ff(self.norm3(tokens_BNC))
        image = tokens_BNC.transpose(1, 2).unflatten(2, x.shape[-2:])
        return x + self.conv_out(image)


class SelfAttention(nn.Module):
    """Eight heads of C/8 channels, biases everywhere. (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(dropout))

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            layer(tokens).unflatten(2, (HEADS, -1)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """GEGLU of inner width 4C, then back to C. (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        # upstream's indices: net.0.proj is the gate, net.1 the dropout, net.2 the way back
        self.net = nn.Sequential(Geglu(channels, 4 * channels), nn.Dropout(dropout), nn.Linear(4 * channels, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net(tokens)


class Geglu(nn.Module):
    """Half of the projection, gated by GELU of the other half."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, tokens: Tensor) -> Tensor:
        value, gate = self.proj(tokens).chunk(2, dim=-1)
        return value * F.gelu(gate)
