"""Directories of earlier format versions: written here as the code of their time wrote them, read as of today."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from orchestrator.checkpoint import (
    inspect,
    is_complete,
    list_states,
    normalize,
    read_manifest,
    read_plain,
    read_state,
    save_state,
    verify,
    weights_hash,
)
from orchestrator.config.model import StableSyncNetConfig
from orchestrator.errors import RefusalReason

from .conftest import refusal


def digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_version_1(folder: Path, config: StableSyncNetConfig, weights: dict[str, Tensor]) -> str:
    """Version 1: the history in `state.json`, digests of bytes, `allowed_classes` in the report. Gives its hash."""
    folder.mkdir(parents=True)
    moments = {f"exp_avg/{name}": tensor / 3 for name, tensor in list(weights.items())[:2]}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    save_file(moments, folder / "optimizer.safetensors", {"format": "pt"})
    state = {
        "model": config.model_dump(mode="json"),
        "step": 12,
        "samples": 96,
        "epoch": 2,
        "scaler": None,
        "best": {"metric": "val/accuracy", "value": 0.75, "step": 10},
        "history": [{"step": 1, "train/loss": 0.6931}, {"step": 2, "train/loss": 0.5}],
        "progress": {"losses": [0.1 + 0.2]},
        "options": {"dtype": "float32", "allow_non_finite": False},
    }
    report = {
        "file_name": "old.pt",
        "sha256": "0" * 64,
        "size": 7,
        "container": "torch-zip",
        "format": "latentsync.training",
        "architecture": "stable_syncnet (16_pixel_attn layout)",
        "allowed_classes": ["argparse.Namespace"],
        "decisions": [{"field": "samples", "source": "default", "value": 0, "why": "the file does not say"}],
    }
    for name, value in (("state.json", state), ("report.json", report)):
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    content = {
        "weights": weights_hash(weights),
        "optimizer": weights_hash(moments),
        "rng": None,
        "state": digest(state),
    }
    kind = "syncnet-orchestrator.train-state"
    files = {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "size": file.stat().st_size}
        for file in sorted(folder.iterdir())
    }
    raw = {
        "kind": kind,
        "format_version": 1,
        "content_hash": digest({"kind": kind, "format_version": 1, **content}),
        "content": content,
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps({**raw, "manifest_hash": digest(raw)}, indent=1) + "\n")
    return str(raw["content_hash"])


@pytest.fixture
def old(tmp_path: Path, config: StableSyncNetConfig, weights: dict[str, Tensor]) -> Path:
    """A directory of version 1 under its hash."""
    name = write_version_1(tmp_path / "new", config, weights)
    return (tmp_path / "new").rename(tmp_path / name)


def test_version_1_is_read_as_of_today(old: Path, weights: dict[str, Tensor], config: StableSyncNetConfig) -> None:
    state = read_state(old)
    assert (state.step, state.samples, state.epoch, state.schedule, state.model) == (12, 96, 2, None, config)
    assert state.history == [{"step": 1, "train/loss": 0.6931}, {"step": 2, "train/loss": 0.5}]
    assert state.best is not None and state.best.value == 0.75 and state.progress == {"losses": [0.1 + 0.2]}
    assert state.provenance is not None and state.provenance.placeholders == ("argparse.Namespace",)
    assert weights_hash(state.weights) == weights_hash(weights)
    name = next(iter(weights))
    assert state.optimizer is not None and torch.equal(state.optimizer[name]["exp_avg"], weights[name] / 3)
    assert read_plain(old)["history"] == state.history and read_manifest(old).version == 1


def test_version_1_is_whole_and_verifies(old: Path) -> None:
    assert is_complete(old) and inspect(old).format == "canonical"
    report = verify(old)
    assert report.ok and any("version 1" in note for note in report.states[0].notes)
    assert [record.step for record in list_states(old.parent)] == [12]
    assert normalize(old, old.parent / "elsewhere").path == old


def test_damage_to_version_1_is_noticed(old: Path) -> None:
    model = old / "model.safetensors"
    damaged = bytearray(model.read_bytes())
    damaged[-1] ^= 1
    model.write_bytes(damaged)
    assert "model.safetensors" in refusal(lambda: read_state(old), RefusalReason.CORRUPT)
    assert not verify(old).ok


def test_what_was_read_is_written_in_the_current_version(old: Path, tmp_path: Path) -> None:
    state = read_state(old)
    manifest = save_state(state, tmp_path / "saved")
    assert manifest.version == 2 and (tmp_path / "saved" / "history.csv").is_file()
    again = read_state(tmp_path / "saved")
    assert again.plain() == state.plain() and again.history == state.history


def test_a_newer_version_is_refused_by_name(old: Path) -> None:
    raw = json.loads((old / "manifest.json").read_text())
    del raw["manifest_hash"]
    raw["format_version"] = 4
    (old / "manifest.json").write_text(json.dumps({**raw, "manifest_hash": digest(raw)}))
    assert "format version 4" in refusal(lambda: read_state(old), RefusalReason.UNSUPPORTED)
    assert not is_complete(old) and not verify(old).ok
