"""StableSyncNet, the SyncNet of LatentSync: its layers, and whether they make a working network.

Promises: a description without `problems` builds, accepts its stated input and gives two embeddings of one size; every
other one is explained with the encoder and the layer named. Pure arithmetic, no torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.config.model.base import InputShape, SyncNetConfig, mel_window, stacked_frames
from orchestrator.config.section import Section

GROUPS = 32
"""Groups of every GroupNorm in StableSyncNet: each channel count must be a multiple."""
HEADS = 8
"""Attention heads in StableSyncNet."""

Factor = int | tuple[int, int]


class EncoderConfig(Section):
    """One encoder of StableSyncNet: a chain of residual blocks, each of which may shrink its image."""

    in_channels: int = Field(ge=1)
    """Channels of the input: 1 for audio, frames x 3 for pixels, frames x 4 for VAE latents."""
    block_out_channels: tuple[int, ...] = Field(min_length=1)
    """Channels after each block; the last one is the size of the embedding."""
    downsample_factors: tuple[Factor, ...] = Field(min_length=1)
    """How much each block shrinks (height, width). The number 1 means no downsampling convolution at all, while the
    pair [1, 1] still has one: upstream's files depend on the difference."""
    attn_blocks: tuple[Literal[0, 1], ...] | None = None
    """1 where a self-attention block follows the residual block; all 0 when left out."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout inside the residual and attention blocks."""

    @property
    def attention(self) -> tuple[int, ...]:
        """`attn_blocks` with its default filled in."""
        return self.attn_blocks if self.attn_blocks is not None else (0,) * len(self.block_out_channels)


class StableSyncNetConfig(SyncNetConfig):
    """StableSyncNet, the SyncNet of LatentSync. Source: the configs/syncnet folder of bytedance/LatentSync."""

    name: Literal["stable_syncnet"] = "stable_syncnet"
    """The family."""
    audio_encoder: EncoderConfig
    """Reads the mel window, 1 x 80 x mel_columns(num_frames)."""
    visual_encoder: EncoderConfig
    """Reads the stacked frames."""
    num_frames: int = Field(16, ge=1)
    """Video frames per window."""
    resolution: int = Field(256, ge=8)
    """Pixels per side of the aligned face that the window is cut from."""
    lower_half: bool = True
    """Whether the net sees only the lower half of the face."""
    latent_space: bool = False
    """Whether the frames are VAE latents (4 channels, an eighth of the resolution) instead of pixels."""

    @property
    def input_shape(self) -> InputShape:
        """The stacked frames and the mel of one window."""
        side, channels = (self.resolution // 8, 4) if self.latent_space else (self.resolution, 3)
        frames = stacked_frames(self.num_frames, side, lower_half=self.lower_half, channels=channels)
        return InputShape(frames, mel_window(self.num_frames))

    @property
    def problems(self) -> list[str]:
        """Encoders that do not end at 1x1, embeddings of two sizes, and the like."""
        shape = self.input_shape
        problems = _encoder_problems("model.visual_encoder", self.visual_encoder, shape.frames)
        problems += _encoder_problems("model.audio_encoder", self.audio_encoder, shape.audio)
        visual, audio = self.visual_encoder.block_out_channels[-1], self.audio_encoder.block_out_channels[-1]
        if visual != audio:
            problems.append(
                f"`model.visual_encoder` ends with {visual} channels and `model.audio_encoder` with {audio}; "
                "the two embeddings must have the same size"
            )
        return problems


def _encoder_problems(where: str, encoder: EncoderConfig, chw: tuple[int, ...]) -> list[str]:
    problems = _length_problems(where, encoder) + _channel_problems(where, encoder)
    if encoder.in_channels != chw[0]:
        problems.append(
            f"`{where}.in_channels` is {encoder.in_channels}, but the configured input has {chw[0]} channels "
            "(frames x channels per frame)"
        )
    if not problems:
        problems += _shape_problems(where, encoder, chw)
    return problems


def _length_problems(where: str, encoder: EncoderConfig) -> list[str]:
    blocks = len(encoder.block_out_channels)
    lengths = {"downsample_factors": len(encoder.downsample_factors), "attn_blocks": len(encoder.attention)}
    return [
        f"`{where}.{key}` has {length} entries, but `block_out_channels` has {blocks}"
        for key, length in lengths.items()
        if length != blocks
    ]


def _channel_problems(where: str, encoder: EncoderConfig) -> list[str]:
    problems = [
        f"`{where}.block_out_channels[{i}]` must be a positive multiple of {GROUPS}, but is {channels}"
        for i, channels in enumerate(encoder.block_out_channels)
        if channels < 1 or channels % GROUPS
    ]
    problems += [
        f"`{where}.downsample_factors[{i}]` must be at least 1, but is {factor}"
        for i, factor in enumerate(encoder.downsample_factors)
        if min(as_pair(factor)) < 1
    ]
    return problems


def _shape_problems(where: str, encoder: EncoderConfig, chw: tuple[int, ...]) -> list[str]:
    """Follow the image through the blocks and name the layer at which it goes wrong."""
    height, width = chw[1:]
    trail = f"{height}x{width}"
    for i, factor in enumerate(encoder.downsample_factors):
        height, width = shrink(height, width, factor)
        trail += f" -> {height}x{width}"
        if height < 1 or width < 1:
            return [
                f"`{where}.downsample_factors[{i}]` = {_show(factor)} leaves nothing of the image ({trail}); "
                "use a smaller factor there"
            ]
    if (height, width) == (1, 1):
        return []
    last = len(encoder.downsample_factors) - 1
    return [
        f"`{where}.downsample_factors` must end at 1x1, but `down_blocks` end at {height}x{width} after "
        f"`downsample_factors[{last}]` = {_show(encoder.downsample_factors[last])} ({trail})"
    ]


def shrink(height: int, width: int, factor: Factor) -> tuple[int, int]:
    """The image size after one downsampling convolution: 3x3, stride = factor, after StableSyncNet's zero padding."""
    if factor == 1:
        return height, width
    left, right, top, bottom = downsample_padding(factor)
    down, across = as_pair(factor)
    return (height + top + bottom - 3) // down + 1, (width + left + right - 3) // across + 1


def downsample_padding(factor: Factor) -> tuple[int, int, int, int]:
    """Zero padding (left, right, top, bottom) before a downsampling convolution, as upstream pads."""
    match factor:
        case (1, _):
            return (0, 1, 1, 1)
        case (_, 1):
            return (1, 1, 0, 1)
        case _:
            return (0, 1, 0, 1)


def as_pair(factor: Factor) -> tuple[int, int]:
    """A factor as (down, across)."""
    return (factor, factor) if isinstance(factor, int) else factor


def _show(factor: Factor) -> str:
    return str(factor) if isinstance(factor, int) else str(list(factor))
