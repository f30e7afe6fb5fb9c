"""What all folder formats share: the files of a folder, read one by one and put together.

Contract: only files inside of the folder are read, links followed; every file that was read is a `Part`, so that
hashing and checksums cover it; names that stayed inert anywhere are reported together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.checkpoint.formats.base import Contents, Part, SourceFile
from orchestrator.checkpoint.formats.blob import Blob
from orchestrator.checkpoint.formats.containers import read_source
from orchestrator.checkpoint.formats.paths import member_of
from orchestrator.checkpoint.formats.pickles import report_names


class FolderReader:
    """Reads files of one folder and remembers what it read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[str, Part] = {}
        self.names: set[str] = set()

    def blob(self, name: str) -> Blob:
        """The bytes of a file.

        Raises:
            CheckpointError: `corrupt` when it is missing, `unsafe` when it lies elsewhere.
        """
        if name not in self.parts:
            self.parts[name] = Part(Blob.of_file(member_of(self.folder, name), name))
        return self.parts[name].blob

    def text(self, name: str) -> str:
        """A small text file; what is no UTF-8 is replaced."""
        return bytes(self.blob(name).view).decode("utf-8", "replace")

    def object(self, name: str) -> Any:
        """The object in a torch, safetensors or pickle file; tensors look into the file.

        Raises:
            CheckpointError: the file is refused.
        """
        contents = read_source(SourceFile(self.folder / name, self.blob(name)))
        for part in contents.parts:
            self.parts[part.blob.name] = part
        self.names |= set(contents.placeholders)
        return contents.data

    def contents(self, container: str, data: Any, **more: Any) -> Contents:
        """Everything that was read, as one."""
        ordered = tuple(self.parts[name] for name in sorted(self.parts))
        return Contents(container, data, ordered, placeholders=report_names(self.names), **more)
