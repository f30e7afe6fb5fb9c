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
    if 0 < config.train.steps < config.optim.warmup_steps:  # a run without steps has no warm-up
        problems.append(
            f"`optim.warmup_steps` must be <= `train.steps` ({config.train.steps}), but is {config.optim.warmup_steps}"
        )
    if config.eval.pairs % 2:
        problems.append(f"`eval.pairs` must be even, so that the pairs are balanced, but is {config.eval.pairs}")
    if config.train.precision == "fp16" and config.scale.use_gpu is False:
        problems.append("`train.precision` fp16 needs a GPU, but `scale.use_gpu` is false; use bf16 or fp32 on a CPU")
    if config.data.max_shift is not None and config.data.max_shift < config.data.min_shift:
        problems.append(
            f"`data.max_shift` must be >= `data.min_shift` ({config.data.min_shift}), but is {config.data.max_shift}"
        )
    return problems + _batch_problems(config) + _loss_problems(config) + _augment_problems(config)


def _batch_problems(config: RunConfig) -> list[str]:
    """Workers that would get nothing of a batch, or that cannot be counted."""
    problems, scale, batch = [], config.scale, config.train.global_batch
    workers, unit = max(1, scale.num_workers), config.loss.group if config.loss.name == "info_nce" else 1
    if batch < workers * unit:
        needed = f"{unit} for each of the {workers} workers of `scale.num_workers`"
        problems.append(f"`train.global_batch` must be >= {workers * unit}, {needed}, but is {batch}")
    if scale.min_workers is not None and scale.min_workers > scale.num_workers:
        most = f"`scale.num_workers` ({scale.num_workers})"
        problems.append(f"`scale.min_workers` must be <= {most}, but is {scale.min_workers}")
    return problems


def _loss_problems(config: RunConfig) -> list[str]:
    """Batches that would tear a group apart, and a best checkpoint by a figure that the loss does not aim at."""
    loss, train, problems = config.loss, config.train, []
    if loss.name == "info_nce":
        if train.global_batch % loss.group:
            whole = f"a multiple of `loss.group` ({loss.group}), because info_nce needs whole groups"
            problems.append(f"`train.global_batch` must be {whole}, but is {train.global_batch}")
        if train.micro_batch != "auto" and train.micro_batch < loss.group:
            once = f">= `loss.group` ({loss.group}), because a group goes through the net at once"
            problems.append(f"`train.micro_batch` must be {once}, but is {train.micro_batch}")
    if loss.name != "cosine_bce" and config.checkpoint.metric in ("val/accuracy", "val/loss"):
        why = f"because {loss.name} gives cosine 0.5 no meaning"
        problems.append(f"`checkpoint.metric` must be val/auc, {why}, but is {config.checkpoint.metric}")
    return problems


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
