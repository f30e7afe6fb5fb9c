"""Folders of clips that appear all together: made under a hidden name, then put in their place.

A killed process leaves at most hidden `.*.tmp` folders, which no reader looks into and `clear_leftovers` takes away.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from orchestrator.errors import StorageError
from orchestrator.storage import sync_folder

_TRIES = 3


@contextmanager
def made_folder(final: Path) -> Iterator[Path]:
    """An empty folder to fill; what is in it replaces `final` if the block ends without an error.

    Raises:
        StorageError: the disk is full, not writable, or gone.
    """
    # The random part keeps two processes with the same video (a retried task and its zombie) out of each other's way.
    making = final.parent / f".{final.name}.{secrets.token_hex(6)}.tmp"
    try:
        making.mkdir(parents=True)
        yield making
        replace_folder(final, making if any(making.iterdir()) else None)
    except (OSError, av.FFmpegError) as error:  # what is wrong with a video is a DataError by now
        message = f"clips cannot be written to {final}: {error.strerror or error}"
        raise StorageError(message, path=str(final), hint="see that the disk has room and is writable") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def replace_folder(final: Path, made: Path | None) -> None:
    """Put a finished folder in the place of the final one, or just take that away."""
    for left in reversed(range(_TRIES)):
        shutil.rmtree(final, ignore_errors=True)
        if made is None:
            return
        try:
            os.replace(made, final)
            break
        except OSError:  # another process has just put the same clips there
            if not left:
                raise
    sync_folder(final.parent)


def clear_leftovers(out: Path) -> None:
    """Take away what killed processes left in the making. For when nobody is at work."""
    for leftover in out.glob("*/.*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
