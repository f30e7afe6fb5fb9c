"""What Ray Train's controller does about workers that fail: it notes why, and ends the run when that was on purpose.

It runs in the controller's own process, which loads this module and nothing of the training loop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.train import UserCallback

from orchestrator.errors import OrchestratorError
from orchestrator.runtime.journal import Journal
from orchestrator.runtime.watchdog import explain


class FailureCallback(UserCallback):
    """Judges what workers fail with.

    Args:
        journal: where the controller writes what it has to say.
        stuck: the folder where stuck workers write.
    """

    def __init__(self, journal: Path, stuck: Path) -> None:
        self._journal, self._stuck = journal, stuck

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


def _what(error: Exception) -> str:
    """What a worker failed with, in a line."""
    if getattr(error, "health_check_failure", None) is not None:  # Ray's name for a worker that does not answer
        return "its process died"
    return f"{type(error).__name__}: {first_line(error)}"[:200]
