"""npz archives of plain arrays, as `numpy.savez` writes them: a zip of `.npy` files.

Arrays of Python objects are pickles; they are never read as such, and a file that holds one is refused.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy

from orchestrator.checkpoint.formats.base import Container, Contents, Part, SourceFile, damaged, refuse
from orchestrator.checkpoint.formats.containers.zips import check_entries, entries_of, unpack
from orchestrator.errors import RefusalReason

_ENDING = ".npy"
_TORCH_READS = {"float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8"}
_MOST_HEADER = 10_000


def detect(source: SourceFile) -> bool:
    """Whether it is a zip of arrays and nothing else."""
    entries = entries_of(source)
    return bool(entries) and all(entry.name.endswith(_ENDING) for entry in entries or [])


def read(source: SourceFile) -> Contents:
    """Read every array; the tensors look into the file."""
    entries = entries_of(source) or []
    check_entries(source, entries)
    data: dict[str, Any] = {}
    records = []
    for entry in entries:
        view, record = unpack(source, entry)
        data[entry.name.removesuffix(_ENDING)] = _array(source, entry.name, view)
        if record is not None:
            records.append(record)
    ordered = tuple(sorted(records, key=lambda record: record.start))
    return Contents(NPZ.name, data, (Part(source.blob, ordered),))


NPZ = Container("npz", detect, read)


def _array(source: SourceFile, name: str, view: memoryview) -> Any:
    stream = io.BytesIO(view[: _MOST_HEADER + 16])
    try:
        version = npy.read_magic(stream)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read_header(stream, max_header_size=_MOST_HEADER)
    except (ValueError, KeyError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise damaged(source, f"its array {name} has no readable header") from error
    if dtype.hasobject:
        what = f"holds Python objects in {name}, whose reading could run code"
        raise refuse(source, RefusalReason.UNSAFE, what, "save plain arrays: numpy.savez(file, **{name: array})")
    if dtype.name not in _TORCH_READS:
        return str(dtype)  # strings and records are no weights
    data = view[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise damaged(source, f"its array {name} has {len(data)} bytes, but its shape {shape} needs others")
    if not len(data):
        return torch.empty(shape, dtype=getattr(torch, dtype.name))
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    # numpy's own alignment rule keeps arrays at multiples of 64 in a stored entry's header, not in the archive
    return torch.from_numpy(np.require(array.astype(dtype.newbyteorder("="), copy=False), requirements=["A", "W"]))
