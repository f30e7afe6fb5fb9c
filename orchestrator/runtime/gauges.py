"""What Prometheus hears of runs: the latest figures of every run, trial and sweep that this process records.

Why here: whoever records a run hears all of it, and is a process of Ray's where a run has workers, so that Ray exports
its gauges on its node's metrics port, among Ray's own. Contract: nothing is exported where Ray is not in use; a gauge
vanishes within half a minute after its run, so that there are never more than of what runs now; labels are names of
runs and trials and states of fixed lists, and nothing else; nothing here waits, and no run ends for its gauges.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from orchestrator.training.chance import LearningState
from orchestrator.training.policies import STATE

RUN_STATES = ("running", "finished", "stopped early", "stopped", "failed")
"""What the number of `syncnet_run_state` means."""
LEARNING_STATES = tuple(LearningState)
"""What the number of `syncnet_learning_state` means; the figure `learning/state` in MLflow is the same."""
PREFIX = "ray_"
"""What Ray puts before the name of everything that it exports."""

_EVERY_S = 5.0
"""Ray exports every ten seconds what was set since the last time, and forgets the rest."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """One metric."""

    name: str
    """Without Ray's prefix."""
    meaning: str
    unit: str
    figure: str | None = None
    """The figure of a report that it shows; none for what is told otherwise."""
    labels: tuple[str, ...] = ("run", "trial")


EXPORTED = (
    Exported("syncnet_step", "optimizer steps taken", "steps", "step"),
    Exported("syncnet_total_steps", "optimizer steps in all", "steps"),
    Exported("syncnet_samples", "samples trained on", "samples", "samples"),
    Exported("syncnet_steps_per_second", "speed between reports, validation and saving included", "steps/s"),
    Exported("syncnet_samples_per_second", "speed of training, all workers", "samples/s", "train/samples_per_s"),
    Exported("syncnet_data_wait_ratio", "part of the time that waits for data", "0 to 1", "train/data_wait"),
    Exported("syncnet_train_loss", "mean loss since the report before", "loss", "train/loss"),
    Exported("syncnet_train_accuracy", "accuracy at 0.5 since the report before", "0 to 1", "train/accuracy"),
    Exported("syncnet_gradient_norm", "mean norm before clipping since the report before", "norm", "train/grad_norm"),
    Exported("syncnet_learning_rate", "learning rate of the latest step", "rate", "train/lr"),
    Exported("syncnet_skipped_steps", "steps skipped, because not finite", "steps", "train/skipped"),
    Exported("syncnet_val_loss", "loss of the latest validation", "loss", "val/loss"),
    Exported("syncnet_val_accuracy", "accuracy at 0.5 of the latest validation", "0 to 1", "val/accuracy"),
    Exported("syncnet_val_auc", "AUC of the latest validation", "0 to 1", "val/auc"),
    Exported("syncnet_best_value", "best value of `checkpoint.metric`", "of that metric", "best/value"),
    Exported("syncnet_best_step", "the step of that value", "steps", "best/step"),
    Exported("syncnet_learning_state", "what the chance detector says", "number, see below", STATE),
    Exported("syncnet_checkpoint_seconds", "how long the latest checkpoint took", "s", "system/checkpoint_seconds"),
    Exported("syncnet_checkpoint_timestamp_seconds", "when training was last made safe", "s since 1970"),
    Exported("syncnet_report_timestamp_seconds", "when the latest report was made", "s since 1970"),
    Exported("syncnet_restarts", "how often the run was continued", "continuations"),
    Exported("syncnet_run_state", "how the run stands", "number, see below"),
    Exported("syncnet_total_trials", "trials of the sweep in all, the untouched starting states among them", "trials"),
    Exported("syncnet_trials", "trials of the sweep by state", "trials", labels=("run", "trial", "state")),
)
"""Everything that is exported; `docs/observability.md` shows the same table."""

Labels = tuple[tuple[str, str], ...]
Values = dict[tuple[str, Labels], float]


class Settable(Protocol):
    """The part of `ray.util.metrics.Gauge` that is used here."""

    def set(self, value: float, tags: dict[str, str]) -> None: ...


class Exporter:
    """Sets gauges again and again, as long as there is somebody whose they are.

    Args:
        gauge: makes the gauge of a metric; Ray's if left out.
        in_use: whether Ray is in use in this process.
        every_s: seconds between two times; with 0 the caller does it, by `refresh`.
    """

    def __init__(
        self,
        gauge: Callable[[Exported], Settable] | None = None,
        in_use: Callable[[], bool] = ray.is_initialized,
        every_s: float = _EVERY_S,
    ) -> None:
        self._make, self._in_use, self._every_s = gauge or _ray_gauge, in_use, every_s
        self._gauges: dict[str, Settable] = {}
        self._shown: weakref.WeakSet[Gauges] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._broken = False

    def show(self, gauges: Gauges, values: Values) -> None:
        """Set some values of somebody's now, and all from time to time, until they are done or gone."""
        with self._lock:
            gauges.values = {**gauges.values, **values}
            self._set(values)
            if gauges.done:
                return
            self._shown.add(gauges)
            if self._thread is None and self._every_s:
                self._thread = threading.Thread(target=self._repeat, name="gauges", daemon=True)
                self._thread.start()

    def refresh(self) -> bool:
        """Set everything that is shown; whether there is anything."""
        with self._lock:
            shown = [gauges for gauges in self._shown if not gauges.done]
            if not shown:
                self._thread = None
        for gauges in shown:
            with self._lock:  # or else an older value could follow a newer one
                self._set(gauges.values)
        return bool(shown)

    def _set(self, values: Values) -> None:
        if self._broken or not self._in_use():
            return
        try:
            for (name, labels), value in values.items():
                if name not in self._gauges:
                    self._gauges[name] = self._make(_BY_NAME[name])
                self._gauges[name].set(value, dict(labels))
        except Exception as error:  # whatever Ray raises: a run goes on without gauges
            self._broken = True
            _log.warning("no metrics are exported any more: %s: %s", type(error).__name__, error)

    def _repeat(self) -> None:
        while self.refresh():
            threading.Event().wait(self._every_s)


class Gauges:
    """The gauges of one run, trial or sweep.

    Args:
        run: its name; of a trial, the name of the sweep.
        trial: its id; empty for what is no trial.
        exporter: exports them; this process's if left out.
    """

    def __init__(self, run: str, trial: str = "", exporter: Exporter | None = None) -> None:
        self._run, self._trial, self._exporter = run, trial, exporter or _EXPORTER
        self.values: Values = {}
        """The latest ones; the exporter's."""
        self.done = False
        """Whether nothing more is to be said of it."""

    def take(self, changes: Mapping[str, Any]) -> None:
        """Show what changes in a run's status; with a state other than running it is shown for the last time."""
        if "state" in changes:
            self.done = changes["state"] != "running"
        self._show({(name, self._labels()): value for name, value in _values(changes)})

    def trials(self, counts: Mapping[str, int]) -> None:
        """Show how many trials of this sweep are in each state."""
        self._show({("syncnet_trials", self._labels(state=state)): count for state, count in counts.items()})

    def _labels(self, **more: str) -> Labels:
        return (("run", self._run), ("trial", self._trial), *more.items())

    def _show(self, values: Values) -> None:
        if values:
            self._exporter.show(self, values)


def _values(changes: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What a change of a status says, by metric."""
    figures = changes.get("metrics", {})
    yield from ((metric.name, figures[metric.figure]) for metric in EXPORTED if metric.figure in figures)
    if changes.get("steps_per_s") is not None:
        yield "syncnet_steps_per_second", changes["steps_per_s"]
    if "reported" in changes:
        yield "syncnet_report_timestamp_seconds", changes["reported"]
        if _AGE in figures:
            yield "syncnet_checkpoint_timestamp_seconds", changes["reported"] - figures[_AGE]
    if figures:
        yield "syncnet_total_steps", changes["total_steps"]
    if "restarts" in changes:
        yield "syncnet_restarts", changes["restarts"]
    if "state" in changes:
        yield "syncnet_run_state", RUN_STATES.index(changes["state"])
    if "trials" in changes:
        yield "syncnet_total_trials", changes["trials"]


def _ray_gauge(metric: Exported) -> Settable:
    from ray.util.metrics import Gauge  # in use only where Ray is

    return Gauge(metric.name, f"{metric.meaning} ({metric.unit})", metric.labels)


_AGE = "system/checkpoint_age_seconds"
_BY_NAME = {metric.name: metric for metric in EXPORTED}
_EXPORTER = Exporter()
