"""safetensors files: a length, a JSON header with names, types, shapes and places, then the bytes.

They hold no code. The header tells the exact size that the file must have, so a short download is told to the byte;
tensors that overlap, leave gaps or disagree with their shapes are refused, as the format's own reader does.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeGuard

from torch import Tensor

from orchestrator.checkpoint.formats.base import (
    Container,
    Contents,
    Part,
    SourceFile,
    damaged,
    no_repeats,
    readable_size,
    refuse,
)
from orchestrator.checkpoint.formats.pickles import BrokenPickle, Storage, aligned, without_values
from orchestrator.checkpoint.tensors import DTYPE_NAMES
from orchestrator.errors import RefusalReason

_LENGTH = 8
_MOST_HEADER = 100_000_000
_OTHER_DTYPES = {
    "F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64",
    "U16", "U32", "U64",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


def detect(source: SourceFile) -> bool:
    """Whether a plausible header length is followed by a JSON object."""
    length = int.from_bytes(source.head[:_LENGTH], "little")
    return 2 <= length <= _MOST_HEADER and source.head[_LENGTH : _LENGTH + 1] == b"{"


def read(source: SourceFile) -> Contents:
    """Compare the sizes; the tensors look into the file."""
    length = int.from_bytes(source.head[:_LENGTH], "little")
    header = _header(source, length)
    metadata = header.pop("__metadata__", None) or {}
    start = _LENGTH + length
    spans = {name: _span(source, name, entry) for name, entry in header.items()}
    _check_spans(source, sorted(spans.values()), start)
    tensors = {name: _tensor(source, header[name], start + begin, start + end) for name, (begin, end) in spans.items()}
    strings = {key: text for key, text in metadata.items() if isinstance(text, str)} if _is_dict(metadata) else {}
    return Contents(SAFETENSORS.name, tensors, (Part(source.blob),), metadata=strings)


SAFETENSORS = Container("safetensors", detect, read)


def _header(source: SourceFile, length: int) -> dict[str, Any]:
    if _LENGTH + length > source.size:
        missing = readable_size(_LENGTH + length - source.size)
        raise damaged(source, f"its header is cut short: at least {missing} are missing")
    try:
        header = json.loads(bytes(source.blob.view[_LENGTH : _LENGTH + length]), object_pairs_hook=no_repeats)
    except (ValueError, RecursionError) as error:
        raise damaged(source, f"its header cannot be read: {str(error)[:120]}") from error
    if not _is_dict(header):
        raise damaged(source, "its header is no JSON object")
    return dict(header)


def _span(source: SourceFile, name: str, entry: Any) -> tuple[int, int]:
    """Where the bytes of a tensor lie, after the header."""
    shape, span = (entry.get("shape"), entry.get("data_offsets")) if _is_dict(entry) else (None, None)
    if not _are_counts(shape) or not _are_counts(span) or len(span) != 2 or span[0] > span[1]:
        raise damaged(source, f"its header describes `{name[:80]}` wrongly")
    dtype = _DTYPES.get(str(entry.get("dtype")))
    if dtype is None:
        if str(entry.get("dtype")) not in _OTHER_DTYPES:
            raise damaged(source, f"its header gives `{name[:80]}` the type {str(entry.get('dtype'))[:20]!r}")
        what = f"holds `{name[:80]}` as {entry['dtype']}, a type that is not read"
        raise refuse(source, RefusalReason.UNSUPPORTED, what, "save it as float32, float16 or bfloat16")
    if span[1] - span[0] != math.prod(shape) * dtype.itemsize:
        raise damaged(source, f"its header gives `{name[:80]}` another size than its shape {shape[:8]} has")
    return span[0], span[1]


def _check_spans(source: SourceFile, spans: list[tuple[int, int]], start: int) -> None:
    at = 0
    for begin, end in spans:
        if begin != at:
            raise damaged(source, "its tensors overlap or leave gaps")
        at = end
    if source.size != start + at:
        relation = "are missing" if source.size < start + at else "too many are there"
        amount = readable_size(abs(start + at - source.size))
        raise damaged(
            source, f"it has {source.size:,} bytes, but its header describes {start + at:,}: {amount} {relation}"
        )


def _tensor(source: SourceFile, entry: dict[str, Any], begin: int, end: int) -> Tensor:
    dtype = _DTYPES[entry["dtype"]]
    shape = entry["shape"]
    if begin == end:
        try:
            return without_values(shape, dtype)
        except BrokenPickle as error:
            raise damaged(source, str(error)) from error
    return Storage(aligned(source.blob.view[begin:end], dtype), dtype).flat().reshape(shape)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) <= 64 and all(type(n) is int and 0 <= n < 1 << 62 for n in value)
