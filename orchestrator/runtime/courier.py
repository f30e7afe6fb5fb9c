"""One thread per worker that talks to Ray Train, so that the training loop never waits for Ray.

Why: what Ray Train tells its workers is told in barriers of all ranks. Contract: what is handed in is done one after
the other, in the order in which it came, so that ranks which hand in the same errands meet in the same barriers; what
goes wrong is raised by the next call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Errand = Callable[[], None]
"""Something to do in the courier's thread."""

_WAITING = 256
"""Errands that may wait before the loop does: minutes of a controller that does not listen."""


class Courier:
    """Runs errands in one background thread.

    Args:
        waiting: how many errands may wait until `send` waits too.
    """

    def __init__(self, waiting: int = _WAITING) -> None:
        self._errands: queue.Queue[Errand | None] = queue.Queue(waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def send(self, errand: Errand) -> None:
        """Have something done after all that was sent before.

        Raises:
            BaseException: what an earlier errand raised; nothing is done after it.
        """
        self._raise()
        self._errands.put(errand)

    def finish(self) -> None:
        """Return when everything is done; nothing may be sent afterwards.

        Raises:
            BaseException: what an errand raised.
        """
        self._errands.put(None)
        self._thread.join()
        self._raise()

    def _run(self) -> None:
        while (errand := self._errands.get()) is not None:
            if self._error is None:
                try:
                    errand()
                except BaseException as error:  # whatever it is, the loop has to hear of it
                    self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
