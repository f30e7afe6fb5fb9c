"""How runs and sweeps stand, read from their folders: from anywhere, while they run and after.

Promises: nothing is written; a folder whose `status.json` is damaged, half copied or not readable is one row that says
so, and never keeps the others from being listed.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator.checkpoint.manifest import MANIFEST
from orchestrator.errors import OrchestratorError, RunError
from orchestrator.runtime.lease import is_driven, is_driven_at
from orchestrator.runtime.parts import read_if_there
from orchestrator.runtime.paths import TRIALS, storage_folder
from orchestrator.storage import Entry, Folder, Location, join, open_folder, redacted
from orchestrator.tracking import open_hint, resolve_uri
from orchestrator.training.metrics import score

_CHECKPOINT = re.compile(r"step-(\d{9,})")
_AT_A_TIME = 16
_STALLED_S = 600.0
_STALLED_REPORTS = 5
"""A run is stalled when it has been silent for as long as so many of its reports take, and for ten minutes at least."""


class RunState(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    """Some process drives it and reports come."""
    STALLED = "stalled"
    """Some process drives it, but nothing was reported for long."""
    INTERRUPTED = "interrupted"
    """It had not ended, and no process drives it: the same command continues it."""
    FINISHED = "finished"
    """It took its last step."""
    STOPPED = "stopped"
    """Somebody stopped it: the same command continues it."""
    STOPPED_EARLY = "stopped early"
    """It stopped by one of its own rules, or a sweep's scheduler stopped it."""
    FAILED = "failed"
    """It ended with an error."""
    DAMAGED = "damaged"
    """Its status cannot be read."""


@dataclass(frozen=True)
class RunStatus:
    """One run, one trial or one sweep, at one moment."""

    name: str
    state: RunState
    folder: Location
    """Its folder: a path or a URI."""
    step: int = 0
    """Optimizer steps taken; of a sweep, trials that have ended."""
    total_steps: int = 0
    """Optimizer steps in all; of a sweep, its trials."""
    steps_per_s: float | None = None
    age_s: float | None = None
    """Seconds since anything was reported."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The latest value of every metric."""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    """What the chance detector says: `state`, `why` and `causes`; empty before it has said anything."""
    ended: Mapping[str, Any] = field(default_factory=dict)
    """Why the run left before its last step: `why` and `state`."""
    error: str = ""
    """What it failed with, or why its status cannot be read."""
    restarts: int = 0
    """How often it was continued."""
    checkpoint: int | None = None
    """Step of the newest checkpoint in the folder."""
    checkpoint_age_s: float | None = None
    """Seconds since that checkpoint was written."""
    start: Mapping[str, Any] = field(default_factory=dict)
    """The start decision of the first start."""
    run_id: str = ""
    """MLflow's id of the run."""
    metric: str | None = None
    """What the trials of a sweep are judged by; none for a run."""
    trials: tuple[RunStatus, ...] = ()
    """Of a sweep."""

    @property
    def is_sweep(self) -> bool:
        """Whether this is a sweep and not a run."""
        return self.metric is not None

    @property
    def eta(self) -> timedelta | None:
        """Time to the last step at the present speed; none before there is a speed, or when it does not run."""
        left = self.total_steps - self.step
        if self.state is not RunState.RUNNING or not self.steps_per_s or left <= 0:
            return None
        return timedelta(seconds=round(left / self.steps_per_s))

    @property
    def best(self) -> tuple[float, int | str] | None:
        """The best value of the checkpoint metric and its step; of a sweep, its trial."""
        if not self.is_sweep:
            value, step = self.metrics.get("best/value"), self.metrics.get("best/step")
            return None if value is None or step is None else (value, int(step))
        found = [(trial.best[0], trial.name) for trial in self.trials if trial.best is not None]
        return max(found, key=lambda each: score(self.metric or "", each[0])) if found else None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data; figures that are no finite number are null."""
        raw = {key: value for key, value in self.__dict__.items() if key not in ("trials", "metrics", "metric")}
        raw |= {"state": str(self.state), "folder": redacted(self.folder), "metrics": _finite(self.metrics)}
        raw["eta_s"] = None if self.eta is None else self.eta.total_seconds()
        raw["best"] = None if self.best is None else {"value": self.best[0], "at": self.best[1]}
        if self.is_sweep:
            raw |= {"metric": self.metric, "trials": [trial.to_dict() for trial in self.trials]}
        return raw


def read_statuses(storage: str, name: str | None = None) -> list[RunStatus]:
    """All runs and sweeps of a storage folder, by name; or the one of this name.

    Args:
        storage: a folder, or a URI of object storage.
        name: a run or sweep.

    Raises:
        RunError: there is no such run, or no such folder.
        StorageError: the object storage does not answer.
    """
    folder = storage_folder(storage)
    if folder is None:
        found = _read_remote(open_folder(storage), name, time.time)
    else:
        found = [read_status(path.parent) for path in sorted(folder.glob(f"{name or '*'}/status.json"))]
    if name is not None and not found:
        raise RunError(
            f"there is no run {name!r} in {redacted(storage if folder is None else folder)}",
            hint="`orchestrator status` lists all runs; --storage names another folder",
        )
    return found


def read_status(folder: Path, *, clock: Callable[[], float] = time.time) -> RunStatus:
    """How the run or sweep in a folder stands; never raises.

    Args:
        folder: the run's folder.
        clock: seconds since 1970.
    """
    return _read(folder, _driven(folder), clock)


def tracking_hint(folder: Location) -> str:
    """How a person opens MLflow for the run in a folder; empty when the folder does not tell where it is."""
    try:
        config = json.loads(open_folder(folder).read("run.json"))["config"]
        return open_hint(resolve_uri(config["tracking"]["uri"], config["storage"], os.environ))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OrchestratorError):
        return ""


def state_of(recorded: str, driven: bool, age_s: float, patience_s: float = _STALLED_S) -> RunState:
    """What a recorded state means now. Pure.

    Args:
        recorded: the state in `status.json`.
        driven: whether some process drives the run.
        age_s: seconds since anything was written.
        patience_s: silence that is no reason to worry.
    """
    if recorded != RunState.RUNNING:
        return RunState(recorded)
    if not driven:
        return RunState.INTERRUPTED
    return RunState.STALLED if age_s > patience_s else RunState.RUNNING


def _read_remote(home: Folder, name: str | None, clock: Callable[[], float]) -> list[RunStatus]:
    """The same of runs in object storage: what tells how they stand is brought here, and looked at as it is here."""
    with tempfile.TemporaryDirectory(prefix="syncnet-status-") as temporary:
        here = Path(temporary)
        entries = home.entries(name or "")
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(lambda entry: _bring(home, entry, here), entries))
        runs = sorted(path.parent for path in here.glob("*/status.json"))
        found = [_read(run, is_driven_at(home.child(run.name), clock()), clock) for run in runs]
        return [_moved(status, home.uri) for status in found]


def _bring(home: Folder, entry: Entry, here: Path) -> None:
    """What `_read` looks at: the small files, and an empty folder for every checkpoint that is whole."""
    *folders, last = entry.name.split("/")
    target = here.joinpath(*folders)
    if last in ("status.json", "run.json"):
        target.mkdir(parents=True, exist_ok=True)
        (target / last).write_bytes(read_if_there(home, entry.name))
    elif last == MANIFEST and _CHECKPOINT.fullmatch(target.name):
        target.mkdir(parents=True, exist_ok=True)
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))


def _moved(status: RunStatus, storage: str) -> RunStatus:
    """The status of a run as it stands where it was brought from."""
    where = join(storage, status.name)
    trials = tuple(_moved(trial, join(where, TRIALS)) for trial in status.trials)
    return replace(status, folder=where, trials=trials)


def _read(folder: Path, driven: bool, clock: Callable[[], float]) -> RunStatus:
    try:
        return _parse(folder, json.loads((folder / "status.json").read_text(encoding="utf-8")), driven, clock)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        return RunStatus(folder.name, RunState.DAMAGED, folder, error=f"status.json: {type(error).__name__}: {error}")


def _parse(folder: Path, raw: dict[str, Any], driven: bool, clock: Callable[[], float]) -> RunStatus:
    now, speed, recorded = clock(), raw.get("steps_per_s"), str(raw.get("state", RunState.RUNNING))
    age = max(0.0, now - float(raw.get("updated", now)))
    step, written = _newest_checkpoint(folder)
    state = state_of(recorded, driven, age, _patience(folder, speed))
    # an error or a stop of an earlier start stays in the file when the run goes on
    has_ended = state not in (RunState.RUNNING, RunState.STALLED, RunState.FINISHED)
    status = RunStatus(
        name=str(raw["name"]),
        state=state,
        folder=folder,
        step=int(raw.get("step", 0)),
        total_steps=int(raw["total_steps"]),
        steps_per_s=None if speed is None else float(speed),
        age_s=age,
        metrics={str(key): float(value) for key, value in raw.get("metrics", {}).items()},
        verdict=dict(raw.get("verdict") or {}),
        ended=dict(raw.get("ended") or {}) if has_ended else {},
        error=str(raw.get("error") or "") if state is RunState.FAILED else "",
        restarts=int(raw.get("restarts", 0)),
        checkpoint=step,
        checkpoint_age_s=None if written is None else max(0.0, now - written),
        start=dict(raw.get("start") or {}),
        run_id=str(raw.get("run_id") or ""),
    )
    if "trials" not in raw:
        return status
    # a trial has no driver of its own: it lives in its sweep's
    trials = tuple(_read(path.parent, driven, clock) for path in sorted(folder.glob("trials/*/status.json")))
    ended = sum(trial.state not in (RunState.RUNNING, RunState.STALLED, RunState.INTERRUPTED) for trial in trials)
    ages = [trial.age_s for trial in trials if trial.age_s is not None]
    youngest = min([age, *ages])
    return RunStatus(
        **{
            **status.__dict__,
            "state": state_of(recorded, driven, youngest),
            "age_s": youngest,
            "step": ended,
            "total_steps": int(raw["trials"]),
            "metric": str(raw["metric"]),
            "trials": trials,
        }
    )


def _driven(folder: Path) -> bool:
    """Whether some process drives the run; where the lock may not be touched, it is believed to be."""
    try:
        return is_driven(folder)
    except OSError:
        return True


def _patience(folder: Path, steps_per_s: float | None) -> float:
    """Seconds of silence that are normal for this run."""
    if not steps_per_s:
        return _STALLED_S
    try:
        every = int(json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]["train"]["log_every"])
    except (OSError, ValueError, LookupError, TypeError):
        return _STALLED_S
    return max(_STALLED_S, _STALLED_REPORTS * every / float(steps_per_s))


def _newest_checkpoint(folder: Path) -> tuple[int | None, float | None]:
    """Step and time of the newest checkpoint; a folder of such a name is whole."""
    with os.scandir(folder) as entries:
        found = [(int(match[1]), entry) for entry in entries if (match := _CHECKPOINT.fullmatch(entry.name))]
    if not found:
        return None, None
    step, entry = max(found, key=lambda each: each[0])
    try:
        return step, entry.stat().st_mtime
    except FileNotFoundError:  # retention has just removed it
        return step, None


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    items: Iterable[tuple[str, float]] = figures.items()
    return {key: value if math.isfinite(value) else None for key, value in items}
