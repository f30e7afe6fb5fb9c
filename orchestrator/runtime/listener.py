"""From a run's journals to its record: whoever drives a run listens to what its workers and its controller write.

Contract: every row is recorded, in order, by one process, whatever died in between: `status.json` says how far the
journals are heard. A record that cannot be written now (a full disk, a tracking server that restarts) is tried again
until `patience_s` have passed, while training goes on.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.runtime.journal import read_journal
from orchestrator.runtime.paths import RunPaths
from orchestrator.runtime.patience import Patience
from orchestrator.runtime.recorder import Recorder

_PAUSE_S = 0.5


class Listener:
    """Hears one run.

    Args:
        recorder: writes its record.
        patience_s: seconds for which a record that cannot be written is tried again.
        tell: says one line to a person: whether the record can be written.
        on_report: hears the figures too, afterwards.
        on_note: hears the notes of this start too, afterwards.
        begin: opens the record; done before anything is recorded, and tried again like that.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        patience_s: float,
        tell: Callable[[str], None] = lambda _: None,
        on_report: Callable[[Mapping[str, float]], None] = lambda _: None,
        on_note: Callable[[str], None] = lambda _: None,
        begin: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._recorder, self._patience = recorder, Patience(patience_s, "the record", tell, clock)
        self._on_report, self._on_note, self._begin = on_report, on_note, begin
        self._sleep = sleep
        self._heard: dict[str, int] | None = None
        self._old = {path.name: path.stat().st_size for path in _journals(recorder.target.paths) if path.exists()}
        self._recorded: deque[tuple[dict[str, Any], bool]] = deque()
        """Rows that are recorded and not yet passed on, and whether each is of this start."""
        self.last_note: str | None = None
        """The latest note of this start."""

    def look(self) -> bool:
        """Record what is new; whether nothing is left.

        Raises:
            RunError | TrackingError | OSError: the record has not been writable for long.
        """
        done = False
        try:
            done = self._patience.attempt(self._record_new)
        finally:
            if not done:
                self._recorder.reopen()
            while self._recorded:
                self._pass_on(*self._recorded.popleft())
        return done

    def finish(self) -> None:
        """Record everything that was written.

        Raises:
            RunError | TrackingError | OSError: it was not possible for long.
        """
        while not self.look():
            self._sleep(_PAUSE_S)

    def _record_new(self) -> None:
        """Record what is new, as far as possible."""
        if self._begin is not None:
            self._begin()
            self._begin = None
        for path in _journals(self._recorder.target.paths):
            self._record(path)

    def _record(self, path: Path) -> None:
        if self._heard is None:
            self._heard = self._recorder.heard()
        known = self._heard.get(path.name, 0)
        for group in _groups(read_journal(path, known)):
            known = group[-1][1]
            self._recorder.hear([row for row, _ in group], {**self._heard, path.name: known})
            self._heard[path.name] = known
            self._recorded += [(row, offset > self._old.get(path.name, 0)) for row, offset in group]

    def _pass_on(self, row: Mapping[str, Any], is_new: bool) -> None:
        if "figures" in row:
            self._on_report(row["figures"])
        notes = [row["note"]] if "note" in row else row.get("facts", {}).get("notes", ())
        for note in notes if is_new else ():
            self.last_note = note
            self._on_note(note)


def _journals(paths: RunPaths) -> tuple[Path, Path]:
    return paths.journal, paths.failures


def _groups(rows: Iterator[tuple[dict[str, Any], int]]) -> Iterator[list[tuple[dict[str, Any], int]]]:
    """Figures in a row together, since they are recorded in one go; everything else alone."""
    for figures, group in itertools.groupby(rows, lambda item: "figures" in item[0]):
        if figures:
            yield list(group)
            continue
        for item in group:
            yield [item]
