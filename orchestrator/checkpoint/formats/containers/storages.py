"""Storages that were pickled as bytes inside of another pickle: how plain `pickle.dump` writes tensors.

`torch.storage._load_from_bytes` is called with a whole torch file of one storage. It is read by the same inert reader.
"""

from __future__ import annotations

import io
from typing import Any

from orchestrator.checkpoint.formats.pickles import BrokenPickle, Storage, read, references, storage_dtype

_HEADER_PICKLES = 3
_COUNT = 8


def load_storage(raw: Any, names: set[str]) -> Any:
    """The storage in a torch file of one storage, which torch writes in its old format for this purpose.

    Args:
        raw: the bytes.
        names: every name in them that stays inert is added.

    Returns:
        A `Storage`, or NotImplemented when the bytes are something else.
    """
    try:
        return _read_storage(io.BytesIO(raw), names) if isinstance(raw, (bytes, bytearray)) else NotImplemented
    except BrokenPickle:
        return NotImplemented


def _read_storage(stream: io.BytesIO, names: set[str]) -> Any:
    for _ in range(_HEADER_PICKLES):
        read(stream, names)
    place = stream.tell()
    found = references(stream)
    stream.seek(place)
    read(stream, names, lambda _: None)
    keys = read(stream, names)
    if len(found) != 1 or not isinstance(found[0], tuple) or len(found[0]) < 5 or keys != [found[0][2]]:
        return NotImplemented
    dtype = storage_dtype(found[0][1])
    count = int.from_bytes(stream.read(_COUNT), "little")
    data = stream.read()
    return Storage(memoryview(bytearray(data)), dtype) if len(data) == count * dtype.itemsize else NotImplemented
