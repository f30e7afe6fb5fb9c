"""The ledger of a sweep: which trials were drawn, how they ended, who went on as a copy of whom.

Why our own: Ray Tune's snapshots come every so many seconds, hold pickles of its classes, and lose what happened
since. Contract: a line is on disk before what it says has any effect, so that a sweep that was killed is put together
again from `trials.jsonl` and the trials' own folders, by any version, on any cluster.

A row holds `at`, seconds since the epoch, and one of
    `drawn`   a trial: its id, its point, whether it is an untouched starting state
    `ended`   how a trial ended, and why
    `budget`  what the sweep was extended to
    `round`   the end of a round of population-based training, and which trials go on as copies of others
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator.config.space import Point
from orchestrator.config.trial import INIT
from orchestrator.errors import RunError
from orchestrator.runtime.journal import Journal, read_journal
from orchestrator.sweeps.population import Copy


class TrialState(StrEnum):
    """How a trial stands."""

    WAITING = "waiting"
    """Drawn, and to be trained or continued."""
    FINISHED = "finished"
    """It took its last step, or stopped by one of its own rules."""
    STOPPED_EARLY = "stopped early"
    """The scheduler stopped it."""
    FAILED = "failed"
    """It ended with an error; the next start of the sweep tries it again."""


@dataclass(frozen=True)
class Entry:
    """One trial."""

    trial: str
    """Its id: `000`, `001` and so on."""
    point: Point
    """The swept settings, the latest ones where it became a copy."""
    baseline: bool
    """Whether it is an untouched starting state, which is judged and not trained."""
    state: TrialState = TrialState.WAITING
    why: str = ""
    """Why it was stopped, or failed."""
    copies: tuple[tuple[int, str], ...] = ()
    """Of population-based training: (round, donor)."""

    def init(self, default: str | None) -> str | None:
        """What it starts from, as a person gave it."""
        return self.point.get(INIT, default)


class Ledger:
    """The trials of a sweep, read once and then written by one process.

    Args:
        path: the file; a missing one is an empty ledger.
        keep: brings what is in the file where it outlives this machine.
    """

    def __init__(self, path: Path, *, keep: Callable[[], object] = lambda: None) -> None:
        self._journal, self._path = Journal(path, keep=keep), path
        self.entries: dict[str, Entry] = {}
        """By id, in the order in which they were drawn; the values are replaced, never changed."""
        self.rounds = 0
        """Rounds of population-based training that have ended."""
        self.budget: dict[str, float] = {}
        """What the sweep was extended to: `trials`, `samples`, `hours`."""
        with self._usable():
            for row, _ in read_journal(path, 0):
                self._take(row)
        for entry in self.entries.values():  # an error may have been mended since
            if entry.state is TrialState.FAILED:
                self.entries[entry.trial] = replace(entry, state=TrialState.WAITING, why="")

    def draw(self, point: Point, *, baseline: bool = False) -> Entry:
        """Write down a new trial."""
        trial = f"{len(self.entries):03d}"
        self._write(drawn={"trial": trial, "point": point, "baseline": baseline})
        return self.entries[trial]

    def end(self, trial: str, state: TrialState, why: str = "") -> None:
        """Write down how a trial ended."""
        self._write(ended={"trial": trial, "state": str(state), "why": why})

    def end_round(self, copies: Sequence[Copy]) -> None:
        """Write down the end of a round of population-based training."""
        self._write(round={"number": self.rounds + 1, "copies": [asdict(copy) for copy in copies]})

    def extend(self, budget: Mapping[str, float]) -> None:
        """Write down a larger budget."""
        self._write(budget=dict(budget))

    def trials(self) -> list[Entry]:
        """The trials that are trained, in order."""
        return [entry for entry in list(self.entries.values()) if not entry.baseline]

    def waiting(self) -> list[Entry]:
        """What is to be trained, or judged, the baselines first."""
        found = [entry for entry in list(self.entries.values()) if entry.state is TrialState.WAITING]
        return sorted(found, key=lambda entry: not entry.baseline)

    def _write(self, **row: Any) -> None:
        self._journal.append(**row)
        with self._usable():
            self._journal.sync()
        self._take(row)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "make room or allow access there, and give the same command again: it continues"
            raise RunError(f"{self._path} cannot be used: {error.strerror or error}", hint=hint) from error

    def _take(self, row: dict[str, Any]) -> None:
        take: dict[str, Callable[..., None]] = {"drawn": self._drawn, "ended": self._ended, "round": self._round}
        take["budget"] = self.budget.update
        for kind in row.keys() & take.keys():
            take[kind](**row[kind])

    def _drawn(self, trial: str, point: Point, baseline: bool) -> None:
        self.entries[trial] = Entry(trial, point, baseline)

    def _ended(self, trial: str, state: str, why: str) -> None:
        self.entries[trial] = replace(self.entries[trial], state=TrialState(state), why=why)

    def _round(self, number: int, copies: Sequence[Mapping[str, Any]]) -> None:
        self.rounds = number
        for copy in copies:
            entry = self.entries[copy["trial"]]
            came = (*entry.copies, (number, copy["donor"]))
            self.entries[entry.trial] = replace(entry, point=copy["point"], copies=came)
