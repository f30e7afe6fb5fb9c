"""`plan`: what a configuration would do, before it does anything.

It reads the same files and takes the same decisions as `train`, but writes nothing and starts nothing. What can be
known without running is computed (steps, disk, memory); how long it takes is measured, by some real steps on this
machine.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.checkpoint import inspect
from orchestrator.checkpoint.shelf import name_of
from orchestrator.config.load import load_config_with_notes
from orchestrator.config.media import FPS
from orchestrator.config.model import input_shape, training_problem
from orchestrator.config.schema import RunConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.stream import SampleStream
from orchestrator.errors import OrchestratorError
from orchestrator.models import SyncNet, skeleton
from orchestrator.planning.advice import Circumstances, advice, disk_problem
from orchestrator.planning.cost import Cost
from orchestrator.planning.machine import free_disk, planned_device
from orchestrator.planning.probe import BUDGET_S
from orchestrator.planning.sizes import disk_use, happenings
from orchestrator.runtime.paths import RunPaths
from orchestrator.storage import local_path, redacted
from orchestrator.sweeps.search import total_trials
from orchestrator.training.batching import has_batch_norm
from orchestrator.training.fitting import check_fits
from orchestrator.training.freezing import check_freeze, count_parameters, count_trained
from orchestrator.training.retention import checkpoints_in, step_of

__all__ = ["Plan", "plan"]


@dataclass(frozen=True)
class Plan:
    """What would happen."""

    config: RunConfig
    start: str
    """Where the run would start, in words."""
    facts: dict[str, Any]
    """Figures by name, in the order in which to show them."""
    notes: list[str] = field(default_factory=list)
    """What was reinterpreted or left out of a foreign configuration file, and what a person should know."""
    problems: list[str] = field(default_factory=list)
    """Everything that would stop the run; empty when it would start."""


def plan(
    source: str | Path | RunConfig,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    probe: bool = True,
    budget_s: float = BUDGET_S,
) -> Plan:
    """Look ahead.

    Args:
        source: a configuration file, or a checked configuration.
        overrides: `a.b=c` strings, for a file.
        name: the run's name, to tell a start from a continuation.
        probe: measure some real steps on this machine, for the time that the run takes.
        budget_s: seconds that measuring may take.

    Raises:
        ConfigError: the configuration itself has problems; all other problems are listed in the plan.
    """
    config, notes = (source, []) if isinstance(source, RunConfig) else load_config_with_notes(source, overrides)
    notes, problems = list(notes), list[str]()
    net = _attempt(lambda: check_freeze(config), problems)
    fits, net = net is not None and training_problem(config.model) is None, net or skeleton(config.model)
    facts = _model_facts(config, net) | _length_facts(config) | _data_facts(config) | _sweep_facts(config)
    done, start = _attempt(lambda: _start(config, name), problems) or (0, "unknown")
    for facts_of in (_corpus_facts, _start_facts, lambda config: _disk_facts(config, net, notes, problems)):
        facts |= _attempt(lambda: facts_of(config), problems) or {}  # noqa: B023
    cost = _attempt(lambda: Cost.of(config), problems) if fits else None
    if cost is not None:
        facts |= cost.batch_facts() | cost.memory_facts(notes)
        if probe:
            facts |= cost.time_facts(max(0, config.train.steps - done), budget_s, notes)
    return Plan(config, start, facts, notes, problems)


def _attempt(look: Callable[[], Any], problems: list[str]) -> Any:
    """What a look gives; what it refuses is a problem and keeps nothing else from being looked at."""
    try:
        return look()
    except OrchestratorError as error:
        problems.append(str(error))
        return None


def _model_facts(config: RunConfig, net: SyncNet) -> dict[str, Any]:
    shape = input_shape(config.model)
    return {
        "model": config.model.name,
        "parameters": count_parameters(net),
        "parameters that train": count_trained(net),
        "frames": "x".join(map(str, shape.frames)),
        "mel": "x".join(map(str, shape.audio)),
        "loss": config.loss.name,
    }


def _length_facts(config: RunConfig) -> dict[str, Any]:
    samples = config.train.steps * config.train.global_batch
    return {
        "steps": config.train.steps,
        "samples": samples,
        "hours of video seen": round(samples * config.model.num_frames / FPS / 3600, 2),
        "validations": f"{happenings(config.train.steps, config.eval.every) + 1} of {config.eval.pairs} pairs",
    }


def _data_facts(config: RunConfig) -> dict[str, Any]:
    data = config.data
    weights = {name: weight for name, weight in dict(data.negatives).items() if weight}
    total = sum(weights.values())
    negatives = ", ".join(f"{name} {weight / total:.0%}" for name, weight in weights.items())
    augment = ", ".join(f"{name} {value:g}" for name, value in dict(data.augment).items() if value)
    return {"negatives": negatives, "augmentation": augment or "none"}


def _sweep_facts(config: RunConfig) -> dict[str, Any]:
    """What all trials are together; everything else in a plan is of one of them."""
    if config.sweep is None:
        return {}
    sweep, trials = config.sweep, total_trials(config)
    limits = {"hours": sweep.hours, "samples": sweep.samples}
    budget = "".join(f", at most {value:,g} {name}" for name, value in limits.items() if value is not None)
    return {
        "trials": f"{trials}, search {sweep.search}, scheduler {sweep.scheduler}{budget}; the rest is of one of them",
        "swept": ", ".join(sweep.space),
        "samples of all trials": trials * config.train.steps * config.train.global_batch,
    }


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


def _disk_facts(config: RunConfig, net: SyncNet, notes: list[str], problems: list[str]) -> dict[str, Any]:
    remote = local_path(config.storage) is None
    here = tempfile.gettempdir() if remote else config.storage
    parameters, free = count_parameters(net), free_disk(here)
    disk, device = disk_use(parameters, count_trained(net), config), planned_device(config.scale)
    # object storage does not fill up, but a checkpoint is written here before it goes there
    written = replace(disk, kept=0) if remote else disk
    notes += advice(config, Circumstances(parameters, has_batch_norm(net), device, written, free))
    problem = disk_problem(written, free, here)
    problems += [problem] if problem else []
    return {
        "checkpoint size (MB)": round(disk.one / 1e6, 1),
        "checkpoints kept": disk.kept,
        "disk for checkpoints (MB)": round(disk.most / 1e6, 1),
        "free disk (MB)": round(free / 1e6, 1),
    }


def _start(config: RunConfig, name: str | None) -> tuple[int, str]:
    """Steps taken already, and where the run would start, in words."""
    if name is not None:
        saved = checkpoints_in(RunPaths.of(config.storage, name).where)
        if saved:
            return step_of(saved[-1]), f"continue from this run's own {name_of(saved[-1])}"
    if config.start.checkpoint is None:
        return 0, "scratch: fresh weights"
    return 0, f"{config.start.verb} from {redacted(config.start.checkpoint)}"
