"""A network that judges clips, in any number of processes: it travels to each node and is built in each process once.

Contract: `towers_for` gives the same figures here and on a cluster; whoever evaluates, audits or compares asks here how
a checkpoint is opened and where its clips are judged.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import torch
from rich.console import Console

from orchestrator.checkpoint import ModelOption, is_complete, load_model, read_plain
from orchestrator.config.schema import ScaleConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.work import ClipDone
from orchestrator.evaluation.clips import ClipReport
from orchestrator.evaluation.evaluate import ClipJudged, Plan, Request
from orchestrator.evaluation.towers import Towers
from orchestrator.models import SyncNet
from orchestrator.runtime import cluster
from orchestrator.runtime.stage import run_stage
from orchestrator.runtime.units import TaskShape
from orchestrator.storage import redacted
from orchestrator.training.fitting import check_fits

_TASKS = 8
"""Units per worker: enough that all end at about the same time."""


@dataclass(frozen=True)
class Judge:
    """An opened checkpoint."""

    model: SyncNet
    name: str
    """What it is called: where it came from, without credentials."""
    step: int
    """Optimizer steps that it has taken; 0 where the file does not say."""
    preparation: str | None
    """Fingerprint of the preparation of the corpus that it was trained on; none where the file does not say."""

    @classmethod
    def open(cls, checkpoint: str | Path, model_config: ModelOption = None) -> Judge:
        """Any readable checkpoint.

        Raises:
            CheckpointError: as `load_model`.
        """
        model = load_model(checkpoint, model_config=model_config)
        known = read_plain(checkpoint) if is_complete(checkpoint) else {}
        told = known.get("progress", {}).get("preparation")
        return cls(model, redacted(checkpoint), int(known.get("step", 0)), told)

    def notes_on(self, corpus: Corpus) -> tuple[str, ...]:
        """After a check that it can judge a corpus at all: what a person should know before believing its figures.

        Raises:
            DataError: as `check_fits`.
        """
        check_fits(corpus, self.model.config)
        if self.preparation in (None, corpus.preparation):
            return ()
        return (
            f"the checkpoint was trained on a corpus prepared otherwise ({str(self.preparation)[:12]}; this one is "
            f"{corpus.preparation[:12]}): its figures here may be worse than it deserves",
        )


def is_distributed(workers: int | None) -> bool:
    """Whether clips are judged on Ray: where workers are asked for, or a cluster's address is in the environment."""
    return workers > 0 if workers is not None else bool(os.environ.get("RAY_ADDRESS")) or ray.is_initialized()


def parts(workers: int | None) -> int:
    """Into how many units the work is cut."""
    if not is_distributed(workers):
        return 1
    return _TASKS * (workers or os.cpu_count() or 1)


def towers_for(
    model: SyncNet, batch: int, device: str | None = None, *, distributed: bool = False
) -> Callable[[], Towers]:
    """How a process gets the network.

    Args:
        model: the network.
        batch: windows that go through a tower at once.
        device: where to compute; a GPU if there is one.
        distributed: for tasks on Ray, to which it is connected then.
    """
    if not distributed:
        towers = _towers(model, batch, device)
        return lambda: towers
    cluster.connect(ScaleConfig(num_workers=os.cpu_count() or 1))
    return _Travelling(ray.put(model), batch, device)


def run_judging(
    label: str,
    plan: Plan,
    towers: Callable[[], Towers],
    request: Request,
    console: Console,
    shape: TaskShape | None = None,
    count: int = 1,
) -> list[ClipReport]:
    """Judge the clips of an evaluation and show how it goes.

    Args:
        label: what is being done.
        plan: the pairs.
        towers: as `towers_for` gives it.
        request: what is asked of every clip.
        console: where progress is shown.
        shape: what a task on Ray needs; none judges in this process.
        count: into how many units the work is cut.

    Raises:
        OrchestratorError: as `run_stage`.
    """
    reports: list[ClipReport] = []

    def on_done(done: ClipDone) -> None:
        if isinstance(done, ClipJudged) and done.report is not None:
            reports.append(done.report)

    run_stage(label, plan.units(towers, request, count), console, shape, here=shape is None, on_done=on_done)
    return reports


@dataclass(frozen=True)
class _Travelling:
    """A network in Ray's object store."""

    model: Any
    batch: int
    device: str | None

    def __call__(self) -> Towers:
        return _arrived(self.model, self.batch, self.device)


@lru_cache(maxsize=1)
def _arrived(model: Any, batch: int, device: str | None) -> Towers:
    return _towers(ray.get(model), batch, device)


def _towers(model: SyncNet, batch: int, device: str | None) -> Towers:
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Towers(model.to(target), batch, target)
