"""The two nets that the files of the zoo hold, with their weights, an input, and a trained optimizer; each made once.

No two tensors are equal and none is constant, as those of fresh nets are, so that a reader which mixes them up is
found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from orchestrator.config.model import AnyModelConfig, EncoderConfig, StableSyncNetConfig, Wav2LipSyncNetConfig
from orchestrator.models import SyncNet, build_model

Weights = dict[str, Tensor]
STEPS = 2
"""Steps that the optimizers have done."""


@cache
def stable_model_config() -> StableSyncNetConfig:
    """The structure of LatentSync's 16_pixel_attn, narrow.

    Three channels to each group of the last norm: with one, embeddings would not depend on the input at all.
    """
    audio = {
        "in_channels": 1,
        "block_out_channels": (*(32,) * 6, 96),
        "downsample_factors": ((2, 1), 2, 2, 1, 2, 2, (2, 3)),
        "attn_blocks": (0, 0, 0, 1, 1, 0, 0),
    }
    visual = {
        "in_channels": 48,
        "block_out_channels": (*(32,) * 7, 96),
        "downsample_factors": ((1, 2), 2, 2, 2, 2, 2, 2, 2),
        "attn_blocks": (0, 0, 0, 0, 1, 1, 0, 0),
    }
    return StableSyncNetConfig(
        audio_encoder=EncoderConfig.model_validate(audio), visual_encoder=EncoderConfig.model_validate(visual)
    )


@cache
def stable_weights() -> Weights:
    """Its tensors; not to be written into."""
    return distinct(dict(build_model(stable_model_config(), seed=3).state_dict()))


@cache
def other_weights() -> Weights:
    """Other tensors of the same net, e.g. as averages beside the plain ones."""
    return {name: tensor * 0.75 for name, tensor in stable_weights().items()}


@cache
def wav2lip_weights() -> Weights:
    """The tensors of Wav2Lip's SyncNet_color; not to be written into."""
    return distinct(dict(build_model(Wav2LipSyncNetConfig(), seed=3).state_dict()))


def net_of(weights: Mapping[str, Tensor], config: AnyModelConfig | None = None) -> SyncNet:
    """A new net with copies of these weights; without a config one of the two above."""
    if config is None:
        stable = any(name.startswith("visual_encoder.") for name in weights)
        config = stable_model_config() if stable else Wav2LipSyncNetConfig()
    model = build_model(config, seed=0)
    model.load_state_dict(dict(weights))
    return model.eval()


@torch.no_grad()
def embeddings(model: SyncNet) -> tuple[Tensor, Tensor]:
    """What the net makes of one fixed window."""
    generator = torch.Generator().manual_seed(5)
    frames = torch.rand(1, *model.input_shape.frames, generator=generator) * 2 - 1
    audio = torch.rand(1, *model.input_shape.audio, generator=generator) * 8 - 4
    vision, speech = model(frames, audio)
    return vision, speech


@dataclass(frozen=True)
class Trained:
    """An optimizer after some steps on a copy of a net, as its library saves it."""

    optimizer: dict[str, Any]
    """`optimizer.state_dict()`."""
    scheduler: dict[str, Any]
    """`scheduler.state_dict()`."""
    moments: dict[str, dict[str, Tensor]]
    """The optimizer's state by parameter name."""


@cache
def trained(family: str = "stable", kind: str = "AdamW") -> Trained:
    """Two steps with random gradients; the weights that files hold beside it are those of before."""
    model = net_of(stable_weights() if family == "stable" else wav2lip_weights())
    optimizer, scheduler = take_steps(model, kind)
    return Trained(optimizer.state_dict(), scheduler.state_dict(), named_moments(model, optimizer))


def take_steps(model: torch.nn.Module, kind: str = "AdamW") -> tuple[torch.optim.Optimizer, Any]:
    """Train a net a little, without ever running it."""
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    generator = torch.Generator().manual_seed(11)
    for _ in range(STEPS):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        scheduler.step()
    optimizer.zero_grad()
    return optimizer, scheduler


def named_moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """The optimizer's state by parameter name."""
    return {name: dict(optimizer.state[parameter]) for name, parameter in model.named_parameters()}


def distinct(weights: Weights) -> Weights:
    """The same weights, none of them constant."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            weights[name] = tensor + (noise if name.endswith("running_var") else noise * 0.1 - 0.05)
    return weights
