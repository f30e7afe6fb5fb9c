"""A run's journal in object storage, which cannot append: parts that are replaced until they are full.

Layout: `journal/<epoch>-<number>-<writer>.jsonl`, of which each holds whole lines and `cat` in the order of their names
makes the journal. Contract: a writer's epoch is above all that were there when it began. So a reader who goes from part
to part, and never back, misses nothing that a living writer wrote, and hears no more of one that was taken for dead and
whose steps another one does again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from orchestrator.errors import StorageError
from orchestrator.runtime.paths import JOURNAL
from orchestrator.storage import Folder

PARTS = "journal"
"""The folder of a run in object storage that holds the parts of its journal."""
_FULL = 1 << 20
"""Bytes from which on a part grows no more."""


class JournalParts:
    """A journal here and its parts at home. One thread at a time uses it.

    Args:
        file: the journal here: what was fetched, and after it what this process appended.
        home: the folder of the parts; need not be there.
    """

    def __init__(self, file: Path, home: Folder) -> None:
        self._file, self._home = file, home
        self._writer = secrets.token_hex(3)
        self._carried = 0
        """Bytes here that are at home too."""
        self._at: tuple[str, int] = ("", 0)
        """How far was fetched: a part, and a position in it."""
        self._epoch: int | None = None
        self._number, self._part = 0, b""

    def fetch(self) -> None:
        """Append here what is new at home.

        Raises:
            StorageError: the storage does not give it.
        """
        for entry in self._home.entries():
            part, position = self._at
            start = position if entry.name == part else 0
            if entry.name < part or entry.size <= start:
                continue
            content = read_if_there(self._home, entry.name)
            new = content[start : content.rfind(b"\n") + 1]
            if new:
                self._append(new)
                self._at = entry.name, start + len(new)

    def push(self) -> None:
        """Bring home what was appended here.

        Raises:
            StorageError: the storage does not take it.
        """
        while new := self._unpushed():
            if self._epoch is None:
                names = [entry.name for entry in self._home.entries()]
                self._epoch = 1 + max((int(name.partition("-")[0]) for name in names), default=0)
            name = f"{self._epoch:05d}-{self._number:06d}-{self._writer}.jsonl"
            grown = self._part + new
            self._home.write(name, grown)
            self._part, self._carried, self._at = grown, self._carried + len(new), (name, len(grown))
            if len(grown) >= _FULL:
                self._number, self._part = self._number + 1, b""

    def _unpushed(self) -> bytes:
        """Whole lines that were appended here."""
        try:
            if os.path.getsize(self._file) <= self._carried:
                return b""
            with self._file.open("rb") as file:
                file.seek(self._carried)
                new = file.read()
        except FileNotFoundError:
            return b""
        return new[: new.rfind(b"\n") + 1]

    def _append(self, content: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab") as file:
            file.write(content)
        self._carried += len(content)


def journals_of(names: Iterable[str]) -> list[str]:
    """The journals whose parts are among files, all relative to one folder."""
    folders = {name.rpartition("/")[0] for name in names}
    above = sorted(folder.removesuffix(PARTS) for folder in folders if f"/{folder}".endswith(f"/{PARTS}"))
    return [f"{folder}{JOURNAL}" for folder in above]


def read_if_there(folder: Folder, name: str) -> bytes:
    """All of a small file; nothing where there is none.

    Raises:
        StorageError: the storage does not give it.
    """
    try:
        return folder.read(name)
    except StorageError as error:
        if error.missing:
            return b""
        raise
