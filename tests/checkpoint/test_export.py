"""Exported files: read by the programs they are for, safe to load, and the same weights when they come back."""

from __future__ import annotations

import importlib
import importlib.util
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.checkpoint import TrainState, export, inspect, load_state, normalize, read_state, weights_hash
from orchestrator.checkpoint.export import _plain_weights
from orchestrator.config.model import EncoderConfig, StableSyncNetConfig, Wav2LipSyncNetConfig
from orchestrator.errors import ConfigError, RefusalReason
from orchestrator.models import build_meta, build_model

from .conftest import refusal, tiny_config
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
    with pytest.raises(ConfigError, match="onnx"):  # among the known ones
        export(state, "tensorrt", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_weights_are_written_from_where_they_lie(save: Save, weights: Weights, tmp_path: Path) -> None:
    state = read_state(normalize(save(weights), tmp_path / "out").path)
    own = _plain_weights(state)
    assert all(own[name].data_ptr() == tensor.data_ptr() for name, tensor in state.weights.items())
    assert all(tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize for tensor in own.values())


def test_a_full_disk_leaves_no_export_and_the_old_one(
    weights: Weights, config: StableSyncNetConfig, tmp_path: Path
) -> None:
    (tmp_path / "x.pt").write_text("old")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
    try:
        for form in ("latentsync", "safetensors", "lightning"):
            state = TrainState(config, weights)
            refusal(lambda f=form, s=state: export(s, f, tmp_path / "x.pt"), RefusalReason.STORAGE)  # type: ignore[misc]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def adamw_state(config: StableSyncNetConfig, weights: Weights, step: int) -> TrainState:
    """A state with moments for every parameter."""
    moments = {
        name: {"exp_avg": weights[name] / 2, "exp_avg_sq": weights[name] ** 2, "step": torch.tensor(float(step))}
        for name, _ in build_meta(config).named_parameters()
    }
    return TrainState(config, weights, step=step, epoch=3, optimizer=moments)


def test_lightning_there_and_back(weights: Weights, config: StableSyncNetConfig, tmp_path: Path) -> None:
    state = adamw_state(config, weights, 7)
    file = export(state, "lightning", tmp_path / "x.ckpt")
    payload = torch.load(file, weights_only=True)
    assert (payload["global_step"], payload["epoch"], payload["pytorch-lightning_version"]) == (7, 3, "2.5.0")
    assert set(payload["state_dict"]) == {f"model.{name}" for name in weights}
    back = read_state(normalize(file, tmp_path / "out").path)
    assert weights_hash(back.weights) == weights_hash(weights) and (back.step, back.epoch) == (7, 3)
    assert state.optimizer is not None and back.optimizer is not None
    assert all(torch.equal(back.optimizer[n][s], t) for n, slots in state.optimizer.items() for s, t in slots.items())
    fresh = export(TrainState(config, weights, step=7), "lightning", tmp_path / "fresh.ckpt")
    assert load_state(fresh).optimizer is None and load_state(fresh).step == 7


def test_lightning_itself_continues_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl = pytest.importorskip("lightning.pytorch")

    class Module(pl.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = build_model(tiny_config())
            self.begun: tuple[int, int, float, bool] | None = None

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.model.parameters(), lr=0.0)

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            if self.begun is None:
                optimizer = self.optimizers().optimizer
                moments = next(iter(optimizer.state.values()))
                name, tensor = next(iter(self.model.state_dict().items()))
                same = torch.equal(tensor, weights[name])
                self.begun = (self.trainer.global_step, self.trainer.current_epoch, float(moments["step"]), same)
            return sum(parameter.sum() for parameter in self.model.parameters()) * batch.sum()

    weights = dict(build_model(tiny_config(), seed=3).state_dict())
    file = export(adamw_state(tiny_config(), weights, 7), "lightning", tmp_path / "x.ckpt")
    monkeypatch.chdir(tmp_path)
    module = Module()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_steps=9, accelerator="cpu", **quiet)
    trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(4, 1)), ckpt_path=str(file))
    assert module.begun == (7, 3, 7.0, True) and trainer.global_step == 9


def test_onnx_computes_what_torch_computes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    model = build_model(wide_config(), seed=3).eval()
    state = TrainState(wide_config(), dict(model.state_dict()), step=12)
    file = export(state, "onnx", tmp_path / "net.onnx")
    session = runtime.InferenceSession(str(file))
    assert [each.name for each in session.get_inputs()] == ["frames", "audio"]
    assert [each.name for each in session.get_outputs()] == ["vision_embeds", "audio_embeds"]
    frames, audio = torch.rand(5, *model.input_shape.frames), torch.rand(5, *model.input_shape.audio)
    found = session.run(None, {"frames": frames.numpy(), "audio": audio.numpy()})
    with torch.no_grad():
        expected = model(frames, audio)
    assert all(float((torch.from_numpy(a) - b).abs().max()) <= 1e-4 for a, b in zip(found, expected, strict=True))
    notes = {each.key: each.value for each in onnx.load(str(file)).metadata_props}
    assert notes["weights_hash"] == weights_hash(state.weights) and notes["global_step"] == "12"
    assert type(state.model).model_validate_json(notes["model_config"]) == state.model
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"] and "torchvision" not in capfd.readouterr().err


def test_a_graph_that_differs_never_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    room = importlib.import_module("orchestrator.checkpoint.export_onnx")
    monkeypatch.setattr(room, "_gap", lambda *_: float("nan"))
    state = TrainState(wide_config(), dict(build_model(wide_config()).state_dict()))
    refusal(lambda: export(state, "onnx", tmp_path / "net.onnx"), RefusalReason.MISMATCH)
    assert list(tmp_path.iterdir()) == []


def test_what_onnx_needs_is_named(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else found(name))
    state = TrainState(tiny_config(), weights)
    message = refusal(lambda: export(state, "onnx", tmp_path / "x.onnx"), RefusalReason.UNSUPPORTED)
    assert "pip install onnx onnxscript onnxruntime" in message and "[onnx]" in message


def wide_config() -> StableSyncNetConfig:
    """A small net with four channels per group at its end: with one, every embedding is nothing but noise."""
    audio = {"in_channels": 1, "block_out_channels": (32, 128), "downsample_factors": ((8, 4), (10, 4))}
    visual = {"in_channels": 15, "block_out_channels": (32, 128), "downsample_factors": (4, (4, 8))}
    return StableSyncNetConfig(
        num_frames=5,
        resolution=32,
        audio_encoder=EncoderConfig.model_validate({**audio, "attn_blocks": (1, 0)}),
        visual_encoder=EncoderConfig.model_validate({**visual, "attn_blocks": (0, 1)}),
    )
