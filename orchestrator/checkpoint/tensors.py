"""Tensors to bytes and back: the digest of tensors, and safetensors files written in one pass.

Why an own writer: it streams a few megabytes at a time (no second copy of the model in memory, not even to cast it),
digests and checks while it writes, takes tied and non-contiguous tensors as they come, and always gives the same bytes
for the same tensors. The files are ordinary safetensors. Contract: names sorted within each element size, widest first,
so that every tensor is aligned. The digest is over names, types, shapes and values, and not over the file's bytes, so
that tensors in files of different formats compare, and one pass over the values serves the file and the content hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
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

_PIECE = 1 << 21
_RELAX_BYTES = 64 << 20


@dataclass(frozen=True)
class WrittenTensors:
    """What became of `write_tensors`."""

    digest: str
    """As `weights_hash` of what was written."""
    size: int
    """Bytes of the file."""
    non_finite: tuple[str, ...]
    """Names of the tensors that hold NaN or infinity as written."""


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """One digest over names, types, shapes and values; the order of the names does not matter.

    Files in different formats that hold the same tensors have the same weights hash.
    """
    names = sorted(weights)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        digests = dict(zip(names, pool.map(lambda name: _tensor_digest(weights[name]), names), strict=True))
    return _combined(weights, digests, as_float32=False)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    as_float32: bool = False,
    relax: Callable[[], None] = lambda: None,
) -> WrittenTensors:
    """Write a safetensors file, flushed to disk, reading every value once.

    Args:
        path: where to.
        tensors: by name.
        metadata: free strings in the header.
        as_float32: cast floating-point tensors, piece by piece.
        relax: called after every 64 MB, so that a mapped source can give its memory back.
    """
    order = sorted(tensors, key=lambda name: (-_dtype(tensors[name], as_float32).itemsize, name))
    header = _header(tensors, order, metadata or {"format": "pt"}, as_float32)
    digests: dict[str, str] = {}
    non_finite: list[str] = []
    size, pending = len(header), 0
    with path.open("wb", buffering=0) as file:
        _write_all(file, memoryview(header))
        for name in order:
            digest, finite = hashlib.sha256(), True
            for piece in _pieces(tensors[name], as_float32):
                raw = piece.view(torch.uint8).numpy().data
                _write_all(file, raw)
                digest.update(raw)
                finite = finite and _is_finite(piece)
                size, pending = size + len(raw), pending + len(raw)
                if pending >= _RELAX_BYTES:
                    relax()
                    pending = 0
            digests[name] = digest.hexdigest()
            non_finite += [] if finite else [name]
        os.fsync(file.fileno())
    return WrittenTensors(_combined(tensors, digests, as_float32), size, tuple(non_finite))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, memory-mapped.

    Raises:
        SafetensorError: the file is damaged.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping, it has only keys())


def widened(tensor: Tensor) -> Tensor:
    """Floating-point tensors in float32; integers stay integers."""
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def non_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in weights.items() if not _is_finite(tensor)]


def _dtype(tensor: Tensor, as_float32: bool) -> torch.dtype:
    return torch.float32 if as_float32 and tensor.is_floating_point() else tensor.dtype


def _header(tensors: Mapping[str, Tensor], order: list[str], metadata: Mapping[str, str], as_float32: bool) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name in order:
        dtype = _dtype(tensors[name], as_float32)
        end = offset + tensors[name].numel() * dtype.itemsize
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _pieces(tensor: Tensor, as_float32: bool) -> Iterator[Tensor]:
    """The values in row-major order, a few megabytes at a time, without a copy where they already lie so."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    if flat.numel() == 0:
        return
    for piece in flat.split(_PIECE):
        yield widened(piece) if as_float32 else piece


def _write_all(file: io.FileIO, raw: memoryview) -> None:
    """A nearly full disk takes the first half of a piece without an error; the error comes with the second."""
    done = 0
    while done < len(raw):
        done += file.write(raw[done:])


def _tensor_digest(tensor: Tensor) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(tensor, as_float32=False):
        digest.update(piece.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _combined(tensors: Mapping[str, Tensor], digests: Mapping[str, str], as_float32: bool) -> str:
    lines = [
        [name, DTYPE_NAMES[_dtype(tensors[name], as_float32)], list(tensors[name].shape), digests[name]]
        for name in sorted(tensors)
    ]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def _is_finite(tensor: Tensor) -> bool:
    """`aminmax` passes NaN and infinity on, and is 20 times faster than `isfinite().all()`."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


__all__ = [
    "DTYPE_NAMES",
    "SafetensorError",
    "WrittenTensors",
    "non_finite",
    "read_tensors",
    "weights_hash",
    "widened",
    "write_tensors",
]
