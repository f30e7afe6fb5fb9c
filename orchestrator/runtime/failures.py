"""What Ray Train's controller does about workers that fail: it notes why, and ends the run when that was on purpose.

It runs in the controller's own process, which loads this module and nothing of the training loop.
"""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ray.train import UserCallback

from orchestrator.errors import OrchestratorError, StorageError
from orchestrator.runtime.journal import Journal
from orchestrator.runtime.watchdog import WRITTEN, explain
from orchestrator.storage import Folder, open_folder


class FailureCallback(UserCallback):
    """Judges what workers fail with.

    Args:
        journal: where the controller writes what it has to say.
        stuck: the folder where stuck workers write, or where it arrives on this machine.
        home: the same folder in object storage; none where `stuck` is what all see.
    """

    def __init__(self, journal: Path, stuck: Path, home: str | None = None) -> None:
        self._journal, self._stuck, self._home = journal, stuck, home

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Note who failed, or was stuck; Ray Train then starts all workers again, or gives up.

        Raises:
            OrchestratorError: what a worker raised on purpose would be raised again: Ray Train starts workers again
                after an error of theirs, but ends the run at once after one of this callback.
        """
        for rank in sorted(worker_exceptions):
            if (wanted := deliberate(worker_exceptions[rank])) is not None:
                raise wanted
        failed = (f"rank {rank} failed: {_what(error)}" for rank, error in sorted(worker_exceptions.items()))
        if self._home is not None:
            with suppress(StorageError):  # that they failed is told all the same
                _gather(open_folder(self._home), self._stuck)
        Journal(self._journal).append(note=explain(self._stuck) or "; ".join(failed))


def deliberate(error: BaseException | None) -> OrchestratorError | None:
    """The error that was raised on purpose behind another one; none if there is none."""
    while error is not None:
        if isinstance(error, OrchestratorError):
            return error
        error = error.__cause__ or getattr(error, "cause", None)
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """The last line of an error's message."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def _gather(home: Folder, here: Path) -> None:
    """Move what stuck workers wrote to this machine."""
    for name in [entry.name for entry in home.entries() if fnmatch(entry.name, WRITTEN)]:
        here.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(home.read(name))
        home.delete(name)


def _what(error: Exception) -> str:
    """What a worker failed with, in a line."""
    if getattr(error, "health_check_failure", None) is not None:  # Ray's name for a worker that does not answer
        return "its process died"
    return f"{type(error).__name__}: {first_line(error)}"[:200]
