"""A folder that holds what the documentation's commands speak of, under the names that it uses, as small as can be.

Contract: the nets are narrow ones of LatentSync's structure, so that files of weights alone are recognised; every
preset is replaced by one of that net with few steps. What stands in capitals in a command is a file or folder of that
name.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from orchestrator.checkpoint import normalize
from orchestrator.data.manifest import read_manifest
from orchestrator.data.revisions import Revision, revise_manifest
from orchestrator.storage import open_folder
from tests.docs.pages import ROOT
from tests.evaluation.talking import write_talk
from tests.zoo.nets import other_weights, stable_model_config, stable_weights

FILES = ("stable_syncnet.pt", "FILE", "CKPT", "A")
OTHERS = ("other.pt", "B")
CHECKPOINT = "runs/first/step-000020000"
"""The checkpoint of a finished run that the documentation exports."""
_CORPORA = ("corpus", "DIR")
_STATES = ("states", "PATH", "DIR")
_VIDEOS = ("generated.mp4", "generated/one.mp4")
_STEPS = 2


def furnish(folder: Path) -> None:
    """Files of weights, presets and generated videos, as a person has them at the beginning."""
    for name in _VIDEOS:
        write_talk(folder / name, frames=72)
    for names, weights in ((FILES, stable_weights()), (OTHERS, other_weights())):
        for name in names:
            torch.save({"state_dict": weights}, folder / name)
    (folder / "configs").mkdir()
    for preset in sorted((ROOT / "configs").glob("*.yaml")):
        (folder / "configs" / preset.name).write_text(yaml.safe_dump(_small(yaml.safe_load(preset.read_text()))))
    shutil.copy(folder / "configs" / "latentsync_16_pixel_attn.yaml", folder / "CONFIG")


def finish(folder: Path, corpus: Path) -> None:
    """What the commands would have made by and by: an audited corpus, states, a run's checkpoint."""
    for name in _CORPORA:
        shutil.copytree(corpus, folder / name)
        prepared = open_folder(folder / name)
        first = read_manifest(prepared)[0]
        revise_manifest(prepared, [Revision(first.clip_id, av_offset_s=0.04, audit="shifted")], "audit")
    for name in _STATES:
        made = normalize(folder / FILES[0], folder / name).path
    shutil.copytree(made, folder / CHECKPOINT)


def _small(preset: dict[str, Any]) -> dict[str, Any]:
    """A preset with the narrow net and few steps; a sweep of two trials over what it sweeps."""
    small = {
        "model": stable_model_config().model_dump(mode="json"),
        "train": {"steps": _STEPS, "global_batch": 4, "micro_batch": 4},
        "optim": {"lr": 1.0e-4},
        "eval": {"every": _STEPS, "pairs": 4, "batch": 4},
        "checkpoint": {"every": _STEPS},
        "scale": preset["scale"],
    }
    if "sweep" not in preset:
        return small
    space = {name: how for name, how in preset["sweep"]["space"].items() if name == "optim.lr"}
    return {**small, "sweep": {**preset["sweep"], "trials": 2, "space": space, "max_concurrent": 1}}
