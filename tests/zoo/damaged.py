"""Checkpoints that are cut short or changed: every container, at several places."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from orchestrator.errors import RefusalReason
from tests.zoo.case import Bad
from tests.zoo.files import (
    LEGACY,
    bytes_file,
    legacy_tar,
    parameter_tree,
    released,
    rezipped,
    tar_of,
    torch_bytes,
    torch_file,
    zip_of,
)
from tests.zoo.nets import stable_weights

CUTS = (0.1, 0.5, 0.9, 0.999)
"""How much of a file is left."""
_TAR_CUTS = (0.1, 0.5, 0.9, 0.99)  # what follows the last member is padding only


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: tensor.numpy() for name, tensor in stable_weights().items()})
    return buffer.getvalue()


def _script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(parameter_tree(stable_weights())), buffer)
    return buffer.getvalue()


_WHOLE: dict[str, tuple[Callable[[], bytes], tuple[float, ...]]] = {
    "torch zip": (lambda: torch_bytes(released()), CUTS),
    "deflated torch zip": (lambda: rezipped(torch_bytes(released()), zipfile.ZIP_DEFLATED), CUTS),
    "torch legacy": (lambda: torch_bytes(released(), **LEGACY), CUTS),
    "torch 0.1 tar": (lambda: legacy_tar(released()), _TAR_CUTS),
    "pickle of tensors": (lambda: pickle.dumps(released(), 4), CUTS),
    "safetensors": (lambda: save(stable_weights()), CUTS),
    "TorchScript": (_script, CUTS),
    "npz": (_npz, CUTS),
    "gzip": (lambda: gzip.compress(torch_bytes(released()), 1), CUTS),
    "bzip2": (lambda: bz2.compress(torch_bytes(released()), 1), CUTS),
    "xz": (lambda: lzma.compress(torch_bytes(released()), preset=0), CUTS),
    "zip of one file": (lambda: zip_of({"net.pt": torch_bytes(released())}), CUTS),
    "tar of one file": (lambda: tar_of({"net.pt": torch_bytes(released())}), _TAR_CUTS),
    "tar.gz of one file": (lambda: tar_of({"net.pt": torch_bytes(released())}, "w:gz"), CUTS),
}


@cache
def _whole(name: str) -> bytes:
    return _WHOLE[name][0]()


def _cut(name: str, share: float) -> bytes:
    return _whole(name)[: int(len(_whole(name)) * share)]


# ---- single bits


def flipped(content: bytes, place: int) -> bytes:
    """One bit is different."""
    changed = bytearray(content)
    changed[place] ^= 4
    return bytes(changed)


def _flipped_record(name: str, ending: str) -> bytes:
    """A bit in the middle of a record of a zip."""
    content = _whole(name)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = [info for info in archive.infolist() if info.filename.endswith(ending)]
    record = max(records, key=lambda info: info.compress_size)
    names = struct.unpack_from("<HH", content, record.header_offset + 26)
    return flipped(content, record.header_offset + 30 + sum(names) + record.compress_size // 2)


_FLIPPED: dict[str, Callable[[], bytes]] = {
    "a weight in a torch zip": lambda: _flipped_record("torch zip", ""),
    "the pickle in a torch zip": lambda: _flipped_record("torch zip", "data.pkl"),
    "a weight in a deflated torch zip": lambda: _flipped_record("deflated torch zip", ""),
    "a weight in TorchScript": lambda: _flipped_record("TorchScript", ""),
    "an array in npz": lambda: _flipped_record("npz", ""),
    "a zip of one file": lambda: _flipped_record("zip of one file", ""),
    "gzip": lambda: flipped(_whole("gzip"), len(_whole("gzip")) // 2),
    "bzip2": lambda: flipped(_whole("bzip2"), len(_whole("bzip2")) // 2),
    "xz": lambda: flipped(_whole("xz"), len(_whole("xz")) // 2),
}

# ---- safetensors whose header lies


def safetensors_bytes(header: object, data: bytes) -> bytes:
    """A file with exactly this header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _edited_header(edit: Callable[[dict[str, dict[str, object]]], object]) -> bytes:
    content = _whole("safetensors")
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    edit(header)
    return safetensors_bytes(header, content[8 + length :])


def _overlap(header: dict[str, dict[str, object]]) -> None:
    """Two tensors at one place."""
    first, second = [name for name, entry in header.items() if entry.get("shape") == [32]][:2]
    header[second]["data_offsets"] = header[first]["data_offsets"]


def _first(header: dict[str, dict[str, object]]) -> dict[str, object]:
    return header["audio_encoder.conv_in.weight"]


_HEADERS: dict[str, Callable[[], bytes]] = {
    "safetensors with overlapping tensors": lambda: _edited_header(_overlap),
    "safetensors with an unknown type": lambda: _edited_header(lambda h: _first(h).update(dtype="F31")),
    "safetensors with the wrong type": lambda: _edited_header(lambda h: _first(h).update(dtype="F16")),
    "safetensors with a wrong shape": lambda: _edited_header(lambda h: _first(h).update(shape=[64, 1, 3, 3])),
    "safetensors with a negative shape": lambda: _edited_header(lambda h: _first(h).update(shape=[-32, -1, 3, 3])),
    "safetensors with offsets beyond the end": lambda: _edited_header(
        lambda h: _first(h).update(data_offsets=[1 << 40, (1 << 40) + 1152])
    ),
    "safetensors with offsets backwards": lambda: _edited_header(lambda h: _first(h).update(data_offsets=[1152, 0])),
    "safetensors with a header beyond the end": lambda: struct.pack("<Q", 90_000_000) + _whole("safetensors")[8:],
    "safetensors with words too many": lambda: _whole("safetensors") + b"words",
    "safetensors with a name twice": lambda: _twice(),
}


def _twice() -> bytes:
    text = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
    )
    return struct.pack("<Q", len(text)) + text + bytes(8)


# ---- zips with two answers


def _two_pickles() -> bytes:
    """One name twice: some readers take the first, others the last."""
    buffer = io.BytesIO(_whole("torch zip"))
    with zipfile.ZipFile(buffer, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        archive._didModify = True
        archive.filelist.append(archive.getinfo(name))
    return buffer.getvalue()


def _another_case() -> bytes:
    """A second pickle whose name differs in the case of letters only."""
    buffer = io.BytesIO(_whole("torch zip"))
    with zipfile.ZipFile(buffer, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        archive.writestr(name.replace("data.pkl", "DATA.pkl"), pickle.dumps({"state_dict": {}}, 2))
    return buffer.getvalue()


def _two_weights() -> bytes:
    """A second record of the name of a weight."""
    buffer = io.BytesIO(_whole("torch zip"))
    with zipfile.ZipFile(buffer, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data/0"))
        archive.writestr(name, bytes(archive.getinfo(name).file_size))
    return buffer.getvalue()


def _short_record() -> bytes:
    """A tensor that needs more numbers than its record has."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_whole("torch zip"))) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, content[:-4] if info.filename.endswith("/data/0") else content)
    return buffer.getvalue()


def _without_record() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_whole("torch zip"))) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            if not info.filename.endswith("/data/3"):
                new.writestr(info.filename, old.read(info))
    return buffer.getvalue()


_ZIPS: dict[str, Callable[[], bytes]] = {
    "a pickle listed twice": _two_pickles,
    "a pickle in capitals too": _another_case,
    "a weight twice": _two_weights,
    "a record that is too short": _short_record,
    "a record that is missing": _without_record,
}

# ---- wrong numbers


def not_finite(value: float, dtype: torch.dtype = torch.float32) -> dict[str, dict[str, Tensor]]:
    """One number in one tensor is no number."""
    weights = {name: tensor.to(dtype) for name, tensor in stable_weights().items()}
    spoilt = weights["visual_encoder.conv_in.weight"].clone()
    spoilt[3, 2, 1, 0] = value
    return {"state_dict": {**weights, "visual_encoder.conv_in.weight": spoilt}}


CORRUPT = RefusalReason.CORRUPT
_LIE = (CORRUPT, RefusalReason.UNSUPPORTED)  # a type that is not known may be damage or news
_NAMED = ("visual_encoder.conv_in.weight",)
CASES: tuple[Bad, ...] = (
    *(
        Bad(
            f"{name}, {share:.1%} of it".replace(".0%", "%"),
            "cut short",
            bytes_file(lambda name=name, share=share: _cut(name, share)),
            CORRUPT,
        )
        for name, (_, cuts) in _WHOLE.items()
        for share in cuts
    ),
    *(Bad(f"a flipped bit: {name}", "changed bits", bytes_file(make), CORRUPT) for name, make in _FLIPPED.items()),
    *(Bad(name, "changed headers", bytes_file(make), _LIE) for name, make in _HEADERS.items()),
    *(Bad(f"torch zip with {name}", "changed headers", bytes_file(make), CORRUPT) for name, make in _ZIPS.items()),
    Bad("NaN in a weight", "not finite", torch_file(lambda: not_finite(float("nan"))), CORRUPT, _NAMED),
    Bad("infinity in a weight", "not finite", torch_file(lambda: not_finite(float("inf"))), CORRUPT, _NAMED),
    Bad("NaN in float16", "not finite", torch_file(lambda: not_finite(float("nan"), torch.float16)), CORRUPT, _NAMED),
    Bad("float64 beyond float32", "not finite", torch_file(lambda: not_finite(1e300, torch.float64)), CORRUPT, _NAMED),
)
