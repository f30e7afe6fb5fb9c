"""Checks that need more than one setting. Pure: a config in, sentences out."""

from __future__ import annotations

from orchestrator.config.media import N_MELS, mel_columns
from orchestrator.config.model import model_problems
from orchestrator.config.schema import RunConfig


def cross_problems(config: RunConfig) -> list[str]:
    """Every contradiction between settings, one sentence each."""
    problems = model_problems(config.model)
    if config.start.verb != "init" and config.start.checkpoint is None:
        problems.append(f"`start.verb` is {config.start.verb}, which needs `start.checkpoint`, but that is not given")
    if config.optim.warmup_steps > config.train.steps:
        problems.append(
            f"`optim.warmup_steps` must be <= `train.steps` ({config.train.steps}), but is {config.optim.warmup_steps}"
        )
    if config.eval.pairs % 2:
        problems.append(f"`eval.pairs` must be even, so that the pairs are balanced, but is {config.eval.pairs}")
    workers = max(1, config.scale.num_workers)
    if config.train.global_batch % workers:
        problems.append(
            f"`train.global_batch` ({config.train.global_batch}) must be a multiple of `scale.num_workers` ({workers})"
        )
    if config.train.precision == "fp16" and config.scale.use_gpu is False:
        problems.append("`train.precision` fp16 needs a GPU, but `scale.use_gpu` is false; use bf16 or fp32 on a CPU")
    if config.data.max_shift is not None and config.data.max_shift < config.data.min_shift:
        problems.append(
            f"`data.max_shift` must be >= `data.min_shift` ({config.data.min_shift}), but is {config.data.max_shift}"
        )
    return problems + _augment_problems(config)


def _augment_problems(config: RunConfig) -> list[str]:
    """Augmentations that would leave nothing of a window, or cannot be applied to what the network reads."""
    augment, problems = config.data.augment, []
    columns = mel_columns(config.model.num_frames)
    for name, most, total in (("mel_time", augment.mel_time, columns), ("mel_bins", augment.mel_bins, N_MELS)):
        if most >= total:
            problems.append(f"`data.augment.{name}` must be < {total}, all that a window has, but is {most}")
    if config.model.latent_space:
        problems += [
            f"`data.augment.{name}` changes pixels, but the network reads VAE latents; set it to 0"
            for name in augment.pictures
        ]
    return problems
