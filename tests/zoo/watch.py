"""What Python itself reports while a file is read: commands, connections, classes looked up, writes elsewhere.

Audit hooks stay for the life of the process; this one listens only while `watched` is open.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NEVER = (
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pickle.find_class",
    "pty.spawn",
    "socket.connect",
    "subprocess.Popen",
    "webbrowser.open",
)
_NOT_IMPORTED = ("forgotten_trainer", "lipsync_upstream", "this", "runpy")
"""Modules that files of the zoo name, and that nothing else wants."""
_CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_listeners: list[tuple[Path, list[str]]] = []
_installed = False


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """A list that fills with what must not happen; writing below `folder` may."""
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    seen: list[str] = []
    _listeners.append((folder.resolve(), seen))
    try:
        yield seen
    finally:
        _listeners.pop()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listeners:
        return
    folder, seen = _listeners[-1]
    if event in _NEVER:
        seen.append(f"{event} {arguments[:2]}")
    elif event == "import":
        if str(arguments[0]).partition(".")[0] in _NOT_IMPORTED:
            seen.append(f"import {arguments[0]}")
    elif event == "open":
        path, mode, flags = arguments
        if _writes(mode, flags) and not _allowed(path, folder):
            seen.append(f"open {path} for writing")
    elif event in _CHANGES and not all(_allowed(path, folder) for path in _changed(arguments)):
        seen.append(f"{event} {arguments[:2]}")


def _changed(arguments: tuple[Any, ...]) -> Iterator[str]:
    """The paths that a call changes; a name below an open folder, whose number comes last, in full."""
    base = f"/proc/self/fd/{arguments[-1]}" if isinstance(arguments[-1], int) and arguments[-1] >= 0 else ""
    for path in arguments:
        if isinstance(path, (str, bytes)):
            yield os.path.join(base, os.fsdecode(path))


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & _WRITES)


def _allowed(path: object, folder: Path) -> bool:
    """Below the folder; or an open file, a device, or Python's own compiled modules."""
    if not isinstance(path, (str, bytes)):
        return True
    where = os.path.realpath(os.fsdecode(path))
    return Path(where).is_relative_to(folder) or where.startswith("/dev/") or "__pycache__" in where
