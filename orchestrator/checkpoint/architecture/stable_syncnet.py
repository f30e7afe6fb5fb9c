"""StableSyncNet from the names and shapes of its tensors.

What the weights tell is read into a `Skeleton` per encoder; `match` finds the shipped layout of the same structure,
which alone settles the strides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.checkpoint.architecture.shipped import SHIPPED, EncoderLayout, ShippedLayout
from orchestrator.config.model import EncoderConfig, StableSyncNetConfig

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor shapes by name."""

_BLOCK = re.compile(r"down_blocks\.(\d{1,4})\.")


@dataclass(frozen=True)
class Skeleton:
    """All that weights tell about one encoder."""

    in_channels: int
    """Channels of the input."""
    channels: tuple[int, ...]
    """Channels after each residual block."""
    downsamples: tuple[bool, ...]
    """Whether each block has a downsampling convolution; its stride is not known."""
    attention: tuple[int, ...]
    """1 where an attention block follows."""

    def fits(self, layout: EncoderLayout) -> bool:
        """Whether a shipped encoder has this structure, at whatever widths."""
        return (
            self.in_channels == layout.in_channels
            and self.attention == layout.attention
            and self.downsamples == tuple(factor != 1 for factor in layout.factors)
        )

    def __str__(self) -> str:
        without = [i for i, present in enumerate(self.downsamples) if not present]
        attends = [i for i, present in enumerate(self.attention) if present]
        return (
            f"in_channels {self.in_channels}, block_out_channels {list(self.channels)}, "
            f"no downsampling in blocks {without or 'none'}, attention after blocks {attends or 'none'}"
        )


def read_skeletons(shapes: Shapes) -> tuple[Skeleton, Skeleton] | None:
    """(audio, visual) encoder, or none when these are no StableSyncNet tensors."""
    audio, visual = (read_skeleton(shapes, f"{name}_encoder.") for name in ("audio", "visual"))
    return (audio, visual) if audio and visual else None


def read_skeleton(shapes: Shapes, prefix: str) -> Skeleton | None:
    """One encoder, or none when its blocks cannot be told."""
    inner = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    conv_in = inner.get("conv_in.weight", ())
    blocks = sorted({int(found.group(1)) for name in inner if (found := _BLOCK.match(name))})
    if len(conv_in) != 4 or not blocks or blocks != list(range(len(blocks))):
        return None
    channels: list[int] = []
    downsamples: list[bool] = []
    attention: list[int] = []
    for i in blocks:
        conv2 = inner.get(f"down_blocks.{i}.conv2.weight", ())
        if len(conv2) == 4:
            channels.append(conv2[0])
            downsamples.append(f"down_blocks.{i}.downsample_conv.weight" in inner)
            attention.append(0)
        elif f"down_blocks.{i}.attn.to_q.weight" in inner and attention and not attention[-1]:
            attention[-1] = 1
        else:
            return None
    return Skeleton(conv_in[1], tuple(channels), tuple(downsamples), tuple(attention))


def match(audio: Skeleton, visual: Skeleton) -> ShippedLayout | None:
    """The shipped layout with the structure of both encoders."""
    return next((layout for layout in SHIPPED if audio.fits(layout.audio) and visual.fits(layout.visual)), None)


def config_of(layout: ShippedLayout, audio: Skeleton, visual: Skeleton) -> StableSyncNetConfig:
    """The shipped layout at the widths of the weights."""
    return StableSyncNetConfig(
        audio_encoder=_encoder(layout.audio, audio),
        visual_encoder=_encoder(layout.visual, visual),
        num_frames=layout.num_frames,
        resolution=layout.resolution,
        lower_half=layout.lower_half,
        latent_space=layout.latent_space,
    )


def _encoder(layout: EncoderLayout, skeleton: Skeleton) -> EncoderConfig:
    return EncoderConfig.model_validate(
        {
            "in_channels": skeleton.in_channels,
            "block_out_channels": skeleton.channels,
            "downsample_factors": layout.factors,
            "attn_blocks": layout.attention,
        }
    )
