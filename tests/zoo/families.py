"""Every known SyncNet, as its own trainer or its usual download holds it, with nothing else to tell it by."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from torch import Tensor

from orchestrator.config.model import (
    AnyModelConfig,
    DinetSyncNetConfig,
    EncoderConfig,
    JoonsonSyncNetConfig,
    JoonsonTrainerConfig,
    LatentSyncWav2LipConfig,
    StableSyncNetConfig,
    Wav2LipForkConfig,
    Wav2LipSyncNetConfig,
)
from orchestrator.models import build_model
from tests.zoo.case import Good
from tests.zoo.files import torch_file
from tests.zoo.nets import distinct

Weights = dict[str, Tensor]


@lru_cache(maxsize=2)
def weights_of(config: AnyModelConfig) -> Weights:
    """Seeded ones; fixed tables among the buffers stay as they are."""
    model = build_model(config, seed=3)
    buffers = {name for name, _ in model.named_buffers()}
    state = dict(model.state_dict())
    tables = {n: t for n, t in state.items() if n in buffers and "running_" not in n}
    return {**distinct(state), **tables}


def _narrow(name: str) -> StableSyncNetConfig:
    """A shipped layout of LatentSync with few channels."""
    audio_factors: tuple[Any, ...] = ((2, 1), 2, 2, 1, 2, 2, (2, 3))
    visual_factors: tuple[Any, ...] = ((1, 2), 2, 2, 2, 2, 2, 2, 2)
    more: dict[str, Any] = {}
    channels = 48
    if name == "16_latent":
        audio_factors, visual_factors = ((2, 1), 2, 2, 2, 2, (2, 3)), (2, 2, 2, 1, 2, 2)
        channels, more = 64, {"latent_space": True, "lower_half": False}
    elif name == "25_pixel":
        audio_factors, visual_factors = (2, 2, 2, 2, 2, 2), ((1, 2), 2, 2, 2, 2, 2, 2, 2)
        channels, more = 75, {"num_frames": 25}
    return StableSyncNetConfig(
        audio_encoder=_encoder(1, audio_factors), visual_encoder=_encoder(channels, visual_factors), **more
    )


def _encoder(channels: int, factors: tuple[Any, ...]) -> EncoderConfig:
    widths = (*(32,) * (len(factors) - 1), 96)
    return EncoderConfig.model_validate(
        {
            "in_channels": channels,
            "block_out_channels": widths,
            "downsample_factors": factors,
            "attn_blocks": (0,) * len(factors),
        }
    )


def _prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def _fork(weights: Weights) -> dict[str, Any]:
    return {
        "state_dict": _prefixed("module.", weights),
        "optimizer": None,
        "global_step": 7,
        "global_epoch": 1,
        "best_loss": 0.25,
    }


def _released(weights: Weights) -> dict[str, Any]:
    return {"state_dict": weights}


def _in_net(weights: Weights) -> dict[str, Any]:
    return {"state_dict": {"net": weights}}


def _bare(weights: Weights) -> Weights:
    return weights


_FORK: dict[str, Any] = {"step": 7, "epoch": 1, "best": 0.25}
_KNOWN: dict[str, tuple[Callable[[], AnyModelConfig], Callable[[Weights], Any], dict[str, Any]]] = {
    "LatentSync 16_pixel": (lambda: _narrow("16_pixel"), _released, {}),
    "LatentSync 16_latent": (lambda: _narrow("16_latent"), _released, {}),
    "LatentSync 25_pixel": (lambda: _narrow("25_pixel"), _released, {}),
    "LatentSync's ablation net": (LatentSyncWav2LipConfig, _released, {"slow": True}),
    "Wav2Lip": (Wav2LipSyncNetConfig, _bare, {}),
    "Wav2Lip 288, PReLU": (lambda: Wav2LipForkConfig(variant="288_prelu"), _fork, _FORK),
    "Wav2Lip 288, v2": (lambda: Wav2LipForkConfig(variant="288_v2"), _fork, {**_FORK, "slow": True}),
    "Wav2Lip 384": (lambda: Wav2LipForkConfig(variant="384"), _fork, {**_FORK, "slow": True}),
    "joonson's syncnet_python": (JoonsonSyncNetConfig, _bare, {}),
    "joonson's trainer": (lambda: JoonsonTrainerConfig(features="mfcc", temporal_stride=1), _bare, {}),
    "DINet": (DinetSyncNetConfig, _in_net, {}),
}


def _case(name: str, model: Callable[[], AnyModelConfig], wrap: Callable[[Weights], Any], more: dict[str, Any]) -> Good:
    def expected() -> Weights:
        return weights_of(model())

    return Good(name, "known networks", torch_file(lambda: wrap(expected())), expected, model=model, **more)


CASES: tuple[Good, ...] = tuple(_case(name, *parts) for name, parts in _KNOWN.items())
