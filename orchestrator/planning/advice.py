"""What a person should know before a run starts, though nothing of it would stop the run. Pure: facts in, sentences
out."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.schema import RunConfig
from orchestrator.planning.sizes import DiskUse, kept_for_their_step

_LARGE_NET = 200_000_000
_SMALL_BATCH = 256
_DISK_SHARE = 0.5


@dataclass(frozen=True)
class Circumstances:
    """What the advice depends on besides the configuration."""

    parameters: int
    batch_norm: bool
    """Whether the net normalises over the samples of a micro-batch."""
    device_type: str
    """`cuda` or `cpu`: what the run would compute on."""
    disk: DiskUse
    free_disk: int
    """Bytes that are free where the runs are kept."""


def advice(config: RunConfig, around: Circumstances) -> list[str]:
    """Everything worth a thought, one sentence each, most costly first."""
    return [
        *_precision_notes(config, around.device_type),
        *_batch_notes(config, around.batch_norm),
        *_scale_notes(config, around.parameters, around.device_type),
        *_disk_notes(config, around.disk, around.free_disk),
    ]


def _precision_notes(config: RunConfig, device_type: str) -> list[str]:
    notes, precision = [], config.train.precision
    if precision != "fp32" and device_type == "cpu":
        notes.append(f"`train.precision` {precision} is 6 to 10 times slower than fp32 on a CPU")
    if precision == "fp32" and device_type == "cuda":
        notes.append("`train.precision` fp32 leaves most of a GPU unused: bf16 is several times faster")
    if config.train.micro_batch == "auto" and device_type == "cuda":
        notes.append("`train.micro_batch` auto is found at the start, by trying what fits; here it is an estimate")
    return notes


def _batch_notes(config: RunConfig, batch_norm: bool) -> list[str]:
    notes, train = [], config.train
    # of upstream's nets; those that are no StableSyncNet were published with smaller batches
    if train.global_batch < _SMALL_BATCH and config.model.name == "stable_syncnet":
        notes.append(
            f"`train.global_batch` is {train.global_batch}: LatentSync reports 1024 as best, that 256 oscillates, and "
            "that 128 may stay at ln 2 = 0.693"
        )
    if batch_norm:
        notes.append(
            "this net has batch norm: `train.micro_batch` and the number of workers change what it learns, because "
            "each micro-batch is normalised by itself; keep them when runs are compared"
        )
    if train.steps and train.patience * config.eval.every > train.steps:
        notes.append(f"`train.patience` {train.patience} never stops this run: it has fewer validations than that")
    if train.steps and config.optim.warmup_steps * 2 > train.steps:
        notes.append(f"more than half of the run is warm-up: {config.optim.warmup_steps} of {train.steps} steps")
    return notes


def _scale_notes(config: RunConfig, parameters: int, device_type: str) -> list[str]:
    notes, scale = [], config.scale
    if scale.min_workers is not None and scale.min_workers < scale.num_workers:
        notes.append(
            f"elastic: from {scale.min_workers} to {scale.num_workers} workers; the global batch, the order of samples "
            "and the schedule stay, and losses agree up to the rounding of sums"
        )
    if scale.strategy == "fsdp" and scale.num_workers < 2:
        notes.append("`scale.strategy` fsdp does nothing with one worker: there is nobody to share with")
    elif scale.strategy == "fsdp" and parameters < _LARGE_NET:
        notes.append(
            f"`scale.strategy` fsdp is for nets that do not fit one GPU: this one has {parameters / 1e6:.1f} M "
            "parameters, and ddp sends less and is faster"
        )
    if config.speed.compile and device_type == "cpu":
        notes.append("`speed.compile` takes minutes before the first step; on a CPU it rarely pays")
    return notes


def _disk_notes(config: RunConfig, disk: DiskUse, free: int) -> list[str]:
    notes = []
    for_ever = kept_for_their_step(config.train.steps, config.checkpoint)
    if for_ever > config.checkpoint.keep + 1:
        notes.append(
            f"`checkpoint.keep_every` keeps {for_ever} checkpoints for ever: {_gb(for_ever * disk.one)} at the end"
        )
    if _DISK_SHARE * free < disk.most <= free:
        notes.append(f"checkpoints take up to {_gb(disk.most)} of the {_gb(free)} that are free under `storage`")
    return notes


def disk_problem(disk: DiskUse, free: int, storage: str) -> str | None:
    """Why the disk would be full before the run ends; none where there is room."""
    if disk.most <= free:
        return None
    return (
        f"the checkpoints take up to {_gb(disk.most)} ({disk.kept} kept and one being written, {_gb(disk.one)} each), "
        f"but {storage} has {_gb(free)} free\n  hint: lower `checkpoint.keep`, raise `checkpoint.keep_every`, or give "
        "another `storage`"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
