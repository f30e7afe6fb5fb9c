"""How a run is asked to stop: a signal to its driver becomes a word in the file `stop` of its folder.

Contract: the first SIGTERM or Ctrl-C asks the workers to save and leave, the second ends the driver at once. A file
with anything in it asks; an empty one does not, because over a network a file system shows what an open file holds at
once, and a new name only after a while. Anybody may ask: `echo stop > runs/NAME/stop`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SELDOM_S = 0.5


class StopFile:
    """The file `stop` of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stop"

    def clear(self) -> None:
        """Nobody asks: what was asked of an earlier start is done with."""
        self._write(b"")

    def ask(self) -> None:
        """Ask the run to save and leave."""
        self._write(b"stop\n")

    def asked(self) -> bool:
        """Whether somebody asks."""
        try:
            return bool(self.path.read_bytes())
        except FileNotFoundError:
            return False

    def _write(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(content)


@contextmanager
def stoppable(file: StopFile, tell: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, the first SIGTERM or SIGINT asks the run to stop, and the second is a KeyboardInterrupt.

    Outside the main thread, where Python hears no signals, it does nothing but clear the file.

    Args:
        file: the run's stop file, cleared at the beginning.
        tell: says what happens, in one line.
    """
    file.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def asked(number: int, _: FrameType | None) -> None:
        if file.asked():
            raise KeyboardInterrupt
        file.ask()
        tell(f"{signal.Signals(number).name}: saves a checkpoint, then stops; once more to stop at once")

    for number in _SIGNALS:
        signal.signal(number, asked)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, _restorable(handler))


def seldom(ask: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """The same question, put at most twice a second; in between the answer is the last one."""
    last = (clock() - _SELDOM_S, False)

    def answer() -> bool:
        nonlocal last
        if clock() - last[0] >= _SELDOM_S:
            last = (clock(), ask())
        return last[1]

    return answer


def _restorable(handler: Any) -> Any:
    """A handler that was not set from Python is none, which cannot be set again."""
    return signal.SIG_DFL if handler is None else handler
