"""Training on what the data settings can ask for: latents, all kinds of negatives, augmentation; evaluating there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.checkpoint import save_state
from orchestrator.config import RunConfig, apply_settings, load_config
from orchestrator.data.corpus import Corpus
from orchestrator.data.manifest import write_manifest
from orchestrator.data.shards import ShardKind
from orchestrator.errors import ConfigError, DataError
from orchestrator.planning import plan
from orchestrator.runtime.evaluate import evaluate
from orchestrator.storage import open_folder
from orchestrator.training.retention import checkpoints_in
from tests.conftest import TINY_MODEL
from tests.data.conftest import ClipArrays, manifest_row, write_shard
from tests.training.test_loop import Stopped, assert_same, cut_at, final, run

EVERYTHING = {
    "data.negatives": {"same_clip": 1, "near": 1, "cross_clip": 1, "cross_speaker": 1},
    "data.near_shift": [3, 9],
    "data.min_speech": 0.3,
    "data.augment": {
        "flip": 0.5,
        "brightness": 0.2,
        "contrast": 0.2,
        "mel_time": 3,
        "mel_bins": 9,
        "gain_db": 6,
    },
}
LATENT_MODEL = {
    "name": "stable_syncnet",
    "num_frames": 5,
    "resolution": 64,
    "lower_half": False,
    "latent_space": True,
    "audio_encoder": TINY_MODEL["audio_encoder"],
    "visual_encoder": {"in_channels": 20, "block_out_channels": [32, 32], "downsample_factors": [4, 2]},
}


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    """A corpus of invented latents, 8x8 of 4 channels."""
    rng = np.random.default_rng(3)
    clips = [
        ClipArrays(f"clip {number}", rng.normal(size=(40, 4, 8, 8)).astype(np.float16), np.zeros((80, 129), np.float32))
        for number in range(4)
    ]
    folder = tmp_path / "latents"
    write_shard(folder / "shards" / "s.arrow", clips, ShardKind.LATENTS)
    rows = [manifest_row(clip, row, split="train" if row else "val") for row, clip in enumerate(clips)]
    write_manifest(open_folder(folder), rows)
    return folder


def test_a_network_of_latents_trains(tiny_config: RunConfig, latents: Path, tmp_path: Path) -> None:
    settings = {"model": LATENT_MODEL, "data.path": str(latents), "train.steps": 3, "data.augment.gain_db": 3}
    log = run(apply_settings(tiny_config, settings), tmp_path / "run")
    assert np.isfinite(log.rows[-1]["train/loss"])
    trained = final(tmp_path / "run").weights["visual_encoder.conv_in.weight"]
    assert trained.shape == (32, 20, 3, 3) and torch.isfinite(trained).all()
    report = evaluate(checkpoints_in(tmp_path / "run")[-1], latents, pairs=8)
    assert (report.pairs, report.notes) == (8, ())


def test_pictures_of_latents_are_not_augmented() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"model": LATENT_MODEL, "data": {"augment": {"flip": 0.5, "contrast": 0.1, "gain_db": 3}}})
    assert [line.split("`")[1] for line in caught.value.problems] == ["data.augment.flip", "data.augment.contrast"]


def test_a_run_with_everything_on_goes_on_exactly(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = apply_settings(tiny_config, EVERYTHING)
    run(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(config, tmp_path / "cut", ask=cut_at(7))
    run(config, tmp_path / "cut")
    assert_same(final(tmp_path / "whole"), final(tmp_path / "cut"))


def test_mixture_and_augmentation_change_training_and_never_validation(tiny_config: RunConfig, tmp_path: Path) -> None:
    one_step = {"train.steps": 1, "train.log_every": 1, "optim.warmup_steps": 0, "data.min_speech": 0.3}
    mixed = {name: value for name, value in EVERYTHING.items() if name != "data.augment"}
    rows = [
        run(apply_settings(tiny_config, {**settings, **one_step}), tmp_path / str(number)).exact()
        for number, settings in enumerate(({}, mixed, EVERYTHING))
    ]
    assert rows[0][0] == rows[1][0] == rows[2][0]
    assert len({row[1]["train/loss"] for row in rows}) == 3


def test_plan_tells_the_mixture_and_what_is_left_out(tiny_config: RunConfig) -> None:
    facts = plan(tiny_config).facts
    assert (facts["negatives"], facts["augmentation"]) == ("same_clip 100%", "none")
    wanted = {**EVERYTHING, "data.negatives.near": 2, "data.near_shift": [3, 30]}
    facts = plan(apply_settings(tiny_config, wanted)).facts
    assert facts["negatives"] == "same_clip 20%, near 40%, cross_clip 20%, cross_speaker 20%"
    assert facts["augmentation"].startswith("flip 0.5, brightness 0.2")
    longer = apply_settings(tiny_config, {"data.min_shift": 99})
    assert plan(longer).problems and "needs clips of 108 frames" in plan(longer).problems[0]


def test_a_pair_list_is_written_once_and_then_used(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = apply_settings(tiny_config, {"train.steps": 2})
    run(config, tmp_path / "run")
    checkpoint, data, file = checkpoints_in(tmp_path / "run")[-1], str(config.data.path), tmp_path / "pairs.parquet"
    first = evaluate(checkpoint, data, pairs=12, pair_list=file)
    written = file.read_bytes()
    again = evaluate(checkpoint, data, pairs=40, pair_list=file)
    assert again.to_dict() == first.to_dict() and again.pairs == 12 and file.read_bytes() == written
    assert evaluate(checkpoint, data, pairs=12).pairs_hash == first.pairs_hash
    with pytest.raises(DataError, match="clips that the 'train' split"):
        evaluate(checkpoint, data, split="train", pair_list=file)


def test_another_preparation_is_noted(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = apply_settings(tiny_config, {"train.steps": 2})
    run(config, tmp_path / "run")
    state = final(tmp_path / "run")
    assert state.progress["preparation"] == Corpus.open(str(config.data.path)).preparation
    elsewhere = replace(state, progress={**state.progress, "preparation": "f" * 64})
    save_state(elsewhere, tmp_path / "elsewhere")
    (note,) = evaluate(tmp_path / "elsewhere", str(config.data.path), pairs=8).notes
    assert "trained on a corpus prepared otherwise (ffffffffffff" in note
