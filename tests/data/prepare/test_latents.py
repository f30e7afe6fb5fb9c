"""Encoders of latents: from local files only, known by their weights, or one's own."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.data.prepare import PreparationConfig, prepare_local
from orchestrator.data.prepare.latents import DiffusersEncoder, latents_of, load_encoder
from orchestrator.errors import DataError, RunError

diffusers = pytest.importorskip("diffusers")
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 64), dtype=np.uint8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random AutoencoderKL with the shape rules of the usual one, as diffusers saves it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    tiny(scaling_factor=0.5, shift_factor=0.25).save_pretrained(folder)
    return folder


def tiny(**options: float) -> torch.nn.Module:
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        layers_per_block=1,
        **options,
    )


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the network fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_latents_are_the_scaled_posterior_mean(saved: Path) -> None:
    encoder = load_encoder(f"diffusers:{saved}")
    found = encoder.encode(FRAMES)
    model = diffusers.AutoencoderKL.from_pretrained(saved)
    with torch.no_grad():
        mean = model.encode(torch.from_numpy(FRAMES) / 127.5 - 1).latent_dist.mean
    assert found.dtype == np.float32 and found.shape[1:] == encoder.shape(32, 64) == (4, 4, 8)
    assert np.allclose(found, ((mean - 0.25) * 0.5).numpy(), atol=1e-5)
    assert np.array_equal(found, encoder.encode(FRAMES))


def test_a_face_has_the_shape_that_latent_nets_read(saved: Path) -> None:
    assert load_encoder(f"diffusers:{saved}").shape(256, 256) == (4, 32, 32)  # 16 frames of it: (64, 32, 32)
    with pytest.raises(DataError, match="multiples of 8, not 128x252"):
        load_encoder(f"diffusers:{saved}").shape(128, 252)


def test_the_fingerprint_is_that_of_the_weights(saved: Path, tmp_path: Path) -> None:
    before = DiffusersEncoder(saved).fingerprint
    shutil.copytree(saved, tmp_path / "pipeline" / "vae")
    assert DiffusersEncoder(tmp_path / "pipeline").fingerprint == before
    config = json.loads((saved / "config.json").read_text())
    shutil.copytree(saved, tmp_path / "scaled")
    (tmp_path / "scaled" / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.6}))
    model = diffusers.AutoencoderKL.from_pretrained(saved)
    with torch.no_grad():
        model.encoder.conv_in.bias[0] += 1e-3
    model.save_pretrained(tmp_path / "changed")
    others = [DiffusersEncoder(tmp_path / name).fingerprint for name in ("scaled", "changed")]
    assert len({before, *others}) == 3


def test_half_precision_weights_alone_are_found(saved: Path, tmp_path: Path) -> None:
    diffusers.AutoencoderKL.from_pretrained(saved).half().save_pretrained(tmp_path, variant="fp16")
    found = DiffusersEncoder(tmp_path).encode(FRAMES)
    assert np.allclose(found, DiffusersEncoder(saved).encode(FRAMES), atol=0.01)


def test_what_is_no_model_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no diffusers model in"):
        load_encoder(f"diffusers:{tmp_path / 'nowhere'}")
    shutil.copytree(saved, tmp_path / "bin")
    (tmp_path / "bin" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "bin" / "diffusion_pytorch_model.bin")
    with pytest.raises(DataError, match="no weights") as caught:
        load_encoder(f"diffusers:{tmp_path / 'bin'}")
    assert "convert it to safetensors" in caught.value.hint
    shutil.copytree(saved, tmp_path / "cut")
    weights = tmp_path / "cut" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be loaded as an AutoencoderKL"):
        load_encoder(f"diffusers:{tmp_path / 'cut'}")


def test_without_diffusers_the_extra_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(DataError, match="needs diffusers, which is not installed") as caught:
        DiffusersEncoder(saved)
    assert "[latents]" in caught.value.hint


OWN = """
import numpy as np

class Means:
    name, fingerprint = "means", "1"

    def shape(self, height, width):
        return 1, height // 2, width // 2

    def encode(self, frames):
        return frames.reshape(len(frames), 1, 3, 16, 2, 32, 2).mean((2, 4, 6)).astype(np.float32)

class OneTooFew(Means):
    def encode(self, frames):
        return super().encode(frames)[1:]

class Breaks(Means):
    def encode(self, frames):
        raise ValueError("too warm")

class TooLarge(Means):
    def encode(self, frames):
        return super().encode(frames) * 1e6

class Nameless(Means):
    fingerprint = None

def no_encoder():
    return 3

def needs_more(weights):
    return Means()
"""


def test_one_s_own_encoder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_encoders.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    encoder = load_encoder("python:own_encoders:Means")
    assert encoder.encode(FRAMES).shape == (5, *encoder.shape(32, 64))
    for wrong, message in (
        ("python:own_encoders:no_encoder", "gave a int without name, fingerprint, shape, encode"),
        ("python:own_encoders:Absent", "cannot be loaded"),
        ("python:own_encoders:Nameless", "fingerprint of python:own_encoders:Nameless must be a text, but is None"),
        ("python:own_encoders:needs_more", "cannot be made: TypeError: needs_more.. missing 1 required"),
        ("python:own_encoders_2:Means", "cannot be loaded"),
        ("python:own_encoders", "names no encoder"),
        ("vae", "names no encoder"),
    ):
        with pytest.raises(DataError, match=message):
            load_encoder(wrong)


def test_an_encoder_that_breaks_its_contract_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_encoders.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, error, message in (
        ("OneTooFew", RunError, r"gave float32 \(4, 1, 16, 32\) for 5 frames, but its shape says \(5, 1, 16, 32\)"),
        ("Breaks", RunError, "failed: ValueError: too warm"),
        ("TooLarge", DataError, "too large for float16"),
    ):
        with pytest.raises(error, match=message):
            latents_of(load_encoder(f"python:own_encoders:{name}"), FRAMES)
    assert latents_of(load_encoder("python:own_encoders:Means"), FRAMES).dtype == np.float16


def test_a_size_that_the_encoder_cannot_take_is_refused_before_anything_is_written(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"not looked at")
    config = PreparationConfig(latents=f"diffusers:{saved}", lower_half=False, resolution=252)
    with pytest.raises(DataError, match="sides are multiples of 8, not 252x252"):
        prepare_local(tmp_path / "videos", tmp_path / "out", config)
    assert not (tmp_path / "out").exists()
