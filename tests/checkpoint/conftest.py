"""Small checkpoints of every kind, made here with torch and safetensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.config.model import EncoderConfig, StableSyncNetConfig, Wav2LipSyncNetConfig
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import build_model


def tiny_config() -> StableSyncNetConfig:
    """The structure of LatentSync's 16_pixel_attn at 32 channels throughout."""
    audio = {
        "in_channels": 1,
        "block_out_channels": (32,) * 7,
        "downsample_factors": ((2, 1), 2, 2, 1, 2, 2, (2, 3)),
        "attn_blocks": (0, 0, 0, 1, 1, 0, 0),
    }
    visual = {
        "in_channels": 48,
        "block_out_channels": (32,) * 8,
        "downsample_factors": ((1, 2), 2, 2, 2, 2, 2, 2, 2),
        "attn_blocks": (0, 0, 0, 0, 1, 1, 0, 0),
    }
    return StableSyncNetConfig(
        audio_encoder=EncoderConfig.model_validate(audio), visual_encoder=EncoderConfig.model_validate(visual)
    )


@pytest.fixture(scope="session")
def config() -> StableSyncNetConfig:
    return tiny_config()


@pytest.fixture(scope="session")
def session_weights() -> dict[str, Tensor]:
    return dict(build_model(tiny_config(), seed=3).state_dict())


@pytest.fixture
def weights(session_weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the tiny net; a test may add and remove entries, but not write into them."""
    return dict(session_weights)


@pytest.fixture(scope="session")
def wav2lip_weights() -> dict[str, Tensor]:
    return dict(build_model(Wav2LipSyncNetConfig(), seed=3).state_dict())


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write an object with torch, or bytes as they are, and return the file."""

    def write(payload: Any, name: str = "file.pt", **options: Any) -> Path:
        path = tmp_path / name
        if isinstance(payload, bytes):
            path.write_bytes(payload)
        else:
            torch.save(payload, path, **options)
        return path

    return write


def refusal(call: Callable[[], object], reason: RefusalReason) -> str:
    """The message of the refusal that `call` must end in; every refusal of a file tells what to do."""
    with pytest.raises(CheckpointError) as caught:
        call()
    assert caught.value.reason is reason, str(caught.value)
    assert caught.value.hint
    return str(caught.value)
