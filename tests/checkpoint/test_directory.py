"""The canonical directory: what goes in comes out, damage is named, and half of one is never taken for a whole."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.checkpoint import (
    Best,
    TrainState,
    is_complete,
    model_of,
    read_manifest,
    read_plain,
    read_state,
    save_state,
    state_hash,
    weights_hash,
    write_state,
)
from orchestrator.checkpoint.tensors import DTYPE_NAMES, non_finite, write_tensors
from orchestrator.config.model import StableSyncNetConfig
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.models import build_meta

from .conftest import refusal


@pytest.fixture
def state(config: StableSyncNetConfig, weights: dict[str, Tensor]) -> TrainState:
    """A state with everything in it."""
    name, tensor = next(iter(weights.items()))
    return TrainState(
        model=config,
        weights=weights,
        step=12,
        samples=3072,
        epoch=1,
        optimizer={name: {"exp_avg": tensor * 2, "exp_avg_sq": tensor**2, "step": torch.tensor(12.0)}},
        scaler={"scale": 65536.0, "_growth_tracker": 3},
        rng={"rank0/cpu": torch.get_rng_state(), "rank1/cpu": torch.zeros(16, dtype=torch.uint8)},
        best=Best("val/accuracy", 0.1 + 0.2, 10),
        history=[{"step": 1, "train/loss": 0.693147}],
        progress={"chance": {"losses": [0.69, 1e-17]}, "none": None},
    )


def test_what_goes_in_comes_out(tmp_path: Path, state: TrainState) -> None:
    manifest = save_state(state, tmp_path / "ckpt")
    back = read_state(tmp_path / "ckpt")
    assert back.plain() == state.plain()
    assert weights_hash(back.weights) == weights_hash(state.weights)
    assert state.optimizer and back.optimizer and state.rng and back.rng
    for name, slots in state.optimizer.items():
        assert all(torch.equal(tensor, back.optimizer[name][slot]) for slot, tensor in slots.items())
        assert back.optimizer[name]["step"].shape == ()
    assert all(torch.equal(tensor, back.rng[name]) for name, tensor in state.rng.items())
    assert state_hash(back) == state_hash(state) == manifest.content_hash
    assert read_plain(tmp_path / "ckpt")["progress"] == state.progress
    assert is_complete(tmp_path / "ckpt")


def test_plain_python_can_read_it(tmp_path: Path, state: TrainState) -> None:
    save_state(state, tmp_path / "ckpt")
    assert load_file(tmp_path / "ckpt" / "model.safetensors").keys() == state.weights.keys()
    assert json.loads((tmp_path / "ckpt" / "state.json").read_text())["step"] == 12


def test_a_fresh_optimizer_leaves_no_file(tmp_path: Path, state: TrainState) -> None:
    save_state(replace(state, optimizer=None, rng=None, history=[]), tmp_path / "ckpt")
    assert sorted(path.name for path in (tmp_path / "ckpt").iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "state.json",
    ]
    assert read_state(tmp_path / "ckpt").optimizer is None


def test_the_hash_covers_the_state_and_nothing_else(state: TrainState) -> None:
    reordered = replace(state, weights=dict(reversed(state.weights.items())))
    assert state_hash(reordered) == state_hash(state)
    name = next(iter(state.weights))
    changes = [
        {"weights": {**state.weights, name: state.weights[name] + 1}},
        {"optimizer": None},
        {"rng": None},
        {"step": 13},
        {"best": None},
        {"progress": {}},
        {"history": []},
        {"schedule": {"last_epoch": 3}},
        {"options": {"dtype": "keep"}},
        {"model": state.model.model_copy(update={"resolution": 128})},
    ]
    hashes = {state_hash(state), *(state_hash(replace(state, **change)) for change in changes)}
    assert len(hashes) == 1 + len(changes)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "rng.safetensors", "history.csv", "state.json"]
)
def test_damage_is_named(tmp_path: Path, state: TrainState, name: str) -> None:
    save_state(state, tmp_path / "ckpt")
    path = tmp_path / "ckpt" / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    path.write_bytes(flipped)
    assert name in refusal(lambda: read_state(tmp_path / "ckpt"), RefusalReason.CORRUPT)
    path.write_bytes(whole[:-1])
    assert not is_complete(tmp_path / "ckpt")
    assert name in refusal(lambda: read_state(tmp_path / "ckpt", verify=False), RefusalReason.CORRUPT)
    path.unlink()
    assert name in refusal(lambda: read_state(tmp_path / "ckpt"), RefusalReason.CORRUPT)
    assert not is_complete(tmp_path / "ckpt")


def test_every_change_of_the_manifest_is_noticed(tmp_path: Path, state: TrainState) -> None:
    save_state(state, tmp_path / "ckpt")
    path = tmp_path / "ckpt" / "manifest.json"
    whole = path.read_bytes()
    for position in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[position] ^= 2
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            read_manifest(tmp_path / "ckpt")
        assert caught.value.reason in (RefusalReason.CORRUPT, RefusalReason.UNSUPPORTED)
    path.write_bytes(whole.replace(b'"format_version": 2', b'"format_version": 99'))
    refusal(lambda: read_state(tmp_path / "ckpt"), RefusalReason.UNSUPPORTED)


def test_without_a_manifest_there_is_no_checkpoint(tmp_path: Path, state: TrainState) -> None:
    save_state(state, tmp_path / "ckpt")
    (tmp_path / "ckpt" / "manifest.json").unlink()
    assert not is_complete(tmp_path / "ckpt")
    assert "manifest.json" in refusal(lambda: read_state(tmp_path / "ckpt"), RefusalReason.CORRUPT)
    refusal(lambda: read_state(tmp_path / "none"), RefusalReason.MISSING)


def test_nothing_is_overwritten(tmp_path: Path, state: TrainState) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refusal(lambda: write_state(state, tmp_path / "full"), RefusalReason.EXISTS)
    refusal(lambda: save_state(state, tmp_path / "full"), RefusalReason.EXISTS)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_a_disk_that_is_full_or_read_only_is_one_message_and_leaves_nothing(
    tmp_path: Path, state: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))  # less than the weights, more than the rest
    try:
        message = refusal(lambda: save_state(state, tmp_path / "runs" / "c"), RefusalReason.STORAGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "runs" in message and list(tmp_path.iterdir()) == []

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert "Permission denied" in refusal(lambda: save_state(state, tmp_path / "c"), RefusalReason.STORAGE)
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_optimizer_is_bit_identical_to_explicit_zeros(
    tmp_path: Path, config: StableSyncNetConfig, weights: dict[str, Tensor]
) -> None:
    zeros = {
        name: {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p), "step": torch.tensor(0.0)}
        for name, p in build_meta(config).named_parameters()
        for p in [weights[name]]
    }
    results = []
    for moments in (None, zeros):
        folder = tmp_path / str(moments is None)
        save_state(TrainState(config, weights, optimizer=moments), folder)
        results.append(three_steps(read_state(folder)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    sizes = [sum(file.stat().st_size for file in (tmp_path / name).iterdir()) for name in ("True", "False")]
    assert sizes[1] > 2.9 * sizes[0]


def three_steps(state: TrainState) -> list[Tensor]:
    """Parameters after three steps of AdamW from a state."""
    model = model_of(state)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if state.optimizer is not None:
        numbered = {i: state.optimizer[name] for i, (name, _) in enumerate(model.named_parameters())}
        optimizer.load_state_dict({"state": numbered, "param_groups": optimizer.state_dict()["param_groups"]})
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_a_failed_save_leaves_nothing(tmp_path: Path, state: TrainState) -> None:
    for progress in ({"tensor": torch.zeros(1)}, {1: "int key"}, {"set": {1}}):
        refusal(
            lambda p=progress: save_state(replace(state, progress=p), tmp_path / "c"),  # type: ignore[misc]
            RefusalReason.UNSUPPORTED,
        )
    assert list(tmp_path.iterdir()) == []


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__" and name.isprintable()),
        st.tuples(st.sampled_from(list(DTYPE_NAMES)), st.lists(st.integers(0, 3), max_size=3)),
        max_size=6,
    )
)
@settings(max_examples=40, deadline=None)
def test_the_writer_agrees_with_safetensors(tmp_path_factory: pytest.TempPathFactory, shapes: dict) -> None:
    tensors = {name: (torch.rand(shape) * 3).to(dtype) for name, (dtype, shape) in shapes.items()}
    path = tmp_path_factory.mktemp("t") / "x.safetensors"
    entry = write_tensors(path, tensors)
    back = load_file(path)
    assert entry.size == path.stat().st_size
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_non_finite_numbers_are_found_in_every_type() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for bad in (float("nan"), float("inf"), -float("inf")):
            assert non_finite({"a": torch.tensor([1.0, bad], dtype=dtype), "b": torch.ones(2)}) == ["a"]
    assert non_finite({"a": torch.zeros(0), "b": torch.tensor(3)}) == []
