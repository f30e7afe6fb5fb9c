"""`audit`: where does the sound of every clip of a corpus belong? In this process, or as tasks on any number of nodes.

Promises: without `write` nothing but the record in MLflow is written; with it, the manifest gets one new version, which
`orchestrator data undo` takes back; shards are never touched. How the work is shared changes no number.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from orchestrator.checkpoint import ModelOption, load_model
from orchestrator.config.schema import ScaleConfig
from orchestrator.data.corpus import Corpus, SplitName
from orchestrator.data.files import printable
from orchestrator.data.revisions import ManifestVersion, revise_manifest
from orchestrator.data.work import ClipDone
from orchestrator.errors import ConfigError
from orchestrator.evaluation.audit import (
    REJECTED_BY_DEFAULT,
    Audit,
    AuditPlan,
    AuditRequest,
    AuditStatus,
    ClipAudited,
    conclude_audit,
    plan_audit,
    revisions_of,
)
from orchestrator.evaluation.audit.policy import Finding
from orchestrator.evaluation.offsets import MAX_OFFSET
from orchestrator.evaluation.report import REPORT, audit_advice, audit_figures, audit_report, audit_samples
from orchestrator.runtime import cluster
from orchestrator.runtime.job import describe
from orchestrator.runtime.network import HereTowers, SentTowers, tasks_at_once
from orchestrator.runtime.recording import Shelf
from orchestrator.runtime.stage import run_here, run_stage
from orchestrator.runtime.units import TaskShape
from orchestrator.storage import Location, redacted
from orchestrator.tracking import RunWriter
from orchestrator.training.fitting import check_fits

_UNITS_PER_WORKER = 4
_CLIPS_PER_UNIT = 64
_LEAST_OFFSET, _MOST_OFFSET = 5, 125


@dataclass(frozen=True)
class Ask:
    """How a corpus is to be looked at."""

    max_offset: int = MAX_OFFSET
    """Frames to either side that are tried."""
    stride: int = 1
    """Frames from one window of the picture to the next."""
    split: SplitName = "all"
    """Which clips."""
    workers: int | None = None
    """Tasks at a time on Ray; 0 for this process; none for Ray where RAY_ADDRESS is set, and this process elsewhere."""
    gpus: float = 0
    """GPUs, or a share of one, that each task takes."""
    device: str | None = None
    """Where to compute; none means a GPU where there is one."""
    model_config: ModelOption = None
    """Describes the network where a foreign file's weights cannot."""
    batch: int = 64
    """Windows that go through a tower at once."""


@dataclass(frozen=True)
class Record:
    """Where an audit is recorded."""

    tracking_uri: str | None = None
    """The tracking store; none for MLFLOW_TRACKING_URI or, without that, SQLite under `storage`."""
    storage: str = "runs"
    """The folder of the runs."""
    experiment: str = "syncnet"
    """The MLflow experiment."""
    name: str | None = None
    """The run's name, which is also its key; none makes one from the time."""
    parent_run_id: str | None = None
    """MLflow's id of the run to nest it under."""
    tags: dict[str, str] = field(default_factory=dict)
    """Further tags."""


@dataclass(frozen=True)
class AuditResult:
    """What an audit has to show."""

    audit: Audit
    """The audit."""
    version: ManifestVersion | None
    """The manifest's version that holds it; none when nothing was to be written."""
    run_id: str
    """MLflow's id of the run."""
    tracking_uri: str
    report: str
    """The page, beside the runs; MLflow has it too."""


def audit(
    data: Location,
    checkpoint: Location | None = None,
    *,
    write: bool = False,
    reject: Collection[AuditStatus] = REJECTED_BY_DEFAULT,
    ask: Ask | None = None,
    record: Record | None = None,
    console: Console | None = None,
    clock: Callable[[], float] = time.time,
) -> AuditResult:
    """Find where the sound of every clip belongs.

    Args:
        data: the folder that `prepare` wrote: a path or a URI.
        checkpoint: the network that judges; none estimates from the movement of the mouth and the sound alone.
        write: whether offsets, rejections and what was found become a new version of the manifest.
        reject: clips with one of these statuses are rejected then.
        ask: how to look.
        record: where it is recorded.
        console: where progress is shown; none shows nothing.
        clock: seconds since the epoch.

    Raises:
        OrchestratorError: the checkpoint or the corpus cannot be used, or a storage or the tracker fails.
    """
    ask, record = ask or Ask(), record or Record()
    console = console or Console(quiet=True)
    shelf = Shelf.under(record.storage, record.tracking_uri, record.experiment)
    uri = shelf.tracking_uri
    describe(kind="audit", folder=redacted(data))
    plan = plan_audit(Corpus.open(data), ask.split)
    found = look(plan, checkpoint, ask, console)
    name = record.name or f"audit-{datetime.fromtimestamp(clock(), UTC):%Y%m%d-%H%M%S}"
    page = audit_page(plan, found)
    with _writer(record, name, uri, plan, clock) as writer:
        record_audit(writer, found, ask, page)
        shelf.put(name, {REPORT: page.encode("utf-8", "replace")})
        version = None
        if write:
            revisions = revisions_of(found, plan.by_id, reject)
            version = revise_manifest(plan.corpus.folder, revisions, reason_of(found), now=clock)
            writer.set_tags({"manifest.version": version.number})
    return AuditResult(found, version, writer.run_id, uri, f"{redacted(shelf.folder(name))}/{REPORT}")


def look(plan: AuditPlan, checkpoint: Location | None, ask: Ask, console: Console) -> Audit:
    """Look at the clips and judge them; nothing is written.

    Raises:
        OrchestratorError: the checkpoint does not fit the corpus, or a storage fails.
    """
    _check(ask)
    model = None if checkpoint is None else load_model(checkpoint, model_config=ask.model_config)
    if model is not None:
        check_fits(plan.corpus, model.config)
    findings: dict[str, Finding] = {}

    def keep(done: ClipDone) -> None:
        if isinstance(done, ClipAudited) and done.finding is not None:
            findings[done.source] = done.finding

    request = AuditRequest(ask.max_offset, ask.stride)
    workers = tasks_at_once(ask.workers)
    count = max(workers * _UNITS_PER_WORKER, math.ceil(len(plan.rows) / _CLIPS_PER_UNIT))
    if workers:
        cluster.connect(ScaleConfig(num_workers=workers))
        sent = None if model is None else SentTowers.send(model, ask.device, ask.batch)
        run_stage("audit", plan.units(sent, request, count), console, TaskShape(gpus=ask.gpus), on_done=keep)
    else:
        here = None if model is None else HereTowers(model, ask.device, ask.batch)
        run_here("audit", plan.units(here, request, count), console, on_done=keep)
    return conclude_audit(plan, findings, None if checkpoint is None else redacted(checkpoint), request)


def record_audit(writer: RunWriter, found: Audit, ask: Ask, page: str, step: int = 0) -> None:
    """Write an audit into an MLflow run: settings, counts, the table of its clips, a chart, a page.

    Raises:
        TrackingError: the store refuses it.
    """
    facts = {"corpus": found.corpus, "checkpoint": found.checkpoint or "none", "method": found.method}
    asked = {name: getattr(ask, name) for name in ("max_offset", "stride", "split")}
    writer.log_params({"audit": {**facts, **asked}})
    writer.log_metrics(audit_metrics(found), step)
    writer.log_text(clips_table(found), "audit/clips.csv")
    for name, figure in audit_figures(found).items():
        writer.log_figure(figure, f"charts/{name}")
    writer.log_text(page, f"audit/{REPORT}")


def audit_page(plan: AuditPlan, found: Audit) -> str:
    """The report of an audit, made from the corpus as it was before anything was written back.

    Raises:
        DataError: the corpus is damaged.
    """
    seconds = {row.clip_id: row.duration_s for row in plan.rows}
    return audit_report(found, audit_samples(plan.corpus, found), advice=audit_advice(found), seconds=seconds)


def audit_metrics(found: Audit) -> dict[str, float]:
    """The clips of every status, in numbers and as a share, and how many moved."""
    total = max(len(found.clips), 1)
    counts = {f"audit/{status}": float(count) for status, count in found.counts.items()}
    shares = {f"audit/{status}_share": count / total for status, count in found.counts.items()}
    return {**counts, **shares, "audit/clips": float(len(found.clips)), "audit/moved": float(len(found.moved))}


def clips_table(found: Audit) -> str:
    """Every clip, as CSV."""
    text = io.StringIO()
    names = ("clip_id", "source", "speaker", "split", "status", "before_s", "av_offset_s", "confidence", "why")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for clip in found.clips:
        row: dict[str, Any] = {name: getattr(clip, name) for name in names}
        writer.writerow({name: printable(value) if isinstance(value, str) else value for name, value in row.items()})
    return text.getvalue()


def reason_of(found: Audit) -> str:
    """What the history of the manifest says of an audit."""
    counts = ", ".join(f"{count} {status}" for status, count in found.counts.items() if count)
    return f"audit by {found.checkpoint or 'estimate'}: {counts}"


def _writer(record: Record, name: str, uri: str, plan: AuditPlan, clock: Callable[[], float]) -> RunWriter:
    tags = {"kind": "audit", "corpus": plan.corpus.name, **record.tags}
    return RunWriter.start(uri, record.experiment, name, f"audit/{name}", record.parent_run_id, tags, clock=clock)


def _check(ask: Ask) -> None:
    problems = []
    if not _LEAST_OFFSET <= ask.max_offset <= _MOST_OFFSET:
        problems.append(f"`max_offset` must be from {_LEAST_OFFSET} to {_MOST_OFFSET} frames, but is {ask.max_offset}")
    if ask.stride < 1:
        problems.append(f"`stride` must be at least 1, but is {ask.stride}")
    if problems:
        raise ConfigError(problems, source="the audit")
