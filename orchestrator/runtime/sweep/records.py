"""The records of a sweep's trials: one process, the sweep's driver, writes all of them, one MLflow run each.

Why: so many processes that write into one SQLite file lock each other out, every trial would load MLflow, and a
tracking server that restarts would fail them. Trials write journals; what of them is not recorded yet when the driver
is killed is recorded by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from orchestrator.runtime.gauges import Gauges
from orchestrator.runtime.home import copy_of
from orchestrator.runtime.listener import Listener
from orchestrator.runtime.paths import JOURNAL, TRIALS, read_json
from orchestrator.runtime.patience import REFUSALS, Patience
from orchestrator.runtime.recorder import Recorder, RecordTarget
from orchestrator.runtime.sweep.ledger import Entry, Ledger, TrialState
from orchestrator.runtime.sweep.work import SweepWork
from orchestrator.runtime.train import log_charts

_PAUSE_S = 0.5
_FINAL = (TrialState.FINISHED, TrialState.STOPPED_EARLY, TrialState.FAILED)


class TrialRecords:
    """Records the trials of a sweep.

    Args:
        work: what the trials have in common.
        ledger: the sweep's.
        parent: where the sweep itself is recorded.
        parent_run_id: MLflow's id of that run.
        tell: says a line to a person.
    """

    def __init__(
        self,
        work: SweepWork,
        ledger: Ledger,
        parent: RecordTarget,
        parent_run_id: str,
        tell: Callable[[str], None],
    ) -> None:
        self._work, self._ledger, self._parent, self._tell = work, ledger, parent, tell
        self._parent_run_id = parent_run_id
        self._patience_s = work.settings({}).checkpoint.retry_s
        self._patience = Patience(self._patience_s, "the record of a trial", tell)
        self._gauges = Gauges(parent.paths.name)
        self._open: dict[str, _TrialRecord] = {}
        self._closed = {trial for trial, entry in ledger.entries.items() if self._was_closed(entry)}
        """Trials of which everything is recorded."""

    def look(self, active: Collection[str] = ()) -> int:
        """Record what is new.

        Args:
            active: the trials that run; others are looked at once, when they have ended.

        Returns:
            How many trials have ended, and are recorded.

        Raises:
            RunError | TrackingError | OSError: the record has not been writable for long.
        """
        begun = self._open.keys() & active
        self._gauges.trials(counts(list(self._ledger.entries.values()), begun))
        for entry in list(self._ledger.entries.values()):
            runs = entry.trial in active and self._has_begun(entry)
            if entry.trial not in self._closed and (_is_final(entry) or runs):
                self._record(entry)
        return len(self._closed)

    def finish(self) -> None:
        """Record everything; trials that have not ended are recorded as stopped, and go on another time."""
        self.look()
        while left := [trial for trial in self._open if trial not in self._closed]:
            for trial in left:
                entry = self._ledger.entries[trial]
                self._conclude(trial, str(entry.state) if _is_final(entry) else "stopped", entry.why)
            time.sleep(_PAUSE_S * bool(self._open.keys() - self._closed))

    def abandon(self) -> None:
        """Record at once what can be, when the sweep ends with an error: no run is left as if it went on."""
        for trial in self._open.keys() - self._closed:
            entry = self._ledger.entries[trial]
            with suppress(*REFUSALS):
                if self._open[trial].look():
                    self._open[trial].conclude(str(entry.state) if _is_final(entry) else "stopped", entry.why)

    def target(self, entry: Entry) -> RecordTarget:
        """Where a trial is recorded."""
        tags = {"sweep": self._work.paths.name, "trial": entry.trial, "kind": "baseline" if entry.baseline else "trial"}
        settings = self._work.settings(entry.point, baseline=entry.baseline)
        state = self._work.state_of(entry.point)
        return replace(
            self._parent,
            paths=self._work.paths.trial(entry.trial),
            key=f"{self._parent.key}/{entry.trial}",
            total_steps=settings.train.steps,
            parent_run_id=self._parent_run_id,
            tags=tags | _swept(entry.point) | ({"start.state": state.state_hash} if state else {}),
            by_samples=settings.checkpoint.metric,
        )

    def _record(self, entry: Entry) -> None:
        record = self._open.get(entry.trial)
        if record is None:
            assignment = self._work.assignment(entry.trial, entry.point, baseline=entry.baseline)
            origin = assignment.origin if entry.baseline else None
            record = _TrialRecord(self.target(entry), assignment.config, origin, self._patience_s, self._tell)
            self._open[entry.trial] = record
        record.take(entry.point)
        if _is_final(entry) and not self._patience.attempt(lambda: self._fetch(entry)):
            return
        if record.look() and _is_final(entry):
            self._conclude(entry.trial, str(entry.state), entry.why)

    def _conclude(self, trial: str, state: str, why: str) -> None:
        if self._patience.attempt(lambda: self._open[trial].conclude(state, why)):
            self._closed.add(trial)

    def _fetch(self, entry: Entry) -> None:
        copy_of(self._work.paths).fetch(f"{TRIALS}/{entry.trial}/{JOURNAL}")

    def _has_begun(self, entry: Entry) -> bool:
        return self._work.paths.trial(entry.trial).journal.exists()

    def _was_closed(self, entry: Entry) -> bool:
        status = read_json(self._work.paths.trial(entry.trial).status) or {}
        return _is_final(entry) and status.get("state") == entry.state


def counts(entries: Iterable[Entry], begun: Collection[str]) -> dict[str, int]:
    """How many trials are in each state; of those that the ledger knows as waiting, some have begun."""
    states = ["running" if not _is_final(one) and one.trial in begun else str(one.state) for one in entries]
    return {state: states.count(state) for state in ("running", *TrialState)}


class _TrialRecord:
    """The record of one trial."""

    def __init__(
        self,
        target: RecordTarget,
        settings: Mapping[str, Any],
        origin: Mapping[str, Any] | None,
        patience_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._recorder, self._loss = Recorder(target), settings["loss"]["name"]
        self._point: dict[str, Any] = {}
        self._recorder.running(ended=None)

        def begin() -> None:
            self._recorder.begin(settings, origin)

        def tell_of(text: str) -> None:
            tell(f"trial {target.paths.name}: {text}")

        self._listener = Listener(self._recorder, patience_s=patience_s, tell=tell_of, on_note=tell_of, begin=begin)

    def take(self, point: Mapping[str, Any]) -> None:
        """The settings that it has from now on: MLflow keeps the params of a run as they were first."""
        if self._point and point != self._point:
            self._recorder.target = replace(self._recorder.target, tags={**self._recorder.target.tags, **_swept(point)})
            self._recorder.reopen()
        self._point = dict(point)

    def look(self) -> bool:
        """Record what is new; whether nothing is left."""
        return self._listener.look()

    def conclude(self, state: str, why: str) -> None:
        """Record how the trial ended, with its charts."""
        self._listener.finish()
        target = self._recorder.target
        log_charts(self._recorder.writer, target.uri, self._loss)
        if why:
            self._recorder.writer.set_tags({"ended": why})
        failed = state == TrialState.FAILED
        ended = {"state": state, "why": why} if why else None
        self._recorder.end(state, **({"error": why} if failed else {"ended": ended}))


def _is_final(entry: Entry) -> bool:
    return entry.state in _FINAL


def _swept(point: Mapping[str, Any]) -> dict[str, str]:
    return {f"swept.{name}": str(value) for name, value in point.items()}
