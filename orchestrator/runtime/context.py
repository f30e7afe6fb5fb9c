"""The training loop's surroundings on one Ray Train worker.

The loop's thread never talks to Ray. About once a second it polls: rank 0 decides, by its clock and by what it was
asked, and tells the others in one small broadcast, so that all ranks save and stop at the same steps. Rank 0 writes
figures, facts and notes into the run's journal, and its `Saver` the checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from orchestrator.checkpoint import TrainState
from orchestrator.checkpoint.partials import disk_errors
from orchestrator.config.schema import RunConfig
from orchestrator.models import SyncNet
from orchestrator.runtime.courier import Courier
from orchestrator.runtime.home import copy_of
from orchestrator.runtime.journal import Journal
from orchestrator.runtime.paths import STUCK, RunPaths
from orchestrator.runtime.stopping import StopFile
from orchestrator.runtime.usage import Usage
from orchestrator.runtime.watchdog import Watchdog
from orchestrator.training.context import Request
from orchestrator.training.parallel import wrap
from orchestrator.training.saver import Saver, latest_undamaged

_POLL_S = 1.0
"""Seconds between two polls, more or less."""
_LAST_SAVE_S = 20.0
"""Seconds before a node is taken away at which a second checkpoint is saved."""


class RayContext:
    """A `TrainContext` on one Ray Train worker.

    Args:
        paths: the run's places, at home in this process.
        config: its configuration.
        until: the step after which to save and leave, if that is before the last one.
        clock: monotonic seconds.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        paths: RunPaths,
        config: RunConfig,
        *,
        until: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        surroundings = ray.train.get_context()
        self.rank: int = world_rank()
        self.world_size: int = surroundings.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self._paths, self._config, self._clock, self._now = paths, config, clock, now
        self._until = until
        self._stop = StopFile(paths.folder)
        self._courier = Courier()
        patience_s = config.scale.stuck_after_s
        self._watchdog = Watchdog(paths.folder / STUCK, self.rank, self.world_size, patience_s, clock=clock)
        self._journal, self._saver, self._usage = None, None, None
        if self.rank == 0:
            self._usage = Usage(self.device, clock=clock)
            self._journal = Journal(paths.journal, keep=copy_of(paths).flush)
            # a run that continues from a checkpoint reports nothing again of what came before it
            self._saver = Saver(paths.where, settings=config.checkpoint, tell=self.note, first=self._journal.sync)
        self._group = _host_group(config) if self.world_size > 1 else None
        self._pace = Pace(_POLL_S)
        self._notices = Notices()
        self._preemption: Any = None
        self._next_poll = 0

    def latest(self) -> TrainState | None:
        return latest_undamaged(self._paths.where, self.note)

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        return wrap(cast(SyncNet, model), self._config, self.device)

    def announce(self, facts: Mapping[str, object]) -> None:
        self._append(facts=dict(facts))

    def report(self, metrics: Mapping[str, float]) -> None:
        self._watchdog.alive()
        if self._usage is not None and self._saver is not None:
            self._append(figures=self._usage.beside(metrics, self._saver.figures()))

    def save(self, state: TrainState) -> None:
        assert self._saver is not None, "checkpoints are rank 0's"
        self._watchdog.alive()
        self._saver.save(state)
        self._watchdog.alive()

    def alive(self) -> None:
        self._watchdog.alive()

    def poll(self, step: int) -> Request:
        self._watchdog.alive(step)
        if self._until is not None and step >= self._until:
            return Request(save=True, stop=True)  # every rank knows it by itself
        if step < self._next_poll:
            return Request()
        save, stop, steps = self._shared(*self._decide(step)) if self._group is not None else self._decide(step)
        self._next_poll = step + steps
        self._courier.send(self._look_for_preemption)
        return Request(save=bool(save), stop=bool(stop))

    def finish(self) -> None:
        """Also ends the watchdog: from here on this worker waits for no other rank, but for the storage and for Ray,
        which have limits of their own."""
        self._watchdog.stop()
        if self._saver is not None and self._journal is not None:
            self._saver.wait()
            with disk_errors(self._paths.journal):
                self._journal.sync()  # what was said after the last checkpoint
        self._courier.finish()

    def note(self, text: str) -> None:
        """Say something to the person who waits; any thread may, of rank 0."""
        self._append(note=text)

    def _append(self, **row: Any) -> None:
        if self._journal is not None:
            self._journal.append(**row)

    def _look_for_preemption(self) -> None:
        self._preemption = ray.train.get_preemption_info()

    def _decide(self, step: int) -> tuple[int, int, int]:
        """Whether to save, whether to stop, and the steps until the next poll. Rank 0's is what counts."""
        if self._saver is None:
            return 0, 0, 0
        steps = self._pace.steps(step, self._clock())
        stop = self._stop.asked()
        notice = Notice.of(self._preemption)
        leaves = self._notices.due(notice, self._now())
        if leaves and notice is not None:
            self.note(f"{notice}; saves a checkpoint at step {step} and goes on until then")
        return int(stop or self._saver.overdue or leaves), int(stop), steps

    def _shared(self, save: int, stop: int, steps: int) -> tuple[int, int, int]:
        """Rank 0's decision, on every rank."""
        decision = torch.tensor([save, stop, steps], dtype=torch.int64)
        dist.broadcast(decision, 0, group=self._group)
        save, stop, steps = decision.tolist()
        return save, stop, steps


def world_rank() -> int:
    """This worker among those of its group."""
    return int(ray.train.get_context().get_world_rank())


@dataclass(frozen=True)
class Notice:
    """That nodes of the run will be taken away."""

    nodes: frozenset[str]
    """Ray's ids of the nodes."""
    deadline_s: float | None
    """When, in seconds since the epoch; none if nobody said."""

    @classmethod
    def of(cls, info: Any) -> Notice | None:
        """From what `ray.train.get_preemption_info` gives."""
        if info is None:
            return None
        deadline = None if info.deadline_ms is None else info.deadline_ms / 1000
        return cls(frozenset(info.preempted_node_ids), deadline)

    def __str__(self) -> str:
        count = len(self.nodes)
        return f"{count} node{'s' if count > 1 else ''} of this run will be taken away"


class Notices:
    """When notices ask for a checkpoint: as soon as one names a node, and once more shortly before the node goes."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self._last_at: float | None = None

    def due(self, notice: Notice | None, now_s: float) -> bool:
        """Whether a checkpoint is asked for at this moment."""
        if notice is None:
            return False
        if not notice.nodes <= self._known:
            self._known |= notice.nodes
            at = None if notice.deadline_s is None else notice.deadline_s - _LAST_SAVE_S
            self._last_at = at if at is not None and at > now_s + _LAST_SAVE_S else None
            return True
        if self._last_at is not None and now_s >= self._last_at:
            self._last_at = None
            return True
        return False


class Pace:
    """How many steps make about so many seconds, learned on the way.

    Args:
        seconds: what is aimed at.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: tuple[int, float] | None = None
        self._steps = 1

    def steps(self, step: int, now_s: float) -> int:
        """Steps from this one to the next look; at most twice as many as before, since the first ones are slow."""
        if self._last is not None:
            taken, took = step - self._last[0], max(now_s - self._last[1], 1e-6)
            self._steps = max(1, min(2 * self._steps, int(taken * self._seconds / took)))
        self._last = (step, now_s)
        return self._steps


def _host_group(config: RunConfig) -> dist.ProcessGroup:
    """A group for tensors in the host's memory: the ranks' own if that is what it is for, a second one on GPUs."""
    if dist.get_backend() == dist.Backend.GLOO:
        assert dist.group.WORLD is not None
        return dist.group.WORLD
    return dist.new_group(backend="gloo", timeout=timedelta(seconds=config.scale.stuck_after_s))
