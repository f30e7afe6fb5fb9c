"""Progress of a run or sweep for the person who waits: a live line on a terminal, plain lines in a log.

It reads the `status.json` files, which are written wherever the run is driven from, so that the same display follows a
run in this process, on a cluster, or one that somebody else started.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from orchestrator.runtime import logs
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.status import RunState, RunStatus, read_status

_POLL_S = 0.5
_LINES_POLL_S = 2.0
_FIRST_LINE_S = 5.0
_LINE_EVERY_S = 60.0
_FIGURES = (
    ("samples/s", "train/samples_per_s", ".1f"),
    ("data wait", "train/data_wait", ".0%"),
    ("loss", "train/loss", ".4f"),
    ("accuracy", "train/accuracy", ".1%"),
    ("val accuracy", "val/accuracy", ".1%"),
    ("skipped", "train/skipped", ".0f"),
)
"""What the line shows of the metrics: label, key, format."""
_ONLY_IF_ANY = {"train/skipped"}
_COLOURS = {"LEARNING": "green", "AT_CHANCE": "yellow", "OVERFITTING": "yellow", "COLLAPSED": "red"} | {
    RunState.STALLED: "red",
    RunState.INTERRUPTED: "yellow",
    RunState.FAILED: "red",
    RunState.DAMAGED: "red",
    RunState.RUNNING: "green",
    RunState.FINISHED: "green",
}


@dataclass(frozen=True)
class Look:
    """How far something is, at one moment."""

    completed: int
    total: int
    text: str
    """What else there is to say, in one line of console markup."""
    key: tuple[object, ...] = ()
    """What a person wants to hear of at once when it changes: the states, restarts."""


class Cadence:
    """When the next plain line is due: the first soon, then ever more rarely, and at once when something changed.

    Args:
        first_s: seconds to the first line.
        most_s: seconds between lines in the long run; the pause doubles until then.
    """

    def __init__(self, first_s: float = _FIRST_LINE_S, most_s: float = _LINE_EVERY_S) -> None:
        self._pause, self._most = first_s, most_s
        self._next: float | None = None
        self._key: tuple[object, ...] | None = None

    def due(self, now: float, key: tuple[object, ...]) -> bool:
        """Whether a line is due at `now` seconds; asking is telling that it will be written."""
        if self._next is None:
            self._next = now + self._pause
        changed, self._key = self._key is not None and key != self._key, key
        if not changed and now < self._next:
            return False
        if not changed:
            self._pause = min(2 * self._pause, self._most)
        self._next = now + self._pause
        return True


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


def look_at(folder: Path) -> Look | None:
    """How far the run or sweep in a folder is; none before it has begun, or while its status cannot be read."""
    if not (folder / "status.json").exists():
        return None
    status = read_status(folder)
    return None if status.state is RunState.DAMAGED else look(status)


def look(status: RunStatus) -> Look:
    """What there is to say about a run or sweep."""
    parts = _sweep_parts(status) if status.is_sweep else _run_parts(status)
    if status.state is not RunState.RUNNING:
        parts.insert(0, coloured(status.state))
    key = (status.state, status.verdict.get("state"), status.restarts, *_trial_states(status))
    return Look(status.step, status.total_steps, ", ".join(parts), key)


def coloured(state: str) -> str:
    """A state in its colour, as console markup."""
    colour = _COLOURS.get(state)
    return f"[{colour}]{escape(state)}[/]" if colour else escape(str(state))


def _run_parts(status: RunStatus) -> list[str]:
    figures = status.metrics
    # what matters most stands first: narrow terminals cut the end
    parts = [coloured(str(status.verdict["state"]))] if status.verdict.get("state") else []
    parts += [] if status.eta is None else [f"ETA {status.eta}"]
    for label, key, form in _FIGURES:
        value = figures.get(key)
        if value is not None and (value or key not in _ONLY_IF_ANY):
            parts.append(f"{label} {value:{form}}")
    if status.best is not None:
        parts.append(f"best {status.best[0]:.4g}")
    if status.restarts:
        parts.append(f"restarts {status.restarts}")
    if status.checkpoint is not None:
        parts.append(f"checkpoint {status.checkpoint}")
    return parts


def _sweep_parts(status: RunStatus) -> list[str]:
    now = [
        f"{escape(trial.name)} {trial.step}/{trial.total_steps}"
        + (f" {coloured(str(trial.verdict['state']))}" if trial.verdict.get("state") else "")
        for trial in status.trials
        if trial.state is RunState.RUNNING
    ]
    parts = [f"running {', '.join(now)}"] if now else []
    return parts + ([] if status.best is None else [f"best {status.best[0]:.4g} of {escape(str(status.best[1]))}"])


def _trial_states(status: RunStatus) -> tuple[object, ...]:
    return tuple((trial.name, trial.state) for trial in status.trials)


def _live(paths: RunPaths, console: Console, done: threading.Event) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None, name=paths.name)
        while not done.wait(_POLL_S):
            now = look_at(paths.folder)
            if now is not None and (now.completed or now.text):
                progress.update(task, total=now.total or None, completed=now.completed, description=now.text)


def _lines(paths: RunPaths, console: Console, done: threading.Event) -> None:
    cadence, shown = Cadence(), None
    while True:
        ended = done.wait(_LINES_POLL_S)
        now = look_at(paths.folder)
        # how it ended is told by whoever waits for it; what is not yet told of the way there is told here
        due = now is not None and (cadence.due(time.monotonic(), now.key) or ended)
        if now is not None and due and now != shown and (now.completed or now.text):
            line = f"{now.completed}/{now.total} {now.text}"
            figures = {"completed": now.completed, "total": now.total}
            logs.say(console, paths.name, line, event="progress", markup=True, **figures)
            shown = now
        if ended:
            return
