"""Storages that were pickled as bytes inside of another pickle: how plain `pickle.dump` writes tensors.

`torch.storage._load_from_bytes` is called with a whole torch file of one storage. It is read by the same inert reader.
"""

from __future__ import annotations

import io
from typing import Any

from orchestrator.checkpoint.formats.pickles import BrokenPickle, Storage, references, storage_dtype
from orchestrator.checkpoint.formats.pickles.machine import read_pickle

_HEADER_PICKLES = 3
_COUNT = 8


def load_storage(raw: Any) -> Storage:
    """The storage in a torch file of one storage, which torch writes in its old format for this purpose.

    Raises:
        BrokenPickle: it is something else.
    """
    if not isinstance(raw, (bytes, bytearray)):
        raise BrokenPickle("a storage inside the pickle is not given as bytes")
    stream = io.BytesIO(raw)
    for _ in range(_HEADER_PICKLES):
        read_pickle(stream, {}, set())
    found = references(stream)
    keys = read_pickle(stream, {}, set())
    if len(found) != 1 or not isinstance(found[0], tuple) or len(found[0]) < 5 or keys != [found[0][2]]:
        raise BrokenPickle("bytes inside the pickle are no storage of torch")
    dtype = storage_dtype(found[0][1])
    count = int.from_bytes(stream.read(_COUNT), "little")
    data = stream.read()
    if len(data) != count * dtype.itemsize:
        raise BrokenPickle("a storage inside the pickle is cut short")
    return Storage(memoryview(bytearray(data)), dtype)
