"""Canonical directories as Ray checkpoints: local, in remote storage, and half uploaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.fs
import pytest
from ray.train import Checkpoint
from torch import Tensor

from orchestrator.checkpoint import TrainState, save_state, state_hash
from orchestrator.checkpoint.ray_bridge import (
    is_complete_ray_checkpoint,
    state_from_ray_checkpoint,
    to_ray_checkpoint,
)
from orchestrator.config.model import StableSyncNetConfig
from orchestrator.errors import RefusalReason

from .conftest import refusal


@pytest.fixture
def saved(tmp_path: Path, config: StableSyncNetConfig, weights: dict[str, Tensor]) -> Path:
    """A canonical directory."""
    save_state(TrainState(config, weights, step=5, samples=160), tmp_path / "ckpt")
    return tmp_path / "ckpt"


def remote(folder: Path) -> Checkpoint:
    """The folder as something that Ray must fetch first."""
    handler = pyarrow.fs.FSSpecHandler(__import__("fsspec").filesystem("file"))
    return Checkpoint(str(folder), filesystem=pyarrow.fs.PyFileSystem(handler))


def test_there_and_back(saved: Path, config: StableSyncNetConfig, weights: dict[str, Tensor]) -> None:
    expected = state_hash(TrainState(config, weights, step=5, samples=160))
    for checkpoint in (to_ray_checkpoint(saved), remote(saved)):
        assert is_complete_ray_checkpoint(checkpoint)
        assert state_hash(state_from_ray_checkpoint(checkpoint)) == expected


@pytest.mark.parametrize("damage", ["no manifest", "short file", "no file", "broken manifest"])
def test_half_an_upload_is_no_checkpoint(saved: Path, damage: str) -> None:
    manifest, model = saved / "manifest.json", saved / "model.safetensors"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "short file":
        model.write_bytes(model.read_bytes()[:-1])
    elif damage == "no file":
        model.unlink()
    else:
        manifest.write_text("{")
    for checkpoint in (Checkpoint.from_directory(str(saved)), remote(saved)):
        assert not is_complete_ray_checkpoint(checkpoint)
        refusal(lambda c=checkpoint: state_from_ray_checkpoint(c), RefusalReason.CORRUPT)  # type: ignore[misc]
    refusal(lambda: to_ray_checkpoint(saved), RefusalReason.CORRUPT)


def test_verification_reaches_through_ray(saved: Path) -> None:
    model = saved / "model.safetensors"
    damaged = bytearray(model.read_bytes())
    damaged[-1] ^= 1
    model.write_bytes(damaged)
    refusal(lambda: state_from_ray_checkpoint(to_ray_checkpoint(saved)), RefusalReason.CORRUPT)
    assert state_from_ray_checkpoint(to_ray_checkpoint(saved), verify=False).step == 5
    shutil.rmtree(saved)
    refusal(lambda: to_ray_checkpoint(saved), RefusalReason.MISSING)
