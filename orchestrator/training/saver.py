"""Checkpoints off the hot path: written in a background thread while training goes on.

Promises: at most one checkpoint is being written; what is named `step-...` is whole (it is written beside its place and
renamed) or was damaged later; what the retention lets go is removed after the newer one is safe. A storage that refuses
is asked again, ever more seldom, until `retry_s` have passed since it first refused; a newer state takes the place of a
refused one, so that training goes on meanwhile. What killed processes left half-written or half-removed goes at the
start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from orchestrator.checkpoint import TrainState, is_complete, read_state, save_state, shelf
from orchestrator.checkpoint.partials import disk_errors
from orchestrator.config.schema import CheckpointConfig
from orchestrator.errors import CheckpointError, RefusalReason
from orchestrator.storage import Location, redacted
from orchestrator.training.retention import checkpoint_folder, checkpoint_score, checkpoints_in, folders_in, stale

DAMAGED = "damaged-"
"""What stands before the name of a checkpoint that turned out to be damaged."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0

Pause = Callable[[threading.Event, float], object]
"""Waits so many seconds, or until the event is set."""


class Saver:
    """Writes the checkpoints of one run.

    Args:
        folder: the run's folder; a URI where it lies in object storage.
        settings: cadence, retention and patience.
        tell: says one line to a person; also called in the background thread.
        first: makes safe what must not be lost when the checkpoint is there; an OSError of it is the storage's refusal.
        clock: monotonic seconds.
        sleep: waits between two attempts.
    """

    def __init__(
        self,
        folder: Location,
        *,
        settings: CheckpointConfig,
        tell: Callable[[str], None],
        first: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Pause = threading.Event.wait,
    ) -> None:
        self._folder, self._settings, self._tell, self._first = folder, settings, tell, first
        self._clock, self._sleep = clock, sleep
        self._job: _Job | None = None
        self._safe_at = clock()
        self._safe_step: int | None = None
        self._took_s: float | None = None
        self._refused_at: float | None = None
        self._torn = False
        """Whether the storage may hold a part of what it refused."""
        shelf.sweep(folder)

    def save(self, state: TrainState) -> None:
        """Write a checkpoint: in the background, or before this returns where the settings say so.

        Waits while an earlier one is being written; one that the storage refuses is dropped in favour of this one.

        Args:
            state: tensors that nobody changes until they are written.

        Raises:
            CheckpointError: an earlier one could not be written, or, not in the background, this one.
        """
        self._make_room(state.step)
        self._job = job = _Job(state, self._write)
        if not self._settings.asynchronous:
            self._finish(job)

    def wait(self) -> None:
        """Wait until what was handed in is safe.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._job is not None:
            self._finish(self._job)
        if self._torn:
            with suppress(CheckpointError, OSError):  # half of one is none anyhow
                shelf.sweep(self._folder)

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written, or waits for the storage."""
        return self._job is not None and self._job.thread.is_alive()

    @property
    def overdue(self) -> bool:
        """Whether the latest checkpoint that is safe is `checkpoint.minutes` old, and none is on its way."""
        # asking for another one while one is being written would make training wait for slow storages
        return not self.busy and 0 < 60 * self._settings.minutes <= self._clock() - self._safe_at

    def figures(self) -> dict[str, float]:
        """Seconds of training that a crash would lose now, and, once there is one, how many the latest checkpoint took:
        from being handed in until it was safe."""
        age = {"checkpoint_age_seconds": self._clock() - self._safe_at}
        return age if self._took_s is None else {**age, "checkpoint_seconds": self._took_s}

    def _make_room(self, step: int) -> None:
        """Until the one in flight is safe or was refused; in that case it gives way."""
        job = self._job
        if job is None:
            return
        job.settled.wait()
        if job.refused:
            job.give_way.set()
        self._finish(job)
        if job.dropped:
            self._tell(
                f"the checkpoint of step {job.step}, which the storage refused, is dropped in favour of step {step}"
            )

    def _finish(self, job: _Job) -> None:
        job.thread.join()
        self._job = None
        if job.error is not None:
            raise job.error

    def _write(self, job: _Job, state: TrainState) -> None:
        """Ask the storage until it takes the state, a newer one comes, or it has refused for too long."""
        pause, began = _FIRST_PAUSE_S, self._clock()
        while True:
            try:
                self._write_once(state)
                break
            except CheckpointError as error:
                if error.reason is not RefusalReason.STORAGE:
                    raise
                left = self._patience_left(error, state.step)
            job.refuse()
            self._torn = True
            self._sleep(job.give_way, min(pause, left))
            if job.give_way.is_set():
                job.dropped = True
                return
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        if self._refused_at is not None:
            self._tell(f"the storage takes checkpoints again: step {state.step} is safe")
        self._refused_at, self._safe_at, self._safe_step = None, self._clock(), state.step
        self._took_s = self._safe_at - began
        self._remove_stale()

    def _write_once(self, state: TrainState) -> None:
        """One that is whole already was saved before a crash, and is equal because runs are exact."""
        folder = checkpoint_folder(self._folder, state.step)
        with disk_errors(folder):
            self._first()
            if is_complete(folder):
                return
            if shelf.stands(folder):
                _set_aside(folder)
            try:
                save_state(state, folder)
            except CheckpointError as error:
                if error.reason is not RefusalReason.EXISTS or not is_complete(folder):
                    raise

    def _patience_left(self, error: CheckpointError, step: int) -> float:
        """Seconds for which the storage will still be asked.

        Raises:
            CheckpointError: there are none.
        """
        now = self._clock()
        if self._refused_at is None:
            self._refused_at = now
            self._tell(f"the checkpoint of step {step} was refused, and is tried again: {error.message}")
        left = self._settings.retry_s - (now - self._refused_at)
        if left > 0:
            return left
        safe = (
            "none is safe" if self._safe_step is None else f"the latest that is safe is that of step {self._safe_step}"
        )
        raise CheckpointError(
            f"the storage has refused checkpoints for {now - self._refused_at:.0f} s, now that of step {step}, and "
            f"{safe}: {error.message}",
            reason=RefusalReason.STORAGE,
            path=error.path,
            hint="make room or repair the storage, and start the same command again: it continues from the latest "
            "checkpoint; `checkpoint.retry_s` says how long to keep asking",
        )

    def _remove_stale(self) -> None:
        """Let go what need not be kept; one that vanished or cannot be removed does no harm."""
        settings = self._settings
        try:
            saved = checkpoints_in(self._folder)
            scores = {path: _score(path, settings.metric) for path in saved}
            for path in stale(saved, scores, settings.keep, settings.keep_every):
                shelf.remove(path)
        except (CheckpointError, OSError) as error:
            self._tell(f"checkpoints that need not be kept cannot be removed now: {error}")


class _Job:
    """One checkpoint on its way, in a thread of its own."""

    def __init__(self, state: TrainState, write: Callable[[_Job, TrainState], None]) -> None:
        self.step = state.step
        self.error: Exception | None = None
        self.refused = False
        self.dropped = False
        self.give_way = threading.Event()
        self.settled = threading.Event()
        """Set once it is over or was refused: from then on a newer one need not wait for it."""
        # a daemon: who is ended by an error elsewhere does not wait for a storage that refuses; half of a checkpoint is
        # none, and is swept by the next run
        self.thread = threading.Thread(target=self._run, args=(state, write), name="checkpoint", daemon=True)
        self.thread.start()

    def refuse(self) -> None:
        self.refused = True
        self.settled.set()

    def _run(self, state: TrainState, write: Callable[[_Job, TrainState], None]) -> None:
        try:
            write(self, state)
        except Exception as error:  # raised again in the loop's thread
            self.error = error
        finally:
            self.settled.set()


def latest_undamaged(folder: Location, tell: Callable[[str], None]) -> TrainState | None:
    """The state of the newest checkpoint of a run, every byte of it compared with its digest; none when it has none.

    One that is damaged is renamed to `damaged-step-...` and told, and the one before is taken.

    Args:
        folder: the run's folder.
        tell: says one line to a person.

    Raises:
        CheckpointError: `corrupt`, when there are checkpoints and all of them are damaged: nothing is trained from the
            beginning in silence. `unsupported`, when a newer program wrote the newest; `storage`.
    """
    for path in reversed(folders_in(folder)):
        try:
            return read_state(path)
        except CheckpointError as error:
            if error.reason is RefusalReason.MISSING and not shelf.stands(path):
                continue
            if error.reason is not RefusalReason.CORRUPT:
                raise
            name, aside = shelf.name_of(path), shelf.name_of(_set_aside(path))
            tell(f"the checkpoint {name} is damaged and now {aside}; the one before is taken: {error.message}")
    damaged = [name for name in shelf.subfolders(folder) if name.startswith(DAMAGED)]
    if damaged:
        raise CheckpointError(
            f"no checkpoint in {redacted(folder)} can be used: {len(damaged)} of {len(damaged)} are damaged, the "
            f"newest is {damaged[-1]}",
            reason=RefusalReason.CORRUPT,
            path=redacted(folder),
            hint="bring one back from a copy under its name `step-...`, or, to train from the beginning, remove the "
            "damaged ones or take another run name; `orchestrator verify` names what is wrong with each",
        )
    return None


def _set_aside(folder: Location) -> Location:
    """Rename what is no whole checkpoint, so that nobody takes it for one.

    Raises:
        CheckpointError: `storage`.
    """
    run, first = shelf.above(folder), f"{DAMAGED}{shelf.name_of(folder)}"
    name, number = first, 1
    while shelf.stands(shelf.inside(run, name)):
        number += 1
        name = f"{first}-{number}"
    return shelf.rename(folder, name)


def _score(path: Location, metric: str) -> float | None:
    try:
        return checkpoint_score(path, metric)
    except CheckpointError:  # damaged, or just gone: no reason to keep it
        return None
