"""`evaluate`: everything that the fixed pairs and the offsets of a corpus say of a checkpoint, here or on a cluster.

The figures are those of `orchestrator.evaluation`, the same on any number of processes; asked to keep them, this room
writes the report and the MLflow run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from orchestrator.checkpoint import ModelOption
from orchestrator.config.data import DataConfig
from orchestrator.data.corpus import Corpus, SplitName
from orchestrator.data.corpus.scores import write_scores
from orchestrator.evaluation.controls import controls_here
from orchestrator.evaluation.evaluate import Plan, Request, conclude, plan_evaluation
from orchestrator.evaluation.report import (
    evaluation_advice,
    evaluation_figures,
    evaluation_report,
    evaluation_samples,
)
from orchestrator.evaluation.results import Evaluation
from orchestrator.runtime.judging import Judge, run_judging
from orchestrator.runtime.network import HereTowers
from orchestrator.runtime.recording import Finding, Shelf, told
from orchestrator.storage import redacted
from orchestrator.training.evaluation import fixed_pairs


@dataclass(frozen=True)
class Options:
    """How a corpus is asked; the defaults are those of the command."""

    split: SplitName = "val"
    """Which clips."""
    pairs: int = 2048
    """How many pairs, half of them in sync."""
    min_shift: int = 1
    """Least gap of a negative in frames."""
    max_shift: int | None = None
    """Greatest gap; none means anywhere in the clip."""
    pair_list: str | Path | None = None
    """A stored list of pairs, which then decides everything about them; a missing file is written."""
    scores: str | Path | None = None
    """A file for the cosine of every pair (see `data.corpus.scores`), which is replaced."""
    offsets: bool = True
    """Whether to look for the offset of every clip too."""
    controls: bool = False
    """Whether to look at outcomes that are known, in which leaks show."""
    stride: int = 1
    """Frames from one window of the picture to the next, for offsets."""
    batch: int = 64
    """Windows that go through a tower at once."""


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    options: Options | None = None,
    *,
    device: str | None = None,
    model_config: ModelOption = None,
    workers: int | None = None,
    gpus: float = 0,
    shelf: Shelf | None = None,
    console: Console | None = None,
    **settings: object,
) -> Evaluation:
    """Judge any readable checkpoint on the fixed pairs and the offsets of a prepared corpus.

    Args:
        checkpoint: a normalized directory, a checkpoint of a run, or any SyncNet file.
        data: the folder that `prepare` wrote.
        options: what is asked; its fields may be given as `settings` instead, e.g. `split="all"`.
        device: where to compute; a GPU if there is one.
        model_config: describes the network where a foreign file's weights cannot (see `load_model`).
        workers: tasks at a time on Ray; 0 judges in this process; none means Ray where RAY_ADDRESS names a cluster.
        gpus: GPUs, or a share of one, that each task on Ray takes.
        shelf: where the report and the MLflow run are kept; none keeps nothing.
        console: where progress is shown; none shows nothing.

    Raises:
        OrchestratorError: the checkpoint or the corpus cannot be used, or a storage fails.
    """
    asked = replace(options or Options(), **settings)  # type: ignore[arg-type]
    console = console or Console(quiet=True)
    judge = Judge.open(checkpoint, model_config)
    corpus = Corpus.open(data)
    notes = judge.notes_on(corpus)
    shifts = DataConfig(min_shift=asked.min_shift, max_shift=asked.max_shift)
    frames = judge.model.config.num_frames
    plan = plan_evaluation(fixed_pairs(asked.pair_list, corpus, asked.split, frames, asked.pairs, shifts))
    request = Request(stride=asked.stride, offsets=asked.offsets, batch=asked.batch)
    model = judge.model
    reports = run_judging("evaluate", plan, model, request, console, device=device, workers=workers, gpus=gpus)
    found = conclude(plan, reports, judge.name, step=judge.step, notes=notes)
    if asked.controls:
        found = replace(found, controls=controls_here(plan, HereTowers(model, device, asked.batch)()))
    if asked.scores is not None:
        listed = plan.pair_list
        write_scores(Path(asked.scores), listed.table(), listed.scores(judge.step, found.tensor()))
    if shelf is not None:
        console.print("writes the report", style="dim")
        told(console, shelf.keep(_finding(found, plan, judge, asked)))
    return found


def _finding(found: Evaluation, plan: Plan, judge: Judge, asked: Options) -> Finding:
    # the same weights, asked the same of the same pairs, are the same finding
    meant = [judge.fingerprint, found.pairs_hash, found.split, str(asked.stride), str(asked.offsets)]
    mark = hashlib.sha256("\n".join(meant).encode()).hexdigest()[:8]
    figures = {f"eval/{figure.name}": figure for figure in found.figures}
    ends = {f"{name}_{end}": getattr(one, end) for name, one in figures.items() for end in ("low", "high")}
    samples = evaluation_samples(plan.pair_list.clips.corpus, found, plan.pair_list)
    advice = evaluation_advice(found, found.controls)
    return Finding(
        kind="evaluate",
        name=f"evaluate-{_label(judge.name)}-{mark}",
        facts={
            "checkpoint": judge.name,
            "corpus": redacted(found.corpus),
            "split": found.split,
            "pairs": found.pairs,
            "pairs_hash": found.pairs_hash,
            "num_frames": found.num_frames,
            "stride": asked.stride,
        },
        metrics={name: one.value for name, one in figures.items()} | ends,
        step=judge.step,
        result=found.to_dict(),
        pictures=evaluation_figures(found),
        page=evaluation_report(found, samples, controls=found.controls or None, advice=advice),
        tags={"learning.state": found.verdict.state, **_controls(found)},
    )


def _controls(found: Evaluation) -> dict[str, str]:
    words = {True: "passed", False: "failed", None: "not shown"}
    return {f"control.{control.name}": words[control.passed] for control in found.controls}


def _label(name: str) -> str:
    """The last two parts of a path, which tell a run and a step."""
    parts_of = [part for part in name.rstrip("/").split("/") if part][-2:]
    return "-".join(part.partition("?")[0] for part in parts_of)
