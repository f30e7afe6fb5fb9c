"""The clips of a listing as files: how they stand now, and their content on this machine.

A clip is one video file, or a folder of numbered pictures with a sound file; both lie below the root, or anywhere else
when a list names them by an absolute path or URI. Sources are only read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.files import sha256_of
from orchestrator.data.importers import SourceClip
from orchestrator.data.media.decode import decode_into
from orchestrator.data.media.frame_folder import decode_frame_folder, frame_folder_fingerprint
from orchestrator.data.media.frames import FrameSink
from orchestrator.errors import DataError, StorageError
from orchestrator.storage import Entry, Folder, open_folder


@dataclass(frozen=True)
class SourceState:
    """By what a change of a clip is noticed without reading it."""

    size: int
    """Bytes of its file, or of all its files."""
    mtime_ns: int
    """When it was last changed."""


@dataclass(frozen=True)
class LocalClip:
    """A clip whose content is on this machine, for as long as the block lasts."""

    path: Path
    """The video, or the folder of pictures."""
    audio: Path | None
    """The sound file of a folder of pictures."""

    def fingerprint(self) -> str:
        """Hex SHA-256 of the content."""
        return sha256_of(self.path) if self.audio is None else frame_folder_fingerprint(self.path, self.audio)

    def decode(self, sink: FrameSink) -> NDArray[np.float32]:
        """Frames into `sink`; returns the wave (see `decode_into`).

        Raises:
            DataError: the clip is bad.
        """
        if self.audio is None:
            return decode_into(self.path, sink)
        return decode_frame_folder(self.path, self.audio, sink)


class Sources:
    """The files behind a listing's clips.

    Args:
        root: to which the clips are relative.
        many: most of the clips will be asked for: a remote root is then listed once instead of asked for each.
    """

    def __init__(self, root: Folder, *, many: bool = False) -> None:
        self._root = root
        self._lists = many and root.local_path is None

    def state(self, clip: SourceClip) -> SourceState | None:
        """How the clip stands now; none when it is not there."""
        if clip.audio:
            return _joined(self._entries_below(clip.source))
        folder, name = self._place(clip.source)
        entry = self._listed.get(name) if self._lists and folder is self._root else folder.entry(name)
        return SourceState(entry.size, entry.mtime_ns) if entry is not None else None

    def unchanged(self, clip: SourceClip, state: SourceState, fingerprint: str) -> bool:
        """Whether the clip still has the content that it had in that state. Only a changed time costs reading it."""
        now = self.state(clip)
        if now is None or now.size != state.size:
            return False
        if now.mtime_ns == state.mtime_ns:
            return True
        with self.local(clip) as content:
            return content.fingerprint() == fingerprint

    @contextmanager
    def local(self, clip: SourceClip) -> Iterator[LocalClip]:
        """The clip's content on this machine: the files themselves, or a temporary copy.

        Raises:
            DataError: `missing` when it is not there.
            StorageError: the storage does not answer.
        """
        with ExitStack() as stack:
            try:
                found = self._fetched(clip, stack)
            except StorageError as error:
                if not error.missing:
                    raise
                raise DataError(f"{clip.source}: there is no such file", reason="missing", path=clip.source) from error
            yield found

    @cached_property
    def _listed(self) -> Mapping[str, Entry]:
        return {entry.name: entry for entry in self._root.entries()}

    def _place(self, source: str) -> tuple[Folder, str]:
        if source.startswith("/") or "://" in source:
            parent, name = posixpath.split(source)
            return open_folder(parent), name
        return self._root, source

    def _entries_below(self, source: str) -> list[Entry]:
        folder, name = self._place(source)
        return folder.entries(name)

    def _fetched(self, clip: SourceClip, stack: ExitStack) -> LocalClip:
        folder, name = self._place(clip.source)
        if not clip.audio:
            return LocalClip(stack.enter_context(folder.local(name)), None)
        if folder.local_path is not None:
            return LocalClip(folder.local_path / name, self._audio_of(clip))
        copy = Path(stack.enter_context(TemporaryDirectory(prefix="syncnet-clip-")))
        for entry in folder.entries(name):
            with folder.local(entry.name) as file:
                file.replace(copy / posixpath.basename(entry.name))
        return LocalClip(copy, copy / posixpath.basename(clip.audio))

    def _audio_of(self, clip: SourceClip) -> Path:
        folder, name = self._place(clip.audio)
        return Path(name) if folder.local_path is None else folder.local_path / name


def _joined(entries: list[Entry]) -> SourceState | None:
    if not entries:
        return None
    return SourceState(sum(entry.size for entry in entries), max(entry.mtime_ns for entry in entries))
