"""A checkpoint opened to judge a corpus, and its clips judged, in this process or as tasks on any number of nodes.

Contract: whoever evaluates or compares asks here; how the work is shared changes no figure by more than the rounding of
another number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from orchestrator.checkpoint import ModelOption, is_complete, load_model, read_plain
from orchestrator.checkpoint.tensors import weights_hash
from orchestrator.config.schema import ScaleConfig
from orchestrator.data.corpus import Corpus
from orchestrator.data.work import ClipDone
from orchestrator.evaluation.clips import ClipReport
from orchestrator.evaluation.evaluate import ClipJudged, Plan, Request
from orchestrator.models import SyncNet
from orchestrator.runtime import cluster
from orchestrator.runtime.network import HereTowers, SentTowers, tasks_at_once
from orchestrator.runtime.stage import run_here, run_stage
from orchestrator.runtime.units import TaskShape
from orchestrator.storage import redacted
from orchestrator.training.fitting import check_fits

_UNITS_PER_TASK = 4
"""Enough that all end at about the same time."""


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

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights: a file may be replaced by another of the same name."""
        return weights_hash(self.model.state_dict())

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


def run_judging(
    label: str,
    plan: Plan,
    model: SyncNet,
    request: Request,
    console: Console,
    *,
    device: str | None = None,
    workers: int | None = 0,
    gpus: float = 0,
) -> list[ClipReport]:
    """Judge the clips of an evaluation, here or on Ray, and show how it goes.

    Args:
        label: what is being done.
        plan: the pairs.
        model: the network.
        request: what is asked of every clip.
        console: where progress is shown.
        device: where to compute; a GPU if there is one.
        workers: as `tasks_at_once`.
        gpus: GPUs, or a share of one, that each task on Ray takes.

    Raises:
        OrchestratorError: as `run_stage`.
    """
    reports: list[ClipReport] = []

    def on_done(done: ClipDone) -> None:
        if isinstance(done, ClipJudged) and done.report is not None:
            reports.append(done.report)

    tasks = tasks_at_once(workers)
    if tasks:
        cluster.connect(ScaleConfig(num_workers=tasks))
        units = plan.units(SentTowers.send(model, device, request.batch), request, tasks * _UNITS_PER_TASK)
        run_stage(label, units, console, TaskShape(gpus=gpus), on_done=on_done)
    else:
        run_here(label, plan.units(HereTowers(model, device, request.batch), request, 1), console, on_done=on_done)
    return reports
