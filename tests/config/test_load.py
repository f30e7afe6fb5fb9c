"""Configurations load whole or are refused with every problem at once, in one grammar."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import apply_settings, load_config, load_config_with_notes, load_model_config
from orchestrator.config.findings import setting_names
from orchestrator.errors import ConfigError
from tests.config.latentsync_files import latentsync_yaml
from tests.conftest import TINY_MODEL
from tests.models.test_architectures import shipped

NCE = {"name": "info_nce", "group": 8}
FILES = ("16_pixel", "16_pixel_attn", "16_latent", "25_pixel")


def problems_of(raw: dict[str, Any], overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config({"model": TINY_MODEL, **raw}, overrides)
    return caught.value.problems


@pytest.mark.parametrize("name", FILES)
def test_latentsyncs_own_files_load(name: str, tmp_path: Path) -> None:
    file = tmp_path / "syncnet.yaml"
    file.write_text(latentsync_yaml(name))
    config, notes = load_config_with_notes(file)
    wanted = shipped(name)
    for part in ("audio_encoder", "visual_encoder"):
        assert getattr(config.model, part).attention == getattr(wanted, part).attention
        assert getattr(config.model, part).downsample_factors == getattr(wanted, part).downsample_factors
    assert (config.model.num_frames, config.model.latent_space) == (wanted.num_frames, wanted.latent_space)
    assert (config.optim.lr, config.optim.grad_clip_norm, config.train.steps) == (1e-5, 1.0, 10_000_000)
    assert config.train.global_batch == {"16_latent": 120, "25_pixel": 64}.get(name, 256)
    assert config.eval.every == config.checkpoint.every == 2500
    assert config.train.precision == "bf16"
    assert any("train_fileslist" in note for note in notes)
    assert load_model_config(file) == config.model


def test_a_resume_path_of_latentsync_becomes_the_start(tmp_path: Path) -> None:
    file = tmp_path / "syncnet.yaml"
    file.write_text(latentsync_yaml("16_pixel").replace('resume_ckpt_path: ""', "resume_ckpt_path: a.pt"))
    assert load_config(file).start.checkpoint == "a.pt"


def test_another_frame_rate_of_latentsync_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "syncnet.yaml"
    file.write_text(latentsync_yaml("16_pixel").replace("video_fps: 25", "video_fps: 30"))
    with pytest.raises(ConfigError, match=r"data\.video_fps"):
        load_config(file)


def test_all_problems_come_at_once() -> None:
    raw = {"optim": {"lr": -1, "weight_decy": 0.1}, "trian": {}, "train": {"steps": "many", "precision": "fp8"}}
    text = problems_of(raw)
    assert len(text) == 5
    assert "`optim.lr` must be > 0.0, but is -1" in text
    assert "`optim.weight_decy` is not a setting; did you mean `optim.weight_decay`?" in text
    assert "`trian` is not a setting; did you mean `train`?" in text
    assert any(line.startswith("`train.steps`") and "'many'" in line for line in text)
    assert "`train.precision` must be 'fp32', 'bf16' or 'fp16', but is 'fp8'" in text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"start": {"verb": "resume"}}, "`start.verb` is resume, which needs `start.checkpoint`"),
        ({"optim": {"warmup_steps": 20}, "train": {"steps": 10}}, "`optim.warmup_steps` must be <= `train.steps` (10)"),
        ({"train": {"steps": -1}}, "`train.steps` must be >= 0, but is -1"),
        ({"optim": {"freeze": "audio_encoder"}}, "`optim.freeze`: input should be a valid tuple, but it is 'audio_"),
        ({"eval": {"pairs": 3}}, "`eval.pairs` must be even"),
        (
            {"scale": {"num_workers": 9}, "train": {"global_batch": 8}},
            "`train.global_batch` must be >= 9, 1 for each of",
        ),
        ({"scale": {"num_workers": 2, "min_workers": 3}}, "`scale.min_workers` must be <= `scale.num_workers` (2)"),
        ({"scale": {"num_workers": 0, "min_workers": 1}}, "`scale.min_workers` must be <= `scale.num_workers` (0)"),
        ({"loss": {"group": 5}}, "`loss` must have an even `group`, two samples of each clip, but it is 5"),
        ({"loss": NCE, "train": {"global_batch": 20}}, "must be a multiple of `loss.group` (8), because"),
        ({"loss": NCE, "train": {"micro_batch": 7}}, "`train.micro_batch` must be >= `loss.group` (8), because"),
        (
            {"loss": NCE, "train": {"global_batch": 8}, "scale": {"num_workers": 2}},
            "must be >= 16, 8 for each of the 2",
        ),
        ({"loss": NCE}, "`checkpoint.metric` must be val/auc, because info_nce gives cosine 0.5 no meaning"),
        ({"loss": {"name": "margin"}, "checkpoint": {"metric": "val/loss"}}, "must be val/auc, because margin gives"),
        ({"train": {"precision": "fp16"}, "scale": {"use_gpu": False}}, "fp16 needs a GPU"),
        ({"data": {"min_shift": 5, "max_shift": 2}}, "`data.max_shift` must be >= `data.min_shift` (5), but is 2"),
        ({"data": {"near_shift": [2, 9]}}, "`data` must have near_shift with 3 <= low <= high, but it is [2, 9]"),
        ({"data": {"negatives": {"same_clip": 0}}}, "`data.negatives` must have at least one weight > 0"),
        ({"data": {"negatives": {"near": -1}}}, "`data.negatives.near` must be >= 0.0, but is -1"),
        ({"data": {"augment": {"flip": 2}}}, "`data.augment.flip` must be <= 1.0, but is 2"),
        ({"data": {"augment": {"mel_time": 16}}}, "`data.augment.mel_time` must be < 16, all that a window has"),
        ({"data": {"augment": {"mel_bins": 80}}}, "`data.augment.mel_bins` must be < 80"),
        ({"data": {"augment": {"blur": 1}}}, "`data.augment.blur` is not a setting"),
        ({"model": {**TINY_MODEL, "name": "syncnet"}}, "`model.name` must be one of 'stable_syncnet'"),
        ({"model": {"audio_encoder": {}}}, "`model.name` is required"),
        ({"model": {**TINY_MODEL, "resolution": 64}}, "must end at 1x1, but `down_blocks` end at"),
        ({"train": None}, "`train`"),
    ],
)
def test_contradictions_are_named(raw: dict[str, Any], expected: str) -> None:
    assert any(expected in line for line in problems_of(raw)), problems_of(raw)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"optim.lrr": {"grid": [1]}}, "`optim.lrr`, which is not a setting; did you mean `optim.lr`?"),
        ({"optim.lr": {"choice": [0.1, -1]}}, "has the value -1: `optim.lr` must be > 0.0, but is -1"),
        ({"optim.lr": {"loguniform": [0, 1]}}, "a loguniform range must be > 0"),
        ({"optim.lr": {"uniform": [2, 1]}}, "must go from low to high"),
        ({"optim.lr": {"uniform": [1, 2], "grid": [1]}}, "must have exactly one of"),
        ({}, "`sweep.space`"),
    ],
)
def test_sweep_spaces_are_checked_against_the_schema(space: dict[str, Any], expected: str) -> None:
    assert any(expected in line for line in problems_of({"sweep": {"space": space}}))


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("train.micro_batch", "auot", "a whole number >= 1 or 'auto'"),
        ("train.micro_batch", 0, "a whole number >= 1 or 'auto'"),
        ("scale.use_gpu", "maybe", "true, false or 'auto'"),
        ("speed.channels_last", 7, "true, false or 'auto'"),
    ],
)
def test_a_value_that_fits_no_member_of_a_union_is_one_problem(setting: str, value: object, expected: str) -> None:
    assert problems_of({}, (f"{setting}={value}",)) == [f"`{setting}` must be {expected}, but is {value!r}"]


def test_a_value_with_the_shape_of_one_member_of_a_union_is_told_what_is_wrong_inside_it() -> None:
    factors = [2, "x", [1, "y"], [1, 2, 3]]
    encoder = {**TINY_MODEL["audio_encoder"], "downsample_factors": factors}
    problems = problems_of({"model": {**TINY_MODEL, "audio_encoder": encoder}})
    place, either = "`model.audio_encoder.downsample_factors", "a whole number or a pair of whole numbers"
    assert problems[0] == f"{place}[1]` must be {either}, but is 'x'"
    assert problems[1].startswith(f"{place}[2][1]`: input should be a valid integer")
    assert problems[2:] == [f"{place}[3]` must be {either}, but is [1, 2, 3]"]


def test_a_setting_of_another_network_is_not_proposed_again() -> None:
    problems = problems_of({"model": {"name": "wav2lip_syncnet", "resolution": 96, "neme": 1}})
    assert "`model.resolution` is not a setting of this network" in problems
    assert "`model.neme` is not a setting; did you mean `model.name`?" in problems


def test_a_loss_of_groups_fits_whole_groups_and_any_number_of_workers() -> None:
    config = load_config(
        {
            "model": TINY_MODEL,
            "loss": NCE,
            "train": {"global_batch": 24, "micro_batch": "auto"},
            "checkpoint": {"metric": "val/auc"},
            "scale": {"num_workers": 2, "min_workers": 1},
        }
    )
    assert (config.loss.group, config.train.global_batch, config.train.micro_batch) == (8, 24, "auto")


def test_a_run_of_no_steps_has_no_warm_up() -> None:
    config = load_config({"model": TINY_MODEL, "optim": {"warmup_steps": 20}}, ["train.steps=0"])
    assert (config.train.steps, config.optim.warmup_steps) == (0, 20)


def test_overrides_replace_and_are_checked() -> None:
    config = load_config({"model": TINY_MODEL}, ["optim.lr=3e-4", "optim.betas=[0.8,0.9]", "data.max_shift=null"])
    assert (config.optim.lr, config.optim.betas, config.data.max_shift) == (3e-4, (0.8, 0.9), None)
    frozen = load_config({"model": TINY_MODEL}, ["optim.freeze=[audio_encoder,visual_encoder.conv_in]"])
    assert frozen.optim.freeze == ("audio_encoder", "visual_encoder.conv_in")
    assert problems_of({}, ("optim.lr",)) == ["override `optim.lr` must look like a.b=c"]


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2", "a: ${b}"])
def test_what_is_no_configuration_gets_one_message(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml has 1 problem"):
        load_config(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        load_config(tmp_path / "nothing.yaml")


def test_a_value_that_looks_like_an_interpolation_is_resolved_only_once() -> None:
    config = load_config({"model": TINY_MODEL, "storage": "${tracking.experiment}", "tracking": {"experiment": "here"}})
    assert config.storage == "here"


def test_a_configuration_survives_a_round_trip() -> None:
    config = load_config({"model": TINY_MODEL, "sweep": {"space": {"optim.lr": {"grid": [1e-3]}}}})
    assert load_config(config.model_dump(mode="json")) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_apply_settings_checks_again() -> None:
    config = load_config({"model": TINY_MODEL})
    assert apply_settings(config, {"optim.lr": 0.5, "train.seed": 7}).optim.lr == 0.5
    with pytest.raises(ConfigError, match=r"`optim\.lr` must be > 0"):
        apply_settings(config, {"optim.lr": 0})


def test_every_setting_is_documented() -> None:
    from orchestrator.config.schema import RunConfig

    def undocumented(schema: Any, prefix: str = "") -> list[str]:
        found = [prefix + key for key, field in schema.model_fields.items() if not field.description]
        for key, field in schema.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                found += undocumented(field.annotation, f"{prefix}{key}.")
        return found

    assert undocumented(RunConfig) == []
    assert "optim.lr" in list(setting_names())


def test_errors_survive_pickling() -> None:
    error = ConfigError(["one", "two"], source="x.yaml", hint="do this")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems, again.hint) == (str(error), ["one", "two"], "do this")
