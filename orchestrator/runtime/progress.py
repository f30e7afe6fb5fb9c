"""Progress of a run for the person who waits: a live line on a terminal, plain lines in a log.

It reads the run's `status.json`, which is written wherever the run is driven from, so that the same display follows a
run in this process, on a cluster, or one that somebody else started.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from orchestrator.errors import RunError
from orchestrator.runtime.paths import RunPaths, read_json, storage_folder

_POLL_S = 0.5
_LINE_EVERY_S = 10.0


@contextmanager
def follow(paths: RunPaths, console: Console, *, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Show a run's progress while the block runs."""
    done = threading.Event()
    show = _live if console.is_terminal else _lines
    thread = threading.Thread(target=show, args=(paths, console, done, clock), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def describe(status: dict[str, Any]) -> str:
    """One line on how far a run is."""
    metrics = status.get("metrics", {})
    parts = [f"step {status.get('step', 0)}/{status['total_steps']}"]
    for label, key, form in _FIGURES:
        if metrics.get(key) is not None:
            parts.append(f"{label} {metrics[key]:{form}}")
    left = eta(status)
    if left is not None:
        parts.append(f"ETA {left}")
    return ", ".join(parts)


def eta(status: dict[str, Any]) -> timedelta | None:
    """Time to the last step at the present speed; none before there is a speed, or after the end."""
    speed, left = status.get("steps_per_s"), status["total_steps"] - status.get("step", 0)
    if not speed or left <= 0 or status.get("state") != "running":
        return None
    return timedelta(seconds=round(left / speed))


def read_statuses(storage: str, name: str | None) -> list[tuple[str, str, str, str, str]]:
    """Rows (run, state, progress, best, MLflow run) of one run with its trials, or of all runs of a storage folder.

    Raises:
        RunError: there is no such run.
    """
    folder = storage_folder(storage)
    pattern = f"{name}/**/status.json" if name else "*/status.json"
    found = sorted(folder.glob(pattern), key=lambda path: (len(path.parts), path))
    if name is not None and not found:
        raise RunError(f"there is no run {name!r} in {folder}", hint="`orchestrator status` lists all runs")
    return [_row(read_json(path) or {}) for path in found]


def _row(status: dict[str, Any]) -> tuple[str, str, str, str, str]:
    metrics = status.get("metrics", {})
    best = f"{metrics['best/value']:.4f} at step {int(metrics['best/step'])}" if "best/value" in metrics else ""
    return status["name"], status.get("state", ""), describe(status), best, status.get("run_id", "")


_FIGURES = (
    ("loss", "train/loss", ".4f"),
    ("val accuracy", "val/accuracy", ".1%"),
    ("best", "best/value", ".4g"),
    ("samples/s", "train/samples_per_s", ".1f"),
    ("data wait", "train/data_wait", ".0%"),
)


def _live(paths: RunPaths, console: Console, done: threading.Event, clock: Callable[[], float]) -> None:
    columns = (SpinnerColumn(), TextColumn(paths.name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting workers", total=None)
        while not done.wait(_POLL_S):
            status = read_json(paths.status)
            if status and status.get("state") == "running":
                text = describe(status).partition(", ")[2]
                progress.update(task, total=status["total_steps"], completed=status["step"], description=text)


def _lines(paths: RunPaths, console: Console, done: threading.Event, clock: Callable[[], float]) -> None:
    shown, last = -1, clock()
    while not done.wait(_POLL_S):
        status = read_json(paths.status)
        if status and status["step"] != shown and clock() - last >= _LINE_EVERY_S:
            console.print(f"{paths.name}: {describe(status)}", soft_wrap=True, highlight=False)
            shown, last = status["step"], clock()
