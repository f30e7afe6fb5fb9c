"""safetensors files: a length, a JSON header with names, types, shapes and places, then the bytes.

They hold no code. The header tells the exact size that the file must have, so a short download is told to the byte.
"""

from __future__ import annotations

import json
from typing import Any

from orchestrator.checkpoint.formats.base import Container, Contents, SourceFile, readable_size
from orchestrator.checkpoint.formats.torch_safe import damaged
from orchestrator.checkpoint.tensors import SafetensorError, read_metadata, read_tensors

_LENGTH = 8
_MOST_HEADER = 100_000_000


def detect(source: SourceFile) -> bool:
    """Whether a plausible header length is followed by a JSON object."""
    return _LENGTH + 2 <= _header_length(source) + _LENGTH <= _MOST_HEADER and source.head[_LENGTH : _LENGTH + 2] in (
        b'{"',
        b"{}",
    )


def read(source: SourceFile) -> Contents:
    """Compare the sizes, then map the tensors."""
    end = _expected_size(source)
    if source.size != end:
        relation = "are missing" if source.size < end else "too many are there"
        amount = readable_size(abs(end - source.size))
        raise damaged(source, f"it has {source.size:,} bytes, but its header describes {end:,}: {amount} {relation}")
    try:
        return Contents(SAFETENSORS.name, read_tensors(source.path), read_metadata(source.path))
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(source, str(error)) from error


SAFETENSORS = Container("safetensors", detect, read)


def _header_length(source: SourceFile) -> int:
    return int.from_bytes(source.head[:_LENGTH], "little")


def _expected_size(source: SourceFile) -> int:
    length = _header_length(source)
    if source.size < _LENGTH + length:
        missing = readable_size(_LENGTH + length - source.size)
        raise damaged(source, f"it ends inside its header; {missing} of the header and all tensors are missing")
    with source.path.open("rb") as file:
        file.seek(_LENGTH)
        text = file.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return _LENGTH + length + max(ends, default=0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(source, "its header is no valid JSON") from error
