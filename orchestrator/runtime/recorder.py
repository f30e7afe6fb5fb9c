"""One run's record: its MLflow run, its `status.json` and its gauges, written in one place.

One process at a time records a run: the one that drives it, be it a driver or a sweep's trial.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from orchestrator.data.corpus.scores import scores_bytes
from orchestrator.errors import DataError
from orchestrator.runtime.gauges import Gauges
from orchestrator.runtime.paths import RunPaths, read_json, write_bytes, write_json
from orchestrator.tracking import EndStatus, RunWriter


@dataclass(frozen=True)
class RecordTarget:
    """Where a run is recorded; plain values, so that it can be sent to other processes."""

    paths: RunPaths
    uri: str
    experiment: str
    key: str
    total_steps: int
    parent_run_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    by_samples: str | None = None
    """A metric that is recorded a second time with samples in the place of steps: MLflow's charts know no other axis,
    and runs whose batches differ cannot be compared by steps."""

    def writer(self) -> RunWriter:
        """Start or continue the MLflow run."""
        return RunWriter.start(
            self.uri, self.experiment, self.paths.name, self.key, parent_run_id=self.parent_run_id, tags=self.tags
        )


_ENDS: dict[str, EndStatus] = {
    "finished": "FINISHED",
    "stopped early": "FINISHED",  # by a scheduler, which is what was asked for
    "stopped": "KILLED",
    "failed": "FAILED",
}
"""How a run ended -> what MLflow calls it."""
_NOTES = 50
"""Notes that a status holds: the latest ones."""


class Recorder:
    """Hears the reports of a run and writes them down."""

    def __init__(self, target: RecordTarget) -> None:
        self.target = target
        self._writer: RunWriter | None = None
        self._last: tuple[float, int] | None = None
        self._gauges = Gauges(target.tags.get("sweep", target.paths.name), target.tags.get("trial", ""))

    @property
    def writer(self) -> RunWriter:
        """The MLflow run, opened on first use."""
        if self._writer is None:
            self._writer = self.target.writer()
        return self._writer

    def begin(self, settings: Mapping[str, Any], origin: Mapping[str, Any] | None) -> None:
        """Record what the run is: its configuration, and how its starting state came to be."""
        self.writer.log_params(settings)
        if origin:
            self.writer.log_dict(origin, "start/provenance.json")
            self.writer.set_tags({f"start.{key}": str(origin[key]) for key in ("sha256", "format") if origin.get(key)})
        self.running(run_id=self.writer.run_id)

    def reopen(self) -> None:
        """Ask the tracking store anew what it has: after an error nobody knows."""
        self._writer = None

    def heard(self) -> dict[str, int]:
        """How far the run's journals are recorded, as `hear` was told."""
        return dict((read_json(self.target.paths.status) or {}).get("heard", {}))

    def hear(self, rows: Sequence[Mapping[str, Any]], heard: Mapping[str, int]) -> None:
        """Record rows of a journal: the figures of several, or one of another kind.

        Args:
            rows: as `journal` describes them.
            heard: the offset in every journal once they are recorded.
        """
        if "figures" in rows[0]:
            self._report(rows)
        elif "facts" in rows[0]:
            self._announced(rows[0]["facts"])
        else:
            self.note(rows[0]["note"])
        self._write(heard=dict(heard))

    def _announced(self, facts: Mapping[str, Any]) -> None:
        """Record what was decided: a start, what the run says about learning, the scores of its best validation, why it
        ended before its last step."""
        if "start" in facts:
            self._started(facts)
        if "scores" in facts:
            self._keep_scores(facts["scores"])
        if "verdict" in facts:
            self._write(verdict=facts["verdict"])
            self.writer.set_tags({"learning.state": facts["verdict"]["state"]})
        if "ended" in facts:
            self._write(ended=facts["ended"])
            if facts["ended"]["state"] == "stopped early":  # the other end is none: the run goes on one day
                self.writer.set_tags({"ended": facts["ended"]["why"]})
        for note in facts.get("notes", ()):
            self.note(note)

    def running(self, **facts: Any) -> None:
        """Record that the run is under way, with facts for its status."""
        self._write(state="running", **facts)

    def refused(self, why: str) -> None:
        """Record, in `status.json` alone, that the run ended because its MLflow run could not be opened."""
        self._write(state="failed", error=why)

    def end(self, state: str, **facts: Any) -> None:
        """Record how the run ended, in both places: `finished`, `failed`, `stopped` or `stopped early`."""
        self._write(state=state, **facts)
        self.writer.finish(_ENDS[state])

    def note(self, text: str) -> None:
        """Record something that a person should know."""
        self.writer.set_tags({"note": text})
        notes = [*(read_json(self.target.paths.status) or {}).get("notes", []), {"at": time.time(), "text": text}]
        self._write(notes=notes[-_NOTES:])

    def _started(self, facts: Mapping[str, Any]) -> None:
        """Record the start decision; a continuation leaves the first decision as it was, and is counted."""
        status = read_json(self.target.paths.status) or {}
        start = facts["start"]
        continues = start["verb"] == "continue"
        restarts = int(status.get("restarts", 0)) + int(continues)
        tags = {f"start.{key}": str(value) for key, value in start.items()} if not continues else {}
        self.writer.set_tags({**tags, "restarts": str(restarts), "pairs_hash": str(facts["pairs_hash"])})
        self._keep_pairs(facts["pairs_file"])
        first = status.get("start") if continues else start
        self._write(state="running", start=first or start, restarts=restarts, run_id=self.writer.run_id)

    def _report(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.writer.log_history(point for row in rows for point in self._points(row["figures"]))
        status = read_json(self.target.paths.status) or {}
        known, speed, step = dict(status.get("metrics", {})), status.get("steps_per_s"), 0
        for row in rows:
            step = int(row["figures"]["step"])
            known |= row["figures"]
            speed = self._speed(step, row["at"], speed)
        self._write(step=step, metrics=known, steps_per_s=speed, reported=rows[-1]["at"])

    def _points(self, figures: Mapping[str, float]) -> Iterator[tuple[int, dict[str, float]]]:
        """The figures of a report as (step, metrics)."""
        yield int(figures["step"]), {key: value for key, value in figures.items() if key != "step"}
        metric = self.target.by_samples
        if metric is not None and metric in figures:
            yield int(figures["samples"]), {f"by_samples/{metric}": figures[metric]}

    def _keep_pairs(self, content: bytes) -> None:
        """Store the list of validation pairs, in both places, when it is not there yet."""
        path = self.target.paths.pairs
        if not path.exists() or path.read_bytes() != content:
            write_bytes(path, content)
            self.writer.log_file(path, "pairs")

    def _keep_scores(self, scores: Mapping[str, Any] | None) -> None:
        """Store the scores of the best validation beside the pairs; where none are known, no older ones stay."""
        paths = self.target.paths
        if scores is not None:
            try:
                return write_bytes(paths.scores, scores_bytes(paths.pairs, scores))
            except DataError as error:  # somebody changed the list of pairs, which is no reason to end a run
                self.note(f"the scores of the best validation are not kept: {error}")
        paths.scores.unlink(missing_ok=True)

    def _speed(self, step: int, at: float, known: float | None) -> float | None:
        """Optimizer steps per second since the last report, validation and saving included, smoothed for the ETA."""
        last, self._last = self._last, (at, step)
        if last is None or step <= last[1]:
            return known
        speed = (step - last[1]) / max(at - last[0], 1e-9)
        return speed if known is None else 0.5 * known + 0.5 * speed

    def _write(self, **changes: Any) -> None:
        target = self.target
        changes["total_steps"] = target.total_steps
        self._gauges.take(changes)  # whether or not the storage takes them
        status = read_json(target.paths.status) or {"restarts": 0, "step": 0}
        status |= {"name": target.paths.name, "updated": time.time(), **changes}
        write_json(target.paths.status, status)


@dataclass(frozen=True)
class OpeningRecord:
    """A record whose MLflow run is opened in the background, which takes seconds."""

    recorder: Recorder
    opened: Future[None]

    def is_open(self) -> bool:
        """Whether it can be written.

        Raises:
            TrackingError: the store cannot be used.
        """
        done = self.opened.done()
        if done:
            self.opened.result()
        return done

    def wait(self) -> Recorder:
        """The recorder, once it is open.

        Raises:
            TrackingError: the store cannot be used.
        """
        self.opened.result()
        return self.recorder
