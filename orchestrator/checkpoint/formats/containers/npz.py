"""npz archives of plain arrays, as `numpy.savez` writes them: a zip of `.npy` files.

Arrays of Python objects are pickles; they are never read as such, and a file that holds one is refused. The headers,
which numpy evaluates as Python text, are matched with the one form in which numpy writes them.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch

from orchestrator.checkpoint.formats.base import Container, Contents, Part, SourceFile, damaged, refuse
from orchestrator.checkpoint.formats.containers.zips import check_entries, entries_of, unpack
from orchestrator.checkpoint.formats.pickles import BrokenPickle, without_values
from orchestrator.errors import RefusalReason

_ENDING = ".npy"
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=][A-Za-z]\d{1,4})', 'fortran_order': (?P<order>True|False), "
    r"'shape': \((?P<shape>[\d, L]{0,400})\), \}\s*"
)
_TORCH_READS = {"f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1"}
_MOST_HEADER = 10_000
_MOST_DIMENSIONS = 32


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
    """One `.npy` file: a magic, a version, the length of the header, the header, the values."""
    length_bytes = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(bytes(view[6:8]), 0)
    start = 8 + length_bytes
    length = int.from_bytes(view[8:start], "little")
    if bytes(view[:6]) != _MAGIC or not length_bytes or length > _MOST_HEADER:
        raise damaged(source, f"its array {name} has no readable header")
    header = bytes(view[start : start + length]).decode("latin1")
    if "|O" in header:
        what = f"holds Python objects in {name}, whose reading could run code"
        raise refuse(source, RefusalReason.UNSAFE, what, "save plain arrays: numpy.savez(file, **{name: array})")
    found = _HEADER.fullmatch(header)
    if found is None:
        raise damaged(source, f"the header of its array {name} is not as numpy writes it")
    shape = tuple(int(count) for count in re.findall(r"\d+", found["shape"]))
    return _tensor(source, name, found["dtype"], shape, found["order"] == "True", view[start + length :])


def _tensor(source: SourceFile, name: str, code: str, shape: tuple[int, ...], fortran: bool, data: memoryview) -> Any:
    dtype = np.dtype(code) if code[1:] in _TORCH_READS else None
    if dtype is None:
        return code  # strings and dates are no weights
    if len(shape) > _MOST_DIMENSIONS or math.prod(shape) * dtype.itemsize != len(data):
        raise damaged(source, f"its array {name} has {len(data)} bytes, but its shape {shape[:8]} needs others")
    native = dtype.newbyteorder("=")
    if not len(data):
        try:
            return without_values(shape, getattr(torch, dtype.name))
        except BrokenPickle as error:
            raise damaged(source, str(error)) from error
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.require(array.astype(native, copy=False), requirements=["A", "W"]))
