"""The typed description of a SyncNet: which family, which layers, which input.

Promises: a description that passes `model_problems` builds, and reads what `input_shape` says; what it gives is told by
its class in `orchestrator.models`. New families are added to `AnyModelConfig`, and nowhere else here.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from orchestrator.config.model.base import InputShape, SyncNetConfig
from orchestrator.config.model.dinet import DinetSyncNetConfig
from orchestrator.config.model.joonson import JoonsonSyncNetConfig, JoonsonTrainerConfig
from orchestrator.config.model.stable_syncnet import (
    GROUPS,
    HEADS,
    EncoderConfig,
    Factor,
    StableSyncNetConfig,
    as_pair,
    downsample_padding,
    shrink,
)
from orchestrator.config.model.wav2lip import (
    Activation,
    ForkVariant,
    LatentSyncWav2LipConfig,
    Wav2LipForkConfig,
    Wav2LipSyncNetConfig,
)

AnyModelConfig = (
    StableSyncNetConfig
    | Wav2LipSyncNetConfig
    | Wav2LipForkConfig
    | LatentSyncWav2LipConfig
    | JoonsonSyncNetConfig
    | JoonsonTrainerConfig
    | DinetSyncNetConfig
)
"""The description of a SyncNet, whichever family."""
ModelConfig = Annotated[AnyModelConfig, Field(discriminator="name")]
"""The same as a field of the schema: `name` says which family."""
FAMILY_NAMES: tuple[str, ...] = tuple(config.model_fields["name"].default for config in get_args(AnyModelConfig))
"""Every `name`."""


def input_shape(config: AnyModelConfig) -> InputShape:
    """The shape of one window for `config`."""
    return config.input_shape


def model_problems(config: AnyModelConfig) -> list[str]:
    """Everything that keeps `config` from being a working SyncNet, one sentence each; empty when it is one."""
    return config.problems


def training_problem(config: AnyModelConfig) -> str | None:
    """Why a prepared corpus (windows and 80-bin mel) cannot train or evaluate `config`; none where one can."""
    return config.training_problem


__all__ = [
    "FAMILY_NAMES",
    "GROUPS",
    "HEADS",
    "Activation",
    "AnyModelConfig",
    "DinetSyncNetConfig",
    "EncoderConfig",
    "Factor",
    "ForkVariant",
    "InputShape",
    "JoonsonSyncNetConfig",
    "JoonsonTrainerConfig",
    "LatentSyncWav2LipConfig",
    "ModelConfig",
    "StableSyncNetConfig",
    "SyncNetConfig",
    "Wav2LipForkConfig",
    "Wav2LipSyncNetConfig",
    "as_pair",
    "downsample_padding",
    "input_shape",
    "model_problems",
    "shrink",
    "training_problem",
]
