"""Units of clips as Ray tasks, on any number of nodes, with what became of each clip as it happens.

Promises: a bounded number of tasks is in flight, however many units there are; a worker or node that dies costs the
clips that it had not finished, which are done again elsewhere; a clip on which workers die or hang again and again is
rejected, and the rest goes on; an error of the product ends the run with that error.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from orchestrator.data.work import ClipDone, ClipStarted, Message, WorkUnit
from orchestrator.errors import OrchestratorError, RunError

_PATIENCE = 3
"""Workers that may die on one clip, of those that lived to tell that they have begun it."""
_TASKS_PER_CPU = 2
_GLANCE_S = 5.0
"""Seconds between looks at what hangs."""


@dataclass(frozen=True)
class TaskShape:
    """What one task asks of the cluster."""

    cpus: float = 1
    gpus: float = 0
    clip_timeout_s: float = 3600
    """A clip that takes longer is taken for hanging."""


def run_units(
    units: Sequence[WorkUnit],
    on_done: Callable[[ClipDone], None],
    shape: TaskShape | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run all units on the connected cluster.

    Args:
        units: what to do.
        on_done: called for every clip, once, in the order in which they end.
        shape: what a task needs.
        clock: monotonic seconds.

    Raises:
        OrchestratorError: whatever a unit raises that is no fault of a clip, e.g. a full disk.
    """
    shape = shape or TaskShape()
    waiting, blamed, told = deque(units), Counter[str](), set[str]()
    running: list[_Task] = []
    while waiting or running:
        # The cluster may have grown or shrunk since the last look.
        room = max(2, int(_TASKS_PER_CPU * ray.cluster_resources().get("CPU", 1) / max(shape.cpus, 0.01)))
        while waiting and len(running) < room:
            running.append(_Task.start(waiting.popleft(), shape, clock()))
        for task in _ready(running):
            try:
                message = task.next(clock())
            except StopIteration:
                running.remove(task)
            except RayError as error:
                running.remove(task)
                waiting.appendleft(_after_failure(task, error, blamed))
            else:
                # A unit that is run again tells of its finished clips again.
                if isinstance(message, ClipDone) and message.source not in told:
                    told.add(message.source)
                    on_done(message)
        for task in running:
            task.stop_if_hanging(clock(), shape.clip_timeout_s)


@dataclass(eq=False)
class _Task:
    """A unit that runs somewhere."""

    unit: WorkUnit
    stream: ray.ObjectRefGenerator
    heard_at: float
    current: str | None = None
    """The clip that it works on."""
    hanging: bool = field(default=False)

    @classmethod
    def start(cls, unit: WorkUnit, shape: TaskShape, now: float) -> _Task:
        options = {"num_cpus": shape.cpus, "num_gpus": shape.gpus, "num_returns": "streaming", "max_retries": 0}
        return cls(unit, _run_remotely.options(**options).remote(unit), now)

    def next(self, now: float) -> Message:
        """The next message, which is there.

        Raises:
            StopIteration: the unit is finished.
            RayError: the task failed.
        """
        message: Message = ray.get(next(self.stream))
        self.heard_at = now
        self.current = message.source if isinstance(message, ClipStarted) else None
        return message

    def stop_if_hanging(self, now: float, limit_s: float) -> None:
        # A task that has not begun waits for room, which is no fault of its first clip.
        if self.current is not None and not self.hanging and now - self.heard_at > limit_s:
            self.hanging = True
            ray.cancel(self.stream, force=True)


@ray.remote
def _run_remotely(unit: WorkUnit) -> Iterator[Message]:
    yield from unit.run()


def _ready(running: list[_Task]) -> list[_Task]:
    streams, _ = ray.wait([task.stream for task in running], num_returns=1, timeout=_GLANCE_S, fetch_local=False)
    return [task for task in running if any(task.stream is stream for stream in streams)]


def _after_failure(task: _Task, error: RayError, blamed: Counter[str]) -> WorkUnit:
    """The unit as it is to be run again.

    Raises:
        OrchestratorError: it failed by itself, so that running it again would fail again.
    """
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, OrchestratorError):
            raise cause from None
        raise RunError(f"a task failed: {type(cause).__name__}: {cause}") from cause
    if task.current is None:
        blamed[""] += 1
        if blamed[""] > 100 * _PATIENCE:
            raise RunError(f"tasks die before they begin: {_first_line(error)}", hint="see Ray's logs") from error
        return task.unit
    if task.hanging:
        return task.unit.without(task.current, "hangs", "took longer than a clip may, and was stopped")
    blamed[task.current] += 1
    if blamed[task.current] < _PATIENCE:
        return task.unit
    why = (
        "needs more memory than there is" if isinstance(error, OutOfMemoryError) else "kills the process that reads it"
    )
    return task.unit.without(task.current, "crashes", f"{why}, {_PATIENCE} times")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
