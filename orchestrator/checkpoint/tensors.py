"""Tensors to bytes and back: the weights hash, and safetensors files written in one pass.

Why an own writer: it streams one tensor at a time (no second copy of the model in memory), hashes while it writes,
takes tied and non-contiguous tensors as they come, and always gives the same bytes for the same tensors. The files are
ordinary safetensors. Contract: names sorted within each element size, widest first, so that every tensor is aligned.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Element types that a state may hold, by their safetensors name."""

_CHUNK = 1 << 24


@dataclass(frozen=True)
class FileEntry:
    """What a manifest says about one file."""

    sha256: str
    """Digest of the whole file."""
    size: int
    """Its length in bytes."""


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """One digest over names, types, shapes and values; the order of the names does not matter.

    Files in different formats that hold the same tensors have the same weights hash.
    """
    names = sorted(weights)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(lambda name: _tensor_digest(weights[name]), names))
    lines = [[name, DTYPE_NAMES[weights[name].dtype], list(weights[name].shape), digest]
             for name, digest in zip(names, digests, strict=True)]  # fmt: skip
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> FileEntry:
    """Write a safetensors file, flushed to disk. Returns its digest and size."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as file:
        for piece in _pieces(tensors, order, metadata or {"format": "pt"}):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(digest.hexdigest(), size)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, memory-mapped.

    Raises:
        SafetensorError: the file is damaged.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping, it has only keys())


def read_metadata(path: Path) -> dict[str, str]:
    """The free strings in the header of a safetensors file."""
    with safe_open(path, framework="pt", device="cpu") as file:
        return dict(file.metadata() or {})


def hash_file(path: Path) -> str:
    """sha256 of a whole file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def non_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in weights.items() if not _is_finite(tensor)]


def _pieces(tensors: Mapping[str, Tensor], order: list[str], metadata: Mapping[str, str]) -> Iterator[memoryview]:
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name in order:
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for name in order:
        yield _bytes_of(tensors[name])


def _tensor_digest(tensor: Tensor) -> str:
    return hashlib.sha256(_bytes_of(tensor)).hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    """The values in row-major order, little-endian; without a copy where they already lie so."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _is_finite(tensor: Tensor) -> bool:
    """`aminmax` passes NaN and infinity on, and is 20 times faster than `isfinite().all()`."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


__all__ = [
    "DTYPE_NAMES",
    "FileEntry",
    "SafetensorError",
    "hash_file",
    "non_finite",
    "read_metadata",
    "read_tensors",
    "weights_hash",
    "write_tensors",
]
