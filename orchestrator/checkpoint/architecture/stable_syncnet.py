"""StableSyncNet from the names and shapes of its tensors.

What the weights tell is read into a `Skeleton` per encoder; `match` finds the shipped layout of the same structure,
which alone settles the strides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.checkpoint.architecture.candidates import TOO_WIDE, Candidate, Shapes
from orchestrator.checkpoint.architecture.shipped import SHIPPED, EncoderLayout, ShippedLayout
from orchestrator.checkpoint.state import Decision, DecisionSource
from orchestrator.config.model import EncoderConfig, StableSyncNetConfig, model_problems
from orchestrator.errors import CheckpointError, RefusalReason

ANCHOR = "audio_encoder.conv_in.weight"
"""In every net of the family."""
GIVE_CONFIG = (
    "give the model's configuration: `model_config=` with LatentSync's own YAML or this product's `model:` section"
)

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


def candidates(shapes: Shapes, path: str) -> list[Candidate]:
    """The shipped layout of the same structure, or none when these are no StableSyncNet tensors.

    Raises:
        CheckpointError: `unknown_architecture`, with all that the weights tell, when there is no such layout.
    """
    audio, visual = (read_skeleton(shapes, f"{name}_encoder.") for name in ("audio", "visual"))
    if not (audio and visual):
        return []
    layout = match(audio, visual)
    if layout is None:
        raise _refusal(
            f"are a StableSyncNet of no shipped layout (audio encoder: {audio}; visual encoder: {visual}"
            f"{_frames(visual.in_channels)}); weights do not tell the strides (`downsample_factors`), nor resolution",
            path,
        )
    config = config_of(layout, audio, visual)
    problems = model_problems(config)
    if problems:
        raise _refusal(f"look like StableSyncNet's {layout.name} layout, but cannot be one: {problems[0]}", path)
    return [Candidate(config, f"stable_syncnet ({layout.name} layout)", _decisions(layout.name, config))]


def _frames(channels: int) -> str:
    """How many frames these channels may be."""
    kinds = [f"{channels // n} {what}" for n, what in ((3, "pixel frames"), (4, "latent frames")) if channels % n == 0]
    return f": {' or '.join(kinds)}" if kinds else ""


def _refusal(what: str, path: str) -> CheckpointError:
    reason = RefusalReason.UNKNOWN_ARCHITECTURE
    return CheckpointError(f"the weights in {path} {what}", reason=reason, path=path, hint=GIVE_CONFIG)


def incomplete(shapes: Shapes) -> str | None:
    """What is missing where both encoders are there, but not so that their blocks can be told; or none."""
    encoders = ("audio_encoder", "visual_encoder")
    if not all(any(name.startswith(f"{encoder}.down_blocks.") for name in shapes) for encoder in encoders):
        return None
    missing = [name for encoder in encoders if (name := f"{encoder}.conv_in.weight") not in shapes]
    return f"`{missing[0]}` is missing" if missing else "tensors of some of its blocks are missing"


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
        if len(conv2) == 4 and conv2[0] < TOO_WIDE:
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


def _decisions(layout: str, config: StableSyncNetConfig) -> tuple[Decision, ...]:
    read_off = "channels, attention places and downsampling places were read off the weights"
    assumed = f"weights do not tell this; it is that of LatentSync's {layout} layout, whose structure they have"
    raw = config.model_dump(mode="json")
    decisions = [Decision("model", DecisionSource.DERIVED, f"stable_syncnet ({layout})", read_off)]
    for encoder in ("audio_encoder", "visual_encoder"):
        factors = raw[encoder]["downsample_factors"]
        decisions.append(Decision(f"model.{encoder}.downsample_factors", DecisionSource.DERIVED, factors, assumed))
    for key in ("num_frames", "resolution", "lower_half", "latent_space"):
        decisions.append(Decision(f"model.{key}", DecisionSource.DERIVED, raw[key], assumed))
    no_dropout = "weights do not tell it; the shipped layouts have none"
    decisions.append(Decision("model.dropout", DecisionSource.DEFAULT, 0.0, no_dropout))
    return tuple(decisions)
