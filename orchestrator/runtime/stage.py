"""A stage of the data plane, on Ray or in this process, as a person sees it: what is done, and when it will end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from orchestrator.config.schema import ScaleConfig
from orchestrator.data.files import printable
from orchestrator.data.work import ClipDone, WorkUnit
from orchestrator.runtime import cluster
from orchestrator.runtime.units import TaskShape, run_units

_NAMED = 20
"""Rejections that are named one by one; the table of the stage holds all of them."""
_EVERY_S = 10.0
"""Seconds between lines of a log."""


def tell_plan(console: Console, notes: Sequence[str], finished: str, done: int, left: int) -> None:
    """Say what the sources were taken for and, of a stage that goes on, how much is left.

    Args:
        console: where to say it.
        notes: of the listing.
        finished: what is done, as the beginning of a sentence, e.g. `3 clips are prepared`.
        done: how many of them.
        left: how many are left.
    """
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    if done and left:
        console.print(f"{finished} already, {left} are left", highlight=False)


def run_stage(
    label: str,
    units: Sequence[WorkUnit],
    console: Console,
    shape: TaskShape | None = None,
    *,
    on_done: Callable[[ClipDone], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run the units of a stage on the Ray that is there, or on a local one, and show how it goes.

    Args:
        label: the stage's name.
        units: the work that is left; without any, Ray is not started.
        console: a live bar on a terminal, plain lines elsewhere.
        shape: what a task needs.
        on_done: called for every clip, once.
        clock: monotonic seconds.

    Raises:
        OrchestratorError: as `run_units`.
    """
    if not units:
        return
    cluster.connect(ScaleConfig(num_workers=os.cpu_count() or 1))
    if shape is not None:
        cluster.require_gpus(shape.gpus)
    with _shown(label, units, console, clock) as tell:

        def told(done: ClipDone) -> None:
            tell(done)
            on_done(done)

        run_units(units, told, shape, clock=clock)


def run_here(
    label: str,
    units: Sequence[WorkUnit],
    console: Console,
    *,
    on_done: Callable[[ClipDone], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """The same in this process, without Ray.

    Raises:
        OrchestratorError: as the units.
    """
    with _shown(label, units, console, clock) as tell:
        for unit in units:
            for message in unit.run():
                if isinstance(message, ClipDone):
                    tell(message)
                    on_done(message)


@contextmanager
def _shown(
    label: str, units: Sequence[WorkUnit], console: Console, clock: Callable[[], float]
) -> Iterator[Callable[[ClipDone], None]]:
    """What takes the ends of clips and shows how it goes."""
    total = sum(len(unit.sources) for unit in units)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        teller = _Teller(label, total, console, clock)

        def tell(done: ClipDone) -> None:
            teller.tell(done)
            bar.update(task, advance=1, description=teller.title)

        yield tell


@dataclass
class _Teller:
    """Counts clips and says what a person wants to know."""

    label: str
    total: int
    console: Console
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._began = self._said = self.clock()
        self._done = self._rejected = 0
        self._seconds = 0.0

    @property
    def title(self) -> str:
        """The stage with what was rejected so far."""
        return f"{self.label} ({self._rejected} rejected)" if self._rejected else self.label

    def tell(self, done: ClipDone) -> None:
        """Take the end of a clip."""
        self._done += 1
        self._seconds += done.seconds
        if done.reason:
            self._reject(done)
        now = self.clock()
        if not self.console.is_terminal and (now - self._said >= _EVERY_S or self._done == self.total):
            self._said = now
            self._print(self._line(now - self._began))

    def _reject(self, done: ClipDone) -> None:
        self._rejected += 1
        if self._rejected <= _NAMED:
            self._print(f"rejected {done.source}: {done.reason}, {done.detail}")
        elif self._rejected == _NAMED + 1:
            self._print("more are rejected; the table holds all of them with their reasons")

    def _line(self, elapsed: float) -> str:
        rate = self._done / max(elapsed, 1e-9)
        left = (self.total - self._done) / rate
        return (
            f"{self.label}: {self._done}/{self.total} clips, {self._rejected} rejected, "
            f"{self._seconds / 3600:.2f} h kept, {rate:.2g} clips/s, {_duration(left)} left"
        )

    def _print(self, text: str) -> None:
        # a name may be no Unicode, and hold line breaks: neither ends the run, or the line
        line = printable(text).replace("\r", "\\r").replace("\n", "\\n")
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
