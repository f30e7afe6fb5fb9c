"""What makes training faster or smaller changes no figure, and what cannot be had is told."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.config.model import input_shape
from orchestrator.errors import ConfigError
from orchestrator.models import SyncNet, build_model
from orchestrator.training import speed
from orchestrator.training.rehearsal import rehearse
from orchestrator.training.speed import find_micro_batch, largest_that_fits, optimise_model
from tests.training.test_parallel import SMALL_MODEL

CPU = torch.device("cpu")
CONFIG = load_config({"model": SMALL_MODEL, "data": {"path": "unused"}})
WITH_BATCH_NORM = load_config({"model": {"name": "wav2lip_syncnet"}, "data": {"path": "unused"}})
COMPILED = {"speed.compile": True, "train.micro_batch": 4}
INFO_NCE = {"loss.name": "info_nce", "checkpoint.metric": "val/auc"}
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def with_dropout() -> RunConfig:
    model = CONFIG.model.model_dump(mode="json")
    model["visual_encoder"]["dropout"] = 0.3
    return apply_settings(CONFIG, {"model": model})


@pytest.mark.parametrize("config", [with_dropout(), WITH_BATCH_NORM], ids=["dropout", "batch norm"])
def test_gradient_checkpointing_changes_no_bit(config: RunConfig) -> None:
    plain, _ = optimised(config)
    recomputed, notes = optimised(apply_settings(config, {"speed.gradient_checkpointing": True}))
    assert notes == [] and list(recomputed.state_dict()) == list(plain.state_dict())
    kept = [forward_and_backward(model, config) for model in (plain, recomputed)]
    assert kept[1] < 0.6 * kept[0], "the activations within a block are still kept"
    assert_same_numbers(plain, recomputed)


@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)], ids=["traced only", "compiled"]
)
def test_compiling_changes_only_rounding(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plain, _ = optimised(CONFIG)
    compiled, notes = optimised(apply_settings(CONFIG, {**COMPILED, "speed.gradient_checkpointing": True}))
    assert notes == [] and list(compiled.state_dict()) == list(plain.state_dict())
    for model in (plain, compiled):
        forward_and_backward(model, CONFIG)
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)


def test_where_compiling_fails_it_is_told_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(forward: Any, **_: Any) -> Any:
        def raising(*_: Any) -> None:
            raise RuntimeError("no compiler\nand much more")

        return raising

    monkeypatch.setattr(torch, "compile", broken)
    plain, _ = optimised(CONFIG)
    found, notes = optimised(apply_settings(CONFIG, COMPILED))
    assert len(notes) == 1 and "RuntimeError: no compiler" in notes[0] and "much more" not in notes[0]
    for model in (plain, found):
        forward_and_backward(model, CONFIG)
    assert_same_numbers(plain, found)


def test_a_rehearsal_leaves_no_trace() -> None:
    model = build_model(WITH_BATCH_NORM.model)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    rehearse(model, WITH_BATCH_NORM, CPU, batch=2, times=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("wanted", "precision", "device", "expected"),
    [
        ("auto", "fp32", "cpu", False),
        ("auto", "bf16", "cpu", False),
        ("auto", "fp32", "cuda", False),
        ("auto", "bf16", "cuda", True),
        ("auto", "fp16", "cuda", True),
        (True, "fp32", "cpu", True),
        (False, "bf16", "cuda", False),
    ],
)
def test_when_channels_come_last(wanted: bool | str, precision: str, device: str, expected: bool) -> None:
    config = apply_settings(CONFIG, {"speed.channels_last": wanted, "train.precision": precision})
    assert speed._wants_channels_last(config, torch.device(device), pytest.fail) is expected


def test_channels_last_keeps_the_embeddings() -> None:
    plain, _ = optimised(CONFIG)
    found, notes = optimised(apply_settings(CONFIG, {"speed.channels_last": True}))
    weights = [module.weight for module in found.modules() if isinstance(module, nn.Conv2d)]
    assert notes == [] and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert not all(weight.is_contiguous() for weight in weights)
    frames, audio = windows(CONFIG)
    torch.testing.assert_close(found(frames, audio), plain(frames, audio), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("room", "expected"), [(0, 0), (4, 4), (7, 4), (8, 8), (31, 16), (40, 32), (48, 48), (99, 48)])
def test_the_largest_that_fits(room: int, expected: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= room

    assert largest_that_fits(fits, most=48, unit=4) == expected
    assert asked == sorted(set(asked)) and len([size for size in asked if size > room]) <= 1


@pytest.mark.parametrize(
    ("settings", "workers", "expected"),
    [
        ({"train.global_batch": 256}, 2, 32),
        ({"train.global_batch": 10}, 1, 10),
        ({"train.global_batch": 10}, 3, 4),
        ({"train.global_batch": 96, "loss.group": 12, **INFO_NCE}, 1, 24),
        ({"train.global_batch": 96, "loss.group": 48, **INFO_NCE}, 1, 48),
    ],
)
def test_automatic_micro_batches_on_a_cpu(settings: dict[str, Any], workers: int, expected: int) -> None:
    config = apply_settings(CONFIG, {"train.micro_batch": "auto", **settings})
    assert find_micro_batch(build_model(config.model), config, CPU, workers) == expected


@pytest.mark.parametrize(
    ("config", "expected"), [(CONFIG, [1, 2, 4, 6]), (WITH_BATCH_NORM, [2, 4, 6])], ids=["", "norm"]
)
def test_batch_norm_is_never_tried_with_one_sample(
    monkeypatch: pytest.MonkeyPatch, config: RunConfig, expected: list[int]
) -> None:
    """It refuses a single one, and not for want of memory."""
    asked: list[int] = []

    def fits(*given: Any) -> bool:
        asked.append(given[-1])
        return True

    monkeypatch.setattr(speed, "_fits", fits)
    config = apply_settings(config, {"train.micro_batch": "auto", "train.global_batch": 6})
    assert find_micro_batch(build_model(config.model), config, torch.device("cuda", 0), 1) == 6
    assert asked == expected


@GPU
def test_automatic_micro_batches_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    config = apply_settings(CONFIG, {"train.micro_batch": "auto", "train.global_batch": 64})
    model = build_model(config.model).to(device)
    assert find_micro_batch(model, config, device, 1) == 64
    torch.cuda.set_per_process_memory_fraction(1e-6, device)
    try:
        with pytest.raises(ConfigError, match="not even a micro-batch of 1"):
            find_micro_batch(model, config, device, 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def optimised(config: RunConfig) -> tuple[SyncNet, list[str]]:
    """A net as it trains, and what was told about it."""
    notes: list[str] = []
    model = build_model(config.model, seed=3)
    optimise_model(model, config, CPU, notes.append)
    return model, notes


def forward_and_backward(model: SyncNet, config: RunConfig) -> int:
    """One pass each, leaving gradients; returns the bytes kept from the first for the second."""
    torch.manual_seed(5)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        vision, audio = model(*windows(config))
    (vision * audio).sum(1).square().mean().backward()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    return sum(size for place, size in kept.items() if place not in weights)


def windows(config: RunConfig) -> tuple[torch.Tensor, torch.Tensor]:
    generator, shape = torch.Generator().manual_seed(7), input_shape(config.model)
    return torch.rand(4, *shape.frames, generator=generator), torch.rand(4, *shape.audio, generator=generator)


def assert_same_numbers(first: SyncNet, second: SyncNet) -> None:
    """Gradients and buffers, bit for bit."""
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None and torch.equal(one.grad, other.grad)
    for name, value in first.named_buffers():
        assert torch.equal(value, second.get_buffer(name)), name
