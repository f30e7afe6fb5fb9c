"""A worker that makes no step: it writes down where it stands and leaves, so that all workers are started again.

Why: a rank that hangs makes all others wait for it without an error, and none of them can say which one it is. Every
worker watches itself. After `after_s` seconds without a sign of life it writes where each of its threads stands, some
seconds later it exits: all that wait for one another have then written, and `explain` can tell who waited for whom. A
worker that cannot even do that, because it was stopped or never gives Python a turn, is the one that did not write (for
the latter, faulthandler writes from outside of Python).
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_GRACE_S = 3.0
"""Seconds from writing to leaving: the others write within them."""
_HELD_S = 10.0
"""Seconds later than usual at which faulthandler takes over from a watchdog that gets no turn."""
WRITTEN = "rank-*"
"""The names of what stuck workers write."""
STUCK_EXIT = 75
"""Exit code of a worker that was stuck."""
_WAITS_IN = ("torch/distributed/", "torch/autograd/", "torch/nn/parallel/")
"""Where the training thread of a rank stands that waits for the others: in a collective, or in the backward pass."""


@dataclass(frozen=True)
class Standstill:
    """What a stuck worker wrote."""

    rank: int
    ranks: int
    """How many there were."""
    host: str
    pid: int
    step: int
    """The last step it was known to have taken."""
    silent_s: float
    """Seconds since its last sign of life."""
    where: str
    """The innermost line of this product on its training thread."""
    waits: bool
    """Whether it stood where one waits for the other ranks."""


class Watchdog:
    """Watches the thread that makes it.

    Args:
        folder: where the run's stuck workers write.
        rank: this worker.
        ranks: how many there are.
        after_s: seconds without a sign of life that are too many.
        clock: monotonic seconds.
        leave: ends the process.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        ranks: int,
        after_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self._report, self._trace = folder / f"rank-{rank}.json", folder / f"rank-{rank}.txt"
        self._rank, self._ranks, self._after_s, self._clock, self._leave = rank, ranks, after_s, clock, leave
        self._watched = threading.get_ident()
        self._step, self._last = 0, clock()
        self._done = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._trace.open("w")
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def alive(self, step: int | None = None) -> None:
        """Give a sign of life; as cheap as setting a variable."""
        self._last = self._clock()
        if step is not None:
            self._step = step

    def stop(self) -> None:
        """Watch no longer."""
        self._done.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        self._file.close()

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, self._after_s / 10)):
            silent = self._clock() - self._last
            if silent >= self._after_s:
                self._write(silent)
                if not self._done.wait(_GRACE_S):
                    self._leave(STUCK_EXIT)
                return
            # never reached while the watchdog gets its turns
            faulthandler.dump_traceback_later(self._after_s - silent + _HELD_S, exit=True, file=self._file)

    def _write(self, silent: float) -> None:
        frame = sys._current_frames().get(self._watched)
        lines = traceback.extract_stack(frame) if frame is not None else []
        standstill = Standstill(
            rank=self._rank,
            ranks=self._ranks,
            host=socket.gethostname(),
            pid=os.getpid(),
            step=self._step,
            silent_s=round(silent, 1),
            where=_innermost(lines),
            waits=any(part in line.filename for line in lines[-6:] for part in _WAITS_IN),
        )
        faulthandler.dump_traceback(self._file, all_threads=True)
        self._file.flush()
        self._report.write_text(json.dumps(asdict(standstill)))


def explain(folder: Path) -> str | None:
    """Who was stuck, in one message, from what the workers wrote; none if nobody wrote anything.

    What they wrote is moved to `<folder>/<number>/`, so that it is told once and kept.

    Args:
        folder: where the run's stuck workers write.
    """
    wrote = {one.rank: one for one in map(_read, folder.glob("rank-*.json"))}
    traced = {int(path.stem.removeprefix("rank-")) for path in folder.glob("rank-*.txt") if path.stat().st_size}
    held = sorted(traced - wrote.keys())
    if not wrote and not held:
        return None
    kept = _keep(folder)
    stuck = [one for one in wrote.values() if not one.waits]
    ranks = range(max((one.ranks for one in wrote.values()), default=0))
    silent = [rank for rank in ranks if rank not in wrote and rank not in held]
    words = [
        f"rank {one.rank} on {one.host} made no step for {one.silent_s:.0f} s and stood in {one.where}" for one in stuck
    ]
    words += [f"rank {rank} held Python for itself and made no step" for rank in held]
    if not words and silent:
        longest = max(one.silent_s for one in wrote.values())
        words = [f"rank {rank} gave no sign for {longest:.0f} s while the others waited for it" for rank in silent]
    if not words:
        words = [f"all ranks waited for one another for {max(one.silent_s for one in wrote.values()):.0f} s"]
    step = max((one.step for one in wrote.values()), default=0)
    return f"stuck after step {step}: {'; '.join(words)}; stack traces are in {kept}"


def _innermost(lines: Iterable[traceback.FrameSummary]) -> str:
    own = [line for line in lines if "/orchestrator/" in line.filename] or list(lines)
    if not own:
        return "a thread that has ended"
    return f"{own[-1].filename.rpartition('/orchestrator/')[2]}:{own[-1].lineno} in {own[-1].name}"


def _read(path: Path) -> Standstill:
    return Standstill(**json.loads(path.read_text()))


def _keep(folder: Path) -> Path:
    kept = folder / str(sum(path.is_dir() for path in folder.iterdir()) + 1)
    kept.mkdir()
    for path in folder.glob(WRITTEN):
        path.rename(kept / path.name)
    return kept
