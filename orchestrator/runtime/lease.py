"""Who drives a run: one process at a time, and everybody can see whether there is one.

Why two ways: in a folder, a lock goes with its process, however that ends. Object storage has no locks: there a driver
leaves a sign of life at `drivers/<id>.json` every few seconds, and one whose sign is old is dead. Signs are compared by
the storage's own clock, so that no two machines need the same time.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.errors import RunError, StorageError
from orchestrator.runtime.paths import RunPaths, writable
from orchestrator.storage import Entry, Folder
from orchestrator.tracking.process import ProcessMark, process_is_alive, this_process

_LOCK = ".driver.lock"
_DRIVERS = "drivers"
_BEAT_S = 5.0
_DEAD_AFTER_S = 20.0
_PAUSE_S = 1.0


@contextmanager
def driving(paths: RunPaths) -> Iterator[None]:
    """Be the only driver of a run while the block runs.

    Raises:
        RunError: another process drives this run, or its folder cannot be written.
    """
    lock = FileLock(paths.folder / _LOCK, timeout=0)
    try:
        with writable(paths.folder):
            paths.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise _taken(paths.name) from None
    try:
        yield
    finally:
        lock.release()


def is_driven(folder: Path) -> bool:
    """Whether some process drives the run in a folder now."""
    if not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


def is_driven_at(home: Folder, now_s: float) -> bool:
    """Whether some process drives the run in a folder of object storage now.

    Args:
        home: the run's folder.
        now_s: seconds since the epoch; may differ from the storage's clock by some minutes.
    """
    signs = home.child(_DRIVERS).entries()
    return any(now_s - sign.mtime_ns / 1e9 < _DEAD_AFTER_S + _TOLERATED_S for sign in signs)


_TOLERATED_S = 60.0
"""What a clock here may be ahead of the storage's before a run that is driven looks as if it were not."""


_held: set[str] = set()
"""The signs that this process leaves."""


class Lease:
    """Be the only driver of a run in object storage while a block runs.

    Args:
        home: the run's folder.
        run: its name.
        tell: says a line to a person who has to wait.

    Raises:
        RunError: another process drives this run.
        StorageError: the storage refuses it.
    """

    def __init__(self, home: Folder, run: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self._drivers, self._run, self._tell = home.child(_DRIVERS), run, tell
        self._name = f"{secrets.token_hex(8)}.json"
        self._mark = this_process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> None:
        _held.add(self._name)
        self._sign()
        try:
            self._outlive()
        except BaseException:
            self._give_up()
            raise
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._give_up()

    def _give_up(self) -> None:
        _held.discard(self._name)
        with suppress(StorageError):  # it grows old by itself
            self._drivers.delete(self._name)

    def _outlive(self) -> None:
        """Wait until every other driver is known to be dead.

        Raises:
            RunError: one lives.
        """
        seen: dict[str, int] = {}
        while others := [sign for sign in self._drivers.entries() if sign.name != self._name]:
            now_ns = self._sign()
            for sign in others:
                lives = self._lives_here(sign)
                if lives or seen.get(sign.name, sign.mtime_ns) != sign.mtime_ns:  # it gave another sign
                    raise _taken(self._run)
                if lives is False or now_ns - sign.mtime_ns > _DEAD_AFTER_S * 1e9:
                    self._drivers.delete(sign.name)
                elif not seen:
                    self._tell(f"waits up to {_DEAD_AFTER_S:.0f} s to see whether the driver before this one is gone")
                seen[sign.name] = sign.mtime_ns
            time.sleep(_PAUSE_S)

    def _sign(self) -> int:
        """Leave a sign; the storage's time of it."""
        self._drivers.write(self._name, json.dumps(asdict(self._mark)).encode())
        entry = self._drivers.entry(self._name)
        return time.time_ns() if entry is None else entry.mtime_ns

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            with suppress(StorageError):  # the next one may arrive
                self._drivers.write(self._name, json.dumps(asdict(self._mark)).encode())

    def _lives_here(self, sign: Entry) -> bool | None:
        """Whether the process that left a sign lives; none if it was left on another machine."""
        try:
            said, mine = ProcessMark(**json.loads(self._drivers.read(sign.name))), self._mark
            if said == mine:
                return sign.name in _held
            if (said.host, _boot(said.start)) != (mine.host, _boot(mine.start)):
                return None
            return process_is_alive(said.pid, said.start)
        except (StorageError, ValueError, LookupError, TypeError):
            return None


def _boot(start: str) -> str:
    """What tells one start of a machine from another, of the mark of a process."""
    return start.partition(":")[0]


def _taken(run: str) -> RunError:
    return RunError(
        f"another process is driving the run {run!r}",
        hint=f"`orchestrator status {run}` shows how far it is; give another --name for another run",
    )
