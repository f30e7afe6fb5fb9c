"""What lies in an S3 server, as its own client sees it: functions for `Host.call`, which take and give plain values.

They use pyarrow alone, and nothing of the product: what the product has stored is judged by something else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Login:
    """How to get in."""

    endpoint: str
    key: str
    secret: str

    def open(self) -> Any:
        """The file system of pyarrow."""
        from pyarrow.fs import S3FileSystem

        return S3FileSystem(
            access_key=self.key,
            secret_key=self.secret,
            endpoint_override=self.endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
            allow_bucket_deletion=True,
        )


def make_bucket(login: Login, name: str) -> None:
    """A new bucket."""
    login.open().create_dir(name)


def sizes(login: Login, where: str) -> dict[str, int]:
    """Bytes of every object below `bucket/folder`, by its name relative to it."""
    from pyarrow.fs import FileSelector

    found = login.open().get_file_info(FileSelector(where, recursive=True, allow_not_found=True))
    return {info.path.removeprefix(f"{where}/"): info.size for info in found if info.is_file}


def content(login: Login, where: str) -> bytes:
    """All of an object."""
    with login.open().open_input_stream(where, compression=None) as stream:
        return bytes(stream.read())


def digests(login: Login, where: str) -> dict[str, str]:
    """SHA-256 of every object below `bucket/folder`."""
    return {name: hashlib.sha256(content(login, f"{where}/{name}")).hexdigest() for name in sizes(login, where)}


def upload(login: Login, source: Path, where: str) -> None:
    """Copy a file or folder of this machine."""
    from pyarrow.fs import LocalFileSystem, copy_files

    if source.is_dir():
        copy_files(str(source), where, source_filesystem=LocalFileSystem(), destination_filesystem=login.open())
        return
    with login.open().open_output_stream(where) as stream:
        stream.write(source.read_bytes())
