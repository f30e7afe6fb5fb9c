"""Small networks of the three ways in which frames are read: RGB pixels, BGR pixels, latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.config import load_model_config
from orchestrator.config.model import AnyModelConfig
from orchestrator.models import SyncNet, build_model
from tests.conftest import TINY_MODEL

TINY_PIXELS: dict[str, Any] = {
    **TINY_MODEL,
    "audio_encoder": {**TINY_MODEL["audio_encoder"], "block_out_channels": [32, 128]},
    "visual_encoder": {**TINY_MODEL["visual_encoder"], "block_out_channels": [32, 128]},
}
"""Reads five lower halves of 32x32 faces. Of embeddings of 32 numbers the last norm makes groups of one, and leaves
nothing but rounding."""
TINY_LATENTS: dict[str, Any] = {
    **TINY_PIXELS,
    "resolution": 64,
    "latent_space": True,
    "lower_half": False,
    "visual_encoder": {"in_channels": 20, "block_out_channels": [32, 128], "downsample_factors": [4, 2]},
}
"""Reads five latents of 4x8x8."""
MODELS = {"pixels": TINY_PIXELS, "latents": TINY_LATENTS, "wav2lip": {"name": "wav2lip_syncnet"}}


@pytest.fixture(scope="session")
def build() -> Callable[[str], SyncNet]:
    """A fresh network by its name in `MODELS`, always with the same weights."""

    def make(name: str) -> SyncNet:
        return build_model(config_of(name), seed=1)

    return make


def config_of(name: str) -> AnyModelConfig:
    """The typed description."""
    return load_model_config(MODELS[name])
