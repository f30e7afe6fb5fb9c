"""Progress of a run or sweep for the person who waits: a live line on a terminal, plain lines in a log.

It reads the `status.json` files, which are written wherever the run is driven from, so that the same display follows a
run in this process, on a cluster, or one that somebody else started.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from orchestrator.errors import RunError
from orchestrator.runtime.paths import RunPaths, is_driven, read_json, storage_folder
from orchestrator.training.metrics import score

_POLL_S = 0.5
_LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class Look:
    """How far something is, at one moment."""

    completed: int
    total: int
    text: str
    """What else there is to say, in one line."""


@contextmanager
def follow(paths: RunPaths, console: Console) -> Iterator[None]:
    """Show the progress of a run or sweep while the block runs."""
    done = threading.Event()
    show = _live if console.is_terminal else _lines
    thread = threading.Thread(target=show, args=(paths, console, done), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def read_statuses(storage: str, name: str | None) -> list[tuple[str, str, str, str, str]]:
    """Rows (run, state, progress, best, MLflow run) of one run with its trials, or of all runs of a storage folder.

    Raises:
        RunError: there is no such run.
    """
    folder = storage_folder(storage)
    found = [*folder.glob(f"{name or '*'}/status.json"), *(folder.glob(f"{name}/trials/*/status.json") if name else ())]
    if name is not None and not found:
        raise RunError(f"there is no run {name!r} in {folder}", hint="`orchestrator status` lists all runs")
    return [
        _row(path.parent, read_json(path) or {}) for path in sorted(found, key=lambda path: (len(path.parts), path))
    ]


def look_at(folder: Path) -> Look | None:
    """How far the run or sweep in a folder is; none before it has begun."""
    status = read_json(folder / "status.json")
    if not status or "state" not in status:
        return None
    if "trials" in status:
        return _look_at_sweep(folder, status)
    metrics = status.get("metrics", {})
    parts = [f"{label} {metrics[key]:{form}}" for label, key, form in _FIGURES if metrics.get(key) is not None]
    left = eta(status)
    return Look(status["step"], status["total_steps"], ", ".join(parts + ([f"ETA {left}"] if left else [])))


def eta(status: dict[str, Any]) -> timedelta | None:
    """Time to the last step at the present speed; none before there is a speed, or after the end."""
    speed, left = status.get("steps_per_s"), status["total_steps"] - status["step"]
    if not speed or left <= 0 or status["state"] != "running":
        return None
    return timedelta(seconds=round(left / speed))


_FIGURES = (
    ("loss", "train/loss", ".4f"),
    ("val accuracy", "val/accuracy", ".1%"),
    ("best", "best/value", ".4g"),
    ("samples/s", "train/samples_per_s", ".1f"),
    ("data wait", "train/data_wait", ".0%"),
)


def _look_at_sweep(folder: Path, status: dict[str, Any]) -> Look:
    trials = [read_json(path) or {} for path in folder.glob("trials/*/status.json")]
    ended = sum(trial.get("state") not in (None, "running") for trial in trials)
    now = [trial for trial in trials if trial.get("state") == "running"]
    running = [f"{trial['name']} {trial['step']}/{trial['total_steps']}" for trial in now]
    best = [trial["metrics"]["best/value"] for trial in trials if "best/value" in trial.get("metrics", {})]
    parts = [f"running {', '.join(sorted(running))}"] if running else []
    parts += [f"best {max(best, key=lambda value: score(status['metric'], value)):.4g}"] if best else []
    return Look(ended, status["trials"], ", ".join(parts))


def _row(folder: Path, status: dict[str, Any]) -> tuple[str, str, str, str, str]:
    look, metrics, state = look_at(folder), status.get("metrics", {}), status.get("state", "")
    if state == "running" and not (is_driven(folder) or is_driven(folder.parent.parent)):  # a trial has its sweep's
        state = "interrupted"
    progress = f"{look.completed}/{look.total} {look.text}" if look else ""
    best = f"{metrics['best/value']:.4f} at step {int(metrics['best/step'])}" if "best/step" in metrics else ""
    return status.get("name", folder.name), state, progress, best, status.get("run_id", "")


def _live(paths: RunPaths, console: Console, done: threading.Event) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn(paths.name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None)
        while not done.wait(_POLL_S):
            look = look_at(paths.folder)
            if look is not None and (look.completed or look.text):
                progress.update(task, total=look.total, completed=look.completed, description=look.text)


def _lines(paths: RunPaths, console: Console, done: threading.Event) -> None:
    shown = None
    while not done.wait(_LINE_EVERY_S):
        look = look_at(paths.folder)
        if look is not None and look != shown:
            console.print(f"{paths.name}: {look.completed}/{look.total} {look.text}", soft_wrap=True, highlight=False)
            shown = look
