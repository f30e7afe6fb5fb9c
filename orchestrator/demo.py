"""`orchestrator demo`: the whole chain on a small corpus that it makes itself, offline, on two cores.

Videos -> shards -> a weights-only file (trained a little, then exported with nothing but its weights) -> inspect ->
normalize -> DDP training from it -> a sweep from the same state -> evaluation -> one table. Every stage continues where
an earlier demo in the same folder stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from orchestrator.checkpoint import export, inspect, normalize
from orchestrator.config import RunConfig, load_config
from orchestrator.data.corpus import Corpus
from orchestrator.data.corpus.show import contact_sheet
from orchestrator.data.prepare import PreparationConfig
from orchestrator.data.synthetic import make_corpus
from orchestrator.evaluation.results import Evaluation
from orchestrator.runtime.evaluate import evaluate
from orchestrator.runtime.prepare import prepare
from orchestrator.runtime.recording import Shelf
from orchestrator.runtime.sweep import SweepResult, sweep
from orchestrator.runtime.train import TrainResult, train
from orchestrator.tracking import open_hint


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and measured, on held-out speakers."""

    baseline: Evaluation
    """The weights-only file as it was."""
    trained: Evaluation
    """The best checkpoint of the training that started from it."""
    best_trial: Evaluation
    """The best checkpoint of the sweep that started from it."""
    training: TrainResult
    sweep: SweepResult
    weights_only: Path


def run_demo(folder: Path, console: Console, recipe: dict[str, Any] | None = None) -> DemoResult:
    """Run the demo in `folder`, or continue it.

    Args:
        folder: where everything goes.
        console: where progress and results are shown.
        recipe: what to do, in the form of demo.yaml; by default that file.
    """
    recipe = recipe or yaml.safe_load(files("orchestrator").joinpath("demo.yaml").read_text(encoding="utf-8"))
    folder = folder.expanduser().resolve()
    stage = _Stages(console, 7)
    with stage("make a corpus of synthetic talking heads"):
        videos = _videos(folder / "videos", recipe["corpus"], console)
    with stage("prepare it: frames, mel, shards, manifest"):
        summary = prepare(videos, folder / "corpus", PreparationConfig(**recipe["prepare"]), console=console)
        console.print(f"  {summary.ok} clips, {summary.hours * 60:.1f} minutes, speakers {summary.speakers}")
        sheet = contact_sheet(Corpus.open(folder / "corpus"), folder / "corpus.png")
        console.print(f"  some samples: {sheet}", soft_wrap=True)
    base = {"model": recipe["model"], "data": {"path": str(folder / "corpus")}, "storage": str(folder / "runs")}
    with stage("train a little, then throw everything away but the weights"):
        weights_only = _weights_only(folder, load_config(base | recipe["pretrain"]), console)
    with stage("inspect and normalize the weights-only file"):
        _normalize(weights_only, folder, load_config(base | recipe["train"]), console)
    from_file = base | {"start": {"checkpoint": str(weights_only)}}
    with stage("train from it with DDP on two Ray workers"):
        training = train(load_config(from_file | recipe["train"]), "demo-train", console=console)
    with stage("sweep from the same state"):
        swept = sweep(load_config(from_file | recipe["sweep"]), "demo-sweep", console=console)
    with stage("evaluate on held-out speakers"):
        result = _evaluate(weights_only, training, swept, folder, console)
    _closing_table(result, folder, console, stage.seconds)
    return result


class _Stages:
    """Numbered headings, and the time that all of them took."""

    def __init__(self, console: Console, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._count, self._clock = console, count, clock
        self._number, self._began = 0, clock()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._began

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        self._number += 1
        self._console.print(f"[{self._number}/{self._count}] {title}", style="bold", markup=False)
        began = self._clock()
        yield
        self._console.print(f"  {self._clock() - began:.0f} s", style="dim")


def _videos(folder: Path, recipe: dict[str, Any], console: Console) -> Path:
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("clips", total=None)
        clips = make_corpus(
            folder, on_progress=lambda done, total: progress.update(task, completed=done, total=total), **recipe
        )
    console.print(f"  {len(clips)} clips in {folder}", soft_wrap=True)
    return folder


def _weights_only(folder: Path, config: RunConfig, console: Console) -> Path:
    result = train(config, "demo-pretrain", console=console)
    file = folder / "pretrained_weights_only.pt"
    if not file.exists():
        export(result.best_checkpoint, "latentsync", file)
    console.print(f"  {file.name}: {file.stat().st_size / 1e6:.1f} MB, nothing but weights")
    return file


def _normalize(file: Path, folder: Path, config: RunConfig, console: Console) -> None:
    report = inspect(file, model_config=config.model)
    console.print(
        f"  it is {report.format}, {report.architecture}; missing: {', '.join(report.missing)}", soft_wrap=True
    )
    normalized = normalize(file, folder / "runs" / "states", model_config=config.model)
    for decision in normalized.report.decisions:
        console.print(f"  {decision.field} = {decision.value} ({decision.source}: {decision.why})", soft_wrap=True)
    console.print(f"  resumable state: {normalized.path.name[:16]}...")


def _evaluate(file: Path, training: TrainResult, swept: SweepResult, folder: Path, console: Console) -> DemoResult:
    assert swept.baseline is not None, "the sweep starts from a file"
    shelf = Shelf.under(folder / "runs")

    def judged(checkpoint: str | Path) -> Evaluation:
        return evaluate(checkpoint, folder / "corpus", shelf=shelf, console=console)

    return DemoResult(
        baseline=judged(swept.baseline.checkpoint),
        trained=judged(training.best_checkpoint),
        best_trial=judged(swept.best.checkpoint),
        training=training,
        sweep=swept,
        weights_only=file,
    )


def _closing_table(result: DemoResult, folder: Path, console: Console, seconds: float) -> None:
    table = Table(
        *("checkpoint", "accuracy", "AUC", "loss", "offset within a frame"),
        title=f"held-out speakers, {result.baseline.pairs} pairs",
        box=None,
    )
    rows = {
        "chance": None,
        "baseline (the weights-only file)": result.baseline,
        "trained (2 workers)": result.trained,
        f"best trial ({result.sweep.best.trial})": result.best_trial,
    }
    for name, report in rows.items():
        if report is None:
            table.add_row(name, "50.0%", "0.500", "0.693", "9.7%")
        else:
            figures = report.metrics
            found = report.figure("clip_offset_accuracy_within_1").value
            accuracy = f"{figures['accuracy']:.1%}"
            table.add_row(name, accuracy, f"{figures['auc']:.3f}", f"{figures['loss']:.3f}", f"{found:.1%}")
    console.print(table)
    places = {
        "videos": folder / "videos",
        "corpus": folder / "corpus",
        "weights-only file": result.weights_only,
        "trained checkpoint": result.training.best_checkpoint,
        "sweep's report": result.sweep.report,
        "open MLflow with": open_hint(result.training.tracking_uri),
    }
    for name, place in places.items():
        console.print(f"{name}: {place}", soft_wrap=True)
    console.print(f"done in {seconds:.0f} s")
