"""Trying again, for a while, what a full disk or a tracking server that is away refuses now."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import RunError, StorageError, TrackingError

T = TypeVar("T")

_PAUSE_S = 0.5
REFUSALS = (RunError, StorageError, TrackingError, OSError)
"""What may be over in a while."""


class Patience:
    """How long something may be refused.

    Args:
        seconds: for how long in a row.
        what: is refused, e.g. `the record`.
        tell: says one line to a person.
        clock: monotonic seconds.
        meanwhile: what goes on while it is refused; empty when all wait for it.
    """

    def __init__(
        self,
        seconds: float,
        what: str,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        meanwhile: str = "training goes on",
    ) -> None:
        self._seconds, self._what, self._tell, self._clock = seconds, what, tell, clock
        self._again = f"is tried again; {meanwhile}" if meanwhile else "is tried again"
        self._refused_at: float | None = None

    def attempt(self, action: Callable[[], object]) -> bool:
        """Do something, now or at a later attempt; whether it was done.

        Raises:
            RunError | TrackingError | OSError: it has not been possible for long.
        """
        try:
            action()
        except REFUSALS as error:
            now = self._clock()
            if self._refused_at is None:
                self._refused_at = now
                self._tell(f"{self._what} cannot be written, and {self._again}: {error}")
            if now - self._refused_at >= self._seconds:
                raise
            return False
        if self._refused_at is not None:
            self._tell(f"{self._what} can be written again; nothing of it was lost")
        self._refused_at = None
        return True

    def insist(
        self,
        action: Callable[[], T],
        between: Callable[[], object] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> T:
        """Do something, however many attempts it takes.

        Args:
            action: what to do.
            between: done before another attempt.
            sleep: waits so many seconds.

        Returns:
            What the action returns.

        Raises:
            RunError | TrackingError | OSError: as `attempt`.
        """
        result: list[T] = []
        while not self.attempt(lambda: result.append(action())):
            between()
            sleep(_PAUSE_S)
        return result[0]
