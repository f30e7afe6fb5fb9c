"""The members of a tar file, looked at in place.

Promises: links, devices and names that lead out of the archive are refused; a broken header ends the list with an
error, never with an exception of `tarfile`.
"""

from __future__ import annotations

import tarfile

from orchestrator.checkpoint.formats.base import SourceFile, damaged, refuse
from orchestrator.checkpoint.formats.paths import require_inside
from orchestrator.errors import RefusalReason

_MARK, _MARK_AT = b"ustar", 257
_BLOCK = 512
_MOST_MEMBERS = 100_000


def is_tar(source: SourceFile) -> bool:
    """Whether the file begins with a tar header, of the old kind too: its checksum tells."""
    head = source.head[:_BLOCK]
    if len(head) < _BLOCK or not head.strip(b"\0"):
        return False
    if head[_MARK_AT : _MARK_AT + len(_MARK)] == _MARK:
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def members_of(source: SourceFile) -> list[tarfile.TarInfo]:
    """The files in it.

    Raises:
        CheckpointError: `corrupt`, or `unsafe` for names, links and devices that lead out of its folder.
    """
    found: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(fileobj=source.blob.open(), mode="r:") as archive:
            for member in archive:
                if len(found) >= _MOST_MEMBERS:
                    raise damaged(source, f"it has more than {_MOST_MEMBERS} members")
                found.append(member)
    except (tarfile.TarError, ValueError, OSError, OverflowError, EOFError) as error:
        raise damaged(source, f"its list of members is broken: {error}") from error
    for member in found:
        _check(source, member)
    return [member for member in found if member.isfile()]


def bytes_of(source: SourceFile, member: tarfile.TarInfo) -> memoryview:
    """What a member holds."""
    return source.blob.view[member.offset_data : member.offset_data + member.size]


def _check(source: SourceFile, member: tarfile.TarInfo) -> None:
    require_inside(source, member.name)
    if member.issym() or member.islnk() or member.ischr() or member.isblk() or member.isfifo() or member.issparse():
        what = f"holds {member.name!r}, which is no plain file, but a link or a device"
        raise refuse(source, RefusalReason.UNSAFE, what, "put the file itself into the archive")
    if member.isfile() and member.offset_data + member.size > source.size:
        missing = member.offset_data + member.size - source.size
        raise damaged(source, f"its member {member.name} is cut short: {missing:,} bytes are missing")
