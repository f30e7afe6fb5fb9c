"""The four layouts of StableSyncNet that LatentSync ships, by what of them can be read off weights.

Why: weights tell channels, attention places, input channels and where a downsampling convolution is, but not its
stride. Only a match of all that with a shipped layout settles the strides; widths do not matter for it.
Source of the facts: configs/syncnet/*.yaml of bytedance/LatentSync.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.model import Factor


@dataclass(frozen=True)
class EncoderLayout:
    """One encoder, without its widths."""

    in_channels: int
    """Channels of the input."""
    factors: tuple[Factor, ...]
    """Downsampling of each block; the number 1 has no convolution."""
    attention: tuple[int, ...]
    """1 where an attention block follows."""


@dataclass(frozen=True)
class ShippedLayout:
    """A shipped configuration, without its widths."""

    name: str
    """As upstream's file is called."""
    audio: EncoderLayout
    """The audio encoder."""
    visual: EncoderLayout
    """The visual encoder."""
    num_frames: int
    """Video frames per window."""
    latent_space: bool
    """Whether the frames are VAE latents."""
    lower_half: bool
    """Whether only the lower half of the face is seen."""
    resolution: int = 256
    """Pixels per side of the face."""


_PIXEL_AUDIO: tuple[Factor, ...] = ((2, 1), 2, 2, 1, 2, 2, (2, 3))
_PIXEL_VISUAL: tuple[Factor, ...] = ((1, 2), 2, 2, 2, 2, 2, 2, 2)


def _without_attention(in_channels: int, factors: tuple[Factor, ...]) -> EncoderLayout:
    return EncoderLayout(in_channels, factors, (0,) * len(factors))


SHIPPED = (
    ShippedLayout(
        "16_pixel_attn",
        EncoderLayout(1, _PIXEL_AUDIO, (0, 0, 0, 1, 1, 0, 0)),
        EncoderLayout(48, _PIXEL_VISUAL, (0, 0, 0, 0, 1, 1, 0, 0)),
        num_frames=16,
        latent_space=False,
        lower_half=True,
    ),
    ShippedLayout(
        "16_pixel",
        _without_attention(1, _PIXEL_AUDIO),
        _without_attention(48, _PIXEL_VISUAL),
        num_frames=16,
        latent_space=False,
        lower_half=True,
    ),
    ShippedLayout(
        "16_latent",
        _without_attention(1, ((2, 1), 2, 2, 2, 2, (2, 3))),
        _without_attention(64, (2, 2, 2, 1, 2, 2)),
        num_frames=16,
        latent_space=True,
        lower_half=False,
    ),
    ShippedLayout(
        "25_pixel",
        _without_attention(1, (2,) * 6),
        _without_attention(75, _PIXEL_VISUAL),
        num_frames=25,
        latent_space=False,
        lower_half=True,
    ),
)
"""All of them; their structures are pairwise different."""
