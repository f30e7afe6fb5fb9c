"""Files on this machine and in object storage behind one small interface.

Promises: what has its final name is whole; whatever a storage library raises becomes one `StorageError` that names the
place and none of the credentials a URI may hold. Storage libraries are imported when a URI is opened, not before.
"""

from orchestrator.errors import StorageError
from orchestrator.storage.addresses import Location, join, local_path, parent, redacted
from orchestrator.storage.base import Entry, Folder
from orchestrator.storage.folders import open_folder
from orchestrator.storage.local import LocalFolder, atomic_writer, sync_folder
from orchestrator.storage.place import Place, download, open_place, remote_errors
from orchestrator.storage.remote import RemoteFolder

__all__ = [
    "Entry",
    "Folder",
    "LocalFolder",
    "Location",
    "Place",
    "RemoteFolder",
    "StorageError",
    "atomic_writer",
    "download",
    "join",
    "local_path",
    "open_folder",
    "open_place",
    "parent",
    "redacted",
    "remote_errors",
    "sync_folder",
]
