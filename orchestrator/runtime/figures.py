"""The figures of a run as its rank 0 reported them, one JSON line each, in the run's own folder.

Why: figures reach the record through another process, and a kill in between would lose some that a checkpoint counts as
reported. Contract: what was appended before a checkpoint was handed in is in the file when the checkpoint is; a line
that a crash cut short is dropped. A continued run repeats steps, so that a step may occur more than once, with the same
figures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class FigureFile:
    """Appends figures; for one process at a time.

    Args:
        path: the file; made if missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if not _ends_whole(path):
            self._file.write(b"\n")

    def append(self, figures: Mapping[str, Any]) -> None:
        """Add the figures of one step; from here on they survive the end of this process."""
        self._file.write(json.dumps(dict(figures)).encode() + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Return when what was added survives the end of this machine too."""
        os.fsync(self._file.fileno())


def read_figures(path: Path) -> Iterator[dict[str, Any]]:
    """The figures of a run, oldest first; none if there is no file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:  # cut short by a crash
                continue
            if isinstance(row, dict):
                yield row


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
