"""`plan`: what a configuration would do, before it does anything.

It reads the same files and takes the same decisions as `train`, but writes nothing and starts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.checkpoint import inspect
from orchestrator.config.load import load_config_with_notes
from orchestrator.config.media import FPS
from orchestrator.config.model import input_shape
from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.stream import SampleStream
from orchestrator.errors import OrchestratorError
from orchestrator.models import build_meta
from orchestrator.runtime.paths import RunPaths
from orchestrator.training.batching import plan_batches
from orchestrator.training.fitting import check_fits
from orchestrator.training.local import checkpoints_in

_ADAM_COPIES = 3  # weights and two moments


@dataclass(frozen=True)
class Plan:
    """What would happen."""

    config: RunConfig
    start: str
    """Where the run would start, in words."""
    facts: dict[str, Any]
    """Figures by name, in the order in which to show them."""
    notes: list[str] = field(default_factory=list)
    """What was reinterpreted or left out of a foreign configuration file."""
    problems: list[str] = field(default_factory=list)
    """Everything that would stop the run; empty when it would start."""


def plan(source: str | Path | RunConfig, overrides: Sequence[str] = (), *, name: str | None = None) -> Plan:
    """Look ahead.

    Args:
        source: a configuration file, or a checked configuration.
        overrides: `a.b=c` strings, for a file.
        name: the run's name, to tell a start from a continuation.

    Raises:
        ConfigError: the configuration itself has problems; all other problems are listed in the plan.
    """
    config, notes = (source, []) if isinstance(source, RunConfig) else load_config_with_notes(source, overrides)
    problems: list[str] = []
    facts = _model_facts(config) | _batch_facts(config) | _data_facts(config)
    for facts_of in (_corpus_facts, _start_facts):
        try:
            facts |= facts_of(config)
        except OrchestratorError as error:
            problems.append(str(error))
    try:
        start = _start(config, name)
    except OrchestratorError as error:
        problems.append(str(error))
        start = "unknown"
    return Plan(config, start, facts, notes, problems)


def _model_facts(config: RunConfig) -> dict[str, Any]:
    shape = input_shape(config.model)
    parameters = sum(parameter.numel() for parameter in build_meta(config.model).parameters())
    return {
        "model": config.model.name,
        "parameters": parameters,
        "frames": "x".join(map(str, shape.frames)),
        "mel": "x".join(map(str, shape.audio)),
        "checkpoint size (MB)": round(4 * _ADAM_COPIES * parameters / 1e6, 1),
    }


def _batch_facts(config: RunConfig) -> dict[str, Any]:
    workers = max(1, config.scale.num_workers)
    batches = plan_batches(config.train.global_batch, config.train.micro_batch, workers)
    return {
        "steps": config.train.steps,
        "samples": config.train.steps * config.train.global_batch,
        "workers": config.scale.num_workers,
        "batch": f"{batches.global_batch} = {workers} x {batches.accumulation} x {batches.micro_batch}",
    }


def _data_facts(config: RunConfig) -> dict[str, Any]:
    data = config.data
    weights = {name: weight for name, weight in dict(data.negatives).items() if weight}
    total = sum(weights.values())
    negatives = ", ".join(f"{name} {weight / total:.0%}" for name, weight in weights.items())
    augment = ", ".join(f"{name} {value:g}" for name, value in dict(data.augment).items() if value)
    return {"negatives": negatives, "augmentation": augment or "none"}


def _corpus_facts(config: RunConfig) -> dict[str, Any]:
    if config.data.path is None:
        return {"corpus": "not given (data.path)"}
    corpus = Corpus.open(os.path.expanduser(config.data.path), config.data.cache)
    check_fits(corpus, config.model)
    table = corpus.split("train").table
    stream = SampleStream(table, config.model.num_frames, config.data)
    epoch, hours = stream.epoch_length, int(table.lengths.sum()) / FPS / 3600
    left_out = {"too short": stream.drawing.short, "too silent": stream.drawing.silent}
    why = "".join(f", {count} {what}" for what, count in left_out.items() if count)
    return {
        "train clips": f"{epoch} usable of {len(table)}{why}, {hours:.2f} h",
        "validation clips": len(corpus.clips("val")),
        "passes over the clips": round(config.train.steps * config.train.global_batch / epoch, 1),
    }


def _start_facts(config: RunConfig) -> dict[str, Any]:
    if config.start.checkpoint is None:
        return {}
    report = inspect(config.start.checkpoint, model_config=config.model)
    return {"starting file": f"{report.format}, {report.architecture}"}


def _start(config: RunConfig, name: str | None) -> str:
    if name is not None:
        saved = checkpoints_in(RunPaths.of(config.storage, name).folder)
        if saved:
            return f"continue from this run's own {saved[-1].name}"
    if config.start.checkpoint is None:
        return "scratch: fresh weights"
    return f"{config.start.verb} from {config.start.checkpoint}"
