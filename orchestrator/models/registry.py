"""A SyncNet by name and hyperparameters. New families are added to `FAMILIES`, and nowhere else here."""

from __future__ import annotations

from functools import lru_cache

import torch

from orchestrator.config.model import AnyModelConfig, model_problems
from orchestrator.errors import ConfigError
from orchestrator.models.base import SyncNet, initialise
from orchestrator.models.dinet_syncnet import DinetSyncNet
from orchestrator.models.joonson import JoonsonSyncNet, JoonsonTrainer
from orchestrator.models.latentsync_wav2lip import LatentSyncWav2Lip
from orchestrator.models.stable_syncnet import StableSyncNet
from orchestrator.models.wav2lip_syncnet import Wav2LipFork, Wav2LipSyncNet

FAMILIES: dict[str, type[SyncNet]] = {
    "stable_syncnet": StableSyncNet,
    "wav2lip_syncnet": Wav2LipSyncNet,
    "wav2lip_fork": Wav2LipFork,
    "latentsync_wav2lip_syncnet": LatentSyncWav2Lip,
    "joonson_syncnet": JoonsonSyncNet,
    "joonson_trainer": JoonsonTrainer,
    "dinet_syncnet": DinetSyncNet,
}
"""Every family that can be built, by the `name` of its configuration."""


def build_model(config: AnyModelConfig, *, seed: int = 0) -> SyncNet:
    """A freshly initialised SyncNet in training mode, on the CPU in float32.

    Raises:
        ConfigError: the encoders do not end at D x 1 x 1, their embeddings differ in size, or the like.
    """
    model = build_meta(config).to_empty(device="cpu")
    initialise(model, seed)
    return model


def build_meta(config: AnyModelConfig) -> SyncNet:
    """The same model without any memory behind its tensors, to be filled by `load_state_dict(assign=True)`."""
    problems = model_problems(config)
    if problems:
        raise ConfigError(problems, source="the model")
    with torch.device("meta"):
        return FAMILIES[config.name](config)


@lru_cache(maxsize=32)
def skeleton(config: AnyModelConfig) -> SyncNet:
    """`build_meta(config)`, built once and shared: for looking at names, shapes and types only.

    Raises:
        ConfigError: as `build_model`.
    """
    return build_meta(config)
