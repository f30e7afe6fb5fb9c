"""Small checkpoints of every container and folder, from which damaged ones are made.

Contract: `FILES` and `FOLDERS` give the same bytes in every process of one installation; each is read whole by
`inspect` with `CONFIG`, the smallest network there is.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from orchestrator.config.model import EncoderConfig, StableSyncNetConfig
from orchestrator.models import build_model
from tests.zoo.files import legacy_tar, rezipped, tar_of, torch_bytes, zip_of

_AUDIO = EncoderConfig(in_channels=1, block_out_channels=(32,), downsample_factors=((80, 16),))
_VISUAL = EncoderConfig(in_channels=15, block_out_channels=(32,), downsample_factors=((4, 8),))
CONFIG = StableSyncNetConfig(audio_encoder=_AUDIO, visual_encoder=_VISUAL, num_frames=5, resolution=8)
"""One block of 32 channels in each encoder."""


@cache
def weights() -> dict[str, Tensor]:
    """Its tensors, in float16 to be small."""
    return {name: tensor.half() for name, tensor in build_model(CONFIG, seed=1).state_dict().items()}


@cache
def everything() -> dict[str, Any]:
    """A full training state with all that layouts look for."""
    moments = {i: {"step": torch.tensor(3.0), "exp_avg": t, "exp_avg_sq": t} for i, t in enumerate(weights().values())}
    groups = [{"lr": 1e-4, "betas": (0.9, 0.999), "params": list(moments)}]
    return {
        "state_dict": weights(),
        "optimizer": {"state": moments, "param_groups": groups},
        "lr_scheduler": {"last_epoch": 3, "_last_lr": [1e-4]},
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000,
                   "_growth_tracker": 1},
        "global_step": np.int64(3),
        "epoch": 1,
        "train_step_list": [1, 2, 3],
        "train_loss_list": [0.7, 0.69, 0.68],
        "best_loss": 0.5,
        "when": Path("somewhere"),
    }  # fmt: skip


@cache
def files() -> dict[str, bytes]:
    """Name of the container -> a whole file of it."""
    arrays = {name: tensor.numpy() for name, tensor in weights().items()}
    released = torch_bytes({"state_dict": weights()})
    return {
        "torch-zip": torch_bytes(everything()),
        "torch-zip-released": released,
        "torch-zip-deflated": rezipped(released, method=zipfile.ZIP_DEFLATED),
        "torch-legacy": torch_bytes(everything(), _use_new_zipfile_serialization=False),
        "torch-tar": legacy_tar({"state_dict": weights()}),
        "torchscript": _script(),
        "torch-export": _exported(),
        "safetensors": safetensors_bytes(weights(), {"global_step": "3"}),
        "npz": _npz(arrays, np.savez),
        "npz-compressed": _npz(arrays, np.savez_compressed),
        **{f"pickle-{protocol}": pickle.dumps(arrays, protocol) for protocol in (0, 2, 4, 5)},
        "pickle-tensors": pickle.dumps(weights(), 2),
        "gzip": gzip.compress(released, 1, mtime=0),
        "bzip2": bz2.compress(released, 1),
        "xz": lzma.compress(released, preset=0),
        "zip": zip_of({"model/net.pt": released, "README.md": b"words"}),
        "tar": tar_of({"model/net.pt": released}),
    }


@cache
def folders() -> dict[str, dict[str, bytes]]:
    """Name of the folder format -> a whole folder of it, as bytes by name."""
    names = sorted(weights())
    halves = [{name: weights()[name] for name in part} for part in (names[::2], names[1::2])]
    shards = {f"model-{i}.safetensors": safetensors_bytes(half) for i, half in enumerate(halves)}
    index = {name: f"model-{i}.safetensors" for i, half in enumerate(halves) for name in half}
    return {
        "sharded": {**shards, "model.safetensors.index.json": json.dumps({"weight_map": index}).encode()},
        "accelerate": {
            "model.safetensors": safetensors_bytes(weights()),
            "optimizer.bin": torch_bytes(everything()["optimizer"]),
            "scheduler.bin": torch_bytes(everything()["lr_scheduler"]),
            "random_states_0.pkl": torch_bytes({"step": 3}),
        },
        "deepspeed": _zero(),
        "dcp": _written(lambda folder: dcp.save({"model": weights(), "step": 3}, checkpoint_id=folder, no_dist=True)),
        "mlflow": {
            "MLmodel": b"flavors:\n  pytorch:\n    model_data: data\n    pytorch_version: '2'\n",
            "data/model.pth": torch_bytes(weights()),
        },
    }


def _npz(arrays: dict[str, np.ndarray], save: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def _script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())), buffer)
    return buffer.getvalue()


def _exported() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(3, 3), (torch.ones(1, 3),)), buffer)
    return buffer.getvalue()


def _zero() -> dict[str, bytes]:
    """ZeRO stage 1 of one process: the module in half precision, its parameters flat in float32."""
    flat = torch.cat([tensor.float().flatten() for tensor in weights().values()])
    moments = {0: {"step": 3, "exp_avg": flat, "exp_avg_sq": flat}}
    optimizer = {
        "zero_stage": 1,
        "partition_count": 1,
        "single_partition_of_fp32_groups": [flat],
        "base_optimizer_state": {"state": moments, "param_groups": [{"lr": 1e-4, "params": [0]}]},
    }
    shapes = {name: tensor.shape for name, tensor in weights().items()}
    model = {"module": weights(), "param_shapes": [shapes], "buffer_names": [], "dp_world_size": 1, "global_steps": 3}
    return {
        "latest": b"global_step3",
        "global_step3/mp_rank_00_model_states.pt": torch_bytes(model),
        "global_step3/zero_pp_rank_0_mp_rank_00_optim_states.pt": torch_bytes({"optimizer_state_dict": optimizer}),
    }


def _written(write: Callable[[Path], object]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "made"
        write(root)
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
