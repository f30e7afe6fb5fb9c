"""What a stage that goes through many clips tells about each, whoever runs it: this process, or tasks on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True)
class ClipStarted:
    """Work on a clip begins: whoever waits now knows which clip to blame when nothing more is heard."""

    source: str
    """The clip."""


@dataclass(frozen=True)
class ClipDone:
    """What became of a clip."""

    source: str
    """The clip."""
    reason: str = ""
    """Short code of the rejection; empty when it was kept."""
    detail: str = ""
    """The rejection in a sentence."""
    seconds: float = 0.0
    """Length of what was kept."""
    reused: bool = False
    """Whether it was found finished, by an earlier run that was stopped."""


Message = ClipStarted | ClipDone


class WorkUnit(Protocol):
    """A piece of work for one process: picklable, and safe to run twice."""

    @property
    def sources(self) -> Sequence[str]:
        """The clips, in the order in which they are done."""

    def without(self, source: str, reason: str, detail: str) -> Self:
        """The same unit, in which a clip is rejected unseen: it has killed the process that worked on it."""

    def run(self) -> Iterator[Message]:
        """Do the work: for each clip a start and an end. When the iterator is exhausted, the unit is finished."""
