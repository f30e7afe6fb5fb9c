"""What is carried over from each layout: weights bit for bit, step, history, optimizer moments by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from orchestrator.checkpoint import DecisionSource, TrainState, inspect, load_state, weights_hash
from orchestrator.checkpoint.optimizer import carry_over, number_parameters, parameter_shapes
from orchestrator.config.model import StableSyncNetConfig
from orchestrator.errors import RefusalReason

from .conftest import refusal

Save = Callable[..., Path]
Weights = dict[str, Tensor]


def decided(state: TrainState, field: str) -> tuple[DecisionSource, object]:
    """Source and value of the decision on `field`."""
    assert state.provenance is not None
    found = next(decision for decision in state.provenance.decisions if decision.field == field)
    return found.source, found.value


def test_latentsync_weights_only(save: Save, weights: Weights) -> None:
    state = load_state(save({"state_dict": weights}))
    assert weights_hash(state.weights) == weights_hash(weights)
    assert (state.step, state.samples, state.epoch, state.optimizer) == (0, 0, 0, None)
    assert decided(state, "step") == (DecisionSource.DEFAULT, 0)
    assert decided(state, "optimizer") == (DecisionSource.DEFAULT, "fresh")
    assert state.provenance is not None and state.provenance.format == "latentsync.weights_only"


def test_latentsync_trainer(save: Save, weights: Weights) -> None:
    lists = {
        "train_step_list": [1, 2, 3],
        "train_loss_list": [0.7, 0.69, 0.68],
        "val_step_list": [2],
        "val_loss_list": [torch.tensor(0.5)],
    }
    state = load_state(save({"state_dict": weights, "global_step": 3, **lists}))
    assert state.step == 3
    assert state.optimizer is None, "moments of zero beside a step of three would spoil Adam's bias correction"
    assert state.history == [
        {"step": 1, "train/loss": 0.7},
        {"step": 2, "train/loss": 0.69, "val/loss": 0.5},
        {"step": 3, "train/loss": 0.68},
    ]


def test_a_step_without_lists(save: Save, weights: Weights) -> None:
    report = inspect(save({"state_dict": weights, "global_step": torch.tensor(9)}))
    assert (report.format, report.step) == ("latentsync.training", 9)
    assert {"optimizer", "rng", "samples", "history"} <= set(report.missing)
    assert not report.resumable


@pytest.mark.parametrize("step", [-1, 1.5, "many", True])
def test_a_senseless_step_is_reported_and_not_taken(save: Save, weights: Weights, step: object) -> None:
    state = load_state(save({"state_dict": weights, "global_step": step}))
    assert state.step == 0
    assert decided(state, "step")[0] is DecisionSource.DEFAULT


def test_safetensors_with_a_step(tmp_path: Path, weights: Weights) -> None:
    save_file(weights, tmp_path / "x", {"global_step": "6"})
    assert load_state(tmp_path / "x").step == 6


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_stripped(save: Save, weights: Weights, prefix: str) -> None:
    state = load_state(save({f"{prefix}{name}": tensor for name, tensor in weights.items()}))
    assert weights_hash(state.weights) == weights_hash(weights)
    assert decided(state, "weights.names") == (DecisionSource.DERIVED, f"`{prefix}` stripped")


def test_a_prefix_on_some_names_is_refused(save: Save, weights: Weights) -> None:
    weights[f"module.{next(iter(weights))}"] = torch.zeros(1)
    assert "begin with `module.`" in refusal(lambda: inspect(save(weights)), RefusalReason.MISMATCH)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_cast_and_reported(save: Save, weights: Weights, dtype: torch.dtype) -> None:
    stored = {name: tensor.to(dtype) for name, tensor in weights.items()}
    state = load_state(save({"state_dict": stored}))
    assert weights_hash(state.weights) == weights_hash({name: t.float() for name, t in stored.items()})
    name = str(dtype).removeprefix("torch.")
    assert decided(state, "weights.dtype") == (DecisionSource.DEFAULT, f"{name} -> float32")


def test_values_too_large_for_float32_are_not_finite(save: Save, weights: Weights) -> None:
    name = next(iter(weights))
    weights[name] = weights[name].double() * 1e300
    assert name in refusal(lambda: inspect(save(weights)), RefusalReason.CORRUPT)


def test_tied_and_transposed_tensors(save: Save, weights: Weights) -> None:
    square = next(name for name, tensor in weights.items() if tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1])
    twins = [name for name, tensor in weights.items() if tensor.shape == (32,)][:2]
    weights[square] = weights[square].t()
    weights[twins[0]] = weights[twins[1]]
    state = load_state(save(weights))
    assert torch.equal(state.weights[square], weights[square])
    assert torch.equal(state.weights[twins[0]], state.weights[twins[1]])


def test_sparse_tensors_are_not_read(save: Save, weights: Weights) -> None:
    weights[next(iter(weights))] = torch.eye(4).to_sparse()
    refusal(lambda: inspect(save(weights)), RefusalReason.UNSUPPORTED)


def test_adam_moments_keep_their_parameter(save: Save, weights: Weights, config: StableSyncNetConfig) -> None:
    moments = adam(config)
    payload = {"state_dict": weights, "optimizer": moments, "global_step": 40, "global_epoch": 2}
    state = load_state(save(payload))
    assert state.optimizer is not None
    assert (state.step, state.epoch) == (40, 2)
    for number, name in enumerate(parameter_shapes(config)):
        assert torch.equal(state.optimizer[name]["exp_avg"], moments["state"][number]["exp_avg"])
        assert float(state.optimizer[name]["step"]) == 40
    assert decided(state, "optimizer.lr") == (DecisionSource.FILE, 3e-4)
    assert number_parameters(state.optimizer, config, 3e-4)["param_groups"] == moments["param_groups"]


def test_an_optimizer_may_be_none(save: Save, weights: Weights) -> None:
    state = load_state(save({"state_dict": weights, "optimizer": None, "global_step": 5, "global_epoch": 1}))
    assert (state.step, state.epoch, state.optimizer) == (5, 1, None)


def test_half_an_optimizer_is_none(config: StableSyncNetConfig) -> None:
    for spoil in (_drop_one, _reshape_one, _drop_step, _drop_group):
        moments = adam(config)
        spoil(moments)
        optimizer, decisions = carry_over(moments, config)
        assert optimizer is None
        assert decisions[0].source is DecisionSource.DEFAULT


def adam(config: StableSyncNetConfig) -> dict:
    """The state dict of an Adam that has done 40 steps, with moments that differ everywhere."""
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in parameter_shapes(config).values()]
    optimizer = torch.optim.Adam(parameters, lr=3e-4)
    generator = torch.Generator().manual_seed(1)
    for parameter in parameters:
        parameter.grad = torch.rand(parameter.shape, generator=generator)
    optimizer.step()
    state = optimizer.state_dict()
    for slots in state["state"].values():
        slots["step"] = 40
    return state


def _drop_one(raw: dict) -> None:
    del raw["state"][3]


def _reshape_one(raw: dict) -> None:
    raw["state"][3]["exp_avg"] = torch.zeros(5)


def _poison_one(raw: dict) -> None:
    raw["state"][3]["exp_avg_sq"].fill_(float("nan"))


def _drop_step(raw: dict) -> None:
    del raw["state"][3]["step"]


def _drop_group(raw: dict) -> None:
    raw["param_groups"] = None
