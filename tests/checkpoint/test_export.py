"""Exported files: read by the programs they are for, safe to load, and the same weights when they come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.checkpoint import TrainState, export, inspect, load_state, normalize, weights_hash
from orchestrator.config.model import StableSyncNetConfig, Wav2LipSyncNetConfig
from orchestrator.errors import ConfigError, RefusalReason
from orchestrator.models import build_model

from .conftest import refusal
from .test_architecture import odd_config

Save = Callable[..., Path]
Weights = dict[str, Tensor]


@pytest.mark.parametrize("form", ["latentsync", "safetensors"])
def test_there_and_back(save: Save, weights: Weights, tmp_path: Path, form: str) -> None:
    source = save({"state_dict": {f"module.{name}": t for name, t in weights.items()}, "global_step": 8})
    file = export(normalize(source, tmp_path / "out").path, form, tmp_path / "sub" / "exported")
    back = load_state(file)
    assert weights_hash(back.weights) == weights_hash(weights)
    assert back.step == (8 if form == "safetensors" else 0)
    assert [path.name for path in file.parent.iterdir()] == ["exported"]


def test_latentsync_files_hold_what_its_own_code_reads(save: Save, weights: Weights, tmp_path: Path) -> None:
    half = save({name: tensor.half() for name, tensor in weights.items()})
    payload = torch.load(export(half, "latentsync", tmp_path / "x.pt"), weights_only=True)
    assert payload.keys() == {"state_dict"}
    assert {(tensor.dtype, tensor.device.type) for tensor in payload["state_dict"].values()} == {(torch.float32, "cpu")}
    assert payload["state_dict"].keys() == weights.keys()


def test_views_do_not_store_their_base(weights: Weights, config: StableSyncNetConfig, tmp_path: Path) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in weights.values()])
    views, start = {}, 0
    for name, tensor in weights.items():
        views[name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    file = export(TrainState(config, views), "latentsync", tmp_path / "x.pt")
    assert file.stat().st_size < 1.1 * flat.numel() * 4 + 200_000


def test_safetensors_carry_the_network_with_them(tmp_path: Path) -> None:
    state = TrainState(odd_config(), dict(build_model(odd_config()).state_dict()), step=3)
    file = export(state, "safetensors", tmp_path / "odd.safetensors")
    assert load_file(file).keys() == state.weights.keys()
    assert inspect(file).model == odd_config()


def test_wav2lip_there_and_back(wav2lip_weights: Weights, tmp_path: Path) -> None:
    model = build_model(Wav2LipSyncNetConfig(), seed=3)
    moments = {
        name: {"exp_avg": p.detach() / 2, "exp_avg_sq": p.detach() ** 2, "step": torch.tensor(7.0)}
        for name, p in model.named_parameters()
    }
    state = TrainState(Wav2LipSyncNetConfig(), wav2lip_weights, step=7, epoch=2, optimizer=moments)
    file = export(state, "wav2lip", tmp_path / "x.pth")
    payload = torch.load(file, weights_only=True)
    upstream = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    upstream.load_state_dict(payload["optimizer"])
    assert (payload["global_step"], payload["global_epoch"]) == (7, 2)
    back = load_state(file)
    assert weights_hash(back.weights) == weights_hash(wav2lip_weights)
    assert back.optimizer is not None and back.optimizer.keys() == moments.keys()
    assert all(torch.equal(back.optimizer[n][s], t) for n, slots in moments.items() for s, t in slots.items())
    assert inspect(file).format == "wav2lip.training"


def test_a_fresh_optimizer_is_exported_as_none(wav2lip_weights: Weights, tmp_path: Path) -> None:
    file = export(TrainState(Wav2LipSyncNetConfig(), wav2lip_weights), "wav2lip", tmp_path / "x.pth")
    assert torch.load(file, weights_only=True, mmap=True)["optimizer"] is None


def test_what_makes_no_sense_is_refused(weights: Weights, config: StableSyncNetConfig, tmp_path: Path) -> None:
    state = TrainState(config, weights)
    refusal(lambda: export(state, "wav2lip", tmp_path / "x"), RefusalReason.MISMATCH)
    refusal(lambda: export(state, "latentsync", tmp_path), RefusalReason.EXISTS)
    with pytest.raises(ConfigError, match="onnx"):
        export(state, "onnx", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
