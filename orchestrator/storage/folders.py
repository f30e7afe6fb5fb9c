"""The way in: any address to a `Folder`."""

from __future__ import annotations

from orchestrator.errors import StorageError
from orchestrator.storage.addresses import Location, local_path
from orchestrator.storage.base import Folder
from orchestrator.storage.local import LocalFolder
from orchestrator.storage.remote import RemoteFolder


def open_folder(where: Location) -> Folder:
    """The folder at a path or URI; it need not be there yet.

    Raises:
        StorageError: empty, unknown scheme, no such bucket, no credentials, unreachable.
    """
    if not str(where):  # an unset variable of a shell, which must not mean the current folder
        raise StorageError("the address of a folder is empty", hint="give a path or a URI; `.` is the current folder")
    local = local_path(where)
    return LocalFolder(local) if local is not None else RemoteFolder.open(str(where))
