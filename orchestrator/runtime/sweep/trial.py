"""One trial of a sweep as Ray Tune runs it: the training loop in this very process, or a Ray Train group below it.

Contract: Tune hears every validation once, in order of steps, those of earlier starts first, because its schedulers
forget them with the driver; the next part of the training begins when Tune has decided about the last one. A trial
that Tune stops saves what it has and leaves by itself, so that its best checkpoint and its workers' CPUs are never
lost. Trials write journals and no record: whoever drives the sweep records them all.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from ray import tune

from orchestrator.checkpoint import is_complete
from orchestrator.errors import OrchestratorError
from orchestrator.runtime.execute import group_on_ray, loop_here
from orchestrator.runtime.home import at_home
from orchestrator.runtime.journal import read_journal
from orchestrator.runtime.logs import identify
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.stopping import StopFile, seldom
from orchestrator.runtime.sweep.work import SweepWork
from orchestrator.runtime.worker import Assignment
from orchestrator.training.host_memory import ask_for_huge_pages

Figures = dict[str, float]
STEP, SAMPLES = "step", "samples"
ENDED, WHY = "trial/ended", "trial/why"
"""Keys of a trial's last result: its state, and why it ended so."""
_JOIN_S = 600.0


def validations(journal: Path) -> list[Figures]:
    """The validations of a trial so far, in order of steps; steps that were repeated had the same figures."""
    rows = (row.get("figures", {}) for row, _ in read_journal(journal, 0))
    found = {int(figures[STEP]): figures for figures in rows if _is_validation(figures)}
    return [found[step] for step in sorted(found)]


class SweepTrial(tune.Trainable):
    """A trial; Tune calls these methods in its actor, one after the other."""

    def setup(self, config: dict[str, Any], work: SweepWork | None = None) -> None:
        """Take the assignment; nothing is started yet."""
        assert work is not None, "given by `tune.with_parameters`"
        ask_for_huge_pages()
        self._work = work
        self._training = self._assigned(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial: a process that has everything loaded starts it seconds sooner."""
        self._training.leave()
        self._training = self._assigned(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next validation, or how the trial ended."""
        return self._training.next()

    def cleanup(self) -> None:
        """Leave, with a checkpoint of the last validation."""
        self._training.leave()

    def _assigned(self, config: Mapping[str, Any]) -> Training:
        assignment = self._work.assignment(config["trial"], config["point"], baseline=config["baseline"])
        identify(assignment.run_folder, rank=0)
        return Training(assignment)


class Training:
    """Trains in a thread of its own, from one validation to the next.

    Args:
        assignment: what to train.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment, self._config = assignment, assignment.settings()
        self._paths, self._at_home = RunPaths.at(assignment.run_folder), ExitStack()
        self._copy = self._at_home.enter_context(at_home(self._paths))
        self._stop = StopFile(self._paths.folder)
        self._told = -1
        self._untold: Iterator[Figures] | None = None
        self._last: Figures = {}
        self._from = 0
        self._messages: queue.Queue[Figures | BaseException | None] = queue.Queue()
        self._go, self._leaves = threading.Event(), False
        self._thread: threading.Thread | None = None

    def next(self) -> dict[str, Any]:
        """The next validation that was not told yet, or how it ended.

        Raises:
            Exception: whatever ended the training and is worth another try.
        """
        if self._untold is None:
            self._from = _size(self._paths.journal)
            self._untold = iter(validations(self._paths.journal))
        for figures in self._untold:
            return self._tell(figures)
        if self._thread is None:
            if self._is_done():
                return self._last | {ENDED: "stopped", WHY: "", "done": True}
            # what asked an earlier process of this trial to leave is done with; a driver that wants it asks again
            self._stop.clear()
            self._thread = threading.Thread(target=self._work, name="training", daemon=True)
            self._thread.start()
        self._go.set()
        while True:
            message = self._messages.get()
            if isinstance(message, BaseException):
                return self._failed(message)
            if message is None:
                self._copy.flush()
                return self._last | self._end() | {"done": True}
            if message[STEP] > self._told:
                return self._tell(message)
            self._go.set()

    def leave(self) -> None:
        """Save and end the training, if it goes on."""
        self._leaves = True
        self._go.set()
        with self._at_home:
            if self._thread is not None and self._thread.is_alive():
                self._stop.ask()
                self._thread.join(_JOIN_S)

    def _is_done(self) -> bool:
        """Whether there is nothing left of this round."""
        until = self._assignment.until
        return until is not None and is_complete(self._paths.checkpoint(until))

    def _tell(self, figures: Figures) -> dict[str, Any]:
        self._told, self._last = int(figures[STEP]), dict(figures)
        return dict(figures)

    def _failed(self, error: BaseException) -> dict[str, Any]:
        """What was raised on purpose would be raised again; anything else is worth another start."""
        if not isinstance(error, OrchestratorError):
            raise error
        self._copy.flush()
        return self._last | {ENDED: "failed", WHY: str(error), "done": True}

    def _work(self) -> None:
        try:
            if self._config.scale.num_workers > 1:
                self._on_workers()
            else:
                self._here()
            self._messages.put(None)
        except BaseException as error:  # whatever it is, it belongs to Tune
            self._messages.put(error)

    def _here(self) -> None:
        torch.set_num_threads(max(1, int(self._config.scale.cpus_per_worker)))
        asked = seldom(self._stop.asked)
        loop_here(self._assignment, on_report=self._say, stop_requested=lambda: self._leaves or asked())

    def _say(self, figures: Mapping[str, float]) -> None:
        """Hand a validation to Tune, and wait for what it decides."""
        if _is_validation(figures):
            self._go.clear()
            self._messages.put(dict(figures))
            if not self._leaves:
                self._go.wait()

    def _on_workers(self) -> None:
        heard = _size(self._paths.journal)

        def look() -> None:
            nonlocal heard
            for row, offset in read_journal(self._paths.journal, heard):
                heard = offset
                if _is_validation(row.get("figures", {})):
                    self._messages.put(row["figures"])

        group_on_ray(self._assignment, look)
        self._copy.fetch()
        look()

    def _end(self) -> dict[str, Any]:
        """How the training left its loop: by its last step, by one of its own rules, or because it was asked to."""
        ends = [row["facts"]["ended"] for row, _ in read_journal(self._paths.journal, self._from) if _has_end(row)]
        if not ends:
            return {ENDED: "finished", WHY: ""}
        return {ENDED: ends[-1]["state"], WHY: ends[-1]["why"]}


def _is_validation(figures: Mapping[str, float]) -> bool:
    return any(key.startswith("val/") for key in figures)


def _has_end(row: Mapping[str, Any]) -> bool:
    return bool(row.get("facts", {}).get("ended"))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
