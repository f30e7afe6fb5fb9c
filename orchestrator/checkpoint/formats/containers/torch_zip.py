"""The zip files of `torch.save` (torch 1.6 and later).

One folder in the zip with `data.pkl` (the object), `data/0`, `data/1`, ... (the tensors' bytes) and small notes.
Promises: every record is read once and compared with its CRC, which torch does not do; a CRC of 0 means that torch was
told not to record it; a zip that unpacks to much more than its size is refused.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import BinaryIO

from orchestrator.checkpoint.formats.base import Container, Contents, SourceFile, readable_size, refuse
from orchestrator.checkpoint.formats.pickle_scan import beside_weights, foreign, named_globals, tensor_bytes
from orchestrator.checkpoint.formats.torch_safe import damaged, load_tensors_only, unsafe
from orchestrator.errors import RefusalReason

_MAGIC = b"PK\x03\x04"
# what `zipfile` raises on damaged archives; NotImplementedError (a RuntimeError) for methods it does not know
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, IndexError, OverflowError
)  # fmt: skip
_LOCAL_HEADER = 30
_CHUNK = 1 << 22
_MOST_PICKLE = 256 << 20
_SMALL = 64 << 20
_MOST_GROWTH = 8


def detect(source: SourceFile) -> bool:
    """Whether the file begins like a zip."""
    return source.head.startswith(_MAGIC)


def read(source: SourceFile) -> Contents:
    """Check every record, look at what the pickle names, then load tensors only."""
    with _open(source) as archive:
        pickle = archive.getinfo(_pickle_name(source, archive))
        _check_size(source, archive)
        _check_records(source, archive)
        names = _globals(source, _without_checksum(source, pickle) if pickle.CRC == 0 else archive.read(pickle))
    if foreign(names):
        raise unsafe(source, foreign(names))
    data = load_tensors_only(source, mmap=True)
    return Contents(TORCH_ZIP.name, data, allowed_classes=beside_weights(names))


TORCH_ZIP = Container("torch-zip", detect, read)


def _open(source: SourceFile) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source.path)
    except _ZIP_ERRORS as error:
        what = "it begins like a torch file, but the table of contents at its end is missing or broken"
        raise damaged(source, f"{what}; {_how_much_is_here(source)}") from error


def _how_much_is_here(source: SourceFile) -> str:
    """The object pickle comes first and tells the size of every tensor, so that it often outlives a cut."""
    here = f"{readable_size(source.size)} are here"
    with source.path.open("rb") as file:
        if not _skip_local_header(file).endswith(b"data.pkl"):
            return here
        try:
            expected = tensor_bytes(file)
        except ValueError:
            return here
    if expected <= source.size:
        return here
    return f"{here}, but its tensors alone have {readable_size(expected)}: the download or copy stopped early"


def _pickle_name(source: SourceFile, archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    # torch looks names up without regard to case; a second spelling must not hide from the scan
    pickles = [name for name in names if name.lower().endswith("/data.pkl") and name.count("/") == 1]
    if any(name.endswith("/constants.pkl") for name in names):
        what = "is a TorchScript program, which holds code"
        hint = "export the weights where it was made: torch.save(module.state_dict(), file)"
        raise refuse(source, RefusalReason.UNSUPPORTED, what, hint)
    if len(pickles) != 1:
        listed = ", ".join(names[:3]) or "nothing"
        what = f"is a zip archive, but not one of torch: it holds {listed}"
        raise refuse(source, RefusalReason.NOT_A_CHECKPOINT, what, "unpack it; the checkpoint may be inside")
    return pickles[0]


def _check_size(source: SourceFile, archive: zipfile.ZipFile) -> None:
    """torch stores records as they are; a zip that grows a lot is made to fill the memory."""
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > max(_SMALL, _MOST_GROWTH * source.size):
        raise damaged(source, f"it claims to unpack {readable_size(source.size)} to {readable_size(unpacked)}")


def _check_records(source: SourceFile, archive: zipfile.ZipFile) -> None:
    for info in archive.infolist():
        if info.CRC == 0 and info.file_size:  # not recorded
            continue
        try:
            with archive.open(info) as record:
                while record.read(_CHUNK):
                    pass
        except _ZIP_ERRORS as error:
            raise damaged(source, f"record {info.filename} does not match its checksum or is cut short") from error


def _without_checksum(source: SourceFile, info: zipfile.ZipInfo) -> bytes:
    """A record whose CRC was not recorded, which `zipfile` takes for a wrong one; torch stores records as they are."""
    with source.path.open("rb") as file:
        file.seek(info.header_offset)
        _skip_local_header(file)
        return file.read(info.file_size)


def _skip_local_header(file: BinaryIO) -> bytes:
    """Go to where a record's data begins. Returns the record's name."""
    header = file.read(_LOCAL_HEADER).ljust(_LOCAL_HEADER, b"\0")
    name_length, extra_length = struct.unpack("<HH", header[-4:])
    name = file.read(name_length)
    file.seek(extra_length, io.SEEK_CUR)
    return name


def _globals(source: SourceFile, pickled: bytes) -> list[str]:
    if len(pickled) > _MOST_PICKLE:
        raise damaged(source, f"its data.pkl has {readable_size(len(pickled))}")
    try:
        return named_globals(io.BytesIO(pickled))
    except ValueError as error:
        raise damaged(source, "its data.pkl is no whole pickle") from error
