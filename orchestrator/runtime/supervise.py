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
_HEAD_S = 30.0
"""Seconds without an answer after which Ray's head is gone: one that is restarted in place comes back within them, and
Ray itself ends the driver after sixty."""
_NODE_S = 2.0
"""The same of the node here: without it Ray ends the driver, without a word, after about ten."""


def wait_for(job: Callable[[], T], look: Callable[[], object]) -> T:
    """Run a job that drives Ray, in a thread of its own.

    Args:
        job: what to run.
        look: called about twice a second meanwhile.

    Returns:
        What the job returns.

    Raises:
        RunError: Ray does not answer any more.
        BaseException: what the job or `look` raises, or a signal handler of the main thread.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(job())
        except BaseException as error:  # whatever it is, it belongs to the one who waits
            failure.append(error)

    doors = _doors()
    thread = threading.Thread(target=work, name="ray", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
        look()
        for door in doors:
            door.knock()
    if failure:
        raise failure[0]
    return result[0]


def _doors() -> list[_Door]:
    """Of Ray's head, which may be started again in place, and of this machine's own node, which may not."""
    here = ray.get_runtime_context()
    doors = [_Door("head", here.gcs_address, _HEAD_S)]
    for node in ray.nodes():
        if node["NodeID"] == here.get_node_id():
            doors.append(_Door("node here", f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}", _NODE_S))
    return doors


class _Door:
    """Whether a part of Ray still answers.

    Args:
        what: which one, for the message.
        address: host and port.
        patience_s: seconds without an answer after which it is gone.
        clock: monotonic seconds.
    """

    def __init__(self, what: str, address: str, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        host, _, port = address.rpartition(":")
        self._what, self._address, self._place = what, address, (host.strip("[]"), int(port))
        self._patience_s, self._clock = patience_s, clock
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
            if self._clock() - self._answered >= self._patience_s:
                silent = f"its {self._what} at {self._address} has not answered for {self._patience_s:.0f} s"
                raise gone(f"{silent}: {error}") from error


def gone(why: str) -> RunError:
    """The error of a driver that has lost its Ray."""
    return RunError(
        f"Ray is gone: {why}",
        hint="start it again, and give the same command again to continue from the latest checkpoint",
    )
