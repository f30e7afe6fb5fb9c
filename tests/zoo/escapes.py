"""Archives whose members want to be written, or lead, somewhere else."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable

from orchestrator.errors import RefusalReason
from tests.zoo.case import Bad
from tests.zoo.files import bytes_file, released, torch_bytes, zip_of


def _tar(change: Callable[[tarfile.TarInfo], None], beside: bool = True) -> bytes:
    """A tar with an odd member, beside a good checkpoint or instead of one."""
    whole = torch_bytes(released())
    odd = tarfile.TarInfo("odd")
    change(odd)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if odd.isreg():
            odd.size = len(whole)
        archive.addfile(odd, io.BytesIO(whole) if odd.isreg() else None)
        if beside:
            good = tarfile.TarInfo("net.pt")
            good.size = len(whole)
            archive.addfile(good, io.BytesIO(whole))
    return buffer.getvalue()


def named(name: str) -> Callable[[tarfile.TarInfo], None]:
    """A member of this name."""
    return lambda info: setattr(info, "name", name)


def special(kind: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    """A link or device."""

    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, target

    return change


def _zip(name: str, beside: bool = True) -> bytes:
    whole = torch_bytes(released())
    return zip_of({name: whole, **({"net.pt": whole} if beside else {})})


def _zip_link() -> bytes:
    """A symbolic link as zips store it: its mode, and where it leads as content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("net.pt")
        link.external_attr = 0o120777 << 16
        link.create_system = 3
        archive.writestr(link, "/etc/hostname")
    return buffer.getvalue()


def _torch_zip_traversal() -> bytes:
    """A good torch file with one record more."""
    buffer = io.BytesIO(torch_bytes(released()))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/../../odd", b"x")
    return buffer.getvalue()


_UP, _ROOT, _BACK = "../odd.pt", "/tmp/odd.pt", "..\\odd.pt"
_MAKERS: dict[str, Callable[[], bytes]] = {
    "zip with ../ beside a checkpoint": lambda: _zip(_UP),
    "zip with ../ only": lambda: _zip(_UP, beside=False),
    "zip with ../ in the middle": lambda: _zip("a/../../odd.pt"),
    "zip with an absolute name": lambda: _zip(_ROOT),
    "zip with a backslash": lambda: _zip(_BACK),
    "zip with a drive": lambda: _zip("C:\\odd.pt"),
    "zip with a symbolic link": _zip_link,
    "torch zip with ../": _torch_zip_traversal,
    "tar with ../ beside a checkpoint": lambda: _tar(named(_UP)),
    "tar with ../ only": lambda: _tar(named(_UP), beside=False),
    "tar with an absolute name": lambda: _tar(named(_ROOT)),
    "tar with a symbolic link": lambda: _tar(special(tarfile.SYMTYPE, "/etc/hostname")),
    "tar with a symbolic link up": lambda: _tar(special(tarfile.SYMTYPE, "../..")),
    "tar with a hard link": lambda: _tar(special(tarfile.LNKTYPE, "/etc/hostname")),
    "tar with only a link": lambda: _tar(special(tarfile.SYMTYPE, "/etc/hostname"), beside=False),
    "tar with a character device": lambda: _tar(special(tarfile.CHRTYPE)),
    "tar with a block device": lambda: _tar(special(tarfile.BLKTYPE)),
    "tar with a named pipe": lambda: _tar(special(tarfile.FIFOTYPE)),
}


def _reasons(name: str) -> tuple[RefusalReason, ...]:
    """A name that leads out is hostile; a link may as well be called damage, or the text that zips keep of it."""
    if name == "zip with a symbolic link":
        return RefusalReason.UNSAFE, RefusalReason.CORRUPT, RefusalReason.NOT_A_CHECKPOINT
    special = any(word in name for word in ("link", "device", "pipe"))
    return (RefusalReason.UNSAFE, RefusalReason.CORRUPT) if special else (RefusalReason.UNSAFE,)


CASES: tuple[Bad, ...] = tuple(
    Bad(name, "ways out", bytes_file(make, "archive"), _reasons(name)) for name, make in _MAKERS.items()
)
