"""What a person brings to a lab: a folder to submit, videos, a weights-only file, and configurations."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TRAIN, SWEEP = "configs/lab.yaml", "configs/lab_sweep.yaml"
"""The configurations in the project."""
MODEL: dict[str, Any] = {
    "name": "stable_syncnet",
    "num_frames": 5,
    "resolution": 32,
    "audio_encoder": {"in_channels": 1, "block_out_channels": [32, 32], "downsample_factors": [[8, 4], [10, 4]]},
    "visual_encoder": {"in_channels": 15, "block_out_channels": [32, 32], "downsample_factors": [4, [4, 8]]},
}
"""A StableSyncNet that takes milliseconds per step."""
STEPS = 400
"""Of a training run: long enough to lose a node on the way."""
PREPARE = ("--resolution", "32", "--val-fraction", "0.25", "--set", "clips_per_shard=1")
"""How videos are prepared: small, and in as many units of work as there are clips."""
_RUN: dict[str, Any] = {
    "model": MODEL,
    "optim": {"lr": 1e-3, "warmup_steps": 2, "schedule": "cosine"},
    "train": {"steps": STEPS, "global_batch": 8, "micro_batch": 4, "log_every": 10},
    "eval": {"every": 100, "pairs": 16, "batch": 8},
    "checkpoint": {"every": 20, "keep": 1},
    "scale": {"num_workers": 2, "cpus_per_worker": 1, "use_gpu": False},
}
_SWEEP: dict[str, Any] = {
    **_RUN,
    "train": {**_RUN["train"], "steps": 60},
    "eval": {**_RUN["eval"], "every": 20},
    "scale": {"num_workers": 1, "use_gpu": False},
    "sweep": {"trials": 2, "max_concurrent": 2, "space": {"optim.lr": {"loguniform": [1e-4, 1e-2]}}},
}


def write_project(folder: Path) -> None:
    """What `--working-dir .` takes along: the code, the jobs, and configurations."""
    root = Path(__file__).parents[2]
    for part in ("orchestrator", "jobs"):
        shutil.copytree(root / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "configs").mkdir()
    for name, content in ((TRAIN, _RUN), (SWEEP, _SWEEP)):
        (folder / name).write_text(yaml.safe_dump(content))


def make_videos(folder: Path) -> None:
    """Four synthetic speakers with three short clips each."""
    from orchestrator.data.synthetic import make_corpus

    make_corpus(folder, speakers=4, clips_per_speaker=3, seconds=1.6, size=64)


def prepare_alone(videos: str, out: str, environment: Mapping[str, str]) -> None:
    """What one machine makes of the videos, without Ray: called in a network that has the storage."""
    from orchestrator.data.prepare import PreparationConfig, prepare_local

    os.environ.update(environment)
    prepare_local(videos, out, PreparationConfig(resolution=32, val_fraction=0.25, clips_per_shard=1))


def make_weights(file: Path) -> None:
    """Nothing but the weights of the configured network."""
    import torch

    from orchestrator.config import load_model_config
    from orchestrator.models import build_model

    torch.manual_seed(1)
    torch.save(build_model(load_model_config(MODEL)).state_dict(), file)
