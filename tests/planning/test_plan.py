"""What a plan computes, measures and warns of, before anything is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.config import RunConfig, load_config
from orchestrator.config.load import apply_settings
from orchestrator.models import build_model, skeleton
from orchestrator.planning import plan
from orchestrator.planning.advice import Circumstances, advice, disk_problem
from orchestrator.planning.memory import estimate
from orchestrator.planning.probe import Measured, TooSlow, forward_flops, measure
from orchestrator.planning.sizes import DiskUse, checkpoint_bytes, disk_use
from orchestrator.training.batching import plan_batches

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def attn() -> RunConfig:
    return load_config(ROOT / "configs" / "latentsync_16_pixel_attn.yaml")


def test_a_plan_writes_nothing_and_says_how_long_it_takes(tiny_config: RunConfig) -> None:
    looked = plan(tiny_config)
    facts = looked.facts
    assert (looked.problems, facts["steps to go"], facts["batch"]) == ([], 12, "8 = 1 x 2 x 4")
    assert facts["ETA (s)"] > 0 and facts["samples/s"] > 0 and "4 samples at once" in facts["measured"]
    assert not Path(tiny_config.storage).exists()
    assert "ETA" not in plan(tiny_config, probe=False).facts


def test_problems_come_together(tiny_config: RunConfig, tmp_path: Path) -> None:
    wrong = {"data.path": str(tmp_path / "none"), "start.checkpoint": str(tmp_path / "none.pt")}
    looked = plan(apply_settings(tiny_config, wrong), probe=False)
    assert len(looked.problems) == 2 and looked.facts["checkpoints kept"] == 2


def test_a_sweep_is_planned_as_a_whole_and_by_trial(tiny_config: RunConfig) -> None:
    space = {"optim.lr": {"grid": [1e-3, 1e-4]}, "train.seed": {"grid": [1, 2, 3]}}
    config = apply_settings(tiny_config, {"sweep": {"space": space, "search": "grid", "hours": 2}})
    facts = plan(config, probe=False).facts
    assert facts["trials"].startswith("6, search grid, scheduler none, at most 2 hours")
    assert facts["samples of all trials"] == 6 * 12 * 8 and facts["samples"] == 12 * 8


def test_hours_and_validations(tiny_config: RunConfig) -> None:
    facts = plan(apply_settings(tiny_config, {"train.steps": 4500, "eval.every": 1000}), probe=False).facts
    # 4500 steps of 8 windows of 5 frames at 25 frames a second; step 0, four thousands and the last
    assert facts["hours of video seen"] == pytest.approx(2.0) and facts["validations"] == "6 of 16 pairs"


def test_a_run_of_no_steps_takes_one_validation(tiny_config: RunConfig) -> None:
    config = apply_settings(tiny_config, {"train.steps": 0, "train.patience": 3, "train.global_batch": 256})
    looked = plan(config)
    facts = looked.facts
    assert (looked.problems, looked.notes, facts["steps to go"], facts["samples"]) == ([], [], 0, 0)
    assert facts["validations"] == "1 of 16 pairs" and facts["checkpoints kept"] == 1
    # 16 pairs at 0.1 s each
    assert Measured("x", 2, pass_s=1.0, update_s=0.5, forward_s=0.2).run_s(config, plan_batches(256, 2, 1), 0) == 1.6


def test_a_plan_says_what_trains(tiny_config: RunConfig) -> None:
    plain, frozen = (
        plan(apply_settings(tiny_config, {"optim.freeze": entries, "train.ema_decay": 0.9}))
        for entries in ([], ["visual_encoder"])
    )
    assert plain.facts["parameters that train"] == plain.facts["parameters"] == frozen.facts["parameters"]
    audio = sum(value.numel() for value in build_model(tiny_config.model).audio_encoder.parameters())  # type: ignore[union-attr]
    assert frozen.facts["parameters that train"] == audio and frozen.problems == []
    assert frozen.facts["checkpoint size (MB)"] < plain.facts["checkpoint size (MB)"]


def test_a_freeze_that_fits_nothing_is_one_problem_among_others(tiny_config: RunConfig, tmp_path: Path) -> None:
    wrong = {"data.path": str(tmp_path / "none"), "optim.freeze": ["visual_encodr", "audio_encoder.conv_inn"]}
    looked = plan(apply_settings(tiny_config, wrong))
    assert len(looked.problems) == 2 and "did you mean `visual_encoder`?" in looked.problems[0]
    assert "did you mean `audio_encoder.conv_in`?" in looked.problems[0] and "parameters" in looked.facts


def test_what_a_sweep_freezes_is_looked_at_too(tiny_config: RunConfig) -> None:
    space = {"optim.freeze": {"grid": [[], ["audio_encoder"], ["*.conv_inn"]]}}
    looked = plan(apply_settings(tiny_config, {"sweep": {"space": space}}), probe=False)
    (problem,) = looked.problems
    assert "`optim.freeze` names `*.conv_inn`, which is no part of stable_syncnet" in problem


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, 2),  # the best and the last
        ({"checkpoint.keep": 9}, 5),  # all there are: 0, 4, 8, 12, and 6 where it is validated
        ({"checkpoint.keep": 9, "checkpoint.every": 99}, 3),
        ({"checkpoint.every": 1, "checkpoint.keep_every": 4}, 5),  # and for ever 4, 8, 12
    ],
)
def test_checkpoints_kept(tiny_config: RunConfig, settings: dict[str, Any], kept: int) -> None:
    assert disk_use(1000, 1000, apply_settings(tiny_config, settings)).kept == kept


def test_checkpoint_size_is_that_of_the_tensors(tiny_config: RunConfig) -> None:
    assert checkpoint_bytes(1000, 1000, tiny_config) == 12_000
    averaged = apply_settings(tiny_config, {"train.ema_decay": 0.99})
    assert checkpoint_bytes(1000, 1000, averaged) == 16_000
    assert checkpoint_bytes(1000, 100, averaged) == 8_800


def test_activations_are_counted_as_autograd_keeps_them(tiny_config: RunConfig) -> None:
    model, kept = build_model(tiny_config.model), dict[int, torch.UntypedStorage]()
    own = {parameter.data_ptr() for parameter in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    shape = model.input_shape
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(torch.rand(4, *shape.frames), torch.rand(4, *shape.audio))
    real = sum(storage.nbytes() for storage in kept.values())
    counted = estimate(tiny_config, 4, 1, "cpu")
    assert len(outputs) == 2 and counted.activations == pytest.approx(real, rel=0.02)
    assert counted.weights == 4 * sum(parameter.numel() for parameter in model.parameters())


def test_memory_follows_the_settings(attn: RunConfig) -> None:
    plain = estimate(attn, 64, 1, "cuda")
    assert plain.weights == plain.gradients == plain.moments // 2 and plain.average == 0
    assert plain.casts == pytest.approx(plain.weights / 2, rel=0.01), "autocast keeps a half copy of the weights"
    again = estimate(apply_settings(attn, {"speed.gradient_checkpointing": True}), 64, 1, "cuda")
    assert again.activations < plain.activations / 2
    shared = estimate(apply_settings(attn, {"scale.strategy": "fsdp", "scale.num_workers": 8}), 64, 8, "cuda")
    assert shared.moments == plain.moments // 8 and shared.total < plain.total
    exact = estimate(apply_settings(attn, {"train.precision": "fp32"}), 64, 1, "cuda")
    assert exact.per_sample > plain.per_sample and exact.casts < 1e6


def test_what_is_frozen_needs_weights_only(attn: RunConfig) -> None:
    attn = apply_settings(attn, {"train.ema_decay": 0.99, "train.precision": "fp32"})
    fsdp = {"scale.strategy": "fsdp", "scale.num_workers": 8}
    for workers, settings in ((1, {}), (8, fsdp)):
        plain = estimate(apply_settings(attn, settings), 64, workers, "cuda")
        frozen = estimate(apply_settings(attn, {**settings, "optim.freeze": ["visual_encoder"]}), 64, workers, "cuda")
        share = frozen.gradients / plain.gradients
        assert 0.2 < share < 0.8 and frozen.average == frozen.gradients
        assert frozen.moments == pytest.approx(share * plain.moments, rel=1e-6)
        # its activations are not kept, only the picture and the embedding; the audio encoder reads a small one
        assert frozen.per_sample < 0.2 * plain.per_sample and frozen.host < plain.host
    assert frozen.weights <= plain.weights and estimate(attn, 64, 1, "cuda").weights == attn_bytes(attn)


def attn_bytes(config: RunConfig) -> int:
    return 4 * sum(parameter.numel() for parameter in skeleton(config.model).parameters())


def test_operations_are_those_of_the_published_net(attn: RunConfig) -> None:
    assert forward_flops(attn) == pytest.approx(40.9e9, rel=0.01)


def test_time_of_a_run_from_what_was_measured(tiny_config: RunConfig) -> None:
    measured = Measured("x", micro_batch=2, pass_s=1.0, update_s=0.5, forward_s=0.2)
    assert measured.step_s(plan_batches(8, 2, 1)) == 4.5
    assert measured.step_s(plan_batches(8, 2, 2)) == 2.5
    # 12 steps with validations of 16 pairs at 0.1 s each, before them and at steps 6 and 12
    assert measured.run_s(tiny_config, plan_batches(8, 2, 1), 12) == pytest.approx(12 * 4.5 + 3 * 16 * 0.1)
    # and continued after step 3
    assert measured.run_s(tiny_config, plan_batches(8, 2, 1), 9) == pytest.approx(9 * 4.5 + 2 * 16 * 0.1)


def test_a_probe_that_would_take_too_long_is_not_begun(tiny_config: RunConfig) -> None:
    with pytest.raises(TooSlow) as refused:
        measure(tiny_config, 4, CPU, budget_s=1e-9)
    assert refused.value.size == 1 and refused.value.seconds > 0
    looked = plan(tiny_config, budget_s=1e-9)
    assert looked.problems == [] and any("nothing was measured" in note for note in looked.notes)


def test_a_probe_changes_nothing_around_it(tiny_config: RunConfig) -> None:
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    measure(tiny_config, 4, CPU)
    assert torch.equal(random, torch.get_rng_state()) and threads == torch.get_num_threads()


def around(**changes: Any) -> Circumstances:
    return replace(Circumstances(10_000_000, False, "cpu", DiskUse(10**9, 3), 10**12), **changes)


@pytest.mark.parametrize(
    ("settings", "changes", "expected"),
    [
        ({"train.precision": "bf16"}, {}, "6 to 10 times slower"),
        ({"train.global_batch": 128}, {}, "may stay at ln 2"),
        ({"train.global_batch": 1024}, {"batch_norm": True}, "batch norm"),
        ({"train.global_batch": 1024, "scale.num_workers": 4, "scale.min_workers": 2}, {}, "elastic: from 2 to 4"),
        ({"scale.strategy": "fsdp", "scale.num_workers": 2}, {}, "10.0 M parameters"),
        ({"scale.strategy": "fsdp"}, {"parameters": 10**9}, "nobody to share"),
        ({"train.steps": 9000, "checkpoint.keep_every": 100}, {}, "90 checkpoints for ever: 90.0 GB"),
        ({}, {"free_disk": 5 * 10**9}, "4.0 GB of the 5.0 GB"),
        ({"train.micro_batch": "auto"}, {"device_type": "cuda"}, "an estimate"),
        ({"train.patience": 50}, {}, "never stops"),
        ({"optim.warmup_steps": 10}, {}, "warm-up"),
    ],
)
def test_advice(tiny_config: RunConfig, settings: dict[str, Any], changes: dict[str, Any], expected: str) -> None:
    calm = apply_settings(tiny_config, {"train.global_batch": 1024})
    assert advice(calm, around()) == []
    assert expected in " ".join(advice(apply_settings(tiny_config, settings), around(**changes)))


def test_a_full_disk_is_a_problem_before_it_is_one() -> None:
    assert disk_problem(DiskUse(10**9, 3), 4 * 10**9, "runs") is None
    problem = disk_problem(DiskUse(10**9, 3), 3 * 10**9, "runs")
    assert problem is not None and "4.0 GB" in problem and "hint" in problem


def test_single_samples_and_batch_norm_do_not_go_together(tiny_corpus: Path) -> None:
    config = load_config(ROOT / "configs" / "wav2lip.yaml", ["train.micro_batch=1", "scale.use_gpu=false"])
    (problem,) = plan(config).problems
    assert "at least 2 samples" in problem
