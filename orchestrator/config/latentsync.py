"""LatentSync's SyncNet YAML files, read as ours.

What they say about the network, the schedule and the optimizer is taken over; what belongs to their loader or
their cluster is left out with a note. Source of the keys: configs/syncnet/*.yaml of bytedance/LatentSync.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FOREIGN_SECTIONS = {"ckpt", "optimizer", "run"}
_LEFT_OUT = {
    "data.train_output_dir": "runs go to `storage`",
    "data.num_workers": "`data.loader_threads` takes its place",
    "data.train_fileslist": "prepare the videos and give `data.path`",
    "data.train_data_dir": "prepare the videos and give `data.path`",
    "data.val_fileslist": "validation speakers are split off by `prepare`",
    "data.val_data_dir": "validation speakers are split off by `prepare`",
    "data.audio_mel_cache_dir": "mel is stored in the shards",
    "data.audio_cache_dir": "mel is stored in the shards",
    "data.pretrained_audio_model_path": "it is not used by SyncNet",
    "ckpt.inference_ckpt_path": "give it to `evaluate`, or as `start.checkpoint`",
}
_FIXED = {"data.audio_sample_rate": 16_000, "data.video_fps": 25}
_PLAIN = {
    "data.num_frames": "model.num_frames",
    "data.resolution": "model.resolution",
    "data.lower_half": "model.lower_half",
    "data.latent_space": "model.latent_space",
    "data.num_val_samples": "eval.pairs",
    "optimizer.lr": "optim.lr",
    "optimizer.max_grad_norm": "optim.grad_clip_norm",
    "run.max_train_steps": "train.steps",
    "run.validation_steps": "eval.every",
    "run.seed": "train.seed",
    "ckpt.save_ckpt_steps": "checkpoint.every",
}


def is_latentsync(raw: Mapping[str, Any]) -> bool:
    """Whether a mapping has the sections of LatentSync's SyncNet files."""
    model = raw.get("model")
    return isinstance(model, Mapping) and "audio_encoder" in model and bool(_FOREIGN_SECTIONS & set(raw))


def convert_latentsync(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Our mapping of the same meaning, and a note for everything that was left out or reinterpreted.

    Keys that LatentSync's files never have are passed on under their own names, so that validation reports them.
    """
    ours: dict[str, Any] = {"model": {"name": "stable_syncnet", **raw["model"]}}
    notes: list[str] = []
    batch = {"batch_size": 1, "gradient_accumulation_steps": 1}
    for section, values in raw.items():
        if section == "model":
            continue
        for key, value in _items(values):
            dotted = f"{section}.{key}"
            if key in batch and section == "data":
                batch[key] = value
            elif dotted in _PLAIN:
                _put(ours, _PLAIN[dotted], value)
            elif dotted in _LEFT_OUT:
                notes.append(f"`{dotted}` is left out: {_LEFT_OUT[dotted]}")
            elif dotted in _FIXED:
                _fixed(ours, dotted, value)
            elif dotted == "run.mixed_precision_training":
                # upstream autocasts to fp16; bf16 has the same cost, needs no scaler and also runs on a CPU
                _put(ours, "train.precision", "bf16" if value else "fp32")
                notes.append(f"`{dotted}` becomes `train.precision` {'bf16' if value else 'fp32'}")
            elif dotted == "ckpt.resume_ckpt_path":
                _put(ours, "start.checkpoint", value or None)
            else:
                _put(ours, dotted if key else section, value)
    if "data" in raw:
        _put(ours, "train.global_batch", batch["batch_size"] * batch["gradient_accumulation_steps"])
        notes.append("`data.batch_size` was per GPU and is now the global batch, `train.global_batch`")
    return ours, notes


def _items(values: Any) -> list[tuple[str, Any]]:
    return list(values.items()) if isinstance(values, Mapping) else [("", values)]


def _put(ours: dict[str, Any], dotted: str, value: Any) -> None:
    section, _, key = dotted.partition(".")
    if key:
        ours.setdefault(section, {})[key] = value
    else:
        ours[section] = value


def _fixed(ours: dict[str, Any], dotted: str, value: Any) -> None:
    if value != _FIXED[dotted]:  # a different rate would be another network: let validation refuse the key
        _put(ours, dotted, value)
