"""Waiting for what runs on Ray: signals are heard meanwhile, and a Ray that is gone is noticed.

Why: Ray Train takes Ctrl-C for itself when it is called from the main thread, so it is called from another one; and a
driver whose Ray has died waits for a minute and is then ended by Ray without a word to the person.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import ray

from orchestrator.errors import RunError

T = TypeVar("T")

_LOOK_S = 0.5
"""Seconds between two looks at what there is to tell."""
_KNOCK_S = 2.0
"""Seconds between two knocks at Ray's door."""
_GONE_S = 30.0
"""Seconds without an answer after which Ray is gone: a head that is restarted in place comes back within them, and the
driver is ended by Ray itself after sixty."""


def wait_for(job: Callable[[], T], look: Callable[[], None]) -> T:
    """Run a job that drives Ray, in a thread of its own if this is the main one.

    Args:
        job: what to run.
        look: called about twice a second meanwhile.

    Returns:
        What the job returns.

    Raises:
        RunError: Ray does not answer any more.
        BaseException: what the job raises, or a signal handler of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return job()
    result: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(job())
        except BaseException as error:  # whatever it is, it belongs to the one who waits
            failure.append(error)

    door = _Door()
    thread = threading.Thread(target=work, name="ray", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
        look()
        door.knock()
    if failure:
        raise failure[0]
    return result[0]


class _Door:
    """Whether Ray's head still answers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.address: str = ray.get_runtime_context().gcs_address
        host, _, port = self.address.rpartition(":")
        self._place, self._clock = (host.strip("[]"), int(port)), clock
        self._answered = self._knocked = clock()

    def knock(self) -> None:
        """Look after it, if it is time.

        Raises:
            RunError: there was no answer for long.
        """
        now = self._clock()
        if now - self._knocked < _KNOCK_S:
            return
        self._knocked = now
        try:
            socket.create_connection(self._place, timeout=_KNOCK_S).close()
            self._answered = self._clock()
        except OSError as error:
            if self._clock() - self._answered >= _GONE_S:
                raise gone(f"its head at {self.address} has not answered for {_GONE_S:.0f} s: {error}") from error


def gone(why: str) -> RunError:
    """The error of a driver that has lost its Ray."""
    return RunError(
        f"Ray is gone: {why}",
        hint="start it again, and give the same command again to continue from the latest checkpoint",
    )
