"""What is carried over from each layout: weights bit for bit, step, history, optimizer moments by name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from orchestrator.checkpoint import DecisionSource, TrainState, inspect, load_state, weights_hash
from orchestrator.checkpoint.formats.layouts.trees import module_tensors
from orchestrator.checkpoint.formats.pickles import Global, Inert
from orchestrator.checkpoint.optimizer import number_parameters, parameter_shapes
from orchestrator.config.model import StableSyncNetConfig
from orchestrator.errors import RefusalReason
from orchestrator.models import build_model

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


# ---- steps, epochs, histories, best figures


@pytest.mark.parametrize(
    "key", ["global_step", "global_steps", "step", "iteration", "iterations", "iter", "n_iter", "current_step"]
)
def test_names_of_the_step(save: Save, weights: Weights, key: str) -> None:
    assert load_state(save({"model": weights, key: 7})).step == 7


@pytest.mark.parametrize("step", [6, 6.0, "6", " 6 ", torch.tensor(6), torch.tensor([6.0]), np.int64(6), np.float32(6)])
def test_forms_of_the_step(save: Save, weights: Weights, step: object) -> None:
    state = load_state(save({"state_dict": weights, "global_step": step}))
    assert state.step == 6
    source = DecisionSource.DERIVED if isinstance(step, str) else DecisionSource.FILE
    assert decided(state, "step") == (source, 6)


def test_a_step_among_the_tensors(save: Save, weights: Weights) -> None:
    assert load_state(save({**weights, "global_step": torch.tensor(9), "epoch": torch.tensor(2)})).step == 9


def test_a_step_in_a_dict_of_counters(save: Save, weights: Weights) -> None:
    state = load_state(save({"model": weights, "train_state": {"step": 8, "epoch": 2}}))
    assert (state.step, state.epoch) == (8, 2)


def test_counters_that_disagree(save: Save, weights: Weights) -> None:
    state = load_state(save({"model": weights, "step": 5, "global_step": 7}))
    assert state.step == 7
    assert decided(state, "step.others")[1] == {"step": 5}


def test_a_step_in_the_name_of_the_file_is_none(save: Save, weights: Weights) -> None:
    state = load_state(save({"state_dict": weights}, "model_000000123_epoch7.pt"))
    assert (state.step, state.epoch) == (0, 0)


def test_lists_without_a_step(save: Save, weights: Weights) -> None:
    lists = {"train_step_list": [2, 4, 6], "train_loss_list": [0.7, 0.6, 0.5]}
    state = load_state(save({"state_dict": weights, **lists}))
    assert state.step == 6
    assert decided(state, "step") == (DecisionSource.DERIVED, 6)


def test_rows_beyond_the_step_are_left_out(save: Save, weights: Weights) -> None:
    lists = {"train_step_list": [2, 4, 6], "train_loss_list": [0.7, 0.6, 0.5]}
    state = load_state(save({"state_dict": weights, "global_step": 4, **lists}))
    assert [row["step"] for row in state.history] == [2, 4]
    assert decided(state, "history.conflicts")[1] == 1


def test_lists_with_gaps(save: Save, weights: Weights) -> None:
    lists = {"train_step_list": [1, "x", 3, 4], "train_loss_list": [0.7, 0.6, float("nan")]}
    state = load_state(save({"state_dict": weights, "global_step": 4, **lists}))
    assert state.history == [{"step": 1, "train/loss": 0.7}]
    assert decided(state, "history.conflicts")[1] == 2


@pytest.mark.parametrize(
    ("beside", "rows"),
    [
        ({"log": [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "val_acc": 0.5}]}, 2),
        ({"log_history": [{"step": 1, "loss": 0.5, "epoch": 0.1}, {"train_runtime": 3.0}]}, 1),
        ({"history": {"steps": [1, 2], "train_loss": [0.5, 0.25]}}, 2),
        ({"losses": [0.5, 0.25, 0.125]}, 3),
        ({"losses": [0.5, 0.25]}, 0),
        ({"val_steps": np.array([1, 2]), "val_losses": np.array([0.5, 0.25])}, 2),
        ({"val_steps": torch.tensor([1, 2]), "val_losses": torch.tensor([0.5, 0.25])}, 2),
    ],
)
def test_logs_of_all_kinds(save: Save, weights: Weights, beside: dict[str, object], rows: int) -> None:
    assert len(load_state(save({"model": weights, "step": 3, **beside})).history) == rows


@pytest.mark.parametrize(
    ("beside", "best"),
    [
        ({"best_loss": 0.25}, ("loss", 0.25, 3)),
        ({"best_val_acc": torch.tensor(0.5), "best_step": 2}, ("val_acc", 0.5, 2)),
        ({"best_epoch": 2, "best_model_path": "x"}, None),
        ({"best_loss": float("inf")}, None),
        ({"best_loss": None}, None),
        ({"min_lr": 1e-6, "max_grad_norm": 1.0}, None),
    ],
)
def test_best_figures(save: Save, weights: Weights, beside: dict[str, object], best: object) -> None:
    found = load_state(save({"model": weights, "step": 3, **beside})).best
    assert (found and (found.metric, found.value, found.step)) == best


@pytest.mark.parametrize(("value", "said"), [(float("inf"), "inf"), ("0.25", "0.25"), ({"loss": 0.25}, "dict")])
def test_a_best_figure_that_is_none_is_told(save: Save, weights: Weights, value: object, said: str) -> None:
    report = inspect(save({"model": weights, "best_loss": value}))
    [why] = [decision.why for decision in report.decisions if decision.field == "best"]
    assert "`best_loss`" in why and said in why


# ---- Lightning


def lightning(weights: Weights, **more: object) -> dict[str, object]:
    """What Lightning writes, by hand."""
    callback = {"monitor": "val_loss", "best_model_score": torch.tensor(0.5), "best_model_path": "a/b.ckpt"}
    return {
        "epoch": 2,
        "global_step": 40,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"net.{name}": tensor for name, tensor in weights.items()},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": callback},
        "optimizer_states": [],
        "lr_schedulers": [{"last_epoch": 2}],
        "hyper_parameters": {"lr": 1e-4},
        **more,
    }


@pytest.mark.parametrize("key", ["MixedPrecision", "MixedPrecisionPlugin", "native_amp_scaling_state"])
def test_lightning(save: Save, weights: Weights, config: StableSyncNetConfig, key: str) -> None:
    more = {key: SCALER, "optimizer_states": [adam(config)]}
    state = load_state(save(lightning(weights, **more)))
    assert (state.step, state.epoch, state.scaler) == (40, 2, SCALER)
    assert state.best is not None
    assert (state.best.metric, state.best.value) == ("val_loss", 0.5)
    assert state.schedule == {"last_epoch": 2}
    assert state.optimizer is not None
    assert state.provenance is not None
    assert state.provenance.format == "lightning"


def test_lightnings_optimizers(save: Save, weights: Weights, config: StableSyncNetConfig) -> None:
    other = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))]).state_dict()
    assert load_state(save(lightning(weights, optimizer_states=[other, adam(config)]))).optimizer is not None
    assert load_state(save(lightning(weights, optimizer_states=[other]))).optimizer is None


def test_lightnings_averages(save: Save, weights: Weights) -> None:
    plain = {f"net.{name}": tensor * 2 for name, tensor in weights.items()}
    path = save(lightning(weights, current_model_state=plain, averaging_state={"n_averaged": torch.tensor(3)}))
    assert weights_hash(load_state(path, weights="ema").weights) == weights_hash(weights)
    name = next(iter(weights))
    assert torch.equal(load_state(path).weights[name], weights[name] * 2)


# ---- scalers, schedules, generators, configurations

SCALER = {"scale": 64.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 5}


def test_a_scaler_and_a_schedule(save: Save, weights: Weights) -> None:
    schedule = {"last_epoch": 3, "base_lrs": [1e-4], "fn": torch.nn.functional.relu}
    state = load_state(save({"model": weights, "scaler": SCALER, "lr_scheduler": schedule}))
    assert state.scaler == SCALER
    assert state.schedule is not None
    assert state.schedule["last_epoch"] == 3


@pytest.mark.parametrize("key", ["amp", "GradScaler", "grad_scaler", "scaler_state_dict"])
def test_names_of_the_scaler(save: Save, weights: Weights, key: str) -> None:
    assert load_state(save({"model": weights, key: SCALER})).scaler == SCALER


@pytest.mark.parametrize(
    "change", [{"scale": 0.0}, {"scale": float("nan")}, {"growth_factor": 1}, {"backoff_factor": "x"}, {"scale": None}]
)
def test_a_senseless_scaler_is_reported_and_not_taken(save: Save, weights: Weights, change: dict[str, object]) -> None:
    state = load_state(save({"model": weights, "scaler": {**SCALER, **change}}))
    assert state.scaler is None
    assert decided(state, "scaler")[0] is DecisionSource.DEFAULT


def test_generators_are_named(save: Save, weights: Weights) -> None:
    report = inspect(save({"model": weights, "rng_state": torch.get_rng_state(), "extra": 1}))
    assert next(decision.why for decision in report.decisions if decision.field == "rng").count("`rng_state`") == 1
    assert set(report.ignored) == {"rng_state", "extra"}


def as_config(config: StableSyncNetConfig) -> dict[str, object]:
    """The `model` section of LatentSync's file."""
    raw = config.model_dump(mode="python")
    return {part: raw[part] for part in ("audio_encoder", "visual_encoder")}


def test_a_configuration_beside_the_weights(save: Save, weights: Weights, config: StableSyncNetConfig) -> None:
    beside = argparse.Namespace(lr=1e-4, model=as_config(config), data={"num_frames": 16, "resolution": 256})
    state = load_state(save({"state_dict": weights, "config": beside}))
    assert state.model == config
    assert decided(state, "model.config") == (DecisionSource.FILE, "stable_syncnet")


def test_a_configuration_of_another_net_is_left(save: Save, weights: Weights, config: StableSyncNetConfig) -> None:
    other = as_config(config)
    other["visual_encoder"] = {**other["visual_encoder"], "in_channels": 12}  # type: ignore[dict-item]
    report = inspect(save({"state_dict": weights, "config": {"model": other}}))
    assert report.ignored == ("config",)
    assert report.model == config


# ---- where the weights are


def test_the_only_syncnet_among_models(save: Save, weights: Weights) -> None:
    generator = {"face_decoder_blocks.0.0.conv_block.0.weight": torch.zeros(2)}
    state = load_state(save({"generator": generator, "syncnet": weights, "step": 3}))
    assert weights_hash(state.weights) == weights_hash(weights)
    assert state.step == 3


def test_two_syncnets_are_refused_by_name(save: Save, weights: Weights) -> None:
    two = {"generator": weights, "syncnet": {name: tensor + 1 for name, tensor in weights.items()}}
    message = refusal(lambda: inspect(save(two)), RefusalReason.MISMATCH)
    assert "`generator`" in message
    assert "`syncnet`" in message


def test_the_same_tensors_twice_are_one_set(save: Save, weights: Weights) -> None:
    inspect(save({"model": weights, "syncnet": dict(weights)}))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": {"net": weights}},
        lambda weights: {"a": {"b": {"c": weights}}},
        lambda weights: {"model": {"syncnet": weights, "discriminator": {"a.weight": torch.zeros(1)}}},
        lambda weights: [weights, {"step": 3}],
        lambda weights: {
            part: {name.partition(".")[2]: tensor for name, tensor in weights.items() if name.startswith(part)}
            for part in ("audio_encoder", "visual_encoder")
        },
        lambda weights: {name: tensor.numpy() for name, tensor in weights.items()},
        lambda weights: {"model": {**weights, "version": 3, "_metadata": None}},
    ],
)
def test_ways_to_the_weights(save: Save, weights: Weights, wrap: Callable[[Weights], object]) -> None:
    assert weights_hash(load_state(save(wrap(weights))).weights) == weights_hash(weights)


def test_deeper_than_three_levels_is_not_looked_for(save: Save, weights: Weights) -> None:
    refusal(lambda: inspect(save({"a": {"b": {"c": {"d": weights}}}})), RefusalReason.NO_WEIGHTS)


@pytest.mark.parametrize("payload", [{"mel": torch.zeros(80, 52)}, {"loss": torch.tensor(0.5)}, {"a": {"b": 3}}])
def test_tensors_that_are_no_model(save: Save, payload: object) -> None:
    refusal(lambda: inspect(save(payload)), RefusalReason.NO_WEIGHTS)


# ---- averages


@pytest.mark.parametrize("key", ["ema", "model_ema", "ema_state_dict", "ema_model", "state_dict_ema", "swa_model"])
def test_averages_are_only_taken_on_request(save: Save, weights: Weights, key: str) -> None:
    average = {name: tensor * 0.5 for name, tensor in weights.items()}
    path = save({"model": weights, key: average, "optimizer": {"state": {}, "param_groups": []}})
    plain, averaged = load_state(path), load_state(path, weights="ema")
    assert weights_hash(plain.weights) == weights_hash(weights)
    assert decided(plain, "weights.average") == (DecisionSource.DEFAULT, "raw")
    assert weights_hash(averaged.weights) == weights_hash(average)
    assert decided(averaged, "weights.average") == (DecisionSource.OPTION, "ema")


def test_moments_do_not_go_with_averages(save: Save, weights: Weights, config: StableSyncNetConfig) -> None:
    path = save({"model": weights, "ema": {n: t * 0.5 for n, t in weights.items()}, "optimizer": adam(config)})
    assert load_state(path).optimizer is not None
    assert load_state(path, weights="ema").optimizer is None
    report = inspect(path, weights="ema")
    assert "plain weights" in next(decision.why for decision in report.decisions if decision.field == "optimizer")


def test_averages_of_parameters_alone_take_the_buffers(save: Save, wav2lip_weights: Weights) -> None:
    shadow = {name: t * 0.5 for name, t in wav2lip_weights.items() if "running" not in name and "num_b" not in name}
    path = save({"model": wav2lip_weights, "ema": {"decay": 0.99, "shadow_params": list(shadow.values())}})
    taken = load_state(path, weights="ema").weights
    assert weights_hash(taken) == weights_hash({**wav2lip_weights, **shadow})


def test_averages_that_are_not_there(save: Save, weights: Weights) -> None:
    message = refusal(lambda: inspect(save({"model": weights}), weights="ema"), RefusalReason.MISMATCH)
    assert "averaged" in message


def test_shadows_of_other_shapes_are_no_averages(save: Save, weights: Weights) -> None:
    path = save({"model": weights, "ema": {"shadow_params": [torch.zeros(3)] * len(weights)}})
    refusal(lambda: inspect(path, weights="ema"), RefusalReason.MISMATCH)
    assert inspect(path).step == 0


# ---- whole modules


def module(parts: dict[str, object]) -> Inert:
    """A pickled module of a class that nobody has."""
    made = Inert(Global("lost", "Net"))
    made.state = {"_parameters": {}, "_buffers": {}, "_modules": {}, "_non_persistent_buffers_set": set(), **parts}
    return made


@pytest.mark.parametrize("part", ["", "visual_encoder"])
def test_compiled_modules(save: Save, weights: Weights, config: StableSyncNetConfig, part: str) -> None:
    net = build_model(config, seed=0)
    net.load_state_dict(weights)
    whole = torch.compile(net) if not part else net
    if part:
        setattr(net, part, torch.compile(getattr(net, part)))
    state = load_state(save({"model": whole, "epoch": 2}))
    assert weights_hash(state.weights) == weights_hash(weights)
    assert state.epoch == 2


def test_buffers_that_are_not_saved_are_left_out() -> None:
    tensors = {"a": torch.zeros(1), "b": torch.zeros(1), "c": None}
    net = module({"_buffers": tensors, "_non_persistent_buffers_set": {"b"}})
    assert list(module_tensors(module({"_modules": {"x": net}}))) == ["x.a"]


def test_modules_that_hold_themselves_end() -> None:
    knot = module({"_parameters": {"w": torch.zeros(1)}})
    knot.state["_modules"] = {"again": knot}
    assert list(module_tensors(knot)) == ["w"]


def test_modules_that_branch_without_end_end() -> None:
    leaf = module({"_parameters": {"w": torch.zeros(1)}})
    for _ in range(40):
        leaf = module({"_modules": {"a": leaf, "b": leaf}})
    assert len(module_tensors(leaf)) < 10_000


def test_modules_that_are_too_deep_end() -> None:
    deep = module({"_parameters": {"w": torch.zeros(1)}})
    for _ in range(5000):
        deep = module({"_modules": {"a": deep}})
    assert module_tensors(deep) == {}


# ---- names and numbers


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


def test_the_step_of_the_optimizer(save: Save, weights: Weights, config: StableSyncNetConfig) -> None:
    alone = load_state(save({"model": weights, "optimizer": adam(config), "best_loss": 0.25}))
    assert alone.step == 40
    assert decided(alone, "step") == (DecisionSource.DERIVED, 40)
    assert alone.best is not None
    assert alone.best.step == 40
    other = load_state(save({"model": weights, "optimizer": adam(config), "global_step": 80}))
    assert other.step == 80
    assert decided(other, "optimizer.steps") == (DecisionSource.FILE, 40)


def test_an_optimizer_that_torch_flattened(save: Save, weights: Weights, config: StableSyncNetConfig) -> None:
    names = [name for name, _ in build_model(config, seed=0).named_parameters()]
    slots = {"exp_avg": 1.0, "exp_avg_sq": 2.0}
    flat: dict[str, object] = {
        f"state.{name}.{slot}": weights[name] + more for name in names for slot, more in slots.items()
    }
    flat |= {f"state.{name}.step": torch.tensor(3.0) for name in names}
    flat |= {f"param_groups.{name}.lr": 1e-4 for name in names}
    state = load_state(save({"model": weights, "optimizer": flat, "train_state": {"step": torch.tensor(3)}}))
    assert state.optimizer is not None and state.step == 3
    assert torch.equal(state.optimizer[names[0]]["exp_avg"], weights[names[0]] + 1)
    assert decided(state, "optimizer.lr")[1] == 1e-4


def test_what_torch_ema_put_aside_is_no_average(save: Save, weights: Weights) -> None:
    other = {name: tensor * 2 for name, tensor in weights.items()}
    ema = {"decay": 0.9, "shadow_params": list(other.values()), "collected_params": list(weights.values())}
    state = load_state(save({"model": weights, "ema": ema}), weights="ema")
    assert all(torch.equal(state.weights[name], tensor) for name, tensor in other.items())


def test_a_frozen_program_is_told(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.script(torch.nn.Linear(2, 2).eval())), tmp_path / "net.pt")
    assert "jit.freeze" in refusal(lambda: load_state(tmp_path / "net.pt"), RefusalReason.NO_WEIGHTS)


def test_an_optimizer_may_be_none(save: Save, weights: Weights) -> None:
    state = load_state(save({"state_dict": weights, "optimizer": None, "global_step": 5, "global_epoch": 1}))
    assert (state.step, state.epoch, state.optimizer) == (5, 1, None)


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
