"""Checkpoints that other libraries write: Accelerate, Ray, MLflow, torch.export; and our own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.checkpoint import ExportFormat, TrainState, export, normalize, save_state
from orchestrator.config.model import Wav2LipSyncNetConfig
from orchestrator.errors import RefusalReason
from tests.zoo.case import MARK, Bad, Build, Good
from tests.zoo.files import parameter_tree, released
from tests.zoo.layouts import full
from tests.zoo.nets import (
    STEPS,
    net_of,
    stable_model_config,
    stable_weights,
    take_steps,
    trained,
    wav2lip_weights,
)
from tests.zoo.objects import Runs, rename_classes
from tests.zoo.quiet import quiet

Weights = dict[str, Tensor]


# ---- Accelerate


def accelerate(safe: bool, scaler: bool = False) -> Build:
    """A case's `build`: `Accelerator.save_state`."""

    def build(folder: Path) -> Path:
        from accelerate import Accelerator

        with quiet():
            accelerator = Accelerator(cpu=True)
            model = net_of(stable_weights())
            optimizer, scheduler = take_steps(model)
            model.load_state_dict(stable_weights())
            accelerator.prepare(model, optimizer, scheduler)
            made = folder / "checkpoint_2"
            accelerator.save_state(str(made), safe_serialization=safe)
        if scaler:  # which Accelerate makes on GPUs only
            torch.save(full()["scaler"], made / "scaler.pt")
        return made

    return build


# ---- Ray


def _ray(make: Callable[[Any], Any], foreign: bool = False) -> Build:
    def build(folder: Path) -> Path:
        with quiet():
            from ray.train.torch import TorchCheckpoint

            made = Path(make(TorchCheckpoint).path)
        shutil.copytree(made, folder / "checkpoint_000000")
        shutil.rmtree(made)
        model = folder / "checkpoint_000000" / "model.pt"
        if foreign:
            model.write_bytes(rename_classes(model.read_bytes()))
        return folder / "checkpoint_000000"

    return build


def folder_with(name: str, make: Callable[[Path], Any]) -> Build:
    """A case's `build`: what a train function of one's own reports to Ray, a folder with one file."""

    def build(folder: Path) -> Path:
        made = folder / "checkpoint_000000"
        made.mkdir()
        torch.save(make(folder / MARK), made / name)
        (made / ".metadata.json").write_text("{}")
        return made

    return build


# ---- MLflow


def mlflow_model(make: Callable[[], Any], **options: Any) -> Build:
    """A case's `build`: the folder of `mlflow.pytorch.save_model`, pickled."""

    def build(folder: Path) -> Path:
        import mlflow.pytorch

        with quiet():
            mlflow.pytorch.save_model(
                make(), folder / "model", pip_requirements=["torch"], serialization_format="pickle", **options
            )
        weights = folder / "model" / "data" / "model.pth"
        weights.write_bytes(rename_classes(weights.read_bytes()))
        return folder / "model"

    return build


def _by_value() -> torch.nn.Module:
    """A net whose class was written in a notebook: the pickle holds its code."""
    code = "import torch\nclass Net(torch.nn.Module):\n  def forward(self, x):\n    return x + len('called')\n"
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(code, scope)
    return parameter_tree(stable_weights(), scope["Net"])


def _mlflow_state_dict(folder: Path) -> Path:
    import mlflow.pytorch

    with quiet():
        mlflow.pytorch.save_state_dict(stable_weights(), folder / "model")
    return folder / "model"


def _mlflow_exported(folder: Path) -> Path:
    """What MLflow writes by default where it is given an example."""
    import mlflow.pytorch
    import numpy as np

    with quiet():
        model = parameter_tree(stable_weights())
        mlflow.pytorch.save_model(
            model, folder / "model", pip_requirements=["torch"], input_example=np.zeros((2, 3), np.float32)
        )
    return folder / "model"


def _mlflow_payload(folder: Path) -> Path:
    made = mlflow_model(lambda: torch.nn.Linear(2, 2))(folder)
    torch.save(Runs(folder / MARK), made / "data" / "model.pth")
    return made


def _exported(folder: Path) -> Path:
    with quiet():
        program = torch.export.export(parameter_tree(stable_weights()), (torch.zeros(2, 3),))
        torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2"


# ---- our own


def state(wav2lip: bool = False) -> TrainState:
    """A state with everything that foreign files have too."""
    return TrainState(
        model=Wav2LipSyncNetConfig() if wav2lip else stable_model_config(),
        weights=wav2lip_weights() if wav2lip else stable_weights(),
        step=STEPS,
        epoch=1,
        optimizer=trained("wav2lip", "Adam").moments if wav2lip else trained().moments,
    )


def _canonical(folder: Path) -> Path:
    save_state(state(), folder / "state")
    return folder / "state"


def _normalized(folder: Path) -> Path:
    torch.save(released(), folder / "net.pt")
    return normalize(folder / "net.pt", folder / "states").path


def _ours(format: ExportFormat, wav2lip: bool = False) -> Build:
    return lambda folder: export(state(wav2lip), format, folder / "exported")


def _moments() -> dict[str, dict[str, Tensor]]:
    return trained().moments


def _wav2lip_moments() -> dict[str, dict[str, Tensor]]:
    return trained("wav2lip", "Adam").moments


os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
_UNSAFE = RefusalReason.UNSAFE
CASES: tuple[Good | Bad, ...] = (
    Good("Accelerate, safetensors", "Accelerate", accelerate(True), step=None, epoch=None, moments=_moments),
    Good("Accelerate, bin", "Accelerate", accelerate(False), step=None, epoch=None, moments=_moments),
    Good(
        "Accelerate with a scaler",
        "Accelerate",
        accelerate(True, True),
        step=None,
        epoch=None,
        moments=_moments,
        scaler=True,
    ),
    Good("Ray, from_state_dict", "Ray", _ray(lambda made: made.from_state_dict(dict(stable_weights())))),
    Good("Ray, from_model", "Ray", _ray(lambda made: made.from_model(net_of(stable_weights())), foreign=True)),
    Good(
        "Ray, a folder with model.pt",
        "Ray",
        folder_with("model.pt", lambda mark: full()),
        step=STEPS,
        epoch=1,
        moments=_moments,
        scaler=True,
        best=0.25,
    ),
    Good("Ray, a folder with checkpoint.ckpt", "Ray", folder_with("checkpoint.ckpt", lambda mark: stable_weights())),
    Good("MLflow, pickled model", "MLflow", mlflow_model(lambda: net_of(stable_weights()))),
    Good("MLflow, pickled model with its code", "MLflow", mlflow_model(_by_value)),
    Good("MLflow, state dict", "MLflow", _mlflow_state_dict),
    Good("MLflow, exported program", "MLflow", _mlflow_exported),
    Good("torch.export program", "torch.export", _exported),
    Good("ours, a state", "our own", _canonical, step=STEPS, epoch=1, moments=_moments),
    Good("ours, normalized", "our own", _normalized),
    Good("ours, exported to LatentSync", "our own", _ours(ExportFormat.LATENTSYNC), step=None, epoch=None),
    Good("ours, exported to safetensors", "our own", _ours(ExportFormat.SAFETENSORS), step=STEPS, epoch=None),
    Good(
        "ours, exported to Wav2Lip",
        "our own",
        _ours(ExportFormat.WAV2LIP, True),
        wav2lip_weights,
        step=STEPS,
        epoch=1,
        moments=_wav2lip_moments,
    ),
    Bad("Ray, a payload for model.pt", "Ray", folder_with("model.pt", Runs), _UNSAFE, ("system",)),
    Bad("MLflow, a payload for model.pth", "MLflow", _mlflow_payload, _UNSAFE, ("system",)),
)
