"""The way in: any address to a `Folder`."""

from __future__ import annotations

from orchestrator.storage.addresses import Location, local_path
from orchestrator.storage.base import Folder
from orchestrator.storage.local import LocalFolder
from orchestrator.storage.remote import RemoteFolder


def open_folder(where: Location) -> Folder:
    """The folder at a path or URI; it need not be there yet.

    Raises:
        StorageError: unknown scheme, no such bucket, no credentials, unreachable.
    """
    local = local_path(where)
    return LocalFolder(local) if local is not None else RemoteFolder.open(str(where))
